"""Theorems 3.1 and 3.2: every constant that docs/theory.md derives, and how its error falls."""

import numpy as np
import pytest

from modgap._core.arrays import to_numpy
from modgap.paper import theory

N, D = 80, 8


def tight_pair(rng, radius, gap=1.2, n=N, d=D):
    """Two Gaussian clusters whose farthest points are `radius` away, `gap` apart along axis 0."""
    noise = rng.normal(size=(2, n, d))
    noise -= noise.mean(axis=1, keepdims=True)
    noise *= radius / np.linalg.norm(noise, axis=-1).max(axis=1)[:, None, None]
    return noise[0], noise[1] + gap * np.eye(d)[0]


def polygon(corners, height, radius=1.0):
    angle = 2 * np.pi * np.arange(corners) / corners
    flat = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.column_stack([flat, np.full(corners, height)])


class TestTightClusters:
    def test_constant_is_four_over_n_t_squared(self, rng):
        """The fitted slope of the gradient along g against g . (y_i - mean(y))."""
        temperature = 0.05
        x, y = tight_pair(rng, 1e-6)
        x = x[rng.permutation(N)]  # partners share nothing, so the fit sees the theorem's term
        check = theory.tight_cluster_gradient(x, y, temperature=temperature)
        gap = y.mean(axis=0) - x.mean(axis=0)
        offset = (y - y.mean(axis=0)) @ gap
        own = (x - x.mean(axis=0)) @ gap
        design = np.column_stack([offset, own])
        slopes, *_ = np.linalg.lstsq(design, check.observed @ gap / (gap @ gap), rcond=None)
        assert slopes[0] == pytest.approx(4 / (N * temperature**2), rel=1e-4)
        assert slopes[1] * (gap @ gap) == pytest.approx(-4 / (N * temperature), rel=1e-3)
        assert check.constant == pytest.approx(4 / (N * temperature**2), rel=1e-12)

    @pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02])
    def test_first_order_error_falls_as_the_radius(self, rng, temperature):
        state = rng.bit_generator.state
        errors = []
        for radius in (1e-4, 1e-5, 1e-6):
            rng.bit_generator.state = state
            check = theory.tight_cluster_gradient(*tight_pair(rng, radius), temperature=temperature)
            errors.append(check.first_order_error)
        np.testing.assert_allclose(np.array(errors[1:]) / errors[:-1], 0.1, rtol=0.1)

    @pytest.mark.parametrize("signal", [3.0, 30.0, 300.0])
    def test_leading_error_is_one_over_the_signal(self, rng, signal):
        """Along g: 1 / signal for clouds of equal variance; in all: sqrt(d) / signal."""
        x, y = tight_pair(rng, 1e-6, gap=1.2, n=2000)
        y[:, 0] *= x[:, 0].std() / y[:, 0].std()
        y[:, 0] += 1.2 - y[:, 0].mean()
        check = theory.tight_cluster_gradient(x, y, temperature=1.2**2 / signal)
        assert check.signal == pytest.approx(signal, rel=1e-6)
        # pairs are independent: |s eta - xi| has mean square s^2 + 1 along g, and d more in all
        along = 1 / np.sqrt(signal**2 + 1)
        assert check.relative_error_along_gap == pytest.approx(along, rel=0.1)
        overall = np.sqrt(D) / np.sqrt(signal**2 + D)
        assert check.relative_error == pytest.approx(overall, rel=0.1)

    def test_needs_gap_times_radius_well_below_the_temperature(self, rng):
        """A radius far below the gap is not enough: the softmaxes must also be nearly uniform."""
        x, y = tight_pair(rng, 0.1)
        check = theory.tight_cluster_gradient(x, y, temperature=0.01)
        assert check.radius < 0.1 * check.gap_norm
        assert check.signal > 100
        assert check.relative_error > 0.5

    def test_other_side_by_swapping(self, rng):
        x, y = tight_pair(rng, 1e-5)
        check = theory.tight_cluster_gradient(y, x, temperature=0.1)
        gradient = theory.contrastive_gradient(x, y, temperature=0.1)
        np.testing.assert_allclose(check.observed, gradient.x, rtol=1e-9, atol=1e-15)
        assert check.first_order_error < 0.01

    def test_on_the_sphere_all_terms_are_projected(self, rng):
        x = 1e-5 * rng.normal(size=(N, D)) + np.eye(D)[0]
        y = 1e-5 * rng.normal(size=(N, D)) + np.eye(D)[1]
        check = theory.tight_cluster_gradient(x, y, temperature=0.05, sphere=True)
        assert check.first_order_error < 1e-3
        unit = y / np.linalg.norm(y, axis=1, keepdims=True)
        np.testing.assert_allclose(np.sum(check.leading * unit, axis=1), 0.0, atol=1e-12)

    def test_inner_products_remove_variance_along_the_other_mean(self, rng):
        """Not along the gap: dL/dy_i is (1 / (n t^2)) (mean(x) . (y_i - mean(y))) mean(x) there."""
        temperature = 0.02
        x, y = tight_pair(rng, 1e-6)
        x, y = x + np.eye(D)[1], y + np.eye(D)[2]
        found = theory.contrastive_gradient(x, y, temperature=temperature, metric="ip").y
        mean_x, from_y = x.mean(axis=0), y - y.mean(axis=0)
        leading = (from_y @ mean_x)[:, None] * mean_x / (N * temperature**2)
        full = leading - 2 / (N * temperature) * (x - mean_x)
        assert np.linalg.norm(found - full) < 1e-3 * np.linalg.norm(found)

    def test_softmax_sums_fall_with_the_distance(self, rng):
        """S_i = 1 - (2 / t) g . (y_i - mean(y)) to first order (figure 5, top)."""
        temperature = 0.1
        x, y = tight_pair(rng, 1e-5)
        sums = theory.softmax_sums(x, y, temperature=temperature)
        gap = y.mean(axis=0) - x.mean(axis=0)
        predicted = 1 - 2 / temperature * (y - y.mean(axis=0)) @ gap
        np.testing.assert_allclose(sums.y - 1, predicted - 1, atol=1e-3 * np.ptp(predicted))
        distance = np.linalg.norm(y - x.mean(axis=0), axis=1)
        assert np.corrcoef(sums.y, distance)[0, 1] < -0.999


class TestModes:
    @pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
    def test_rates_are_those_of_the_gradient(self, rng, temperature):
        x, y = tight_pair(rng, 1e-7)
        rates = theory.mode_rates(1.2, temperature=temperature, n=N)
        gradient = theory.contrastive_gradient(x, y, temperature=temperature)
        from_x, from_y = x - x.mean(axis=0), y - y.mean(axis=0)
        for sign, along, across in (
            (1, rates.shared_along, rates.shared_across),
            (-1, rates.difference_along, rates.difference_across),
        ):
            mode, flow = from_y + sign * from_x, -(gradient.y + sign * gradient.x)
            scale = np.abs(flow).max()
            np.testing.assert_allclose(flow[:, 0], along * mode[:, 0], atol=1e-4 * scale)
            np.testing.assert_allclose(flow[:, 1:], across * mode[:, 1:], atol=1e-4 * scale)

    @pytest.mark.parametrize(("share", "shrinks"), [(0.9, True), (1.1, False)])
    def test_variance_along_the_gap_shrinks_below_the_critical_temperature(
        self, rng, share, shrinks
    ):
        x, y = tight_pair(rng, 1e-7)
        y[:, 0] = x[:, 0] + 1.2  # all of the variance along the gap is shared
        critical = theory.mode_rates(1.2, temperature=1.0, n=N).critical_temperature
        assert critical == pytest.approx(1.44)
        gradient = theory.contrastive_gradient(x, y, temperature=share * critical)
        after = y[:, 0] - 1.0 * gradient.y[:, 0]
        assert bool(after.std() < y[:, 0].std()) == shrinks


class TestDrift:
    def test_constant_is_minus_eight_over_n_t_squared(self, rng):
        errors = []
        for radius in (1e-2, 1e-3):
            check = theory.gap_drift(*tight_pair(rng, radius), temperature=1.0)
            errors.append(check.relative_error)
        assert errors[1] < 1e-3
        assert errors[1] < 0.2 * errors[0]

    def test_gradients_of_both_clouds_cancel(self, rng):
        x, y = rng.normal(size=(2, 30, 4))
        gradient = theory.contrastive_gradient(x, y, temperature=0.3)
        np.testing.assert_allclose(gradient.x.sum(0) + gradient.y.sum(0), 0.0, atol=1e-14)

    def test_no_motion_without_variance_along_the_gap(self, rng):
        x, y = tight_pair(rng, 0.3)
        x[:, 0], y[:, 0] = 0.0, 1.2
        check = theory.gap_drift(x, y, temperature=1.0)
        assert np.abs(check.predicted).max() < 1e-15
        assert abs(check.observed[0]) < 1e-15  # along the gap; across it the means may move
        assert check.remaining_gap == pytest.approx(1.2)


class TestFreezing:
    def test_derivative_is_the_softmax_sum_times_the_gap(self, rng):
        x, y = rng.normal(size=(2, 20, 5))
        x[:, 0], y[:, 0] = 0.3, 1.5
        temperature = 0.7
        check = theory.frozen_direction(x, y, np.eye(5)[0], temperature=temperature)
        expected = 2 * (1 - check.sums.y) * (1.5 - 0.3) / (20 * temperature)
        np.testing.assert_allclose(check.observed_y, expected, atol=1e-15)
        np.testing.assert_allclose(check.predicted_y, expected, atol=1e-15)
        assert check.bound < 1e-15
        assert check.error < 1e-15
        assert np.abs(check.observed_y).max() > 0.01  # the sums are not one, so it moves

    def test_regular_polygon_is_frozen(self):
        check = theory.frozen_direction(polygon(7, 0.0), polygon(7, 2.0), temperature=0.5)
        assert check.sums.max_deviation < 1e-12
        assert np.abs(check.observed_x).max() < 1e-14
        assert np.abs(check.observed_y).max() < 1e-14

    def test_spread_is_bounded(self, rng):
        x, y = rng.normal(size=(2, 20, 5))
        x[:, 0], y[:, 0] = 1e-3 * x[:, 0], 1.5 + 1e-3 * y[:, 0]
        check = theory.frozen_direction(x, y, np.eye(5)[0], temperature=0.7)
        assert 0 < check.error <= check.bound < 0.02

    def test_inner_products_freeze_the_other_clouds_offset(self, rng):
        x, y = rng.normal(size=(2, 20, 5))
        x[:, 0], y[:, 0] = 0.3, 1.5
        check = theory.frozen_direction(x, y, np.eye(5)[0], temperature=0.7, metric="ip")
        np.testing.assert_allclose(
            check.observed_y, (check.sums.y - 1) * 0.3 / (20 * 0.7), atol=1e-15
        )
        np.testing.assert_allclose(
            check.observed_x, (check.sums.x - 1) * 1.5 / (20 * 0.7), atol=1e-15
        )

    @pytest.mark.parametrize("metric", ["euclidean", "ip"])
    def test_sphere_does_not_freeze(self, metric):
        """Doubly stochastic, constant along the gap, and still moving: by the radial term."""
        x, y = (polygon(7, height, radius=np.sqrt(1 - height**2)) for height in (-0.6, 0.6))
        check = theory.frozen_direction(x, y, temperature=0.5, metric=metric, sphere=True)
        assert check.sums.max_deviation < 1e-12
        assert check.error < 1e-15
        assert np.abs(check.predicted_y).max() < 1e-14
        assert np.abs(check.observed_y).min() > 0.01
        np.testing.assert_allclose(check.observed_y, check.radial_y, atol=1e-14)

    def test_every_library_gives_the_same(self, rng, to_xp):
        x, y = tight_pair(rng, 1e-3)
        for function in (theory.frozen_direction, theory.tight_cluster_gradient, theory.gap_drift):
            expected = vars(function(x, y, temperature=0.1))
            found = vars(function(to_xp(x), to_xp(y), temperature=0.1))
            for name, value in expected.items():
                if isinstance(value, np.ndarray):
                    scale = np.abs(value).max()
                    np.testing.assert_allclose(to_numpy(found[name]), value, atol=1e-9 * scale)
                elif isinstance(value, float):
                    assert found[name] == pytest.approx(value, rel=1e-6)


class TestSphere:
    @pytest.mark.parametrize("metric", ["euclidean", "ip"])
    def test_gap_pull_is_the_temperatures(self, rng, metric, to_xp):
        rest = rng.normal(size=(2, 30, 4))
        rest /= np.linalg.norm(rest, axis=-1, keepdims=True)
        x, y = (
            np.column_stack([np.full(30, a), np.sqrt(1 - a**2) * part])
            for a, part in zip((-0.5, 0.7), rest, strict=True)
        )
        given = to_xp(x), to_xp(y), to_xp(np.eye(5)[0])
        pull = theory.sphere_pull(*given, temperature=0.3, metric=metric)
        assert pull.observed_x == pytest.approx(pull.predicted_x, rel=1e-10)
        assert pull.observed_y == pytest.approx(pull.predicted_y, rel=1e-10)
        # the same by moving the cap and taking the difference
        step, losses = 1e-5, []
        for sign in (1, -1):
            a = 0.7 + sign * step
            moved = np.column_stack([np.full(30, a), np.sqrt(1 - a**2) * rest[1]])
            losses.append(theory.contrastive_loss(x, moved, temperature=0.3, metric=metric))
        slope = (losses[0] - losses[1]) / (2 * step)
        assert pull.predicted_y == pytest.approx(slope, rel=1e-6)

    def test_gap_is_a_bias_and_a_temperature_to_the_sigmoid_loss(self, rng):
        """dL/da = (b / t) L_bias + a / (1 - a^2) (L_log_t + (a b / t) L_bias), inner product."""
        rest = rng.normal(size=(2, 30, 4))
        rest /= np.linalg.norm(rest, axis=-1, keepdims=True)
        a, b, options = -0.5, 0.7, {"temperature": 0.3, "bias": -1.0, "metric": "ip"}

        def caps(a):
            return (
                np.column_stack([np.full(30, c), np.sqrt(1 - c**2) * part])
                for c, part in zip((a, b), rest, strict=True)
            )

        slopes = theory.sigmoid_gradient(*caps(a), **options)
        pulled = slopes.log_temperature + a * b / 0.3 * slopes.bias
        predicted = b / 0.3 * slopes.bias + a / (1 - a**2) * pulled
        step = 1e-5
        ends = [theory.sigmoid_loss(*caps(a + s), **options) for s in (step, -step)]
        assert predicted == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-7)

    def test_loss_depends_on_the_effective_temperature_alone(self, rng):
        rest = rng.normal(size=(2, 30, 4))
        rest /= np.linalg.norm(rest, axis=-1, keepdims=True)
        x, y = (
            np.column_stack([np.full(30, a), np.sqrt(1 - a**2) * part])
            for a, part in zip((-0.5, 0.7), rest, strict=True)
        )
        pull = theory.sphere_pull(x, y, np.eye(5)[0], temperature=0.3)
        closed = theory.contrastive_loss(*rest, temperature=pull.effective_temperature)
        assert theory.contrastive_loss(x, y, temperature=0.3) == pytest.approx(closed, rel=1e-12)
