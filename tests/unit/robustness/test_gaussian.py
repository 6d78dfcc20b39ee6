"""The exact Gaussian integral against SciPy's noncentral chi-square, direct quadrature and sampling."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import integrate, special, stats

from modgap._core.arrays import to_numpy
from modgap.decisions.metric import EUCLIDEAN, INNER_PRODUCT, as_metric
from modgap.decisions.neighbors import nearest, nearest_candidates
from modgap.errors import ArgumentError, DataError, ShapeError
from modgap.robustness import integral as gaussian
from modgap.robustness.integral import candidate_win_probability, win_probability
from modgap.robustness.noise import Gaussian
from modgap.robustness.sampling import System, sample_decisions

METRICS = (EUCLIDEAN, INNER_PRODUCT)

#: The integral is good to 1e-5; the largest difference over the grids below is 1.1e-5, in two
#: dimensions with two items.
CLOSE = 2e-5


def host(x):
    return np.asarray(to_numpy(x))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


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
    return search(queries, gallery, metric=metric).indices[:, 0]


# --- Against quadrature ----------------------------------------------------------------------------

SIGMAS = (1e-3, 0.01, 0.1, 0.5)


class TestEuclidean:
    @pytest.mark.parametrize(("d", "n"), [(8, 20), (1024, 2), (1024, 100)])
    def test_a_sweep_over_noises_and_other_targets(self, d, n, rng):
        # Distances behind the leader from 1e-4 to 1, so that every noise finds items to mix up. The
        # leader lies on the query, near it, or far away.
        nearest_at = (0.0, 0.2, 1.0)[(d + n) % 3]
        distances = nearest_at + np.exp(rng.uniform(np.log(3e-4), 0, size=n))
        distances[0] = nearest_at + 2e-4
        gallery, query = items_at(distances, d, rng), np.zeros((1, d))
        targets = (0, 1, n - 1)  # the leader and others
        sweep = win_probability(query, gallery, np.array([targets]), SIGMAS, metric="euclidean")[
            :, 0
        ]
        for sigma in SIGMAS:
            expected = euclidean_oracle(distances, targets, d, sigma)
            alone = win_probability(
                query, gallery, np.array([targets]), [sigma], metric="euclidean"
            )[0, 0]
            np.testing.assert_allclose(alone, expected, atol=CLOSE)
            np.testing.assert_allclose(sweep[SIGMAS.index(sigma)], expected, atol=CLOSE)

    @pytest.mark.parametrize("d", [288, 576, 1152])
    def test_where_a_leader_on_the_query_meets_the_edge_of_a_panel(self, d, rng):
        # sqrt(d / 2) = 12 * 2^(k/2): the interpolation nodes of the panel fall together.
        distances = np.array([0.0, 0.1, 0.15, 0.3])
        gallery = items_at(distances, d, rng)
        found = win_probability(
            np.zeros((1, d)), gallery, np.array([[0, 1, 2, 3]]), [0.02, 0.1], metric="euclidean"
        )
        for sigma, values in zip((0.02, 0.1), found[:, 0], strict=True):
            expected = euclidean_oracle(distances, range(4), d, sigma)
            np.testing.assert_allclose(values, expected, atol=CLOSE)

    @pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0])
    def test_one_dimension(self, sigma, rng):
        # |a + sigma e| is a folded normal.
        distances = np.array([0.2, 0.25, 0.6, 1.0])
        signs = np.array([1, -1, 1, -1.0])

        def tail(r, a):
            return special.ndtr((a - r) / sigma) + special.ndtr((-r - a) / sigma)

        def density(r, a):
            return (stats.norm.pdf((r - a) / sigma) + stats.norm.pdf((r + a) / sigma)) / sigma

        found = win_probability(
            np.zeros((1, 1)),
            (signs * distances)[:, None],
            np.arange(4)[None],
            [sigma],
            metric="euclidean",
        )[0, 0]
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
        gallery = rng.normal(size=(6, d)) * 0.2
        queries = rng.normal(size=(8, d)) * np.geomspace(0.01, 20, 8)[:, None]
        found = win_probability(
            queries, gallery, np.tile(np.arange(6), (8, 1)), [sigma], metric="euclidean"
        )[0]
        for y, row in zip(queries, found, strict=True):
            distances = np.linalg.norm(gallery - y, axis=1)
            expected = euclidean_oracle(distances, range(6), d, sigma)
            np.testing.assert_allclose(row, expected, atol=CLOSE)


class TestInnerProduct:
    @pytest.mark.parametrize("n", [2, 10, 100, 1000])
    @pytest.mark.parametrize("d", [1, 2, 8, 512])
    def test_adaptive_quadrature(self, d, n, rng):
        query = rng.normal(size=(1, d))
        size = np.linalg.norm(query)
        behind = np.exp(rng.uniform(np.log(3e-4), 0, size=n))
        behind[0] = 0.0
        gallery = -behind[:, None] * query / size**2  # scores -behind
        order = np.argsort(behind)
        targets = (order[0], order[1], order[-1])
        sweep = win_probability(query, gallery, np.array([targets]), SIGMAS, metric="ip")[:, 0]
        for sigma, values in zip(SIGMAS, sweep, strict=True):
            alone = win_probability(query, gallery, np.array([targets]), [sigma], metric="ip")[0, 0]
            for k, target in enumerate(targets):
                expected = inner_product_oracle(-behind, target, sigma * size)
                assert values[k] == pytest.approx(expected, abs=CLOSE)
                assert alone[k] == pytest.approx(expected, abs=CLOSE)

    @pytest.mark.parametrize("sigma", [1e-3, 0.1, 3.0])
    def test_two_items_have_a_closed_form(self, sigma):
        query, gallery = np.array([[0.6, 0.8]]), np.array([[0.3, 0.1], [0.2, 0.1]])
        margin = (gallery[0] - gallery[1]) @ query[0]
        found = win_probability(query, gallery, np.array([0]), [sigma], metric="ip")[0, 0]
        assert found == pytest.approx(special.ndtr(margin / (sigma * np.sqrt(2))), abs=1e-6)


# --- Against sampling ------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("d", "c", "sigma"), [(3, 5, 0.3), (8, 20, 0.3), (256, 4, 0.06)])
class TestSampling:
    """Each query has noise of its own, so the differences over their standard errors are N(0, 1)."""

    draws = 150

    def problem(self, d, c, metric, rng):
        queries = unit(rng.normal(size=(400, d)))
        candidates = unit(queries[:, None] + 0.4 * rng.normal(size=(400, c, d)) * 3 / np.sqrt(d))
        return queries, candidates, leaders(queries, candidates, metric)

    def assert_standard(self, share, exact):
        chosen = (exact > 0.05) & (exact < 0.95)
        assert chosen.sum() > 150
        z = (share - exact)[chosen] / np.sqrt(exact * (1 - exact) / self.draws)[chosen]
        # 150 independent values or more: the rms has a standard error of .06 at most, the mean .08.
        assert 0.85 < np.sqrt(np.mean(z**2)) < 1.15
        assert abs(z.mean()) < 0.3

    def test_a_plain_sampler(self, d, c, sigma, metric, rng):
        queries, candidates, decided = self.problem(d, c, metric, rng)
        exact = candidate_win_probability(queries, candidates, decided, [sigma], metric=metric)[0]
        wins = np.zeros(len(queries))
        for _ in range(self.draws):
            moved = candidates + sigma * rng.standard_normal(candidates.shape, dtype=np.float32)
            if metric == "ip":
                scores = (moved * queries[:, None]).sum(axis=2)
            else:
                scores = -((moved - queries[:, None]) ** 2).sum(axis=2)
            wins += scores.argmax(axis=1) == decided
        self.assert_standard(wins / self.draws, exact)

    def test_the_library_s_sampler(self, d, c, sigma, metric, rng):
        queries, candidates, decided = self.problem(d, c, metric, rng)
        exact = candidate_win_probability(queries, candidates, decided, [sigma], metric=metric)[0]
        sampled = sample_decisions(
            [System(queries, candidates, as_metric(metric))],
            [decided[:, None]],
            [Gaussian(sigma)],
            draws=self.draws,
            seed=1,
        )[0][0]
        self.assert_standard(sampled.wins[:, 0], exact)

    def test_one_gallery_for_all_queries(self, d, c, sigma, metric, rng):
        gallery = unit(rng.normal(size=(c, d)))
        queries = unit(
            gallery[rng.integers(0, c, 500)] + rng.normal(size=(500, d)) * 2 / np.sqrt(d)
        )
        decided = leaders(queries, gallery, metric)
        exact = win_probability(queries, gallery, decided, [sigma], metric=metric)[0]
        sampled = sample_decisions(
            [System(queries, gallery, metric)],
            [decided[:, None]],
            [Gaussian(sigma)],
            draws=self.draws,
            seed=2,
        )[0][0]
        # One noise for all queries: the error of the mean is larger than that of independent ones.
        assert abs(sampled.wins.mean() - exact.mean()) < 4 * sampled.stderr


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
        monkeypatch.setattr(gaussian, "cache_elements", lambda x: 16 * 7)
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
