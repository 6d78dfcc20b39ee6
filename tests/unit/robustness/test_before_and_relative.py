"""Noise relative to what is stored, and noise before the map, against draws made by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from modgap import closers
from modgap.decisions.metric import EUCLIDEAN
from modgap.errors import ArgumentError
from modgap.evaluation import MixedRetrieval, evaluate
from modgap.robustness import integral
from modgap.robustness.additive import spread
from modgap.robustness.noise import Gaussian, parse
from modgap.robustness.outcomes import stability
from modgap.robustness.systems import Origin, System, equivalent

RNG = np.random.default_rng(17)
#: A gap, a mean, and a narrow second half: every map has something to do.
WIDTHS = np.repeat([1.0, 0.3], 4)
QUERIES = RNG.normal(size=(300, 8)) * WIDTHS + 0.5
GALLERY = RNG.normal(size=(6, 8)) * WIDTHS - 0.5
WIDE = RNG.normal(size=(20, 8)) * WIDTHS - 0.5  # of full rank


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def nearest_by(metric, queries, items):
    """The nearest of each query's own items (m, n, d)."""
    if metric == "euclidean":
        return np.linalg.norm(items - queries[:, None], axis=2).argmin(axis=1)
    if metric == "cosine":
        items = unit(items)
    return np.einsum("md,mnd->mn", queries, items).argmax(axis=1)


def drawn(closure, queries, rows, sigma, draws, *, before):
    """Shares of draws that keep the decision; every query sees a gallery disturbed for it alone."""
    rng = np.random.default_rng(3)
    y, kept = closure.apply_queries(queries), np.zeros(len(queries))
    start = unit(rows) if closure.metric == "cosine" else rows
    stored = closure.apply_gallery(rows)
    side = closure.gallery
    decided = nearest_by(closure.comparison, y, np.tile(stored, (len(y), 1, 1)))
    for _ in range(draws):
        if before:
            items = start + sigma * rng.normal(size=(len(y), *start.shape))
            items = (items if side.matrix is None else items @ side.matrix) + side.offset
            items = unit(items) if side.normalize_output else items
        else:
            items = stored + sigma * rng.normal(size=(len(y), *stored.shape))
        kept += nearest_by(closure.comparison, y, items) == decided
    return kept / draws


def check_z(found, seen, draws):
    """Differences over their standard errors are standard normal."""
    some = (found > 0.03) & (found < 0.97)
    assert some.sum() > 100
    z = (seen - found)[some] / np.sqrt(found * (1 - found) / draws)[some]
    # 100 independent values or more: the rms has a standard error of .07 at most, the mean of .1.
    assert 0.75 < np.sqrt(np.mean(z**2)) < 1.25
    assert abs(z.mean()) < 0.4


class TestSpread:
    def test_it_is_the_root_of_the_mean_variance(self):
        rows = RNG.normal(size=(50, 8)) * WIDTHS + 3
        assert spread(rows) == pytest.approx(np.sqrt(rows.var(axis=0).mean()), rel=1e-12)
        assert spread(rows.reshape(5, 10, 8)) == pytest.approx(spread(rows), rel=1e-12)
        assert spread(np.tile(rows[:1], (7, 1))) == 0

    def test_far_from_the_origin_it_keeps_its_digits(self):
        rows = RNG.normal(size=(50, 8))
        assert spread(rows + 1e6) == pytest.approx(spread(rows), rel=1e-8)


class TestRelative:
    @pytest.mark.parametrize("side", ["gallery", "queries"])
    @pytest.mark.parametrize("metric", ["ip", "euclidean", "cosine"])
    def test_it_is_noise_of_that_size(self, metric, side):
        size = 0.4 * spread(GALLERY if side == "gallery" else QUERIES)
        noises = Gaussian(0.4, side=side, relative=True), Gaussian(size, side=side)
        found, same = (
            stability(QUERIES, GALLERY, noise, metric=metric, draws=20) for noise in noises
        )
        np.testing.assert_allclose(found.stability, same.stability, atol=1e-9)
        assert (found.estimator, found.stderr) == (same.estimator, same.stderr)

    @pytest.mark.parametrize(("method", "metric"), [("affine", "cosine"), ("balanced", "ip")])
    def test_after_a_map_it_is_relative_to_what_is_stored(self, method, metric):
        gallery = GALLERY if method == "affine" else WIDE
        closure = closers.fit(method, QUERIES, gallery, metric=metric)
        noise = Gaussian(0.8, relative=True)
        found = stability(QUERIES, gallery, noise, metric=metric, closure=closure)
        assert found.estimator == "exact"
        sigma = 0.8 * np.sqrt(closure.apply_gallery(gallery).var(axis=0).mean())
        seen = drawn(closure, QUERIES, gallery, sigma, 400, before=False)
        check_z(found.stability, seen, 400)

    def test_a_shift_or_a_scale_of_what_is_stored_changes_nothing(self):
        noise = Gaussian(0.5, relative=True)
        plain = stability(QUERIES, GALLERY, noise, metric="ip").stability
        moved = stability(QUERIES, 7 * GALLERY + 100, noise, metric="ip").stability
        np.testing.assert_allclose(moved, plain, atol=1e-9)
        fixed = stability(QUERIES, 7 * GALLERY + 100, Gaussian(0.5), metric="ip").stability
        assert np.abs(fixed - plain).max() > 0.1  # where the size is not relative, it does

    def test_one_item_repeated_has_no_spread_and_no_noise(self):
        found = stability(QUERIES, np.ones((3, 8)), Gaussian(0.5, relative=True), metric="ip")
        assert found.stability.tolist() == [1.0] * 300


class TestBefore:
    @pytest.mark.parametrize("metric", ["ip", "cosine"])
    @pytest.mark.parametrize("method", ["affine", "balanced"])
    def test_by_inner_product_it_is_integrated(self, method, metric):
        gallery = GALLERY if method == "affine" else WIDE
        closure = closers.fit(method, QUERIES, gallery, metric=metric)
        noise = Gaussian(0.3, before=True)
        found = stability(QUERIES, gallery, noise, metric=metric, closure=closure)
        assert found.estimator == "exact"
        seen = drawn(closure, QUERIES, gallery, 0.3, 400, before=True)
        check_z(found.stability, seen, 400)

    def test_where_the_map_stretches_distances_are_sampled(self):
        fitted = closers.fit("balanced", QUERIES, WIDE, metric="ip")
        closure = closers.Closure(
            "ours", fitted.queries, fitted.gallery, metric="ip", comparison=EUCLIDEAN
        )
        noise = Gaussian(0.3, before=True)
        found = stability(QUERIES, WIDE, noise, metric="ip", closure=closure, draws=400)
        assert found.estimator == "monte carlo (400 draws)"
        seen = drawn(closure, QUERIES, WIDE, 0.3, 400, before=True)
        # Both are drawn: the error of one again, though one draw's noise is that of all queries here.
        some = (seen > 0.03) & (seen < 0.97)
        step = (found.stability - seen)[some] / np.sqrt(2 * seen * (1 - seen) / 400)[some]
        assert np.sqrt(np.mean(step**2)) < 1.5
        assert np.abs(step.mean()) < 0.8

    def test_a_map_that_takes_lengths_is_sampled(self):
        closure = closers.fit("center", QUERIES, GALLERY, metric="cosine")
        noise = Gaussian(0.3, before=True)
        found = stability(QUERIES, GALLERY, noise, metric="cosine", closure=closure, draws=200)
        assert found.estimator == "monte carlo (200 draws)"
        seen = drawn(closure, QUERIES, GALLERY, 0.3, 200, before=True)
        error = np.sqrt(2 * seen * (1 - seen) / 200)
        assert np.mean(np.abs(found.stability - seen) > 3 * error) < 0.05

    def test_an_isometry_leaves_it_as_it_is(self):
        # The coordinates of the hull alone: five of eight, and e V is independent again.
        closure = closers.fit("affine", QUERIES, GALLERY, metric="euclidean", reduce=True)
        assert closure.gallery.output_width == 5
        both = [
            stability(
                QUERIES, GALLERY, Gaussian(0.3, before=b), metric="euclidean", closure=closure
            )
            for b in (True, False)
        ]
        assert both[0].estimator == "exact"
        np.testing.assert_allclose(both[0].stability, both[1].stability, atol=1e-9)

    def test_before_an_exact_map_of_full_rank_closing_changes_nothing(self):
        noise = Gaussian(0.3, before=True)
        plain = stability(QUERIES, WIDE, noise, metric="ip")
        closure = closers.fit("balanced", QUERIES, WIDE, metric="ip")
        closed = stability(QUERIES, WIDE, noise, metric="ip", closure=closure)
        # The same integrals, over products that differ by rounding.
        np.testing.assert_allclose(closed.stability, plain.stability, atol=1e-7)
        after = stability(QUERIES, WIDE, Gaussian(0.3), metric="ip", closure=closure)
        assert after.stability.mean() > closed.stability.mean() + 0.01

    def test_without_a_closure_it_is_plain_noise(self):
        found = stability(QUERIES, GALLERY, Gaussian(0.3, before=True), metric="ip")
        plain = integral.win_probability(
            QUERIES, GALLERY, (QUERIES @ GALLERY.T).argmax(axis=1), [0.3], metric="ip"
        )
        np.testing.assert_allclose(found.stability, plain[0], atol=1e-12)

    def test_by_cosine_it_meets_unit_rows(self):
        noise = Gaussian(0.3, before=True)
        found = stability(QUERIES, 50 * GALLERY, noise, metric="cosine", draws=30)
        same = stability(QUERIES, unit(GALLERY), Gaussian(0.3), metric="cosine", draws=30)
        np.testing.assert_allclose(found.stability, same.stability, atol=1e-9)

    def test_with_relative_the_size_is_that_of_the_rows_before(self):
        closure = closers.fit("balanced", QUERIES, WIDE, metric="ip")
        both = [
            stability(QUERIES, WIDE, noise, metric="ip", closure=closure).stability
            for noise in (
                Gaussian(0.4, relative=True, before=True),
                Gaussian(0.4 * spread(WIDE), before=True),
            )
        ]
        np.testing.assert_allclose(*both, atol=1e-12)

    def test_no_noise_changes_nothing(self):
        for method, metric in (("center", "cosine"), ("affine", "ip")):
            closure = closers.fit(method, QUERIES, GALLERY, metric=metric)
            noise = Gaussian(0.0, before=True)
            found = stability(QUERIES, GALLERY, noise, metric=metric, closure=closure, draws=3)
            assert found.stability.tolist() == [1.0] * 300

    def test_each_query_may_have_its_own_items(self):
        own = RNG.normal(size=(300, 4, 8))
        closure = closers.fit("balanced", QUERIES, own.reshape(-1, 8), metric="ip")
        origin = Origin(closure.metric, ((own, closure.gallery),))
        system = System(
            closure.apply_queries(QUERIES), closure.apply_gallery(own), closure.comparison, origin
        )
        same, factor = equivalent(system)
        assert factor == 1
        # Taken back through the map, scores differ by one constant per query.
        scores = np.einsum("md,mcd->mc", system.queries, system.gallery)
        back = np.einsum("md,mcd->mc", same.queries, same.gallery)
        np.testing.assert_allclose(np.diff(back, axis=1), np.diff(scores, axis=1), atol=1e-9)

    def test_an_index_of_both_modalities_goes_through_both_maps(self):
        items = np.concatenate([GALLERY, QUERIES[40:60]])
        kinds = ["text"] * len(GALLERY) + ["image"] * 20
        task = MixedRetrieval(QUERIES[:40], items, kinds, metric="cosine")
        noises = [Gaussian(s, before=True) for s in (0.0, 0.3)]
        study = evaluate(task, ["none", "center"], noises=noises, draws=20, folds=2)
        for row in study:
            assert row.results[0].stability == 1
            assert 0.1 < row.results[1].stability < 0.95
            assert row.results[1].estimator == "monte carlo (20 draws)"


class TestWords:
    @pytest.mark.parametrize(
        ("word", "noise"),
        [
            ("gaussian:0.3:relative", Gaussian(0.3, relative=True)),
            ("gaussian:0.3:relative@queries", Gaussian(0.3, relative=True, side="queries")),
            ("gaussian:0.04:before", Gaussian(0.04, before=True)),
            ("gaussian:0.3:relative:before", Gaussian(0.3, relative=True, before=True)),
        ],
    )
    def test_settings_and_side_stay(self, word, noise):
        assert parse(word) == noise
        assert noise.label == word

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: parse("gaussian:0.3:before@queries"), "`before` is for noise on the gallery"),
            (lambda: parse("gaussian:0.3:relativ"), "(did you mean relative?)"),
            (
                lambda: parse("gaussian-variance:0.3:sigma"),
                "it takes relative, before, not 'sigma'",
            ),
            (lambda: parse("uniform:0.3:relative"), "it takes no more, not 'relative'"),
            (lambda: Gaussian(0.3, relative=1), "`relative` must be True or False; got 1"),
        ],
    )
    def test_what_has_no_meaning_is_one_line(self, make, message):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            make()
