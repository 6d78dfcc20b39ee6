"""How training shrinks clouds along the gap: Theorem 3.1 of Chowers et al. (2026) as numbers.

Each function takes two paired clouds, computes what a statement predicts and what the exact
gradient is, and returns both with the size of the terms that the statement leaves out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from modgap._core.arrays import Array, Float, namespace, row_norms
from modgap._core.checks import check_count, check_number
from modgap.decisions.metric import EUCLIDEAN
from modgap.paper.theory._pairs import checked_pair, nonzero_gap, relative, tangent
from modgap.paper.theory._scores import prepare
from modgap.paper.theory.contrastive import contrastive_gradient_of

__all__ = [
    "GapDrift",
    "ModeRates",
    "TightClusterGradient",
    "gap_drift",
    "mode_rates",
    "tight_cluster_gradient",
]


@dataclass(frozen=True)
class TightClusterGradient:
    """Theorem 3.1 on one pair of clouds: the gradient at every y against its leading term.

    Attributes
    ----------
    gap_norm : float
        ||g||.
    radius : float
        Largest distance of a point to the mean of its own cloud, epsilon.
    signal : float
        ||g||^2 / temperature; the leading term dominates along g where this is large.
    constant : float
        4 / (n temperature^2), the factor before [g . (y_i - mean(y))] g.
    leading : array (n, d)
        Predicted by the theorem: constant [g . (y_i - mean(y))] g.
    first_order : array (n, d)
        All terms linear in the cluster size: `leading` - 4 / (n temperature) (x_i - mean(x)).
    observed : array (n, d)
        The exact gradient.
    relative_error : float
        ||observed - leading|| / ||observed||, Frobenius norms.
    relative_error_along_gap : float
        The same of the components along g alone.
    first_order_error : float
        ||observed - first_order|| / ||observed||.
    bound : float
        No row of observed - first_order is longer than this, whatever the clouds: proved in
        docs/theory.md. Second order in the radius.
    pull : float
        4 radius / (n temperature): no row of first_order - leading is longer than this.
    """

    gap_norm: float
    radius: float
    signal: float
    constant: float
    leading: Array
    first_order: Array
    observed: Array
    relative_error: float
    relative_error_along_gap: float
    first_order_error: float
    bound: float
    pull: float


@dataclass(frozen=True)
class ModeRates:
    """Growth rates of tight clusters under gradient flow; negative ones decay. Units: 1 / time.

    One step of gradient descent with step size s multiplies a mode by about 1 + s rate. "Shared"
    is the part that partners have in common, x_i + y_i about the means; "difference" is y_i - x_i.

    Attributes
    ----------
    shared_across, difference_across : float
        In directions orthogonal to the gap.
    shared_along, difference_along : float
        Along the gap.
    critical_temperature : float
        ||g||^2: only at lower temperatures does the variance along the gap shrink.
    largest_step : float
        2 / |difference_along|: longer steps of gradient descent overshoot along the gap. Per pair
        that is temperature^2 / (2 (||g||^2 + temperature)).
    """

    shared_across: float
    difference_across: float
    shared_along: float
    difference_along: float
    critical_temperature: float
    largest_step: float


@dataclass(frozen=True)
class GapDrift:
    """How fast gradient flow changes the gap of two tight clusters.

    Attributes
    ----------
    predicted : array (d,)
        -(8 / (n temperature^2)) (C_x + C_y) g, with C the covariances.
    observed : array (d,)
        Mean of -dL/dy minus mean of -dL/dx: exact.
    relative_error : float
        ||observed - predicted|| / ||observed||; NaN where nothing moves.
    remaining_gap : float
        sqrt(||g||^2 - 2 (v_x + v_y)), v the variances along g: the gap that is left once they are
        gone, for tight clusters with ||g||^2 well above the temperature.
    """

    predicted: Array
    observed: Array
    relative_error: float
    remaining_gap: float


def tight_cluster_gradient(
    x: Float[Array, "n d"],
    y: Float[Array, "n d"],
    *,
    temperature: float,
    sphere: bool = False,
) -> TightClusterGradient:
    """Return the gradient of the contrastive loss at every y against what Theorem 3.1 predicts.

    For two clusters that are tight against the gap between them, descent moves y_i by
    ``-(4 / (n t^2)) [g . (y_i - mean(y))] g``: it takes the variance along the gap away first.

    Parameters
    ----------
    x, y : array (n, d), floating
        Row i of both belongs together; squared Euclidean distances. Swap them for the other side.
    temperature : float
        t > 0.
    sphere : bool
        Rows are scaled to unit length and all gradients projected on their tangent planes.

    Raises
    ------
    ShapeError, DataError, ArgumentError
        As in `contrastive_loss`; also where the two means coincide.

    Notes
    -----
    Theorem 3.1 of Chowers et al. (2026); constant, first-order term and bound are derived in
    docs/theory.md. Cost: 4 n^2 d multiplications, O(block) memory.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x, y = 0.001 * rng.normal(size=(2, 50, 4))
    >>> check = tight_cluster_gradient(x, y + [2.0, 0, 0, 0], temperature=0.1)
    >>> round(check.signal), check.relative_error < 0.1
    (40, True)
    """
    x, y = checked_pair(x, y, sphere)
    temperature = check_number(temperature, "temperature", low=0.0, open_low=True)
    xp = namespace(x, y)
    mean_x, mean_y = xp.mean(x, axis=0), xp.mean(y, axis=0)
    gap = nonzero_gap(mean_y - mean_x)
    n, from_x, from_y = x.shape[0], x - mean_x, y - mean_y
    constant = 4.0 / (n * temperature**2)
    leading = constant * xp.matmul(from_y, gap)[:, None] * gap[None, :]
    first_order = leading - (4.0 / (n * temperature)) * from_x
    pair = prepare(x, y, temperature=temperature, metric=EUCLIDEAN, sphere=sphere)
    observed = contrastive_gradient_of(pair).y
    if sphere:
        leading, first_order = tangent(leading, y), tangent(first_order, y)
    gap_norm = float(xp.linalg.vector_norm(gap))
    radius = max(float(xp.max(row_norms(from_x))), float(xp.max(row_norms(from_y))))
    along = xp.matmul(observed, gap)
    return TightClusterGradient(
        gap_norm=gap_norm,
        radius=radius,
        signal=gap_norm**2 / temperature,
        constant=constant,
        leading=leading,
        first_order=first_order,
        observed=observed,
        relative_error=relative(observed - leading, observed),
        relative_error_along_gap=relative(along - xp.matmul(leading, gap), along),
        first_order_error=relative(observed - first_order, observed),
        bound=_remainder_bound(n, temperature, gap_norm, radius),
        pull=4.0 * radius / (n * temperature),
    )


def mode_rates(gap_norm: float, *, temperature: float, n: int) -> ModeRates:
    """Return how fast tight clusters spread or shrink, along the gap and across it.

    What partners share grows across the gap and their differences shrink: alignment. Along the gap
    both shrink, and faster, if ||g||^2 is above the temperature; below it even there the clouds
    grow, and no gap is singled out.

    Parameters
    ----------
    gap_norm : float
        ||g||, zero or more.
    temperature : float
        t > 0.
    n : int
        Number of pairs.

    Raises
    ------
    ArgumentError
        A number is outside its range.

    Notes
    -----
    Eigenvalues of the first-order gradient flow in docs/theory.md: with c = 4 / (n t), the rates
    are c, -c, c (1 - ||g||^2 / t) and -c (1 + ||g||^2 / t).

    Examples
    --------
    >>> mode_rates(1.0, temperature=0.1, n=100).shared_along
    -3.6
    """
    gap_norm = check_number(gap_norm, "gap_norm", low=0.0)
    temperature = check_number(temperature, "temperature", low=0.0, open_low=True)
    unit = 4.0 / (check_count(n, "n") * temperature)
    signal = gap_norm**2 / temperature
    return ModeRates(
        shared_across=unit,
        difference_across=-unit,
        shared_along=unit * (1.0 - signal),
        difference_along=-unit * (1.0 + signal),
        critical_temperature=gap_norm**2,
        largest_step=2.0 / (unit * (1.0 + signal)),
    )


def gap_drift(x: Float[Array, "n d"], y: Float[Array, "n d"], *, temperature: float) -> GapDrift:
    """Return how fast gradient flow closes the gap between tight clusters, and what it leaves.

    The gap moves only as long as the clouds vary along it; that variance dies out first, so the gap
    loses about twice the variance along it, in squared length, and then stands.

    Parameters
    ----------
    x, y : array (n, d), floating
        Row i of both belongs together; squared Euclidean distances.
    temperature : float
        Greater than zero.

    Raises
    ------
    ShapeError, DataError, ArgumentError
        As in `contrastive_loss`; also where the two means coincide.

    Notes
    -----
    Derived in docs/theory.md from the exact identity that the gradients of both clouds sum to zero.
    Cost: 4 n^2 d multiplications, O(block) memory.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x, y = 0.01 * rng.normal(size=(2, 50, 4))
    >>> drift = gap_drift(x, y + [2.0, 0, 0, 0], temperature=1.0)
    >>> drift.relative_error < 0.1, round(drift.remaining_gap, 4)
    (True, 1.9991)
    """
    x, y = checked_pair(x, y, False)
    temperature = check_number(temperature, "temperature", low=0.0, open_low=True)
    xp = namespace(x, y)
    n = x.shape[0]
    mean_x, mean_y = xp.mean(x, axis=0), xp.mean(y, axis=0)
    gap = nonzero_gap(mean_y - mean_x)
    along = [xp.matmul(x - mean_x, gap), xp.matmul(y - mean_y, gap)]
    pushed = xp.matmul((x - mean_x).T, along[0]) + xp.matmul((y - mean_y).T, along[1])
    pair = prepare(x, y, temperature=temperature, metric=EUCLIDEAN, sphere=False)
    gradient = contrastive_gradient_of(pair)
    observed = xp.mean(gradient.x, axis=0) - xp.mean(gradient.y, axis=0)
    predicted = pushed * (-8.0 / (n * temperature**2) / n)
    squared = float(xp.sum(gap**2))
    variances = sum(float(xp.mean(part**2)) for part in along) / squared
    return GapDrift(
        predicted=predicted,
        observed=observed,
        relative_error=relative(observed - predicted, observed),
        remaining_gap=math.sqrt(max(squared - 2.0 * variances, 0.0)),
    )


def softmax_remainder(temperature: float, gap: float, radius: float) -> float:
    """Bound how far n times a softmax entry, and a softmax sum, is from its first-order form.

    docs/theory.md, "The remainder"; infinite where the clouds are so wide that it would say nothing.
    """
    logit = (2.0 * gap * radius + 3.0 * radius**2) / temperature
    if logit > 100.0:  # exp would overflow in the product, and the bound says nothing anyway
        return math.inf
    growth = math.exp(logit)
    return logit**2 * growth * (2.0 + (1.0 + logit) * growth) + 3.0 * radius**2 / temperature


def _remainder_bound(n: int, temperature: float, gap: float, radius: float) -> float:
    """Bound the rows of observed - first_order."""
    inner = softmax_remainder(temperature, gap, radius) * (gap + 3.0 * radius)
    return 2.0 * (inner + 4.0 * gap * radius**2 / temperature) / (n * temperature)
