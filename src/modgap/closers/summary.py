"""What a closure remembers of the rows it was fitted to: enough to tell whether others are like them.

Counts, means, and second moments along a few leading axes of the gallery. No row is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from modgap._core.arrays import (
    Array,
    as_float64,
    asarray_like,
    block_slices,
    namespace,
    to_numpy,
)
from modgap._core.memory import halving
from modgap._core.moments import Moments
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.closers.statistics import Statistics

__all__ = [
    "AXES",
    "FitSummary",
    "ScoreNoise",
    "SideSummary",
    "bits_of",
    "remembering",
    "side_of_rows",
]

#: Leading axes of the gallery that second moments are kept along: most of what scores vary with.
AXES = 32
#: Queries that bits at the fit are taken from.
_SAMPLE = 5000


@dataclass(frozen=True, eq=False)
class SideSummary:
    """Count and low moments of one side's rows, as the metric sees them.

    Attributes
    ----------
    count : int
    mean : ndarray (d,)
    within : ndarray (k, k)
        Covariance along the axes of the summary.
    variance : float
        Total, mean squared distance to the mean.
    """

    count: int
    mean: np.ndarray
    within: np.ndarray
    variance: float

    @classmethod
    def of_moments(cls, moments: Moments, axes: np.ndarray) -> SideSummary:
        """Return the summary of moments."""
        covariance = to_numpy(moments.covariance)
        return cls(
            moments.count,
            to_numpy(moments.mean),
            axes.T @ covariance @ axes,
            moments.total_variance,
        )


@dataclass(frozen=True, eq=False)
class FitSummary:
    """What a closure was fitted to.

    Attributes
    ----------
    axes : ndarray (d, k)
        Leading principal axes of the gallery, orthonormal columns.
    queries, gallery : SideSummary
    bits : float or None
        Bits a coordinate that the closure saves a stored code with one range, on the rows of its fit;
        None for closers that may change answers.
    """

    axes: np.ndarray
    queries: SideSummary
    gallery: SideSummary
    bits: float | None


@dataclass(frozen=True, eq=False)
class ScoreNoise:
    """What noise in proportion to the stored rows does to scores, before a closure and after it.

    In one unit for both, so that half the log of a ratio of means is the bits that the closure saves: of
    a code with one range, as `modgap.measures.bits` has them. For closers that keep scores.
    """

    closure: Closure
    gallery: Moments

    def before(self, rows: Array) -> np.ndarray:
        """Return the squares that queries (m, d), as the metric sees them, are exposed to, (m,)."""
        items = self._items if self.closure.metric.is_distance else None
        return self._stored * to_numpy(_exposed(rows, items))

    def after(self, rows: Array) -> np.ndarray:
        """Return what is left of them."""
        items = self._mapped if self.closure.comparison.is_distance else None
        return self._stored_after * to_numpy(_exposed(self.closure.queries(rows), items))

    def bits(self, queries: Moments) -> float | None:
        """Return the bits that the closure saves on queries of which there are moments; see `bits_of`."""
        mean, covariance = to_numpy(queries.mean), to_numpy(queries.covariance)
        center = self._items if self.closure.metric.is_distance else None
        mapped = _mean_square(self.closure.queries, mean, covariance)
        if self.closure.comparison.is_distance:
            there, spread = self._mapped
            at = _affine(self.closure.queries, mean)
            mapped += spread + float(there @ there - 2 * at @ there)
        before = self._stored * (queries.total_variance + float(_exposed(mean[None, :], center)[0]))
        return bits_of(before, self._stored_after * mapped)

    @cached_property
    def _items(self) -> tuple[np.ndarray, float]:
        return to_numpy(self.gallery.mean), self.gallery.total_variance

    @cached_property
    def _mapped(self) -> tuple[np.ndarray, float]:
        side = self.closure.gallery
        mean = _affine(side, to_numpy(self.gallery.mean))
        square = _mean_square(side, to_numpy(self.gallery.mean), to_numpy(self.gallery.covariance))
        return mean, max(square - float(mean @ mean), 0.0)

    @cached_property
    def _stored(self) -> float:
        mean, variance = self._items
        return (variance + float(mean @ mean)) / self.gallery.width

    @cached_property
    def _stored_after(self) -> float:
        mean, variance = self._mapped
        return (variance + float(mean @ mean)) / (len(mean) * self.closure.gain**2)


def remembering(closure: Closure, stats: Statistics) -> Closure:
    """Return the closure with a summary of what it was fitted to; without one where all items are equal.

    Cost: a product of the queries with a few axes, and of matrices of the dimension.
    """
    k = min(AXES, stats.axes.rank)
    if k == 0:
        return closure
    axes = np.ascontiguousarray(stats.axes.axes[:, :k])
    rows = None if stats.query_moments is not None else stats.query_rows
    if rows is None:
        queries = SideSummary.of_moments(stats.queries, axes)
    else:
        queries = side_of_rows(rows, axes, stats.query_mean)
    gallery = SideSummary.of_moments(stats.gallery, axes)
    return replace(closure, summary=FitSummary(axes, queries, gallery, _bits(closure, stats)))


def summaries_of(
    queries: Moments | Array, galleries: Mapping[str, Moments]
) -> dict[str, FitSummary]:
    """Return a summary for each modality of a mixed collection, of queries as the metric sees them."""
    found = {}
    for name, items in galleries.items():
        full = items.full_axes
        axes = np.ascontiguousarray(to_numpy(full.axes)[:, : min(AXES, full.rank)])
        if isinstance(queries, Moments):
            asked = SideSummary.of_moments(queries, axes)
        else:
            asked = side_of_rows(queries, axes, _mean(queries))
        found[name] = FitSummary(axes, asked, SideSummary.of_moments(items, axes), None)
    return found


@halving
def _mean(rows: Array) -> np.ndarray:
    xp, total = namespace(rows), np.zeros(int(rows.shape[1]))
    for part in block_slices(*rows.shape):
        total += to_numpy(xp.sum(as_float64(rows[part, :]), axis=0))
    return total / int(rows.shape[0])


@halving
def side_of_rows(rows: Array, axes: np.ndarray, mean: np.ndarray) -> SideSummary:
    """Return the summary of rows as the metric sees them, of which the mean is known."""
    xp, like = namespace(rows), as_float64(rows[:1, :])
    origin, directions = asarray_like(mean, like), asarray_like(axes, like)
    within, variance = np.zeros((axes.shape[1],) * 2), 0.0
    for part in block_slices(*rows.shape):
        away = as_float64(rows[part, :]) - origin
        along = xp.matmul(away, directions)
        within += to_numpy(xp.matmul(along.T, along))
        variance += float(xp.sum(away * away))
    count = int(rows.shape[0])
    return SideSummary(count, mean, within / count, variance / count)


def _bits(closure: Closure, stats: Statistics) -> float | None:
    if closure.bound is None:
        return None
    noise = ScoreNoise(closure, stats.gallery)
    if stats.query_moments is not None or stats.query_rows is None:
        return noise.bits(stats.queries)
    step = -(-stats.query_rows.shape[0] // _SAMPLE)
    some = as_float64(stats.query_rows[::step, :])
    return bits_of(float(np.mean(noise.before(some))), float(np.mean(noise.after(some))))


def bits_of(before: float, after: float) -> float | None:
    """Return the bits that a ratio of squares is; None where nothing is stored, or nothing asked."""
    if not (0 < before < math.inf and 0 < after < math.inf):
        return None
    return math.log2(before / after) / 2


def _exposed(rows: Array, items: tuple[np.ndarray, float] | None) -> Array:
    """Return |y|^2, or by distance the mean over the items of |y - x|^2."""
    xp = namespace(rows)
    if items is None:
        return xp.vecdot(rows, rows)
    away = rows - asarray_like(items[0], rows)
    return xp.vecdot(away, away) + items[1]


def _affine(side: AffineMap, row: np.ndarray) -> np.ndarray:
    """Return a row after the affine part of a map."""
    matrix = side.matrix
    return np.asarray((row if matrix is None else row @ matrix) + side.offset)


def _mean_square(side: AffineMap, mean: np.ndarray, covariance: np.ndarray) -> float:
    """Return the mean squared length of rows after the affine part of a map."""
    at, matrix = _affine(side, mean), side.matrix
    if matrix is None:
        return float(np.trace(covariance)) + float(at @ at)
    along = float(np.sum((covariance @ matrix) * matrix))  # the trace of M^T C M, no other entry
    return max(along, 0.0) + float(at @ at)
