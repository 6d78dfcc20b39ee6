"""Queries that decide among the items of a noisy gallery, as the statements on decisions see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import Array, as_float64, namespace, to_numpy
from modgap._core.checks import check_clouds, check_number
from modgap._core.moments import Moments, principal_axes
from modgap.decisions.metric import Metric
from modgap.decisions.neighbors import nearest
from modgap.errors import ArgumentError, ShapeError
from modgap.paper.theory._scores import theory_metric

__all__ = ["INTEGRAL_ERROR", "NoisyTask", "checked_steps", "checked_task", "count", "hull"]

#: The exact integral is within this of the truth, so smaller rises and falls say nothing.
INTEGRAL_ERROR = 1e-5


@dataclass(frozen=True)
class NoisyTask:
    """Decisions among gallery items that get Gaussian noise, and the flat that they depend on.

    Attributes
    ----------
    queries, gallery : array, float64
    sigma : float
    metric : Metric
    center : array (d,)
        A point of the flat: the gallery's mean for distances, the origin for inner products.
    axes : array (d, r)
        An orthonormal basis of the flat's directions, those of aff(gallery).
    """

    queries: Array
    gallery: Array
    sigma: float
    metric: Metric
    center: Array
    axes: Array

    def outside(self, rows: Array) -> Array:
        """Return the part of the rows outside of the flat: no decision depends on it."""
        xp = namespace(rows)
        rows = rows - self.center
        return rows - xp.matmul(xp.matmul(rows, self.axes), self.axes.T)

    def decide(self, queries: Array) -> Array:
        """Return the noise-free decisions, shape (m,)."""
        return nearest(queries, self.gallery, metric=self.metric).indices[:, 0]

    def stability(self, moved: Sequence[Array], targets: Array) -> np.ndarray:
        """Return the exact probability that the target wins under noise, (len(moved), m)."""
        from modgap.robustness.integral import win_probability

        found = (
            win_probability(queries, self.gallery, targets, [self.sigma], metric=self.metric)
            for queries in moved
        )
        return np.stack([to_numpy(values)[0] for values in found])


def checked_task(queries: Array, gallery: Array, sigma: float, metric: str) -> NoisyTask:
    """Return the task of two clouds of the caller's."""
    queries, gallery = check_clouds(queries, gallery)
    if gallery.shape[0] < 2:
        raise ShapeError(
            f"`gallery` must have at least 2 row(s) to decide between; got shape "
            f"{tuple(gallery.shape)}"
        )
    seen = theory_metric(metric)
    sigma = check_number(sigma, "sigma", low=0.0, open_low=True)
    queries, gallery = as_float64(queries), as_float64(gallery)
    center, axes = hull(gallery)
    if not seen.is_distance:
        center = 0.0 * center
    return NoisyTask(queries, gallery, sigma, seen, center, axes)


def checked_steps(
    values: Sequence[float], name: str, *, low: float = -math.inf, open_low: bool = False
) -> tuple[float, ...]:
    """Return the numbers of a sweep."""
    try:
        steps = tuple(check_number(v, name, low=low, open_low=open_low) for v in values)
    except TypeError:
        raise ArgumentError(f"`{name}` must be a sequence of numbers; got {values!r}") from None
    if not steps:
        raise ArgumentError(f"`{name}` must hold at least one number; got none")
    return steps


def hull(gallery: Array) -> tuple[Array, Array]:
    """Return the mean of the gallery and an orthonormal basis (d, r) of its directions."""
    moments = Moments.from_rows(gallery, precision="float64")
    return moments.mean, principal_axes(moments).axes


def count(mask: Array) -> int:
    """Return the number of true entries."""
    return int(np.count_nonzero(to_numpy(mask)))
