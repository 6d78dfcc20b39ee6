"""Beyond the projection: on unit rows, scaling about the circumcentre is steadier still."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import Array, Float, gather_rows, namespace, row_norms, to_numpy
from modgap.decisions.metric import EUCLIDEAN
from modgap.decisions.neighbors import nearest
from modgap.errors import DataError
from modgap.paper.theory._tasks import (
    INTEGRAL_ERROR,
    NoisyTask,
    checked_steps,
    checked_task,
    count,
)

__all__ = ["ScalingStability", "scaling_stability"]

#: Relative spread of the distances to the circumcentre that a gallery on a sphere may have.
_SPHERE_SPREAD = 1e-4


@dataclass(frozen=True)
class _Sphere:
    """The sphere through a gallery's items, in their hull: centre, radius, relative spread."""

    center: Array
    radius: float
    spread: float


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
    task = checked_task(queries, gallery, sigma, EUCLIDEAN)
    steps = checked_steps(scales, "scales", low=0.0, open_low=True)
    sphere = _circumsphere(task)
    inside = task.queries - task.outside(task.queries)
    moved = [sphere.center + scale * (inside - sphere.center) for scale in steps]
    decided = task.decide(inside)
    return ScalingStability(
        scales=steps,
        stability=task.stability(moved, decided),
        changed_decisions=tuple(count(task.decide(y) != decided) for y in moved),
        center=sphere.center,
        radius=sphere.radius,
        radius_spread=sphere.spread,
        suggested_scale=_suggested_scale(task, inside, sphere),
        error=INTEGRAL_ERROR,
    )


def _circumsphere(task: NoisyTask) -> _Sphere:
    """Return the sphere through the items, in their hull.

    With principal coordinates c_j, |c_j - w|^2 is constant iff 2 c_j.w = |c_j|^2 up to a constant;
    the coordinates are uncorrelated, so least squares is one division per axis.
    """
    xp, axes = namespace(task.gallery), task.axes
    coordinates = xp.matmul(task.gallery - task.center, axes)
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
    return _Sphere(task.center + xp.matmul(axes, at), radius, spread)


def _suggested_scale(task: NoisyTask, inside: Array, sphere: _Sphere) -> float:
    """Return the median over queries of the scale that makes margin over noise largest."""
    xp = namespace(inside)
    found = nearest(inside, task.gallery, k=2, metric=task.metric).indices
    towards = xp.sum(gather_rows(task.gallery, found), axis=1) - 2.0 * sphere.center
    inverse = to_numpy(xp.sum((inside - sphere.center) * towards, axis=-1))
    noise = task.gallery.shape[1] * task.sigma**2
    middle = float(np.median(inverse / (2.0 * sphere.radius**2 + noise)))
    return 1.0 / middle if middle > 0 else math.inf
