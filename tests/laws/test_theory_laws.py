"""The theorems as properties of random clouds, and what fails once an assumption is dropped."""

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from modgap.decisions.neighbors import nearest
from modgap.paper import theory
from modgap.robustness.integral import win_probability

seeds = st.integers(0, 2**32 - 1)
temperatures = st.floats(0.02, 5.0)
sigmas = st.sampled_from([0.05, 0.2, 0.5, 1.0])
sizes = st.tuples(st.integers(2, 12), st.integers(1, 7))
#: Accuracy of the integral behind `win_probability`.
INTEGRAL_ERROR = 1e-5


def pair(seed, size, spread=1.0, gap=1.0):
    rng = np.random.default_rng(seed)
    x, y = spread * rng.normal(size=(2, *size))
    return x, y + gap * rng.normal(size=size[1])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def directions(gallery):
    """Orthonormal rows that span the differences of the gallery, and its mean."""
    mean = gallery.mean(axis=0)
    _, values, axes = np.linalg.svd(gallery - mean)
    return axes[: int((values > 1e-10 * values[0]).sum())], mean


class TestLosses:
    @given(seeds, sizes, temperatures)
    def test_only_differences_matter(self, seed, size, temperature):
        """Squared distances: no translation or rotation matters, so gradients sum to zero."""
        x, y = pair(seed, size)
        rng = np.random.default_rng(seed)
        turn = np.linalg.qr(rng.normal(size=(size[1], size[1])))[0]
        shift = rng.normal(size=size[1])
        here = theory.contrastive_gradient(x, y, temperature=temperature)
        there = theory.contrastive_gradient(
            x @ turn + shift, y @ turn + shift, temperature=temperature
        )
        assert there.loss == pytest.approx(here.loss, rel=1e-10, abs=1e-10)
        scale = max(np.abs(here.y).max(), 1e-3)
        np.testing.assert_allclose(there.y, here.y @ turn, atol=1e-9 * scale)
        np.testing.assert_allclose(here.x.sum(0) + here.y.sum(0), 0, atol=1e-11 * scale * size[0])

    @given(seeds, sizes, temperatures)
    def test_softmax_sums_average_to_one(self, seed, size, temperature):
        x, y = pair(seed, size)
        sums = theory.softmax_sums(x, y, temperature=temperature)
        assert np.mean(sums.x) == pytest.approx(1.0, abs=1e-12)
        assert np.mean(sums.y) == pytest.approx(1.0, abs=1e-12)
        assert 0.0 <= sums.deviation < 2.0
        assert sums.max_deviation <= size[0] - 1 + 1e-9

    @given(seeds, sizes, temperatures)
    def test_swapping_the_clouds_swaps_everything(self, seed, size, temperature):
        x, y = pair(seed, size)
        one = theory.contrastive_gradient(x, y, temperature=temperature)
        two = theory.contrastive_gradient(y, x, temperature=temperature)
        assert two.loss == pytest.approx(one.loss, rel=1e-10, abs=1e-12)
        np.testing.assert_allclose(two.x, one.y, atol=1e-10 / temperature)

    @given(seeds, sizes, temperatures)
    def test_distances_on_the_sphere_are_inner_products_at_half_the_temperature(
        self, seed, size, temperature
    ):
        x, y = pair(seed, size)
        distances = theory.contrastive_gradient(x, y, temperature=temperature, sphere=True)
        products = theory.contrastive_gradient(
            x, y, temperature=temperature / 2, metric="ip", sphere=True
        )
        assert distances.loss == pytest.approx(products.loss, rel=1e-10, abs=1e-10)
        scale = max(np.abs(products.x).max(), 1e-6)
        np.testing.assert_allclose(distances.x, products.x, atol=1e-9 * scale)


class TestTightClusters:
    @given(seeds, sizes, temperatures, st.floats(-6, 0.5), st.booleans())
    def test_remainder_never_exceeds_its_bound(self, seed, size, temperature, log_radius, sphere):
        """The bound of docs/theory.md holds for every pair of clouds, tight or not."""
        x, y = pair(seed, (size[0], size[1] + 1), spread=10**log_radius)
        check = theory.tight_cluster_gradient(x, y, temperature=temperature, sphere=sphere)
        remainder = np.linalg.norm(check.observed - check.first_order, axis=1).max()
        rounding = 1e-13 * np.abs(np.stack([check.observed, check.first_order])).max()
        assert remainder <= check.bound + rounding + 1e-13 / temperature**2
        pull = np.linalg.norm(check.first_order - check.leading, axis=1).max()
        assert pull <= check.pull * (1 + 1e-9)

    def test_without_tightness_the_leading_term_fails(self):
        def fails(seed):
            x, y = pair(seed, (10, 4), spread=0.5, gap=1.0)
            return theory.tight_cluster_gradient(x, y, temperature=0.1).relative_error > 1.0

        assert fails(find(seeds, fails))

    def test_without_a_strong_gap_the_leading_term_fails(self):
        """Tight, but ||g||^2 below the temperature: the pull to the partner is larger."""

        def fails(seed):
            x, y = pair(seed, (10, 4), spread=1e-6, gap=0.1)
            check = theory.tight_cluster_gradient(x, y, temperature=1.0)
            return check.first_order_error < 1e-3 and check.relative_error > 0.9

        assert fails(find(seeds, fails))


class TestFreezing:
    @given(seeds, sizes, temperatures, st.floats(-2, 2), st.sampled_from(["euclidean", "ip"]))
    def test_shared_constant_direction(self, seed, size, temperature, height, metric):
        """The derivative along it is what the softmax sums say, to the last digits."""
        x, y = pair(seed, (size[0], size[1] + 1))
        x[:, 0], y[:, 0] = 0.25, height
        axis = np.eye(size[1] + 1)[0]
        check = theory.frozen_direction(x, y, axis, temperature=temperature, metric=metric)
        assert check.bound < 1e-12
        assert check.error <= 1e-12 / temperature

    @given(seeds, st.integers(2, 9), temperatures)
    def test_zero_iff_the_sum_is_one(self, seed, n, temperature):
        x, y = pair(seed, (n, 3))
        x[:, 0], y[:, 0] = 0.0, 1.0
        check = theory.frozen_direction(x, y, np.eye(3)[0], temperature=temperature)
        slope = 2.0 / (n * temperature)
        np.testing.assert_allclose(check.observed_y / slope, 1 - check.sums.y, atol=1e-12)
        np.testing.assert_allclose(check.observed_x / slope, check.sums.x - 1, atol=1e-12)

    @given(seeds, sizes, temperatures, st.floats(-6, 0))
    def test_nearly_constant_clouds_stay_within_the_bound(
        self, seed, size, temperature, log_spread
    ):
        x, y = pair(seed, size, spread=10**log_spread)
        check = theory.frozen_direction(x, y, temperature=temperature)
        assert check.error <= check.bound * (1 + 1e-9) + 1e-12 / temperature

    def test_doubly_stochastic_alone_freezes_nothing(self):
        """Assumption dropped: all sums are one, but the clouds vary along the direction."""
        angle = 2 * np.pi * np.arange(6) / 6
        x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        check = theory.frozen_direction(x, 1.5 * x, np.eye(2)[0], temperature=1.0)
        assert check.sums.max_deviation < 1e-12
        assert np.abs(check.observed_y).max() > 0.05

    def test_constant_alone_freezes_nothing(self):
        """Assumption dropped: constant along the gap, but the sums are not one."""

        def moves(seed):
            x, y = pair(seed, (6, 3))
            x[:, 0], y[:, 0] = 0.0, 1.0
            check = theory.frozen_direction(x, y, np.eye(3)[0], temperature=1.0)
            return np.abs(check.observed_y).min() > 1e-3

        assert moves(find(seeds, moves))


class TestDecisions:
    @given(seeds, st.integers(2, 6), st.integers(0, 4), st.floats(-3, 3))
    def test_orthogonal_moves_change_no_margin(self, seed, n, extra, alpha):
        rng = np.random.default_rng(seed)
        gallery, queries = rng.normal(size=(n, n + extra)), rng.normal(size=(20, n + extra)) + 1
        check = theory.decision_invariance(queries, gallery, alpha=alpha)
        assert check.predicted_change <= check.rounding
        assert check.observed_change <= check.rounding

    def test_any_other_move_can_change_a_decision(self):
        def flips(seed):
            rng = np.random.default_rng(seed)
            gallery, queries = rng.normal(size=(4, 6)), rng.normal(size=(20, 6))
            return theory.decision_invariance(queries, gallery, 0.2 * gallery[0]).changed_decisions

        assert flips(find(seeds, flips))

    @given(seeds, st.floats(0.0, 5.0), st.sampled_from(["euclidean", "ip"]))
    def test_noise_on_queries_is_unaffected(self, seed, noise, metric):
        """Exact maps keep every margin of every noisy query too: no robustness is gained there."""
        rng = np.random.default_rng(seed)
        gallery, queries = rng.normal(size=(4, 8)), rng.normal(size=(20, 8)) + 1
        queries = queries + noise * rng.normal(size=queries.shape)
        basis, mean = directions(gallery)
        base = mean if metric == "euclidean" else 0.0
        projected = base + (queries - base) @ basis.T @ basis
        scores = [gallery @ rows.T for rows in (queries, projected)]
        np.testing.assert_allclose(scores[1] - scores[1][0], scores[0] - scores[0][0], atol=1e-12)

    @given(seeds, st.floats(0.2, 3.0))
    def test_renormalising_keeps_rankings_for_unit_galleries(self, seed, alpha):
        """x + v has one length for all unit x, if v is orthogonal to aff(x)."""
        rng = np.random.default_rng(seed)
        gallery, queries = unit(rng.normal(size=(4, 8))), rng.normal(size=(20, 8)) + 1
        basis, mean = directions(gallery)
        gap = queries.mean(axis=0) - mean
        moved = gallery + alpha * (gap - basis.T @ (basis @ gap))
        lengths = np.linalg.norm(moved, axis=1)
        np.testing.assert_allclose(lengths, lengths[0], rtol=1e-12)

    def test_renormalising_changes_decisions_without_unit_galleries(self):
        def flips(seed):
            rng = np.random.default_rng(seed)
            gallery, queries = rng.normal(size=(4, 8)), rng.normal(size=(20, 8)) + 1
            basis, mean = directions(gallery)
            gap = queries.mean(axis=0) - mean
            moved = gallery + gap - basis.T @ (basis @ gap)
            before, after = (
                nearest(queries, g, metric="euclidean").indices for g in (moved, unit(moved))
            )
            return bool((before != after).any())

        assert flips(find(seeds, flips))


class TestMonotoneStability:
    """Theorem 3.4 per query, and that the projection is the most stable map that keeps margins."""

    @given(seeds, sigmas, st.sampled_from(["euclidean", "ip"]), st.integers(2, 7))
    @settings(max_examples=25)
    def test_projection_beats_every_map_that_keeps_margins(self, seed, sigma, metric, n):
        rng = np.random.default_rng(seed)
        gallery, queries = rng.normal(size=(n, 9)), rng.normal(size=(6, 9))
        basis, mean = directions(gallery)
        base = mean if metric == "euclidean" else np.zeros(9)
        inside = base + (queries - base) @ basis.T @ basis
        targets = nearest(inside, gallery, metric=metric).indices[:, 0]
        best = win_probability(inside, gallery, targets, [sigma], metric=metric)
        outside = rng.normal(size=queries.shape) * rng.exponential(2.0, size=(6, 1))
        other = inside + outside - outside @ basis.T @ basis
        found = win_probability(other, gallery, targets, [sigma], metric=metric)
        assert (found <= best + 2 * INTEGRAL_ERROR).all()

    @given(seeds, sigmas, st.sampled_from(["euclidean", "ip"]))
    @settings(max_examples=25)
    def test_stability_falls_with_the_height(self, seed, sigma, metric):
        rng = np.random.default_rng(seed)
        gallery, queries = rng.normal(size=(4, 7)), rng.normal(size=(10, 7)) + 1
        heights = (0.0, 0.3, 1.0, 3.0)
        check = theory.projection_stability(queries, gallery, sigma, heights=heights, metric=metric)
        assert check.worst_rise <= 2 * check.error

    def test_other_targets_may_gain_with_the_height(self):
        """Assumption dropped: the target is not the noise-free decision."""
        gallery = np.array([[0.0, 0.0], [1.0, 0.0]])
        low, high = np.array([[0.2, 0.0]]), np.array([[0.2, 2.0]])
        wrong = [
            win_probability(q, gallery, np.array([1]), [0.3], metric="euclidean")[0, 0]
            for q in (low, high)
        ]
        assert wrong[1] > wrong[0] + 0.05

    def test_maps_that_change_margins_may_be_more_stable(self):
        """Same decisions, other margins: answering first and standing on the answer beats all."""
        rng = np.random.default_rng(0)
        gallery, queries = rng.normal(size=(4, 7)), rng.normal(size=(30, 7))
        basis, mean = directions(gallery)
        inside = mean + (queries - mean) @ basis.T @ basis
        targets = nearest(queries, gallery, metric="euclidean").indices[:, 0]
        projected = win_probability(inside, gallery, targets, [0.4], metric="euclidean")
        answers = gallery[targets]
        snapped = win_probability(answers, gallery, targets, [0.4], metric="euclidean")
        assert (nearest(answers, gallery, metric="euclidean").indices[:, 0] == targets).all()
        assert snapped.mean() > projected.mean() + 0.1

    @given(seeds, st.floats(1.0, 6.0))
    @settings(max_examples=25)
    def test_scaling_about_the_circumcentre_keeps_every_ranking(self, seed, scale):
        rng = np.random.default_rng(seed)
        gallery, queries = unit(rng.normal(size=(5, 7))), rng.normal(size=(10, 7))
        check = theory.scaling_stability(queries, gallery, 0.2, scales=(1.0, scale))
        assert check.changed_decisions[1] == 0

    def test_scaling_off_a_sphere_changes_decisions(self):
        """Assumption dropped: without one distance to all items there is no such centre."""

        def flips(seed):
            rng = np.random.default_rng(seed)
            gallery, queries = rng.normal(size=(6, 2)), rng.normal(size=(40, 2))
            mean = gallery.mean(axis=0)
            moved = mean + 2 * (queries - mean)
            before, after = (
                nearest(rows, gallery, metric="euclidean").indices for rows in (queries, moved)
            )
            return bool((before != after).any())

        assert flips(find(seeds, flips))

    @given(seeds, st.floats(0.05, 0.6))
    @settings(max_examples=25)
    def test_inner_product_scores_couple(self, seed, sigma):
        """The proof itself: with the same draws, a win at a longer query is one at a shorter."""
        rng = np.random.default_rng(seed)
        gallery, inside = rng.normal(size=(5, 4)), rng.normal(size=(1, 4))
        scores = (gallery @ inside.T)[:, 0]
        draws = rng.normal(size=(500, 5))
        length = np.linalg.norm(inside)
        short = scores + sigma * length * draws
        long = scores + sigma * 1.5 * length * draws
        wins = [rows.argmax(axis=1) == scores.argmax() for rows in (short, long)]
        assert (wins[0] | ~wins[1]).all()


class TestNoncentralChiSquare:
    """The three steps of the Euclidean proof, against scipy."""

    @pytest.mark.parametrize("d", [1, 2, 3, 10, 50, 512])
    def test_density_ratio_falls_with_the_noncentrality(self, d):
        shifts = np.geomspace(1e-3, 3 * d + 30, 40)
        for t in d * np.array([0.3, 0.8, 1.0, 1.5, 3.0]):
            densities = stats.ncx2.pdf(t, [[d + 2], [d]], shifts)
            high, low = densities[:, (densities > 1e-290).all(axis=0)]  # the rest underflows
            assert len(low) > 10
            assert (np.diff(high / low) < 1e-9 * (high / low)[:-1]).all()

    @pytest.mark.parametrize("order", [-0.5, 0.0, 0.5, 4.0, 24.0])
    def test_bessel_ratio_falls(self, order):
        """I_{v+1}(z) / (z I_v(z)) = E[1 / (2 (v + k + 1))] over weights that move up with z."""
        z = np.geomspace(1e-2, 200, 60)
        ratio = special.ive(order + 1, z) / (z * special.ive(order, z))
        assert (np.diff(ratio) < 0).all()
        k = np.arange(600)
        logs = 2 * k[:, None] * np.log(z / 2) - special.gammaln(k + 1)[:, None]
        weights = special.softmax(logs - special.gammaln(order + k + 1)[:, None], axis=0)
        series = (weights / (2 * (order + k[:, None] + 1))).sum(axis=0)
        np.testing.assert_allclose(series, ratio, rtol=1e-9)

    @pytest.mark.parametrize(("d", "shift"), [(3, 2.0), (8, 0.5), (8, 30.0)])
    def test_derivatives_by_the_noncentrality(self, d, shift):
        """dF/dlambda = -f_{d+2} and df/dlambda = -(f_{d+2})'."""
        t, step = np.linspace(0.5, 3 * d, 20), 1e-4
        slope = stats.ncx2.cdf(t, d, shift + step) - stats.ncx2.cdf(t, d, shift - step)
        np.testing.assert_allclose(slope / (2 * step), -stats.ncx2.pdf(t, d + 2, shift), atol=1e-7)
        density = stats.ncx2.pdf(t, d, shift + step) - stats.ncx2.pdf(t, d, shift - step)
        above = stats.ncx2.pdf(t + step, d + 2, shift) - stats.ncx2.pdf(t - step, d + 2, shift)
        np.testing.assert_allclose(density / (2 * step), -above / (2 * step), atol=1e-7)

    @given(seeds, st.integers(1, 12))
    @settings(max_examples=6)  # each is three quadratures of four distributions
    def test_slope_of_the_win_probability(self, seed, d):
        """dP/ddelta = sum_j int f_* f_j (rho_j - rho_*) prod G <= 0, the formula of the proof."""
        rng = np.random.default_rng(seed)
        shifts = np.sort(rng.exponential(5.0, size=4))

        def win(delta):
            moved = shifts + delta
            return integrate.quad(
                lambda t: stats.ncx2.pdf(t, d, moved[0]) * np.prod(stats.ncx2.sf(t, d, moved[1:])),
                0,
                200,
                epsabs=1e-11,
                limit=300,
                points=[d, d + 5, d + 20],
            )[0]

        def slope(t):
            low, high = stats.ncx2.pdf(t, d, shifts), stats.ncx2.pdf(t, d + 2, shifts)
            tails = stats.ncx2.sf(t, d, shifts[1:])
            return sum(
                (low[0] * high[j] - high[0] * low[j]) * np.prod(np.delete(tails, j - 1))
                for j in (1, 2, 3)
            )

        formula = integrate.quad(slope, 0, 200, epsabs=1e-11, limit=300, points=[d, d + 5, d + 20])[
            0
        ]
        difference = (win(1e-3) - win(0.0)) / 1e-3
        assert formula <= 1e-10
        assert formula == pytest.approx(difference, abs=2e-4)  # one-sided difference, step 1e-3
