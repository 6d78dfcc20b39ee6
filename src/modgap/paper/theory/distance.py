"""Nearer queries are more stable: Theorem 3.4 of Chowers et al. (2026), and the projection.

Noise is Gaussian on the gallery, and its effect is integrated, not sampled. Each function returns
what the statement predicts and what is so on this data, with the size of the error term.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import Array, Float, namespace, row_norms, to_numpy
from modgap._core.checks import check_choice
from modgap.paper.theory._tasks import INTEGRAL_ERROR, checked_steps, checked_task, count

__all__ = [
    "ProjectionStability",
    "StabilityByDistance",
    "projection_stability",
    "stability_by_distance",
]


@dataclass(frozen=True)
class StabilityByDistance:
    """Theorem 3.4 on one task: moving the queries along the gap.

    Attributes
    ----------
    alphas : tuple of float
    distances : array (a, m)
        Distance of each query to aff(gallery) at each alpha; for inner products the length of the
        part that no decision depends on.
    stability : array (a, m)
        Probability that the noise-free decision at the first alpha survives the noise.
    agreement : float
        Share of (query, step) whose stability moves as the distance predicts, or by less than the
        error of the integral.
    worst_violation : float
        Largest move against the prediction; 0 in theory, up to `error` by rounding.
    changed_decisions : tuple of int
        Queries whose noise-free decision differs from that at the first alpha.
    error : float
        Accuracy of the integral.
    """

    alphas: tuple[float, ...]
    distances: Array
    stability: Array
    agreement: float
    worst_violation: float
    changed_decisions: tuple[int, ...]
    error: float


@dataclass(frozen=True)
class ProjectionStability:
    """Stability against the height of the queries above what decisions depend on.

    Attributes
    ----------
    heights : tuple of float
        0 is the projection, 1 the queries as they are.
    stability : array (h, m)
        Per query; falls with the height, by theorem.
    worst_rise : float
        Largest rise of one query's stability with the height; 0 in theory, up to `error`.
    gain : float
        Mean stability of the projection minus that of the queries as they are.
    error : float
        Accuracy of the integral.
    """

    heights: tuple[float, ...]
    stability: Array
    worst_rise: float
    gain: float
    error: float


def stability_by_distance(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    sigma: float,
    *,
    alphas: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    metric: str = "euclidean",
    direction: str = "orthogonal",
) -> StabilityByDistance:
    """Return how each query's stability moves with its distance to the gallery (Theorem 3.4).

    Queries are moved to ``y - alpha * v``. Predicted per query: where the distance to aff(gallery)
    falls, the probability that the decision survives rises, and the other way round.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
        n >= 2.
    sigma : float
        Standard deviation of the noise per coordinate, > 0.
    alphas : sequence of float
    metric : {"euclidean", "ip"}
    direction : {"orthogonal", "gap"}
        v: the part of the gap that is orthogonal to aff(gallery), for which the statement is a
        theorem; or the gap itself, which needs Assumption 3.3 to hold exactly. By inner product
        the origin takes the place of the gallery's mean.

    Raises
    ------
    ShapeError, DataError, ArgumentError
        The arrays do not fit together; an option is outside its range.

    Notes
    -----
    Theorem 3.4 of Chowers et al. (2026); proved per query, for both metrics, in docs/theory.md.
    Cost: one exact integral per query and alpha.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> gallery, queries = rng.normal(size=(4, 9)), rng.normal(size=(50, 9)) + 1
    >>> check = stability_by_distance(queries, gallery, 0.3)
    >>> check.agreement
    1.0
    """
    task = checked_task(queries, gallery, sigma, metric)
    check_choice(direction, "direction", ("orthogonal", "gap"))
    steps = checked_steps(alphas, "alphas")
    xp = namespace(task.queries, task.gallery)
    middle = xp.mean(task.queries, axis=0)
    move = task.outside(middle) if direction == "orthogonal" else middle - task.center
    moved = [task.queries - alpha * move for alpha in steps]
    distances = np.stack([to_numpy(row_norms(task.outside(y))) for y in moved])
    decisions = [task.decide(y) for y in moved]
    stability = task.stability(moved, decisions[0])
    against = np.sign(np.diff(distances, axis=0)) * np.diff(stability, axis=0)
    return StabilityByDistance(
        alphas=steps,
        distances=distances,
        stability=stability,
        agreement=float(np.mean(against <= INTEGRAL_ERROR)) if against.size else math.nan,
        worst_violation=float(np.max(against, initial=0.0)),
        changed_decisions=tuple(count(found != decisions[0]) for found in decisions),
        error=INTEGRAL_ERROR,
    )


def projection_stability(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    sigma: float,
    *,
    heights: Sequence[float] = (0.0, 0.5, 1.0, 2.0),
    metric: str = "euclidean",
) -> ProjectionStability:
    """Return the stability of queries whose part outside aff(gallery) is scaled by each height.

    All heights keep every margin between items, so every decision. Of all maps of the queries that
    do, the projection (height 0) is the most stable: a theorem for both metrics.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
        n >= 2.
    sigma : float
        Standard deviation of the noise per coordinate, > 0.
    heights : sequence of float >= 0
    metric : {"euclidean", "ip"}
        By inner product the part outside the directions of aff(gallery), through the origin.

    Raises
    ------
    ShapeError, DataError, ArgumentError
        The arrays do not fit together; an option is outside its range.

    Notes
    -----
    docs/theory.md has the proofs, by coupling (inner product) and by a monotone ratio of Bessel
    functions (Euclidean), and says which maps the theorem does not cover: see `scaling_stability`.
    Cost: one exact integral per query and height.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> gallery, queries = rng.normal(size=(4, 9)), rng.normal(size=(50, 9)) + 1
    >>> check = projection_stability(queries, gallery, 0.3)
    >>> check.worst_rise <= check.error, check.gain > 0.05
    (True, True)
    """
    task = checked_task(queries, gallery, sigma, metric)
    steps = checked_steps(heights, "heights", low=0.0)
    outside = task.outside(task.queries)
    inside = task.queries - outside
    moved = [inside + height * outside for height in (*steps, 0.0, 1.0)]
    stability = task.stability(moved, task.decide(inside))
    asked = stability[: len(steps)]
    rises = np.diff(asked[np.argsort(steps, kind="stable")], axis=0)
    return ProjectionStability(
        heights=steps,
        stability=asked,
        worst_rise=float(np.max(rises, initial=0.0)),
        gain=float(np.mean(stability[-2] - stability[-1])),
        error=INTEGRAL_ERROR,
    )
