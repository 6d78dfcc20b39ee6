"""When the gap stops: Theorem 3.2 of Chowers et al. (2026), and what the sphere changes."""

from __future__ import annotations

from dataclasses import dataclass

from modgap._core.arrays import Array, Float, as_float64, namespace
from modgap._core.checks import check_array, check_choice, check_finite, check_number
from modgap.errors import ArgumentError, ShapeError
from modgap.paper.theory._pairs import checked_pair, nonzero_gap
from modgap.paper.theory._scores import METRICS, prepare
from modgap.paper.theory.losses import SoftmaxSums, contrastive_gradient_of

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
    x, y = checked_pair(x, y, sphere)
    temperature = check_number(temperature, "temperature", low=0.0, open_low=True)
    check_choice(metric, "metric", METRICS)
    xp = namespace(x, y)
    if direction is None:
        direction = nonzero_gap(xp.mean(y, axis=0) - xp.mean(x, axis=0))
    unit = _unit(direction, x)
    pair = prepare(x, y, temperature=temperature, metric=metric, sphere=False)
    gradient = contrastive_gradient_of(pair)
    along = (xp.matmul(x, unit), xp.matmul(y, unit))
    means = tuple(xp.mean(part) for part in along)
    spreads = [float(xp.max(xp.abs(p - m))) for p, m in zip(along, means, strict=True)]
    sums, n_t = gradient.sums, x.shape[0] * temperature
    gap = means[1] - means[0]
    if metric == "euclidean":
        predicted = [2.0 * (sums.x - 1.0) * gap / n_t, 2.0 * (1.0 - sums.y) * gap / n_t]
    else:
        predicted = [(sums.x - 1.0) * means[1] / n_t, (sums.y - 1.0) * means[0] / n_t]
    observed, radial = [], []
    for own, part, grad in ((x, along[0], gradient.x), (y, along[1], gradient.y)):
        inward = -xp.sum(grad * own, axis=-1) * part if sphere else xp.zeros_like(part)
        radial.append(inward)
        observed.append(xp.matmul(grad, unit) + inward)
    misses = [o - p - r for o, p, r in zip(observed, predicted, radial, strict=True)]
    return FrozenDirection(
        coordinate_x=float(means[0]),
        coordinate_y=float(means[1]),
        spread_x=spreads[0],
        spread_y=spreads[1],
        sums=sums,
        predicted_x=predicted[0],
        predicted_y=predicted[1],
        radial_x=radial[0],
        radial_y=radial[1],
        observed_x=observed[0],
        observed_y=observed[1],
        error=max(float(xp.max(xp.abs(miss))) for miss in misses),
        bound=_spread_bound(sums, spreads, n_t, metric),
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
    x, y = checked_pair(x, y, True)
    temperature = check_number(temperature, "temperature", low=0.0, open_low=True)
    check_choice(metric, "metric", METRICS)
    xp = namespace(x, y)
    if direction is None:
        direction = nonzero_gap(xp.mean(y, axis=0) - xp.mean(x, axis=0))
    unit = _unit(direction, x)
    pair = prepare(x, y, temperature=temperature, metric=metric, sphere=False)
    gradient = contrastive_gradient_of(pair)
    means, spreads, observed = [], [], []
    for own, grad in ((x, gradient.x), (y, gradient.y)):
        along = xp.matmul(own, unit)
        means.append(float(xp.mean(along)))
        spreads.append(float(xp.max(xp.abs(along - means[-1]))))
        room = xp.clip(1.0 - along**2, min=1e-300)
        inward = xp.sum(grad * own, axis=-1) - along * xp.matmul(grad, unit)
        observed.append(float(xp.sum(xp.matmul(grad, unit) - along / room * inward)))
    room_x, room_y = (max(1.0 - mean**2, 1e-300) for mean in means)
    return SpherePull(
        coordinate_x=means[0],
        coordinate_y=means[1],
        spread=max(spreads),
        effective_temperature=temperature / (room_x * room_y) ** 0.5,
        log_temperature=gradient.log_temperature,
        predicted_x=gradient.log_temperature * means[0] / room_x,
        predicted_y=gradient.log_temperature * means[1] / room_y,
        observed_x=observed[0],
        observed_y=observed[1],
    )


def _spread_bound(sums: SoftmaxSums, spreads: list[float], n_t: float, metric: str) -> float:
    """Bound how far clouds that are not quite constant along u fall from the prediction."""
    xp = namespace(sums.x)
    worst = 0.0
    for mass, own, other in ((sums.x, spreads[0], spreads[1]), (sums.y, spreads[1], spreads[0])):
        if metric == "euclidean":
            row = 2.0 * ((3.0 + mass) * other + xp.abs(1.0 - mass) * own)
        else:
            row = (3.0 + mass) * other
        worst = max(worst, float(xp.max(row)) / n_t)
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
