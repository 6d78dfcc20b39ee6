"""When the gap stops: Theorem 3.2 of Chowers et al. (2026), and what the sphere changes."""

from __future__ import annotations

from dataclasses import dataclass

from modgap._core.arrays import Array, Float, as_float64, namespace
from modgap._core.checks import check_array, check_finite, check_number
from modgap.decisions.metric import Metric
from modgap.errors import ArgumentError, ShapeError
from modgap.paper.theory._pairs import checked_pair, nonzero_gap
from modgap.paper.theory._scores import prepare, theory_metric
from modgap.paper.theory.contrastive import (
    ContrastiveGradient,
    SoftmaxSums,
    contrastive_gradient_of,
)

__all__ = ["FrozenDirection", "SpherePull", "frozen_direction", "sphere_pull"]


@dataclass(frozen=True)
class FrozenDirection:
    """Theorem 3.2 on one pair of clouds and one direction u.

    Attributes
    ----------
    coordinate_x, coordinate_y : float
        Means of u . x and u . y.
    spread_x, spread_y : float
        Largest deviation from these means: zero where the clouds are constant along u.
    sums : SoftmaxSums
    predicted_x, predicted_y : array (n,)
        Derivative along u that the softmax sums S alone give; zero exactly where S is one (or,
        Euclidean, where there is no gap along u).
    radial_x, radial_y : array (n,)
        What staying on the sphere adds; zero off the sphere.
    observed_x, observed_y : array (n,)
        Exact derivatives along u.
    error : float
        Largest |observed - predicted - radial|.
    bound : float
        What `error` cannot exceed, rounding aside: zero where both spreads are.
    """

    coordinate_x: float
    coordinate_y: float
    spread_x: float
    spread_y: float
    sums: SoftmaxSums
    predicted_x: Array
    predicted_y: Array
    radial_x: Array
    radial_y: Array
    observed_x: Array
    observed_y: Array
    error: float
    bound: float


@dataclass(frozen=True)
class SpherePull:
    """What still pulls at the gap between two clouds on the sphere, constant along a direction u.

    Attributes
    ----------
    coordinate_x, coordinate_y : float
        a and b, means of u . x and u . y.
    spread : float
        Largest deviation from these means; the identity is exact where it is zero.
    effective_temperature : float
        temperature / sqrt((1 - a^2) (1 - b^2)): the temperature that the rest of the embedding
        sees. It is lowest without any offset along u.
    log_temperature : float
        Derivative of the loss by log(temperature).
    predicted_x, predicted_y : float
        Derivatives of the loss by a and by b: log_temperature a / (1 - a^2), and the same with b.
    observed_x, observed_y : float
        The same from the exact gradients, all rows of a cloud moving along their meridians.
    """

    coordinate_x: float
    coordinate_y: float
    spread: float
    effective_temperature: float
    log_temperature: float
    predicted_x: float
    predicted_y: float
    observed_x: float
    observed_y: float


def frozen_direction(
    x: Float[Array, "n d"],
    y: Float[Array, "n d"],
    direction: Float[Array, " d"] | None = None,
    *,
    temperature: float,
    metric: str = "euclidean",
    sphere: bool = False,
) -> FrozenDirection:
    """Return the derivative of the contrastive loss along a direction, and what Theorem 3.2 says.

    Where both clouds are constant along u (the x at a, the y at b), the derivative at y_i along u
    is ``(2 / (n t)) (1 - S_i) (b - a)``, exactly: zero iff the softmax sum S_i is one or there is
    no gap along u. Doubly stochastic softmaxes freeze the gap.

    Parameters
    ----------
    x, y : array (n, d), floating
        Row i of both belongs together.
    direction : array (d,), floating, optional
        Any length but zero; the gap if not given.
    temperature : float
        t > 0.
    metric : {"euclidean", "ip"}
        For inner products the derivative at y_i is ``(1 / (n t)) (S_i - 1) a`` instead: what
        freezes is the other cloud's own offset.
    sphere : bool
        Rows are scaled to unit length. The tangent plane then adds a radial term that does not
        vanish with S_i = 1, only with the loss: on the sphere the gap slows down, it does not stop.

    Raises
    ------
    ShapeError, DataError, ArgumentError
        As in `contrastive_loss`; also where the direction has no length, or the two means coincide
        and none is given.

    Notes
    -----
    Theorem 3.2 of Chowers et al. (2026); derived, with the bound, in docs/theory.md. Cost: 4 n^2 d
    multiplications, O(block) memory.

    Examples
    --------
    A shifted copy is constant along the shift, and on a regular polygon all sums are one:

    >>> import numpy as np
    >>> angle = 2 * np.pi * np.arange(5) / 5
    >>> x = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    >>> check = frozen_direction(x, x + [0, 0, 3.0], temperature=1.0)
    >>> check.sums.max_deviation < 1e-12, bool(abs(check.observed_y).max() < 1e-12)
    (True, True)
    """
    found = _along(x, y, direction, temperature=temperature, metric=metric, sphere=sphere)
    sums, gap = found.gradient.sums, found.y.mean - found.x.mean
    if found.metric.is_distance:
        masses = (2.0 * (sums.x - 1.0) * gap, 2.0 * (1.0 - sums.y) * gap)
    else:
        masses = ((sums.x - 1.0) * found.y.mean, (sums.y - 1.0) * found.x.mean)
    predicted = [mass / found.scale for mass in masses]
    sides = (found.x, found.y)
    radial = [side.inward if sphere else 0.0 * side.inward for side in sides]
    observed = [side.slope + inward for side, inward in zip(sides, radial, strict=True)]
    xp = namespace(sums.x)
    misses = [o - p - r for o, p, r in zip(observed, predicted, radial, strict=True)]
    return FrozenDirection(
        coordinate_x=found.x.mean,
        coordinate_y=found.y.mean,
        spread_x=found.x.spread,
        spread_y=found.y.spread,
        sums=sums,
        predicted_x=predicted[0],
        predicted_y=predicted[1],
        radial_x=radial[0],
        radial_y=radial[1],
        observed_x=observed[0],
        observed_y=observed[1],
        error=max(float(xp.max(xp.abs(miss))) for miss in misses),
        bound=_spread_bound(found),
    )


def sphere_pull(
    x: Float[Array, "n d"],
    y: Float[Array, "n d"],
    direction: Float[Array, " d"] | None = None,
    *,
    temperature: float,
    metric: str = "euclidean",
) -> SpherePull:
    """Return what pulls at a gap on the sphere: exactly what pulls at the temperature.

    An offset along u takes length from everything else, which acts as a higher temperature. So
    where a lower temperature lowers the loss, descent takes the offsets, and with them the gap,
    away; and it stops where the loss no longer falls with the temperature, as it does near zero.

    Parameters
    ----------
    x, y : array (n, d), floating
        Row i of both belongs together; scaled to unit length.
    direction : array (d,), floating, optional
        Any length but zero; the gap if not given.
    temperature : float
        Greater than zero.
    metric : {"euclidean", "ip"}

    Raises
    ------
    ShapeError, DataError, ArgumentError
        As in `frozen_direction`.

    Notes
    -----
    docs/theory.md, "On the sphere". Cost: 4 n^2 d multiplications, O(block) memory.

    Examples
    --------
    >>> import numpy as np
    >>> rest = np.random.default_rng(0).normal(size=(2, 20, 3))
    >>> rest *= 0.8 / np.linalg.norm(rest, axis=-1, keepdims=True)
    >>> x, y = (np.column_stack([np.full(20, a), r]) for a, r in zip((-0.6, 0.6), rest))
    >>> pull = sphere_pull(x, y, np.eye(4)[0], temperature=0.5)
    >>> round(pull.effective_temperature, 12), abs(pull.observed_x - pull.predicted_x) < 1e-12
    (0.78125, True)
    """
    found = _along(x, y, direction, temperature=temperature, metric=metric, sphere=True)
    pull = found.gradient.log_temperature
    room_x, room_y = (max(1.0 - side.mean**2, 1e-300) for side in (found.x, found.y))
    return SpherePull(
        coordinate_x=found.x.mean,
        coordinate_y=found.y.mean,
        spread=max(found.x.spread, found.y.spread),
        effective_temperature=temperature / (room_x * room_y) ** 0.5,
        log_temperature=pull,
        predicted_x=pull * found.x.mean / room_x,
        predicted_y=pull * found.y.mean / room_y,
        observed_x=found.x.meridian_slope(),
        observed_y=found.y.meridian_slope(),
    )


@dataclass(frozen=True)
class _Side:
    """One cloud along a unit direction u, and the gradient g there.

    Attributes
    ----------
    along : array (n,)
        u . x
    mean, spread : float
        Of `along`: its mean, and its largest deviation from that.
    slope, radial : array (n,)
        u . g and x . g
    """

    along: Array
    mean: float
    spread: float
    slope: Array
    radial: Array

    @property
    def inward(self) -> Array:
        """What the tangent plane of a unit row adds to the slope."""
        return -self.radial * self.along

    def meridian_slope(self) -> float:
        """Return the derivative by a where all unit rows move along their meridians.

        A row is a u + sqrt(1 - a^2) r with a fixed r, so its derivative by a is
        u - a / (1 - a^2) (x - a u).
        """
        xp = namespace(self.along)
        room = xp.clip(1.0 - self.along**2, min=1e-300)
        rest = self.radial - self.along * self.slope
        return float(xp.sum(self.slope - self.along / room * rest))


@dataclass(frozen=True)
class _Along:
    """Both clouds along a direction; `scale` is n times the temperature."""

    x: _Side
    y: _Side
    gradient: ContrastiveGradient
    metric: Metric
    scale: float


def _along(
    x: Array,
    y: Array,
    direction: Array | None,
    *,
    temperature: float,
    metric: str,
    sphere: bool,
) -> _Along:
    """Return both clouds of the caller's along a direction of theirs, or along the gap."""
    x, y = checked_pair(x, y, sphere)
    temperature = check_number(temperature, "temperature", low=0.0, open_low=True)
    seen = theory_metric(metric)
    xp = namespace(x, y)
    if direction is None:
        direction = nonzero_gap(xp.mean(y, axis=0) - xp.mean(x, axis=0))
    unit = _unit(direction, x)
    pair = prepare(x, y, temperature=temperature, metric=seen, sphere=False)
    gradient = contrastive_gradient_of(pair)
    sides = []
    for own, slopes in ((x, gradient.x), (y, gradient.y)):
        along = xp.matmul(own, unit)
        mean = float(xp.mean(along))
        sides.append(
            _Side(
                along=along,
                mean=mean,
                spread=float(xp.max(xp.abs(along - mean))),
                slope=xp.matmul(slopes, unit),
                radial=xp.sum(slopes * own, axis=-1),
            )
        )
    return _Along(sides[0], sides[1], gradient, seen, x.shape[0] * temperature)


def _spread_bound(found: _Along) -> float:
    """Bound how far clouds that are not quite constant along u fall from the prediction."""
    sums = found.gradient.sums
    xp = namespace(sums.x)
    worst = 0.0
    for mass, own, other in ((sums.x, found.x, found.y), (sums.y, found.y, found.x)):
        row = (3.0 + mass) * other.spread
        if found.metric.is_distance:
            row = 2.0 * (row + xp.abs(1.0 - mass) * own.spread)
        worst = max(worst, float(xp.max(row)) / found.scale)
    return worst


def _unit(direction: Array, like: Array) -> Array:
    """Return a direction of the caller's as a float64 unit vector that fits the clouds."""
    direction = check_array(direction, "direction", ndim=1)
    if direction.shape[0] != like.shape[1]:
        raise ShapeError(
            f"`direction` must have one entry per dimension of the clouds; got "
            f"{direction.shape[0]} for {like.shape[1]}"
        )
    xp = namespace(direction, like)
    check_finite(direction[None, :], "direction")
    direction = as_float64(direction)
    length = float(xp.linalg.vector_norm(direction))
    if length == 0.0:
        raise ArgumentError("`direction` must not be the zero vector; it has no direction")
    return direction / length
