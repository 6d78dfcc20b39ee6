"""Drift: silent on new rows of the same kind, loud on others, each figure against one found otherwise."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

import modgap
from modgap import closers
from modgap.closers.statistics import Statistics
from modgap.closers.summary import ScoreNoise
from modgap.errors import ArgumentError, ClosureError, ClosureWarning, DataError, ShapeError
from modgap.measures import drift, gap_in_bits
from modgap.measures.drift import drift_of_blocks

D = 24
EXACT = ("recenter", "affine", "orthogonal", "scaled", "balanced")


def clouds(seed, m=900, n=700, *, shift=0.0, stretch=1.0, rank=D):
    """Queries and a gallery with a gap and shapes of their own; `shift` and `stretch` make others."""
    fixed = np.random.default_rng(7)
    mixing = fixed.normal(size=(2, D, D)) / np.arange(1, D + 1) ** 0.7
    away, hull = fixed.normal(size=D), np.linalg.qr(fixed.normal(size=(D, rank)))[0]
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(m, D)) * stretch @ mixing[0].T + away + shift
    gallery = rng.normal(size=(n, D)) @ mixing[1].T @ hull @ hull.T
    return queries, gallery


def fit(method, queries, gallery, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        return closers.fit(method, queries, gallery, **options)


class TestSameKind:
    @pytest.mark.parametrize("method", ["recenter", "balanced", "center"])
    @pytest.mark.parametrize("metric", ["cosine", "ip"])
    def test_new_rows_of_the_same_kind_are_no_drift(self, method, metric):
        """Steps of means are about one standard error, changes of moments about what chance makes."""
        seen = []
        for seed in range(8):
            closure = fit(method, *clouds(seed), metric=metric)
            found = drift(closure, *clouds(100 + seed))
            assert not found.drifted, found.sentence
            assert found.sentence == "This closure still fits."
            seen += [found.queries, found.gallery]
        errors = np.mean([side.mean_in_errors**2 for side in seen])
        chance = np.mean([side.spread / side.spread_by_chance for side in seen])
        assert 0.5 < errors < 2  # 16 draws of a mean square that is 1
        assert 0.3 < chance < 2

    def test_fitting_again_wins_next_to_nothing(self):
        closure = fit("balanced", *clouds(0), metric="ip")
        found = drift(closure, *clouds(1)).bits
        assert (
            abs(found.win) < 0.02
        )  # either fit knows its queries' moments from some hundreds only
        assert found.now == pytest.approx(found.at_fit, abs=0.05)
        assert found.refit == pytest.approx(found.now, abs=0.05)


class TestOthers:
    def test_a_mean_that_moved(self):
        found = drift(fit("center", *clouds(0), metric="ip"), *clouds(1, shift=1.0))
        assert found.drifted
        assert found.queries.mean_moved
        assert not found.gallery.moved
        assert "the mean of the queries has moved" in found.sentence
        spread = math.sqrt(np.sum(np.var(clouds(0)[0], axis=0)))
        assert found.queries.mean == pytest.approx(math.sqrt(D) / spread, rel=0.1)

    def test_second_moments_that_changed(self):
        stretch = np.where(np.arange(D) < 2, 2.5, 1.0)
        found = drift(fit("center", *clouds(0), metric="ip"), *clouds(1, stretch=stretch))
        assert found.queries.spread_moved
        assert not found.queries.mean_moved
        assert not found.gallery.moved

    def test_queries_that_balanced_was_not_fitted_to(self):
        found = drift(
            fit("balanced", *clouds(0), metric="ip"), *clouds(1, stretch=np.geomspace(0.1, 6, D))
        )
        assert found.bits.drifted
        assert found.bits.win > found.thresholds["bits"]
        assert not found.exactness.drifted  # it keeps answers whatever the queries

    def test_queries_that_moved_where_that_costs_nothing(self):
        """`recenter` takes nothing from the queries but their place in the record."""
        found = drift(fit("recenter", *clouds(0), metric="ip"), *clouds(1, shift=1.0))
        assert found.queries.mean_moved
        assert not found.drifted
        assert (
            "still fits, and fitting again would win 0.00 bits, though the mean" in found.sentence
        )

    def test_a_gallery_that_left_its_hull(self):
        queries, gallery = clouds(0, rank=6)
        closure = fit("affine", queries, gallery, metric="ip")
        assert not drift(closure, *clouds(1, rank=6)).exactness.drifted
        found = drift(closure, clouds(1)[0], clouds(1)[1])
        assert found.exactness.drifted
        assert "no longer keeps every answer" in found.sentence

    def test_what_is_small_or_chance_does_not_count(self):
        few = clouds(1, m=12, n=12)
        found = drift(fit("center", *clouds(0), metric="ip"), *few)
        assert found.queries.spread > 0.5  # past its threshold, and yet chance
        assert not found.drifted
        strict = drift(fit("center", *clouds(0), metric="ip"), *clouds(1, shift=0.2),
                       thresholds={"mean": 0.01})  # fmt: skip
        assert strict.queries.mean_moved
        assert not drift(fit("center", *clouds(0), metric="ip"), *clouds(1, shift=0.2)).drifted


class TestFigures:
    @pytest.mark.parametrize("metric", ["cosine", "ip", "euclidean"])
    @pytest.mark.parametrize("method", EXACT)
    def test_no_difference_of_scores_changes_by_more_than_left_out(self, method, metric):
        """Against all differences of all scores, on rows that the closure was not fitted to."""
        queries, gallery = clouds(0, m=60, n=20, rank=8)
        if method == "scaled":
            gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
        closure = fit(method, queries, gallery, metric=metric)
        y, x = clouds(1, m=40, n=30)
        found = drift(closure, y, x).exactness
        y, x = closure.metric.prepare(y), closure.metric.prepare(x)

        def scores(ours, theirs, by_distance):
            return ours @ theirs.T - (np.sum(theirs**2, axis=1) / 2 if by_distance else 0)

        mapped = scores(closure.queries(y), closure.gallery(x), closure.comparison.is_distance)
        change = mapped / closure.gain - scores(y, x, closure.metric.is_distance)
        most = float(np.max(change.max(axis=1) - change.min(axis=1)))
        assert most <= found.left_out + 1e-12
        assert found.left_out < 40 * most + 1e-10  # a bound, but no empty one
        assert found.promised == closure.exact

    def test_bits_are_those_of_the_gap_in_bits(self):
        """`balanced` fitted to many queries saves what the measure says that the gap costs."""
        queries, gallery = clouds(0, m=20_000)
        closure = fit("balanced", queries, gallery, metric="ip", shrinkage=0.0)
        cost = gap_in_bits(queries, gallery, metric="ip", sample=100).cost
        assert closure.summary.bits == pytest.approx(cost, abs=0.02)  # its gallery is shrunk by 1%
        means = fit("recenter", queries, gallery, metric="ip").summary.bits
        assert means == pytest.approx(
            gap_in_bits(queries, gallery, metric="ip", sample=100).means, abs=1e-9
        )

    @pytest.mark.parametrize("metric", ["ip", "euclidean"])
    @pytest.mark.parametrize("method", EXACT)
    def test_bits_of_moments_are_those_of_rows(self, method, metric):
        queries, gallery = clouds(0, rank=8)
        closure = fit(method, queries, gallery, metric=metric)
        noise = ScoreNoise(closure, Statistics.of_rows(queries, gallery, closure.metric).gallery)
        moments = modgap.Moments.from_rows(queries, precision="float64")
        rows = math.log2(np.mean(noise.before(queries)) / np.mean(noise.after(queries))) / 2
        assert noise.bits(moments) == pytest.approx(rows, abs=1e-9)

    def test_a_gallery_in_blocks_is_a_gallery(self):
        queries, gallery = clouds(1)
        closure = fit("balanced", *clouds(0))
        whole = drift(closure, queries, gallery).to_dict()
        pieces = drift_of_blocks(closure, queries, iter(np.array_split(gallery, 7))).to_dict()
        assert whole["gallery"] == pytest.approx(pieces["gallery"], rel=1e-9)
        assert whole["bits"]["win"] == pytest.approx(pieces["bits"]["win"], abs=1e-9)

    def test_the_same_method_is_fitted_again_with_its_settings(self):
        queries, gallery = clouds(0, rank=8)
        for method, options in (
            ("affine", {"alpha": 0.5}),
            ("affine", {"n_components": 3}),
            ("balanced", {"reduce": True, "n_components": 4, "rotation": "none"}),
            ("orthogonal", {"side": "gallery", "metric": "euclidean"}),
            ("scaled", {"scale": 2.0}),
        ):
            closure = fit(method, queries, gallery, **options)
            found = drift(closure, queries, gallery).bits  # the rows of the fit: nothing to win
            assert abs(found.win) < 0.02, method


class TestOldAndOther:
    def test_a_closure_without_a_summary_says_what_it_cannot_tell(self):
        closure = replace(fit("balanced", *clouds(0)), summary=None)
        found = drift(closure, *clouds(1))
        assert (found.queries, found.gallery, found.bits.at_fit) == (None, None, None)
        assert found.bits.win is not None
        assert found.exactness is not None
        assert "fit it again with this version" in found.missing[0]

    def test_the_summary_comes_back_from_a_file(self, tmp_path):
        closure = fit("balanced", *clouds(0))
        loaded = modgap.load(closure.save(tmp_path / "c.safetensors"))
        assert drift(loaded, *clouds(1)).to_dict() == drift(closure, *clouds(1)).to_dict()

    def test_closers_that_change_answers_have_moments_alone(self):
        found = drift(fit("standardize", *clouds(0)), *clouds(1))
        assert (found.bits, found.exactness) == (None, None)
        assert found.queries is not None
        assert "`standardize` may change answers" in found.missing[0]

    def test_a_gallery_of_one_point_is_remembered_by_nothing(self):
        queries, gallery = clouds(0)
        closure = fit("recenter", queries, np.repeat(gallery[:1], 5, axis=0), metric="ip")
        assert closure.summary is None


class TestMixed:
    """Of a mixed collection one modality is looked at, by its moments."""

    @pytest.fixture(params=["calibrate", "calibrate+balanced", "center", "moments"])
    def closure(self, request, tmp_path):
        queries, images = clouds(0)
        items = {"image": images, "text": clouds(5)[0]}
        if request.param == "moments":
            made = {
                name: modgap.Moments.from_rows(each, precision="float64")
                for name, each in items.items()
            }
            asked = modgap.Moments.from_rows(queries, precision="float64")
            found = closers.calibrate_moments(asked, made, metric="ip")
        else:
            found = closers.fit_mixed(request.param, queries, items, metric="ip")
        return modgap.load(found.save(tmp_path / "mixed.safetensors"))

    def test_each_modality_has_its_own_summary(self, closure):
        queries, images = clouds(1)
        found = drift(closure, queries, images, modality="image")
        assert not found.drifted
        assert found.gallery.count_at_fit == 700
        assert drift(closure, queries, queries, modality="text").gallery.count_at_fit == 900
        moved = drift(closure, queries, images + 1.0, modality="image")
        assert moved.drifted
        assert moved.gallery.mean_moved

    def test_a_modality_must_be_named(self, closure):
        with pytest.raises(
            ClosureError, match=r"\(image, text\); say which one the gallery's rows are"
        ):
            drift(closure, *clouds(1))
        with pytest.raises(ArgumentError, match="`modality` must be one of image, text"):
            drift(closure, *clouds(1), modality="sound")

    def test_without_a_summary_nothing_can_be_told(self, closure):
        with pytest.raises(ClosureError, match="nothing can be told of this closure: `c"):
            drift(replace(closure, summaries={}), *clouds(1), modality="image")


class TestMistakes:
    @pytest.fixture
    def closure(self):
        return fit("recenter", *clouds(0))

    def test_a_threshold_that_is_none(self, closure):
        with pytest.raises(ArgumentError, match="must name bits, mean, spread; got 'size'"):
            drift(closure, *clouds(1), thresholds={"size": 1})

    def test_a_threshold_below_zero(self, closure):
        with pytest.raises(ArgumentError, match="threshold bits"):
            drift(closure, *clouds(1), thresholds={"bits": -1})

    def test_another_width(self, closure):
        with pytest.raises(ClosureError, match="dimension 24; got rows of dimension 8"):
            drift(closure, *(each[:, :8] for each in clouds(1)))

    def test_too_few(self, closure):
        with pytest.raises(ShapeError, match="`queries` must have at least 8 rows"):
            drift(closure, *clouds(1, m=7))
        with pytest.raises(ShapeError, match="`gallery` must have at least 2 rows; got 1"):
            drift(closure, *clouds(1, n=1))

    def test_values_that_are_none(self, closure):
        queries, gallery = clouds(1)
        gallery[3, 1] = np.nan
        with pytest.raises(DataError, match="`gallery` row 3"):
            drift(closure, queries, gallery)

    def test_a_modality_where_there_is_none(self, closure):
        with pytest.raises(
            ArgumentError, match="`modality` chooses among the gallery maps of a mixed"
        ):
            drift(closure, *clouds(1), modality="image")

    def test_queries_of_no_length(self, closure):
        queries, gallery = clouds(1)
        plain = fit("recenter", queries, gallery, metric="ip")
        with pytest.raises(DataError, match="no length that could be compared"):
            drift(plain, 0 * queries, gallery)
        assert fit("recenter", 0 * queries, gallery, metric="ip").summary.bits is None


def test_arrays_of_another_device(to_other_device):
    queries, gallery = clouds(1)
    closure = fit("balanced", *clouds(0))
    found = drift(closure, to_other_device(queries), to_other_device(gallery)).to_dict()
    expected = drift(closure, queries, gallery).to_dict()
    assert found["bits"]["win"] == pytest.approx(expected["bits"]["win"], abs=1e-9)
    assert found["queries"]["mean"] == pytest.approx(expected["queries"]["mean"], abs=1e-9)
