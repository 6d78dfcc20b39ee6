"""The parts of the exact integral's tables, each against SciPy or a closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from modgap.robustness import binning, chi_square, tables
from modgap.robustness.integral import win_probability


def test_the_chi_square_rule_has_the_moments_of_the_distribution():
    for k in (1, 2, 7, 511, 1023):
        nodes, weights = chi_square.chi_square_rule(k)
        assert weights.sum() == pytest.approx(1, rel=1e-12)
        for power in range(1, 6):  # a Gauss rule of 40 nodes is exact up to degree 79
            moment = math.prod(k + 2 * i for i in range(power))
            assert weights @ nodes**power == pytest.approx(moment, rel=1e-10)
    nodes, weights = chi_square.chi_square_rule(0)
    assert (nodes.tolist(), weights.tolist()) == ([0.0], [1.0])


BRANCHES = {
    "poisson": chi_square.by_poisson_count,
    "directions": chi_square.by_other_directions,
}


@pytest.mark.parametrize(
    ("branch", "d", "noncentrality"),
    [
        ("poisson", 1, 0.5),
        ("poisson", 2, 0.0),
        ("poisson", 3, 30.0),
        ("poisson", 64, 390.0),
        ("poisson", 512, 100.0),
        ("poisson", 1024, 1000.0),
        ("directions", 1, 500.0),
        ("directions", 2, 400.0),
        ("directions", 64, 1e4),
        ("directions", 512, 600.0),
        ("directions", 1024, 1e6),
    ],
)
def test_squared_distances_are_noncentral_chi_squares(branch, d, noncentrality):
    middle = math.sqrt(noncentrality + d)
    t = np.linspace(max(0.05, middle - 6), middle + 6, 25) ** 2
    items = noncentrality + np.array([0.0, 3.0, 2 * math.sqrt(noncentrality + 1)])
    survival, density = BRANCHES[branch](t, items, d)
    expected = stats.ncx2.sf(t[None], d, items[:, None])
    np.testing.assert_allclose(survival, expected, rtol=1e-8, atol=1e-9)
    expected = stats.ncx2.pdf(t[None], d, np.maximum(items, 1e-300)[:, None])
    np.testing.assert_allclose(density, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("d", [1, 8, 300, 700])
def test_both_branches_agree_where_one_takes_over(d):
    least = max(d, 400)
    items = least + np.array([0.0, 1.0, 60.0])
    t = np.linspace(math.sqrt(least + d) - 6, math.sqrt(least + d) + 6, 20) ** 2
    one, other = (branch(t, items, d) for branch in BRANCHES.values())
    np.testing.assert_allclose(one[0], other[0], atol=1e-9)
    np.testing.assert_allclose(one[1], other[1], atol=1e-9)


class TestGrid:
    GRID = binning.OffsetGrid(fine=0.5, bins=40)

    def test_offsets_fall_into_their_bins(self):
        within = np.array([-0.49, 0.0, 0.49])
        bins, place = binning.place_in(self.GRID.offsets(within), self.GRID)
        np.testing.assert_array_equal(bins, np.arange(40)[:, None].repeat(3, axis=1))
        np.testing.assert_allclose(place, np.tile(within, (40, 1)), atol=1e-12)

    def test_it_starts_at_zero_and_ends_where_it_says(self):
        assert self.GRID.offsets(np.array([-0.5]))[0, 0] == 0
        assert self.GRID.offsets(np.array([0.5]))[-1, 0] == pytest.approx(self.GRID.stop)

    @pytest.mark.parametrize("finest", [1e-3, 0.3, 1.0])
    def test_it_reaches_as_far_as_it_is_asked_to(self, finest):
        for reach in (finest, 12.5, 300.0):
            grid = binning.grid_for(reach, finest)
            assert grid.stop >= reach
            assert finest <= grid.fine <= 2 * finest
            short = binning.shortened(grid, reach / 10)
            assert short.fine == grid.fine  # the same bins, fewer of them
            assert reach / 10 <= short.stop <= grid.stop * (1 + 1e-12)


class TestInterpolation:
    def table(self, size):
        nodes = tables._chebyshev(2.0, 5.0, size)
        return tables.Table(nodes, np.zeros((1, size, 1)), np.zeros((1, size, 1)))

    @pytest.mark.parametrize("size", [5, 28])
    def test_polynomials_are_met_exactly(self, size):
        table = self.table(size)
        at = np.concatenate([np.linspace(2, 5, 11), table.nodes[:2]])
        weights = table.interpolation(at)
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
        for power in range(5):
            np.testing.assert_allclose(weights @ table.nodes**power, at**power, rtol=1e-11)

    def test_a_node_takes_its_own_value(self):
        table = self.table(5)
        np.testing.assert_allclose(table.interpolation(table.nodes), np.eye(5), atol=1e-12)

    def test_nodes_that_fall_together(self):
        table = tables.Table(np.full(5, 3.0), np.zeros((1, 5, 1)), np.zeros((1, 5, 1)))
        np.testing.assert_allclose(table.interpolation(np.array([3.0])), 0.2)

    def test_one_node_needs_none(self):
        table = tables.Table(np.zeros(1), np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))
        np.testing.assert_array_equal(table.interpolation(np.array([0.3, 9.0])), 1)


def features_of(offset, grid):
    """The place of one item as the tables take it: powers slowest, bins within."""
    bins, place = binning.place_in(np.array([offset]), grid)
    found = np.zeros((binning.POWERS, grid.bins))
    found[:, bins[0]] = place[0] ** np.arange(binning.POWERS)
    return found.ravel()


@pytest.mark.parametrize("ratio", [1.0, 20.0])
def test_inner_product_tables_hold_survival_and_gain(ratio):
    grid = binning.grid_for(binning.REACH * ratio, 1.0)
    table = tables.inner_product_table(ratio, grid)
    u, w = chi_square.evenly_spaced(0.0, chi_square.HALF_WIDTH)
    for offset in (0.0, 0.013, 0.7, 3.3, 9.0):
        features = features_of(offset * ratio, grid)
        survival = features @ table.survival[:, 0]
        expected = special.log_ndtr(u + offset)
        # A cubic on bins of 5 % of the noise: 1e-6, and nothing where log S has no weight left.
        np.testing.assert_allclose(survival, expected, atol=3e-6)
        gain = features @ table.gain[:, 0]
        density = stats.norm.logpdf(u + offset) + np.log(w) - expected
        np.testing.assert_allclose(gain, density, atol=3e-6)


@pytest.mark.parametrize(("d", "panel", "v"), [(4, 0, 3.0), (4, 0, 9.5), (600, 3, 25.0)])
def test_euclidean_tables_hold_a_duel_with_one_item(d, panel, v):
    sigma = 0.3
    grid = binning.grid_for(20.0, 1.0)
    table = tables.euclidean_table(d, 1.0, panel, grid)
    leader = v * v - d / 2
    assert table.nodes.min() <= v <= table.nodes.max()
    assert tables.panel_of(np.array([v]))[0] == panel
    weights = table.interpolation(np.array([v]))[0]
    unit = tables.euclidean_unit(leader * sigma**2, d, sigma) / sigma**2
    for offset in (0.0, 0.4, 2.0):
        # The nodes' radii differ; their sum, the integral, is what interpolation must get right.
        there, here = features_of(offset, grid), features_of(0.0, grid)
        survival = np.einsum("b,r,rbt->t", weights, there + here, table.survival)
        gain = np.einsum("b,r,rbt->t", weights, here, table.gain)
        found = np.exp(survival + gain).sum()
        middle = math.sqrt(leader + d)
        radius = np.linspace(max(1e-9, middle - 12), middle + 12, 1201)
        t = radius**2
        density = np.exp(log_density(t, d, leader)) * 2 * radius
        expected = np.trapezoid(density * stats.ncx2.sf(t, d, leader + offset * unit), radius)
        assert found == pytest.approx(expected, abs=1e-5)


def log_density(t, d, noncentrality):
    k = np.arange(int(noncentrality) + 400)[:, None]
    weights = stats.poisson.logpmf(k, noncentrality / 2)
    return special.logsumexp(weights + stats.chi2.logpdf(t[None], d + 2 * k), axis=0)


def test_panels_follow_each_other():
    edges = chi_square.FIRST_PANEL * 2.0 ** (np.arange(6) / 2)
    inside = np.sqrt(edges[:-1] * edges[1:])
    np.testing.assert_array_equal(tables.panel_of(inside), np.arange(1, 6))
    np.testing.assert_array_equal(tables.panel_of(np.array([0.7, 11.999])), 0)


@pytest.mark.parametrize("d", [1, 2, 64, 1024])
def test_reach_and_finest_bound_what_matters(d):
    distances = np.array([0.0, 0.01, 1.0, 30.0]) ** 2
    for sigma, top in ((0.05, 0.05), (0.001, 0.5)):
        unit = tables.euclidean_unit(distances, d, top)
        reach = tables.euclidean_reach(distances, d, sigma, top)
        # REACH noise units behind the leader's radius, for the leader that asks for most.
        radius = np.sqrt(distances + sigma**2 * d / 2) + binning.REACH * sigma
        behind = radius**2 - distances - sigma**2 * d / 2
        assert reach == pytest.approx((behind / unit).max(), rel=1e-9)
        finest = tables.euclidean_finest(distances, d, sigma, top)
        own = tables.euclidean_unit(distances, d, sigma)
        assert finest == pytest.approx((own / unit).min(), rel=1e-12)


class TestKept:
    def table(self, mebibytes):
        half = np.zeros((mebibytes * 2**16, 1, 1))
        return tables.Table(np.zeros(1), half, half)

    def test_the_tables_used_last_within_a_number_of_bytes(self):
        kept = tables._Kept(limit=3 * 2**20)
        made = []

        def ask(key):
            def make():
                made.append(key)
                return self.table(1)

            kept.get(key, make)

        for key in "abcab":
            ask(key)
        assert made == ["a", "b", "c"]
        ask("d")  # c was used longest ago
        ask("a")
        ask("c")
        assert made == ["a", "b", "c", "d", "c"]
        assert kept.bytes == 3 * 2**20
        kept.clear()
        assert kept.bytes == 0

    def test_a_table_too_large_to_keep_is_made_all_the_same(self):
        kept = tables._Kept(limit=2**20)
        assert kept.get("large", lambda: self.table(2)).bytes == 2 * 2**20
        assert kept.bytes == 0

    def test_many_settings_of_few_dimensions_stay_within_it(self):
        tables.clear()
        rng = np.random.default_rng(0)
        for d in (2, 3):
            queries, gallery = rng.normal(size=(1500, d)), rng.normal(size=(4, d))
            win_probability(queries, gallery, np.zeros(1500, int), [0.3], metric="euclidean")
            assert tables._kept.bytes <= 64 * 2**20
        assert tables._kept.bytes > 32 * 2**20  # the bound was met

    def test_one_level_needs_one_table_whatever_its_size(self):
        # Offsets are in units of the noise: what is left of sigma is its share of the largest one.
        grid = binning.grid_for(20.0, 1.0)
        first = tables.euclidean_table(600, 1.0, 3, grid)
        assert tables.euclidean_table(600, 1.0, 3, grid) is first
