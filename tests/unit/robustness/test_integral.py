"""The exact Gaussian integral against SciPy's noncentral chi-square, direct quadrature and sampling."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from scipy import integrate, special, stats

from modgap._core.arrays import to_numpy
from modgap.decisions.metric import EUCLIDEAN, INNER_PRODUCT
from modgap.decisions.neighbors import nearest, nearest_candidates
from modgap.errors import ArgumentError, DataError, ShapeError
from modgap.robustness import competition, solver, tables
from modgap.robustness.integral import candidate_win_probability, win_probability

METRICS = (EUCLIDEAN, INNER_PRODUCT)

#: The integral is good to 1e-5; the largest difference ever seen is 1.1e-5 (two dimensions, two items).
CLOSE = 2e-5


def host(x):
    return np.asarray(to_numpy(x))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(params=["directly", "by tables"])
def way(request, monkeypatch):
    """Both ways to the integral, whichever is cheaper."""
    monkeypatch.setattr(solver, "_is_cheaper_directly", lambda *_: request.param == "directly")
    return request.param


# --- Oracles ---------------------------------------------------------------------------------------


def log_density(t, d, noncentrality):
    """Log density of the noncentral chi-square as a Poisson mixture: scipy's own underflows."""
    half = d / 2 - 1
    middle = 0.5 * (np.hypot(half, np.sqrt(noncentrality * t)) - half)  # the largest term
    wide = 12 * np.sqrt(middle)
    k = np.arange(max(0, int(middle - wide - 40)), int(middle + wide + 60))
    weights = stats.poisson.logpmf(k, noncentrality / 2)
    return special.logsumexp(weights + stats.chi2.logpdf(t, d + 2 * k))


def euclidean_oracle(distances, targets, d, sigma):
    """P(the target is nearest) by adaptive quadrature over its noisy distance."""
    return _euclidean_oracle(tuple(distances), tuple(targets), d, sigma)


@cache  # both ways to the integral are held against the same values
def _euclidean_oracle(distances, targets, d, sigma):
    noncentrality = (np.asarray(distances) / sigma) ** 2
    leader = np.sqrt(noncentrality.min() + d)
    # Hopeless items make scipy overflow; 25 noise units behind they never win.
    close = np.flatnonzero(np.sqrt(noncentrality) <= leader + 25)
    column = {j: i for i, j in enumerate(close)}
    wanted = [t for t in targets if t in column]

    def integrand(radius):
        survival = stats.ncx2.sf(radius**2, d, noncentrality[close])
        log_survival = np.log(np.maximum(survival, 1e-300))
        others = log_survival.sum()
        return np.array(
            [
                2 * radius * np.exp(log_density(radius**2, d, noncentrality[t]) + others - own)
                for t, own in ((t, log_survival[column[t]]) for t in wanted)
            ]
        )

    edges = [e for e in (leader - 3, leader, leader + 3) if e > 0.01]
    found = integrate.quad_vec(
        integrand, max(0.0, leader - 12), leader + 12, epsabs=1e-8, points=edges
    )[0]
    values = dict(zip(wanted, found, strict=True))
    return np.array([values.get(t, 0.0) for t in targets])


def inner_product_oracle(scores, target, spread):
    """P(the target scores highest) by adaptive quadrature over its own noise."""
    behind = (scores[target] - np.delete(scores, target)) / spread

    def integrand(u):
        return np.exp(-0.5 * u * u + special.log_ndtr(u + behind).sum()) / np.sqrt(2 * np.pi)

    return integrate.quad(integrand, -12, 12, epsabs=1e-10, points=[-3, 0, 3], limit=200)[0]


def items_at(distances, d, rng):
    """Items at given distances from the origin, in random directions."""
    return unit(rng.normal(size=(len(distances), d))) * np.asarray(distances)[:, None]


def leaders(queries, gallery, metric):
    search = nearest if np.ndim(gallery) == 2 else nearest_candidates
    return host(search(queries, gallery, metric=metric).indices[:, 0])


def near_clouds(rng, d, n, sigma):
    """Unit queries, and items as close to each other as the noise is wide: nothing is settled."""
    queries = unit(rng.normal(size=(2, d)))
    items = unit(rng.normal(size=d)) + sigma * rng.uniform(0.3, 3) * rng.normal(size=(n, d))
    return queries, items


# --- Against quadrature ----------------------------------------------------------------------------


@pytest.mark.usefixtures("way")
class TestEuclidean:
    @pytest.mark.parametrize(("d", "n"), [(2, 30), (64, 30), (1024, 2)])
    def test_a_sweep_agrees_with_scipy(self, d, n):
        levels = [0.005, 0.5]
        for place, sigma in enumerate(levels):
            rng = np.random.default_rng([d, n, place])
            query, items = near_clouds(rng, d, n, sigma)
            query = query[:1]
            distances = np.linalg.norm(query - items, axis=1)
            targets = np.array([distances.argmin(), rng.integers(0, n)])
            swept = win_probability(query, items, targets[None], levels, metric="euclidean")
            alone = win_probability(query, items, targets[None], [sigma], metric="euclidean")
            expected = euclidean_oracle(distances, targets, d, sigma)
            np.testing.assert_allclose(alone[0, 0], expected, atol=CLOSE)
            np.testing.assert_allclose(swept[place, 0], expected, atol=CLOSE)

    @pytest.mark.parametrize("d", [288, 1152])
    def test_where_a_leader_on_the_query_meets_the_edge_of_a_panel(self, d, rng):
        # sqrt(d / 2) = 12 * 2^(k/2): the interpolation nodes of the panel fall together.
        distances = np.array([0.0, 0.1, 0.15, 0.3])
        gallery, every = items_at(distances, d, rng), np.arange(4)[None]
        query = np.zeros((1, d))
        found = win_probability(query, gallery, every, [0.02, 0.1], metric="euclidean")
        for sigma, values in zip((0.02, 0.1), found[:, 0], strict=True):
            expected = euclidean_oracle(distances, range(4), d, sigma)
            np.testing.assert_allclose(values, expected, atol=CLOSE)

    @pytest.mark.parametrize("sigma", [0.05, 2.0])
    def test_one_dimension(self, sigma):
        # |a + sigma e| is a folded normal.
        distances = np.array([0.2, 0.25, 0.6, 1.0])
        signs = np.array([1, -1, 1, -1.0])

        def tail(r, a):
            return special.ndtr((a - r) / sigma) + special.ndtr((-r - a) / sigma)

        def density(r, a):
            return (stats.norm.pdf((r - a) / sigma) + stats.norm.pdf((r + a) / sigma)) / sigma

        query, gallery = np.zeros((1, 1)), (signs * distances)[:, None]
        every = np.arange(4)[None]
        found = win_probability(query, gallery, every, [sigma], metric="euclidean")[0, 0]
        for target, own in enumerate(distances):
            others = np.delete(distances, target)
            expected = integrate.quad(
                lambda r, own=own, others=others: density(r, own) * np.prod(tail(r, others)),
                0,
                1 + 10 * sigma,
                epsabs=1e-10,
                points=[own],
            )[0]
            assert found[target] == pytest.approx(expected, abs=CLOSE)

    def test_each_query_has_a_distance_of_its_own(self, rng):
        # One call whose leaders spread over many panels: on the item to far away.
        d, sigma = 16, 0.1
        gallery = rng.normal(size=(3, d)) * 0.2
        queries = rng.normal(size=(4, d)) * np.geomspace(0.01, 5, 4)[:, None]
        every = np.tile(np.arange(3), (4, 1))
        found = win_probability(queries, gallery, every, [sigma], metric="euclidean")[0]
        for y, row in zip(queries, found, strict=True):
            distances = np.linalg.norm(gallery - y, axis=1)
            expected = euclidean_oracle(distances, range(3), d, sigma)
            np.testing.assert_allclose(row, expected, atol=CLOSE)

    @pytest.mark.parametrize("d", [2, 24, 1024])
    def test_one_of_two_items_wins(self, d):
        # Neither chance knows of the other; leaders from within the noise to far outside it.
        own, behind = np.meshgrid(np.linspace(0.05, 40, 12), np.linspace(0, 12, 7))
        queries = np.zeros((own.size, d))
        items = np.zeros((own.size, 2, d))
        items[:, 0, 0], items[:, 1, 0] = own.ravel(), (own + behind).ravel()
        every = np.tile([0, 1], (own.size, 1))
        both = candidate_win_probability(queries, items, every, [1.0], metric="euclidean")[0]
        assert np.abs(both.sum(axis=1) - 1).max() < 5e-6


@pytest.mark.parametrize("n", [2, 30, 1000])
@pytest.mark.parametrize("d", [1, 24, 512])
def test_inner_product_agrees_with_quadrature(d, n):
    levels = [1e-3, 0.022, 0.5]
    for place, sigma in enumerate(levels):
        rng = np.random.default_rng([d, n, place])
        queries, items = near_clouds(rng, d, n, sigma)
        scores = queries @ items.T
        targets = np.stack([scores.argmax(axis=1), rng.integers(0, n, 2)], axis=1)
        swept = win_probability(queries, items, targets, levels, metric="ip")[place]
        alone = win_probability(queries, items, targets, [sigma], metric="ip")[0]
        for i in range(2):
            expected = [inner_product_oracle(scores[i], target, sigma) for target in targets[i]]
            np.testing.assert_allclose(alone[i], expected, atol=CLOSE)
            np.testing.assert_allclose(swept[i], expected, atol=CLOSE)


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 3.0])
def test_two_items_by_inner_product_have_a_closed_form(sigma):
    query, gallery = np.array([[0.6, 0.8]]), np.array([[0.3, 0.1], [0.2, 0.1]])
    margin = (gallery[0] - gallery[1]) @ query[0]
    found = win_probability(query, gallery, np.array([0]), [sigma], metric="ip")[0, 0]
    assert found == pytest.approx(special.ndtr(margin / (sigma * np.sqrt(2))), abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("d", "c", "sigma"), [(3, 5, 0.3), (256, 4, 0.06)])
def test_differences_from_sampling_are_standard_normal(d, c, sigma, metric, rng):
    """Each query has noise of its own, so the differences over their standard errors are N(0, 1)."""
    draws = 150
    queries = unit(rng.normal(size=(400, d)))
    candidates = unit(queries[:, None] + 0.4 * rng.normal(size=(400, c, d)) * 3 / np.sqrt(d))
    decided = leaders(queries, candidates, metric)
    exact = candidate_win_probability(queries, candidates, decided, [sigma], metric=metric)[0]
    wins = np.zeros(len(queries))
    for _ in range(draws):
        moved = candidates + sigma * rng.standard_normal(candidates.shape, dtype=np.float32)
        if metric == "ip":
            scores = (moved * queries[:, None]).sum(axis=2)
        else:
            scores = -((moved - queries[:, None]) ** 2).sum(axis=2)
        wins += scores.argmax(axis=1) == decided
    chosen = (exact > 0.05) & (exact < 0.95)
    assert chosen.sum() > 150
    z = (wins / draws - exact)[chosen] / np.sqrt(exact * (1 - exact) / draws)[chosen]
    # 150 independent values or more: the rms has a standard error of .06 at most, the mean .08.
    assert 0.85 < np.sqrt(np.mean(z**2)) < 1.15
    assert abs(z.mean()) < 0.3


class TestBothWays:
    def test_they_agree(self, monkeypatch, rng):
        for d, n in ((3, 12), (300, 40)):
            queries, gallery = rng.normal(size=(12, d)), rng.normal(size=(n, d))
            every = np.tile(np.arange(n), (12, 1))
            found = []
            for direct in (True, False):
                monkeypatch.setattr(solver, "_is_cheaper_directly", lambda *_, x=direct: x)
                found.append(
                    win_probability(queries, gallery, every, [0.1, 1.0], metric="euclidean")
                )
            np.testing.assert_allclose(*found, atol=1e-5)

    def test_few_queries_make_no_tables(self, rng):
        tables.clear()
        queries, gallery = rng.normal(size=(20, 3)), rng.normal(size=(9, 3))
        win_probability(queries, gallery, np.zeros(20, int), [0.1], metric="euclidean")
        assert tables._kept.bytes == 0
        many = np.tile(queries, (100, 1))
        win_probability(many, gallery, np.zeros(2000, int), [0.1], metric="euclidean")
        assert tables._kept.bytes > 0


# --- What probabilities must be --------------------------------------------------------------------


@pytest.fixture(params=METRICS)
def metric(request):
    return request.param


@pytest.fixture
def clouds(rng):
    """Many dimensions, most of them narrow: tables for low dimensions take longer to make."""
    widths = np.concatenate([np.ones(6), np.full(294, 0.02)])
    return rng.normal(size=(6, 300)) * widths, rng.normal(size=(5, 300)) * widths


class TestProbabilities:
    LEVELS = (1e-3, 0.1, 0.5, 20.0)

    def test_all_items_together_have_one(self, metric, clouds):
        queries, gallery = clouds
        every = np.tile(np.arange(5), (6, 1))
        found = win_probability(queries, gallery, every, self.LEVELS, metric=metric)
        assert found.min() >= 0
        assert found.max() <= 1
        np.testing.assert_allclose(found.sum(axis=2), 1, atol=1e-5)

    @pytest.mark.parametrize("d", [8, 300])
    def test_a_dense_gallery_has_one_too(self, d, metric, rng):
        queries, gallery = rng.normal(size=(3, d)), unit(rng.normal(size=(300, d)))
        every = np.tile(np.arange(300), (3, 1))
        found = win_probability(queries, gallery, every, [0.05, 1.0], metric=metric)
        # 300 errors of one sign add up.
        np.testing.assert_allclose(found.sum(axis=2), 1, atol=1e-4)

    def test_the_decision_never_gains_by_more_noise(self, metric, clouds):
        queries, gallery = clouds
        sigmas = np.geomspace(1e-3, 300, 40 if metric == "ip" else 14)
        decided = leaders(queries, gallery, metric)
        found = win_probability(queries, gallery, decided, sigmas, metric=metric)
        # Neighbouring values have neighbouring errors: far below the 1e-5 of each.
        assert np.diff(found, axis=0).max() < 1e-6
        # Far more noise than distances: every item is as likely as any other.
        np.testing.assert_allclose(found[-1], 1 / 5, atol=0.02)
        np.testing.assert_allclose(found[0], 1, atol=1e-6)

    def test_the_order_and_number_of_levels_do_not_matter(self, metric, clouds):
        queries, gallery = clouds
        every = np.tile(np.arange(5), (6, 1))
        levels = [0.5, 0.01, 0.1, 0.5, 0.0]
        found = win_probability(queries, gallery, every, levels, metric=metric)
        for sigma, values in zip(levels, found, strict=True):
            alone = win_probability(queries, gallery, every, [sigma], metric=metric)[0]
            np.testing.assert_allclose(values, alone, atol=CLOSE)
        np.testing.assert_array_equal(found[0], found[3])

    def test_blocks_of_queries_and_items(self, metric, rng, monkeypatch):
        queries, gallery = rng.normal(size=(70, 300)), rng.normal(size=(90, 300))
        decided = leaders(queries, gallery, metric)
        whole = win_probability(queries, gallery, decided, [0.3], metric=metric)
        monkeypatch.setattr(competition, "_LEAST_QUERIES", 16)
        monkeypatch.setattr(competition, "_PRODUCT_ELEMENTS", 16 * 7)
        monkeypatch.setattr(competition, "_FORM_ELEMENTS", 0)
        monkeypatch.setattr(competition, "cache_elements", lambda x: 16 * 7)
        monkeypatch.setattr(solver, "cache_elements", lambda x: 5 * 7)
        parts = win_probability(queries, gallery, decided, [0.3], metric=metric)
        # The same sums in other blocks; by Euclidean distance a panel may be laid out anew.
        np.testing.assert_allclose(parts, whole, atol=1e-9)

    def test_equal_candidates_are_a_gallery(self, metric, clouds):
        queries, gallery = clouds
        every = np.tile(np.arange(5), (6, 1))
        own = np.tile(gallery, (6, 1, 1))
        found = candidate_win_probability(queries, own, every, [0.1, 1.0], metric=metric)
        shared = win_probability(queries, gallery, every, [0.1, 1.0], metric=metric)
        np.testing.assert_allclose(found, shared, atol=1e-9)

    def test_far_items_change_nothing(self, metric, rng):
        # A sparse gallery of 5,000: all but a handful lie out of reach.
        d = 300
        query = unit(rng.normal(size=(1, d)))
        close = 0.9 * query + 0.005 * rng.normal(size=(4, d))
        far = -3 * query + 0.02 * rng.normal(size=(5000, d))
        targets = np.arange(4)[None]
        few = win_probability(query, close, targets, [0.02, 0.05], metric=metric)
        many = win_probability(
            query, np.concatenate([close, far]), targets, [0.02, 0.05], metric=metric
        )
        np.testing.assert_allclose(many, few, atol=CLOSE)


class TestTargets:
    def test_one_column_or_many(self, metric, clouds):
        queries, gallery = clouds
        columns = np.array([[0, 3], [1, 1], [4, 2], [2, 0], [0, 0], [3, 4]])
        both = win_probability(queries, gallery, columns, [0.2, 1.0], metric=metric)
        assert both.shape == (2, 6, 2)
        for k in (0, 1):
            one = win_probability(queries, gallery, columns[:, k], [0.2, 1.0], metric=metric)
            assert one.shape == (2, 6)
            np.testing.assert_allclose(one, both[:, :, k], atol=1e-12)

    def test_none_has_no_probability(self, metric, clouds):
        queries, gallery = clouds
        columns = np.array([[0, -1]] * 6)
        found = win_probability(queries, gallery, columns, [0.0, 1.0], metric=metric)
        np.testing.assert_array_equal(found[:, :, 1], 0)
        alone = win_probability(queries, gallery, columns[:, 0], [0.0, 1.0], metric=metric)
        np.testing.assert_array_equal(found[:, :, 0], alone)

    def test_a_target_out_of_reach_has_none_either(self, metric):
        query, gallery = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [-50.0, 0.0]])
        found = win_probability(query, gallery, np.array([[0, 1]]), [0.1], metric=metric)
        np.testing.assert_allclose(found, [[[1, 0]]], atol=1e-9)

    @pytest.mark.parametrize(
        ("targets", "error", "message"),
        [
            (
                np.zeros(5, int),
                ShapeError,
                "`targets` must have shape (m,) or (m, k) for 6 queries",
            ),
            (np.zeros((6, 1, 1), int), ShapeError, "got (6, 1, 1)"),
            (np.zeros((6, 0), int), ShapeError, "`targets` must have at least one column; got (6,"),
            (np.full(6, 5), DataError, "`targets` must lie in [-1, 5); got values from 5 to 5"),
            (np.full(6, -2), DataError, "`targets` must lie in [-1, 5); got values from -2 to -2"),
            (np.full(6, 0.5), DataError, "`targets` must hold integer indices; got float64"),
            (np.full(6, np.inf), DataError, "`targets` must hold integer indices; got float64"),
            (np.full(6, True), DataError, "`targets` must hold integer indices; got bool"),
        ],
    )
    def test_targets_that_are_none(self, targets, error, message, clouds):
        with pytest.raises(error, match=re.escape(message)):
            win_probability(*clouds, targets, [0.1], metric="euclidean")


class TestExtremes:
    def finite(self, queries, gallery, metric, sigmas):
        """Probabilities of all items, each level in a call of its own."""
        every = np.tile(np.arange(len(gallery)), (len(queries), 1))
        found = np.concatenate(
            [win_probability(queries, gallery, every, [sigma], metric=metric) for sigma in sigmas]
        )
        assert np.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() <= 1
        np.testing.assert_allclose(found.sum(axis=2), 1, atol=1e-4)
        return found

    def test_levels_from_nothing_to_far_too_much(self, metric, clouds):
        queries, gallery = clouds
        levels = (0.0, 1e-300, 1e-30, 1e-12, 1e-6, 1e6, 1e12, 1e150)
        found = self.finite(queries, gallery, metric, levels)
        decided = leaders(queries, gallery, metric)
        rows = np.arange(6)
        np.testing.assert_array_equal(found[0, rows, decided], 1)
        np.testing.assert_allclose(found[1:5, rows, decided], 1, atol=1e-8)
        np.testing.assert_allclose(found[5:], 1 / 5, atol=1e-4)

    def test_a_sweep_over_many_orders_of_magnitude(self, metric, clouds):
        queries, gallery = clouds
        decided = leaders(queries, gallery, metric)
        levels = [1e-8, 1e-4, 1.0, 1e4]
        found = win_probability(queries, gallery, decided, levels, metric=metric)
        for sigma, values in zip(levels, found, strict=True):
            alone = win_probability(queries, gallery, decided, [sigma], metric=metric)[0]
            np.testing.assert_allclose(values, alone, atol=CLOSE)

    def test_one_item_is_certain(self, metric, clouds):
        found = win_probability(
            clouds[0], clouds[1][:1], np.zeros(6, int), [0, 1, 1e9], metric=metric
        )
        np.testing.assert_array_equal(found, 1)

    @pytest.mark.parametrize("d", [2, 700])
    def test_rows_that_are_all_equal_share(self, d, metric, rng):
        queries, gallery = rng.normal(size=(3, d)), np.tile(rng.normal(size=(1, d)), (4, 1))
        found = self.finite(queries, gallery, metric, (0.0, 0.1, 10.0))
        np.testing.assert_array_equal(found[0], [[1, 0, 0, 0]] * 3)  # ties go to the lower index
        np.testing.assert_allclose(found[1:], 1 / 4, atol=CLOSE)

    def test_two_copies_of_the_leader_share(self, metric, rng):
        gallery = np.eye(4)[[0, 0, 1, 2]]
        queries = np.array([[3.0, 0, 0, 0]])
        found = self.finite(queries, gallery, metric, (1e-3,))
        np.testing.assert_allclose(found[0, 0], [0.5, 0.5, 0, 0], atol=CLOSE)

    @pytest.mark.parametrize("d", [1, 512])
    def test_a_query_on_an_item(self, d, rng):
        gallery = rng.normal(size=(4, d))
        found = self.finite(gallery[:2], gallery, "euclidean", (0.0, 1e-9, 0.5))
        np.testing.assert_allclose(found[1, [0, 1], [0, 1]], 1, atol=1e-9)

    def test_a_zero_query_has_ties_and_nothing_else(self, rng):
        gallery, every = rng.normal(size=(4, 3)), np.arange(4)[None]
        found = win_probability(np.zeros((1, 3)), gallery, every, [0.0, 0.1, 2.0], metric="ip")
        assert found.min() >= 0
        assert found.max() <= 1
        np.testing.assert_array_equal(found[0], [[1, 0, 0, 0]])

    @pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
    def test_the_unit_of_length_does_not_matter(self, scale, metric, clouds):
        queries, gallery = clouds
        decided = leaders(queries, gallery, metric)
        found = win_probability(queries, gallery, decided, [0.3, 1.0], metric=metric)
        scaled = win_probability(
            scale * queries, scale * gallery, decided, [0.3 * scale, scale], metric=metric
        )
        np.testing.assert_allclose(scaled, found, atol=CLOSE)

    def test_far_from_the_origin(self, clouds):
        queries, gallery = clouds
        decided = leaders(queries, gallery, "euclidean")
        found = win_probability(queries, gallery, decided, [0.3], metric="euclidean")
        moved = win_probability(queries + 1e4, gallery + 1e4, decided, [0.3], metric="euclidean")
        # Entries keep 12 of their digits; squared norms of 3e10 must not enter.
        np.testing.assert_allclose(moved, found, atol=1e-8)
        every = np.tile(gallery + 1e4, (6, 1, 1))
        moved = candidate_win_probability(queries + 1e4, every, decided, [0.3], metric="euclidean")
        np.testing.assert_allclose(moved, found, atol=1e-8)


class TestLibraries:
    # JAX runs in the tests of the integral; here it would compile everything once more.
    @pytest.mark.parametrize("xp", ["numpy", "array_api_strict", "torch"], indirect=True)
    def test_on_every_library(self, metric, xp, to_xp, clouds):
        queries, gallery = clouds
        columns = np.array([[0, 3], [1, 1], [4, -1], [2, 0], [0, 0], [3, 4]])
        y, x = to_xp(queries), to_xp(gallery)
        found = win_probability(y, x, to_xp(columns), [0.5], metric=metric)
        assert type(found) is type(y)
        assert found.dtype == xp.float64
        expected = win_probability(queries, gallery, columns, [0.5], metric=metric)
        np.testing.assert_allclose(host(found), expected, atol=1e-10)
        np.testing.assert_array_equal(host(y), queries)
        np.testing.assert_array_equal(host(x), gallery)

    @pytest.mark.parametrize("xp", ["numpy", "array_api_strict", "torch"], indirect=True)
    def test_candidates_on_every_library(self, metric, to_xp, rng):
        queries, candidates = rng.normal(size=(6, 300)), rng.normal(size=(6, 4, 300))
        columns = rng.integers(-1, 4, size=(6, 2))
        found = candidate_win_probability(
            to_xp(queries), to_xp(candidates), columns, [0.1, 0.5], metric=metric
        )
        expected = candidate_win_probability(
            queries, candidates, columns, [0.1, 0.5], metric=metric
        )
        np.testing.assert_allclose(host(found), expected, atol=1e-10)

    def test_another_device(self, metric, to_other_device, clouds):
        y, x = (to_other_device(cloud) for cloud in clouds)
        found = win_probability(y, x, np.arange(5).repeat(2)[:6], [0.1, 0.5], metric=metric)
        assert found.device == y.device

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_narrow_floats_are_widened(self, dtype, metric, clouds):
        y, x = (cloud.astype(dtype) for cloud in clouds)
        decided = leaders(y, x, metric)
        found = win_probability(y, x, decided, [0.3], metric=metric)
        assert found.dtype == np.float64
        wide = win_probability(
            y.astype(np.float64), x.astype(np.float64), decided, [0.3], metric=metric
        )
        np.testing.assert_allclose(found, wide, atol=1e-9)

    def test_bfloat16(self, metric, clouds):
        torch = pytest.importorskip("torch")
        y, x = (torch.tensor(cloud, dtype=torch.bfloat16) for cloud in clouds)
        found = win_probability(y, x, np.zeros(6, int), [0.3], metric=metric)
        wide = win_probability(y.double(), x.double(), np.zeros(6, int), [0.3], metric=metric)
        np.testing.assert_allclose(host(found), host(wide), atol=1e-9)

    def test_any_layout_is_only_read(self, metric, clouds):
        queries, gallery = clouds
        wide = np.zeros((12, 600))
        wide[::2, ::2] = queries
        wide.flags.writeable = False
        fortran = np.asfortranarray(gallery)
        targets = np.zeros(6, int)
        found = win_probability(wide[::2, ::2], fortran, targets, [0.3], metric=metric)
        expected = win_probability(queries, gallery, targets, [0.3], metric=metric)
        np.testing.assert_allclose(found, expected, atol=1e-12)


class TestErrors:
    @pytest.mark.parametrize(
        ("sigmas", "message"),
        [
            ([], "`sigmas` must hold at least one noise level; got none"),
            ([-0.1], "`sigmas` must be finite and in [0, inf]; got -0.1"),
            ([0.1, np.nan], "`sigmas` must be finite and in [0, inf]; got nan"),
            ([np.inf], "`sigmas` must be finite and in [0, inf]; got inf"),
            (["a"], "`sigmas` must be a number; got"),
        ],
    )
    def test_levels(self, sigmas, message, clouds):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            win_probability(*clouds, np.zeros(6, int), sigmas, metric="euclidean")

    def test_a_number_is_one_level(self, clouds):
        assert win_probability(*clouds, np.zeros(6, int), 0.1, metric="euclidean").shape == (1, 6)

    def test_cosine_has_no_closed_form(self, clouds):
        with pytest.raises(
            ArgumentError, match="`metric` cosine has no closed form under noise; sample it"
        ):
            win_probability(*clouds, np.zeros(6, int), [0.1], metric="cosine")

    def test_shapes(self, clouds, rng):
        queries, gallery = clouds
        with pytest.raises(ShapeError, match=r"\(6, 300\) and \(5, 3\)"):
            win_probability(queries, gallery[:, :3], np.zeros(6, int), [0.1], metric="euclidean")
        with pytest.raises(ShapeError, match=r"got \(5, 4, 300\) for 6 queries"):
            candidate_win_probability(
                queries, rng.normal(size=(5, 4, 300)), np.zeros(6, int), [0.1], metric="euclidean"
            )
