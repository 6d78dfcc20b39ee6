"""What the gap does to decisions under noise: Theorem 3.4, the projection, and what lies beyond it.

Noise is Gaussian on the gallery, and its effect is integrated, not sampled. Each function returns
what a statement predicts and what is so on this data, with the size of the error term.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import (
    Array,
    Float,
    as_float64,
    gather_rows,
    namespace,
    row_norms,
    to_numpy,
)
from modgap._core.checks import check_choice, check_clouds, check_number
from modgap.decisions.metric import EUCLIDEAN
from modgap.decisions.neighbors import nearest
from modgap.errors import ArgumentError, DataError, ShapeError
from modgap.paper.theory._hulls import (
    INTEGRAL_ERROR,
    count,
    decision_flat,
    hull,
    residual,
    stabilities,
)
from modgap.paper.theory._scores import METRICS

__all__ = [
    "ProjectionStability",
    "ScalingStability",
    "StabilityByDistance",
    "projection_stability",
    "scaling_stability",
    "stability_by_distance",
]

#: Relative spread of the distances to the circumcentre that a gallery on a sphere may have.
_SPHERE_SPREAD = 1e-4


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


@dataclass(frozen=True)
class ScalingStability:
    """Stability of the projected queries, scaled away from the gallery's circumcentre.

    Attributes
    ----------
    scales : tuple of float
        1 is the plain projection.
    stability : array (s, m)
    changed_decisions : tuple of int
        Per scale; 0 by theorem, ties aside.
    center : array (d,)
        Circumcentre: the point of aff(gallery) at one distance to all items.
    radius, radius_spread : float
        That distance, and by how much it varies, relative: 0 for an exact sphere.
    suggested_scale : float
        Median over queries of the scale that is best for little noise, in closed form.
    error : float
        Accuracy of the integral.
    """

    scales: tuple[float, ...]
    stability: Array
    changed_decisions: tuple[int, ...]
    center: Array
    radius: float
    radius_spread: float
    suggested_scale: float
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
    queries, gallery, sigma = _checked_task(queries, gallery, sigma, metric)
    check_choice(direction, "direction", ("orthogonal", "gap"))
    steps = _checked_steps(alphas, "alphas")
    xp = namespace(queries, gallery)
    center, axes = decision_flat(gallery, metric)
    move = xp.mean(queries, axis=0) - center
    if direction == "orthogonal":
        move = move - xp.matmul(axes, xp.matmul(axes.T, move))
    moved = [queries - alpha * move for alpha in steps]
    distances = np.stack([to_numpy(row_norms(residual(y - center, axes))) for y in moved])
    decisions = [nearest(y, gallery, metric=metric).indices[:, 0] for y in moved]
    stability = stabilities(moved, gallery, decisions[0], sigma, metric)
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
    queries, gallery, sigma = _checked_task(queries, gallery, sigma, metric)
    steps = _checked_steps(heights, "heights", low=0.0)
    center, axes = decision_flat(gallery, metric)
    outside = residual(queries - center, axes)
    inside = queries - outside
    decided = nearest(inside, gallery, metric=metric).indices[:, 0]
    moved = [inside + height * outside for height in (*steps, 0.0, 1.0)]
    stability = stabilities(moved, gallery, decided, sigma, metric)
    asked = stability[: len(steps)]
    rises = np.diff(asked[np.argsort(steps, kind="stable")], axis=0)
    return ProjectionStability(
        heights=steps,
        stability=asked,
        worst_rise=float(np.max(rises, initial=0.0)),
        gain=float(np.mean(stability[-2] - stability[-1])),
        error=INTEGRAL_ERROR,
    )


def scaling_stability(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    sigma: float,
    *,
    scales: Sequence[float] = (0.5, 1.0, 2.0, 4.0, 8.0),
) -> ScalingStability:
    """Return the Euclidean stability of projected queries scaled away from the circumcentre.

    Where all items lie on one sphere, as unit rows do, ``y -> o + scale * (P y - o)`` keeps every
    decision too, P the projection onto aff(gallery) and o the sphere's centre in it. It changes the
    margins, so the plain projection is *not* the most stable of all maps that keep every decision.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
        n >= 2; all rows at one distance from a point, as rows of unit length are.
    sigma : float
        Standard deviation of the noise per coordinate, > 0.
    scales : sequence of float > 0
        As the scale grows, decisions become those by inner product with P y - o.

    Raises
    ------
    ShapeError, ArgumentError
        The arrays do not fit together; an option is outside its range.
    DataError
        The gallery does not lie on a sphere, where scaling would change decisions.

    Notes
    -----
    Derived in docs/theory.md, "Beyond the projection". Cost: one integral per query and scale.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> gallery = rng.normal(size=(6, 9))
    >>> gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    >>> queries = 0.3 * gallery[rng.integers(6, size=80)] + 0.1 * rng.normal(size=(80, 9))
    >>> check = scaling_stability(queries, gallery, 0.1, scales=(1.0, 4.0))
    >>> check.changed_decisions, check.stability.mean(axis=1).round(2).tolist()
    ((0, 0), [0.73, 0.93])
    """
    queries, gallery, sigma = _checked_task(queries, gallery, sigma, "euclidean")
    steps = _checked_steps(scales, "scales", low=0.0, open_low=True)
    center, radius, spread = _circumsphere(gallery)
    middle, axes = hull(gallery)
    inside = queries - residual(queries - middle, axes)
    moved = [center + scale * (inside - center) for scale in steps]
    decided = nearest(inside, gallery, metric=EUCLIDEAN).indices[:, 0]
    found = [nearest(y, gallery, metric=EUCLIDEAN).indices[:, 0] for y in moved]
    return ScalingStability(
        scales=steps,
        stability=stabilities(moved, gallery, decided, sigma, "euclidean"),
        changed_decisions=tuple(count(decision != decided) for decision in found),
        center=center,
        radius=radius,
        radius_spread=spread,
        suggested_scale=_suggested_scale(inside, gallery, center, radius, sigma),
        error=INTEGRAL_ERROR,
    )


def _circumsphere(gallery: Array) -> tuple[Array, float, float]:
    """Return centre, radius and relative spread of the sphere through the items, in their hull.

    With principal coordinates c_j, |c_j - w|^2 is constant iff 2 c_j.w = |c_j|^2 up to a constant;
    the coordinates are uncorrelated, so least squares is one division per axis.
    """
    xp = namespace(gallery)
    middle, axes = hull(gallery)
    coordinates = xp.matmul(gallery - middle, axes)
    if axes.shape[1] == 0:
        raise DataError("`gallery` has no variance: all of its rows are equal; pass a gallery")
    squares = xp.sum(coordinates**2, axis=1)
    moments = xp.matmul(coordinates.T, squares - xp.mean(squares))
    at = 0.5 * moments / xp.sum(coordinates**2, axis=0)
    radii = row_norms(coordinates - at)
    radius = float(xp.mean(radii))
    spread = float(xp.max(radii) - xp.min(radii)) / radius
    if spread > _SPHERE_SPREAD:
        raise DataError(
            f"`gallery` must lie on one sphere; the distances to the best centre go from "
            f"{float(xp.min(radii)):.4g} to {float(xp.max(radii)):.4g}; scale its rows to unit "
            "length"
        )
    return middle + xp.matmul(axes, at), radius, spread


def _suggested_scale(
    inside: Array, gallery: Array, center: Array, radius: float, sigma: float
) -> float:
    """Return the median over queries of the scale that makes margin over noise largest."""
    if gallery.shape[0] < 2:
        return 1.0
    xp = namespace(inside)
    rivals = gather_rows(gallery, nearest(inside, gallery, k=2, metric=EUCLIDEAN).indices)
    towards = xp.sum(rivals, axis=1) - 2.0 * center
    inverse = xp.sum((inside - center) * towards, axis=-1)
    inverse = to_numpy(inverse) / (2.0 * radius**2 + gallery.shape[1] * sigma**2)
    middle = float(np.median(inverse))
    return 1.0 / middle if middle > 0 else math.inf


def _checked_task(
    queries: Array, gallery: Array, sigma: float, metric: str
) -> tuple[Array, Array, float]:
    queries, gallery = check_clouds(queries, gallery)
    if gallery.shape[0] < 2:
        raise ShapeError(
            f"`gallery` must have at least 2 row(s) to decide between; got shape "
            f"{tuple(gallery.shape)}"
        )
    check_choice(metric, "metric", METRICS)
    sigma = check_number(sigma, "sigma", low=0.0, open_low=True)
    return as_float64(queries), as_float64(gallery), sigma


def _checked_steps(
    values: Sequence[float], name: str, *, low: float = -math.inf, open_low: bool = False
) -> tuple[float, ...]:
    try:
        steps = tuple(check_number(v, name, low=low, open_low=open_low) for v in values)
    except TypeError:
        raise ArgumentError(f"`{name}` must be a sequence of numbers; got {values!r}") from None
    if not steps:
        raise ArgumentError(f"`{name}` must hold at least one number; got none")
    return steps
