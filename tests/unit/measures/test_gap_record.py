"""The record of all figures: what it holds, what it costs, and that every array library agrees."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest

import modgap
from modgap import Gap
from modgap import measures as gap
from modgap._core import checks, clouds, opening
from modgap._core import moments as moments_module
from modgap._core.moments import Moments
from modgap.errors import ShapeError
from modgap.measures import cloud as geometry

# Sums in another order than the direct loops: a few units of float64 rounding.
CLOSE = {"rel": 1e-12, "abs": 1e-13}

#: What `to_dict` returns, in this order.
KEYS = (
    "schema",
    "modgap",
    "inputs",
    "seed",
    "rows",
    "dimension",
    "paired",
    "normalize",
    "remarks",
    "centroid_gap",
    "squared_gap_per_dimension",
    "centroid_gap_floor",
    "centroid_cosine",
    "frechet_distance",
    "gap_variance_ratio",
    "residual_gap_curve",
    "paired_distance",
    "paired_cosine",
    "matched_mismatched_margin",
    "relative_modality_gap",
    "alignment",
    "linear_separability",
    "difference_cosines",
    "relative_alignment",
    "hubness",
    "doubly_stochastic_deviation",
    "bits",
    "queries",
    "gallery",
    "sample",
)
OF_PAIRS = (
    "paired_distance",
    "paired_cosine",
    "matched_mismatched_margin",
    "relative_modality_gap",
    "alignment",
)


@pytest.fixture
def queries(rng):
    return rng.normal(size=(12, 5)) + np.array([2.0, -1.0, 0.0, 0.0, 0.5])


@pytest.fixture
def partners(queries, rng):
    """One row for each query, nearer to it than to the others."""
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    return unit + 0.4 * rng.normal(size=queries.shape) - 0.6


def flat(document, path=""):
    """Every number of a document by its path."""
    if isinstance(document, dict | list):
        items = document.items() if isinstance(document, dict) else enumerate(document)
        return {k: v for key, item in items for k, v in flat(item, f"{path}.{key}").items()}
    return {path: document}


class TestFigures:
    def test_every_figure_is_that_of_its_function(self, queries, partners):
        found = gap.measure(queries, partners, paired=True, k=3)
        for name in (
            "centroid_gap", "squared_gap_per_dimension", "centroid_gap_floor", "centroid_cosine",
            *OF_PAIRS, "linear_separability",
        ):  # fmt: skip
            assert getattr(found, name) == pytest.approx(
                getattr(gap, name)(queries, partners), **CLOSE
            )
        assert found.frechet_distance.shape == pytest.approx(
            gap.frechet_distance(queries, partners).shape, rel=1e-9
        )
        ratio = gap.gap_variance_ratio(queries, partners)
        assert found.gap_variance_ratio.gallery == pytest.approx(ratio.gallery, rel=1e-12)
        curve = gap.residual_gap_curve(queries, partners, ks=[0, 1, 2, 4, 5])
        assert found.residual_gap_curve.components == (0, 1, 2, 4, 5)
        assert found.residual_gap_curve.ratios == pytest.approx(curve.ratios, rel=1e-9)
        np.testing.assert_allclose(found.gap_vector, gap.gap_vector(queries, partners), rtol=1e-12)
        cosines = gap.difference_cosines(partners, found.gap_vector)
        assert found.difference_cosines.gallery.rms == pytest.approx(cosines.rms, rel=1e-12)
        assert found.relative_alignment == gap.relative_alignment(queries, partners)
        assert found.hubness == gap.hubness(queries, partners, k=3)
        deviation = gap.doubly_stochastic_deviation(queries, partners)
        # Logits of up to 200 carry 200 times the rounding of a cosine.
        assert found.doubly_stochastic_deviation.queries_max == pytest.approx(
            deviation.queries_max, rel=1e-9
        )
        for name in ("average_norm", "mean_cosine", "effective_rank", "uniformity"):
            expected = getattr(geometry, name)(partners)
            assert getattr(found.gallery, name) == pytest.approx(expected, **CLOSE)
        assert found.gallery.rank == 5

    def test_the_document_holds_every_figure_and_where_it_comes_from(self, queries, partners):
        found = gap.measure(queries.astype(np.float32), partners, paired=True, seed=3).to_dict()
        assert tuple(found) == KEYS
        assert (found["schema"], found["modgap"], found["seed"]) == (1, modgap.__version__, 3)
        assert found["inputs"] == {
            "queries": {"shape": [12, 5], "dtype": "float32"},
            "gallery": {"shape": [12, 5], "dtype": "float64"},
        }
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert None not in flat(found).values()

    def test_every_library_gives_the_same_and_keeps_its_input(self, queries, partners, xp, to_xp):
        y, x = to_xp(queries), to_xp(partners)
        record = gap.measure(y, x, paired=True)
        found, expected = (
            flat(made.to_dict()) for made in (record, gap.measure(queries, partners, paired=True))
        )
        assert found.keys() == expected.keys()
        for path, value in expected.items():
            # Kernels of other libraries: logits of up to 200 and eigenvectors amplify rounding.
            assert found[path] == (
                pytest.approx(value, rel=1e-9, abs=1e-12) if type(value) is float else value
            ), path
        for vector in (record.gap_vector, record.gap_direction, geometry.spectrum(y)):
            assert type(vector) is type(y)
            assert vector.dtype == xp.float64
        np.testing.assert_array_equal(np.asarray(y), queries)
        np.testing.assert_array_equal(np.asarray(x), partners)

    def test_everything_stays_on_the_input_s_device(self, queries, partners, to_other_device):
        y, x = to_other_device(queries), to_other_device(partners)
        found = gap.measure(y, x, paired=True, sample=5)
        assert found.to_dict()["sample"]["queries"] == 5
        assert found.gap_vector.device == y.device

    def test_it_cannot_be_changed(self, queries):
        found = gap.measure(queries, queries)
        with pytest.raises(AttributeError):
            found.seed = 4
        # Records of arrays compare by identity, and raise nothing.
        assert found in (gap.measure(queries, queries), found)
        assert found != gap.measure(queries, queries)


class TestAbsent:
    def test_without_pairs_their_measures_are(self, queries, partners):
        found = gap.measure(queries, partners[:8]).to_dict()
        absent = [name for name, value in found.items() if value is None]
        assert absent == [*OF_PAIRS, "relative_alignment"]
        assert found["rows"] == {"queries": 12, "gallery": 8}

    def test_single_rows_have_fewer_figures(self):
        found = gap.measure(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), paired=True)
        assert found.centroid_gap == pytest.approx(math.sqrt(2))
        for name in ("centroid_gap_floor", "gap_variance_ratio", "linear_separability", "hubness"):
            assert getattr(found, name) is None
        assert found.gallery.effective_rank is None
        assert found.gallery.uniformity is None
        assert found.to_dict()["gallery"]["rank"] == 0

    def test_a_closed_gap_has_no_direction(self, queries, partners):
        y, x = queries - queries.mean(0), partners - partners.mean(0)
        found = gap.measure(y, x, normalize=False)
        assert found.centroid_gap == pytest.approx(0, abs=1e-15)
        for name in (
            "gap_variance_ratio", "residual_gap_curve", "difference_cosines", "centroid_cosine",
            "gap_direction",
        ):  # fmt: skip
            assert getattr(found, name) is None

    def test_zero_rows_leave_cosines_out(self, queries):
        x = np.concatenate([queries[1:], np.zeros((1, 5))])
        found = gap.measure(queries, x, paired=True, normalize=False)
        assert found.paired_cosine is None
        assert found.gallery.mean_cosine is None
        assert found.paired_distance == pytest.approx(
            np.linalg.norm(queries - x, axis=1).mean(), rel=1e-12
        )


class TestSample:
    def test_large_clouds_are_sampled_and_say_so(self, rng):
        y, x = rng.normal(size=(90, 6)) + 1, rng.normal(size=(70, 6))
        found = gap.measure(y, x, sample=30, seed=3)
        document = found.to_dict()
        sample = document["sample"]
        assert {k: v for k, v in sample.items() if k != "measures"} == {
            "limit": 30, "seed": 3, "queries": 30, "gallery": 30,
        }  # fmt: skip
        assert {"hubness", "uniformity"} < set(sample["measures"])
        assert found.centroid_gap == pytest.approx(gap.centroid_gap(y, x), **CLOSE)
        assert found.gallery.uniformity == geometry.uniformity(x, sample=30, seed=3)
        assert found.difference_cosines.queries.rows == 30
        assert document == gap.measure(y, x, sample=30, seed=3).to_dict()

    def test_sampled_pairs_stay_pairs(self, rng):
        y = rng.normal(size=(90, 6))
        found = gap.measure(y, 2 * y, paired=True, sample=30)
        assert found.relative_alignment == gap.RelativeAlignment(1.0, 1.0, 1.0, 30)


class TestMoments:
    """Statistics that are there already are used, and not made again."""

    def test_moments_suffice_for_centroids_and_spectra(self, queries, partners):
        clouds_ = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, partners)]
        found = Gap.from_moments(*(Moments.from_rows(x, precision="float64") for x in clouds_))
        whole = gap.measure(*clouds_)
        assert found.normalize
        known = flat(found.to_dict())
        for path, value in flat(whole.to_dict()).items():
            if known.get(path) is not None and type(value) is float:
                assert known[path] == pytest.approx(value, rel=1e-9, abs=1e-12), path
        absent = {name for name in KEYS if found.to_dict()[name] is None}
        assert absent - {*OF_PAIRS, "relative_alignment"} == {
            "linear_separability", "difference_cosines", "hubness", "doubly_stochastic_deviation",
        }  # fmt: skip
        assert (found.gallery.average_norm, found.gallery.uniformity) == (None, None)
        assert found.gallery.mean_cosine == pytest.approx(whole.gallery.mean_cosine, rel=1e-12)

    def test_rows_of_other_lengths_have_no_cosines(self, queries, partners):
        found = Gap.from_moments(Moments.from_rows(queries), Moments.from_rows(partners))
        assert not found.normalize
        assert found.gallery.mean_cosine is None
        assert found.centroid_gap == pytest.approx(
            gap.centroid_gap(queries, partners, normalize=False), rel=1e-12
        )

    def test_functions_take_them_in_the_place_of_rows(self, queries, partners):
        pair = [Moments.from_rows(x, precision="float64") for x in (queries, partners)]
        for figure in (
            gap.centroid_gap, gap.centroid_cosine, gap.centroid_gap_floor,
            lambda *clouds, **o: gap.frechet_distance(*clouds, **o).shape,
            lambda *clouds, **o: gap.gap_variance_ratio(*clouds, **o).queries,
            lambda *clouds, **o: gap.residual_gap_curve(*clouds, **o).ratios[-2],
        ):  # fmt: skip
            assert figure(*pair) == pytest.approx(
                figure(queries, partners, normalize=False), rel=1e-9
            )
        assert geometry.effective_rank(pair[0]) == geometry.effective_rank(queries, normalize=False)

    def test_given_moments_are_shared(self, queries, partners, monkeypatch):
        made = [Moments.from_rows(x, precision="float64") for x in (queries, partners)]
        monkeypatch.setattr(Moments, "from_blocks", None)
        found = Gap(queries, partners, paired=True, normalize=False, moments=tuple(made))
        assert found.gallery.rank == made[1].full_axes.rank
        assert found.relative_modality_gap == gap.relative_modality_gap(queries, partners)

    def test_they_must_be_of_these_rows(self, queries, partners):
        few = Moments.from_rows(queries[:5])
        with pytest.raises(ShapeError, match=r"`moments` of `gallery` must be of its rows"):
            Gap(queries, partners, moments=(Moments.from_rows(queries), few))


class TestCost:
    def test_nothing_is_checked_or_decomposed_twice(self, queries, partners, monkeypatch):
        counts: Counter[str] = Counter()

        def counted(module, name):
            whole = getattr(module, name)

            def count(*args, **options):
                counts[name] += 1
                return whole(*args, **options)

            monkeypatch.setattr(module, name, count)

        for module, names in (
            (np.linalg, ("eigh", "svd", "solve", "qr")),
            (checks, ("check_finite", "check_directions")),
            (moments_module, ("_moments_of_rows",)),
            (clouds, ("_center", "_pairing")),
            (opening, ("row_lengths",)),
        ):
            for name in names:
                counted(module, name)
        gap.measure(queries, partners, paired=True).to_dict()
        # One scan and one pass for moments a cloud; eigh of each, and the singular values between. The bits
        # balance both halves of the queries, each with its three folds.
        assert counts == {
            "row_lengths": 2,
            "_moments_of_rows": 2,
            "_pairing": 1,
            "eigh": 2 + 2 * 4,
            "svd": 1,
        }

    def test_a_figure_that_nobody_asks_for_is_not_made(self, queries, partners, monkeypatch):
        monkeypatch.setattr(np.linalg, "eigh", None)
        found = gap.measure(queries, partners)
        assert found.centroid_gap == pytest.approx(gap.centroid_gap(queries, partners), **CLOSE)

    def test_memory_stays_with_the_block(self, rng):
        # All pairs of 6,000 rows would be 288 MB at once; a tile is 8 MiB, a few live together.
        y = rng.normal(size=(6000, 16)).astype(np.float32)
        tracemalloc.start()
        gap.doubly_stochastic_deviation(y, y)
        gap.difference_cosines(y[:3000], y[0])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100e6, peak


class TestShown:
    def test_one_line(self, queries, partners):
        found = gap.measure(queries, partners, paired=True)
        assert repr(found) == (
            "Gap(12 queries, 12 items, 5 dimensions, paired, rows of unit length: "
            f"centroid_gap={found.centroid_gap:.3f})"
        )

    def test_a_table_in_a_notebook(self, queries, partners):
        found = gap.measure(queries, partners, paired=True)
        page = found._repr_html_()
        assert page.count("<tr>") == page.count("</tr>") == 13
        assert f"<td>{found.relative_modality_gap:.3f}</td>" in page
        assert "RMG" not in gap.measure(queries, partners)._repr_html_()
