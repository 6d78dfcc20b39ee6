"""What theory and dynamics say about input that they cannot use."""

import numpy as np
import pytest

from modgap.errors import ArgumentError, DataError, ShapeError
from modgap.paper import theory
from modgap.paper.dynamics import Simulation, descend, initial_clouds, simulate

CLOUD = np.arange(12.0).reshape(4, 3)
OTHER = CLOUD[::-1] ** 1.1 + 1.0
LOSSES = (
    theory.contrastive_loss,
    theory.contrastive_gradient,
    theory.softmax_matrices,
    theory.softmax_sums,
    theory.sigmoid_loss,
    theory.sigmoid_gradient,
)
ON_PAIRS = (
    theory.tight_cluster_gradient,
    theory.gap_drift,
    theory.frozen_direction,
    theory.sphere_pull,
)
ON_TASKS = (
    theory.stability_by_distance,
    theory.projection_stability,
    theory.scaling_stability,
)


def short(function):
    return function.__name__


@pytest.mark.parametrize("function", LOSSES + ON_PAIRS, ids=short)
class TestPairs:
    def test_rows_must_pair(self, function):
        with pytest.raises(ShapeError, match=r"`x` and `y` must pair row by row; got 4 and 3 rows"):
            function(CLOUD, OTHER[:3], temperature=1.0)

    def test_widths_must_agree(self, function):
        with pytest.raises(ShapeError, match=r"`x` and `y` must share .*\(4, 3\) and \(4, 2\)"):
            function(CLOUD, OTHER[:, :2], temperature=1.0)

    def test_one_axis_is_no_cloud(self, function):
        with pytest.raises(ShapeError, match=r"`x` must have shape \(rows, d\); got \(3,\)"):
            function(CLOUD[0], OTHER, temperature=1.0)

    def test_nan_is_named(self, function):
        broken = CLOUD.copy()
        broken[2, 1] = np.nan
        with pytest.raises(DataError, match=r"`y` row 2 \(of 1 such rows\) holds NaN"):
            function(OTHER, broken, temperature=1.0)

    def test_integers_are_no_embeddings(self, function):
        with pytest.raises(DataError, match=r"`x` must hold floating-point embeddings; got int64"):
            function(CLOUD.astype(int), OTHER, temperature=1.0)

    def test_temperature_is_positive(self, function):
        for temperature in (0.0, -1.0, np.nan, np.inf):
            with pytest.raises(
                ArgumentError, match=r"`temperature` must be finite and in \(0, inf\]"
            ):
                function(CLOUD, OTHER, temperature=temperature)


@pytest.mark.parametrize("function", [*LOSSES, theory.frozen_direction], ids=short)
def test_metric_is_known(function):
    with pytest.raises(ArgumentError, match=r"`metric` must be one of euclidean, ip; got 'cosine'"):
        function(CLOUD, OTHER, temperature=1.0, metric="cosine")


@pytest.mark.parametrize("function", LOSSES, ids=short)
def test_zero_rows_do_not_reach_the_sphere(function):
    broken = CLOUD.copy()
    broken[1] = 0.0
    with pytest.raises(DataError, match=r"`x` row 1 \(of 1 such rows\) is all zeros"):
        function(broken, OTHER, temperature=1.0, sphere=True)


def test_bias_is_a_number():
    with pytest.raises(ArgumentError, match=r"`bias` must be a number; got 'low'"):
        theory.sigmoid_loss(CLOUD, OTHER, temperature=1.0, bias="low")


@pytest.mark.parametrize("function", ON_PAIRS, ids=short)
def test_no_gap_no_direction(function):
    with pytest.raises(DataError, match=r"`x` and `y` have the same mean, so there is no gap"):
        function(CLOUD, CLOUD, temperature=1.0)


@pytest.mark.parametrize("function", [theory.frozen_direction, theory.sphere_pull], ids=short)
class TestDirection:
    def test_width(self, function):
        with pytest.raises(ShapeError, match=r"`direction` must have one entry .* got 2 for 3"):
            function(CLOUD, OTHER, np.ones(2), temperature=1.0)

    def test_length(self, function):
        with pytest.raises(ArgumentError, match=r"`direction` must not be the zero vector"):
            function(CLOUD, OTHER, np.zeros(3), temperature=1.0)


def test_rates_need_numbers_in_range():
    with pytest.raises(ArgumentError, match=r"`gap_norm` must be finite and in \[0, inf\]; got -1"):
        theory.mode_rates(-1.0, temperature=1.0, n=3)
    with pytest.raises(ArgumentError, match=r"`n` must be at least 1; got 0"):
        theory.mode_rates(1.0, temperature=1.0, n=0)


class TestOrthogonality:
    def test_needs_two_rows(self):
        with pytest.raises(
            ShapeError, match=r"`x` must have at least 2 row\(s\); got shape \(1, 3\)"
        ):
            theory.gap_orthogonality(CLOUD[:1], OTHER)

    def test_needs_a_gap(self):
        with pytest.raises(DataError, match="have the same mean, so there is no gap to test"):
            theory.gap_orthogonality(CLOUD, CLOUD)

    def test_needs_variance(self):
        with pytest.raises(DataError, match="`y` has no variance: all of its rows are equal"):
            theory.gap_orthogonality(CLOUD, np.ones((4, 3)))

    def test_draws(self):
        with pytest.raises(ArgumentError, match="`draws` must be at least 20; got 3"):
            theory.gap_orthogonality(CLOUD, OTHER, draws=3)


@pytest.mark.parametrize("function", ON_TASKS, ids=short)
class TestTasks:
    def test_one_item_is_no_decision(self, function):
        with pytest.raises(ShapeError, match=r"`gallery` must have at least 2 row\(s\).*\(1, 3\)"):
            function(OTHER, CLOUD[:1], 0.1)

    def test_widths_must_agree(self, function):
        with pytest.raises(ShapeError, match=r"`queries` and `gallery` must share"):
            function(OTHER[:, :2], CLOUD, 0.1)

    @pytest.mark.parametrize("sigma", [0.0, -0.1, np.nan])
    def test_sigma_is_positive(self, function, sigma):
        with pytest.raises(ArgumentError, match=r"`sigma` must be finite and in \(0, inf\]"):
            function(OTHER, CLOUD, sigma)


class TestSteps:
    def test_a_number_is_no_sequence(self):
        with pytest.raises(ArgumentError, match=r"`alphas` must be a sequence of numbers"):
            theory.stability_by_distance(OTHER, CLOUD, 0.1, alphas=0.5)

    def test_none_at_all(self):
        with pytest.raises(
            ArgumentError, match="`heights` must hold at least one number; got none"
        ):
            theory.projection_stability(OTHER, CLOUD, 0.1, heights=())

    def test_ranges(self):
        with pytest.raises(
            ArgumentError, match=r"`heights` must be finite and in \[0, inf\]; got -1"
        ):
            theory.projection_stability(OTHER, CLOUD, 0.1, heights=(-1.0,))
        with pytest.raises(
            ArgumentError, match=r"`scales` must be finite and in \(0, inf\]; got 0"
        ):
            theory.scaling_stability(OTHER, CLOUD, 0.1, scales=(0.0,))

    def test_direction(self):
        with pytest.raises(ArgumentError, match="`direction` must be one of orthogonal, gap"):
            theory.stability_by_distance(OTHER, CLOUD, 0.1, direction="up")


def test_scaling_needs_a_sphere(rng):
    gallery = rng.normal(size=(9, 3))
    with pytest.raises(
        DataError, match=r"`gallery` must lie on one sphere; the distances to .* go"
    ):
        theory.scaling_stability(rng.normal(size=(4, 3)), gallery, 0.1)


def test_equal_items_have_no_sphere():
    with pytest.raises(DataError, match=r"`gallery` has no variance: all of its rows are equal"):
        theory.scaling_stability(OTHER, np.ones((4, 3)), 0.1)


def test_offset_width():
    with pytest.raises(
        ShapeError, match=r"`offset` must have one entry per dimension .* got 2 for 3"
    ):
        theory.decision_invariance(OTHER, CLOUD, np.ones(2))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"start": "warm"},
            r"`start` must be one of clusters, isotropic, cone, collapsed; got 'warm'",
        ),
        ({"loss": "hinge"}, r"`loss` must be one of softmax, sigmoid; got 'hinge'"),
        ({"metric": "cosine"}, r"`metric` must be one of euclidean, ip; got 'cosine'"),
        ({"n": 1}, r"`n` must be between 2 and \d+; got 1"),
        ({"n": 2.5}, r"`n` must be an integer; got 2.5"),
        ({"dimension": 0}, r"`dimension` must be between 1 and \d+; got 0"),
        ({"steps": 0}, r"`steps` must be between 1 and \d+; got 0"),
        ({"record_every": 0}, r"`record_every` must be at least 1; got 0"),
        ({"temperature": 0.0}, r"`temperature` must be finite and in \(0, inf\]; got 0"),
        ({"rate": -1.0}, r"`rate` must be finite and in \(0, inf\]; got -1"),
        ({"spread": -1.0}, r"`spread` must be finite and in \[0, inf\]; got -1"),
        ({"start_gap": 3.0}, r"`start_gap` must be finite and in \[0, 2\]; got 3"),
        ({"batch": 1}, r"`batch` must be at least 2; got 1"),
        ({"sigma": 0.0}, r"`sigma` must be finite and in \(0, inf\]; got 0"),
        ({"bias": None}, r"`bias` must be a number; got None"),
        ({"seed": -1}, r"`seed` must be at least 0; got -1"),
        ({"start": "collapsed", "rank": 9}, r"`rank` must be between 1 and 8; got 9"),
        (
            {"start": "collapsed", "dimension": 2},
            r"`dimension` must be at least 3 for start=\"coll",
        ),
        (
            {"learn_temperature": True, "min_temperature": 0.5},
            r"`min_temperature` must not be above `temperature`; got 0.5 and 0.1",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_settings(setting, message):
    with pytest.raises(ArgumentError, match=message):
        simulate(Simulation(**setting))
    with pytest.raises(ArgumentError, match=message):
        initial_clouds(Simulation(**setting))


def test_descend_checks_its_clouds():
    with pytest.raises(ShapeError, match="`x` and `y` must pair row by row"):
        descend(CLOUD, OTHER[:2])
    with pytest.raises(DataError, match=r"`x` row 0 .* is all zeros"):
        descend(CLOUD * [[0.0], [1.0], [1.0], [1.0]], OTHER, Simulation(sphere=True))
