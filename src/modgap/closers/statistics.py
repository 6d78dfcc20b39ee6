"""What closers are fitted from: two clouds' statistics, made once and shared by all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any, TypeVar

import numpy as np

from modgap._core.arrays import (
    Array,
    Float,
    as_float64,
    block_slices,
    dtype_eps,
    namespace,
    row_norms,
    to_numpy,
    working_float,
)
from modgap._core.checks import check_clouds
from modgap._core.memory import halving
from modgap._core.moments import Moments, PrincipalAxes
from modgap.decisions.metric import Metric
from modgap.errors import ArgumentError, ShapeError

__all__ = ["Statistics"]

Made = TypeVar("Made")

#: Share of the lengths below which two scores count as one in float64: what fitted axes can hold.
_TIE = 1e-10
#: A common offset longer than so many radii of the gallery is far: it costs products their digits.
FAR = 4.0
#: Rows whose products are looked at, to learn how much they round.
_PROBES = 128


@dataclass(frozen=True, eq=False)
class Statistics:
    """Moments of two clouds as a metric sees them, and their rows where these are at hand.

    Attributes
    ----------
    metric : Metric
    gallery : Moments
        Of the prepared rows (by cosine of unit length), products in float64.
    query_moments : Moments or None
        Given for clouds that were streamed; made from the rows when first needed otherwise.
    query_rows, gallery_rows : array or None
        Prepared rows.
    eps : float
        Rounding unit of the products that decide: that of float32 for rows stored in halves.
    query_parts : tuple of Moments
        Of the pieces that streamed queries came in, where they are known: folds for cross-validation.
    """

    metric: Metric
    gallery: Moments
    query_moments: Moments | None = None
    query_rows: Array | None = None
    gallery_rows: Array | None = None
    eps: float = float(np.finfo(np.float64).eps)
    query_parts: tuple[Moments, ...] = ()

    @classmethod
    def of_rows(
        cls, queries: Float[Array, "m d"], gallery: Float[Array, "n d"], metric: Metric
    ) -> Statistics:
        """Return the statistics of two clouds; checks both. Cost: n d^2, and m d^2 when asked for.

        Raises
        ------
        DataError, ShapeError
            The clouds do not fit together, hold NaN, or have rows without a direction.
        """
        queries, gallery = check_clouds(queries, gallery, zero_rows=not metric.needs_directions)
        rows = metric.prepare(gallery)
        moments = Moments.from_rows(rows, precision="float64")
        return cls(
            metric,
            replace(moments, eps=max(moments.eps, dtype_eps(gallery))),
            None,
            metric.prepare(queries),
            rows,
            _deciding_eps(max(dtype_eps(queries), dtype_eps(gallery))),
        )

    @classmethod
    def of_moments(
        cls, queries: Moments | Sequence[Moments], gallery: Moments, metric: Metric
    ) -> Statistics:
        """Return the statistics of two clouds that were streamed, the queries in pieces or as a whole.

        Raises
        ------
        ShapeError
            The moments have different widths.
        """
        parts = () if isinstance(queries, Moments) else tuple(queries)
        if parts:
            queries = reduce(Moments.merge, parts)
        if not isinstance(queries, Moments):
            raise ShapeError("`queries` must hold at least one piece; got none")
        if queries.width != gallery.width:
            raise ShapeError(
                "`queries` and `gallery` must share the embedding dimension d; got "
                f"{queries.width} and {gallery.width}"
            )
        eps = _deciding_eps(max(queries.eps, gallery.eps))
        return cls(metric, gallery, query_moments=queries, eps=eps, query_parts=parts)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what `make` makes of these statistics, made when first asked for and kept."""
        if key not in self._made:
            self._made[key] = make()
        found: Made = self._made[key]
        return found

    @cached_property
    def _made(self) -> dict[Hashable, Any]:
        return {}

    @property
    def width(self) -> int:
        """Embedding dimension d."""
        return self.gallery.width

    @cached_property
    def queries(self) -> Moments:
        """Moments of the prepared queries."""
        if self.query_moments is not None:
            return self.query_moments
        return Moments.from_rows(self.query_rows, precision="float64")

    @cached_property
    def query_count(self) -> int:
        """Number of queries, m."""
        return self._query_summary[0]

    @cached_property
    def query_mean(self) -> np.ndarray:
        """Mean of the prepared queries, shape (d,); no scatter is made for it."""
        return self._query_summary[1]

    @cached_property
    def gallery_mean(self) -> np.ndarray:
        """Mean of the prepared gallery, shape (d,)."""
        return to_numpy(self.gallery.mean)

    @cached_property
    def gap(self) -> np.ndarray:
        """The gap: mean of the queries minus that of the gallery, shape (d,)."""
        gap: np.ndarray = self.query_mean - self.gallery_mean
        return gap

    @cached_property
    def axes(self) -> PrincipalAxes:
        """Principal axes of the gallery, all d of them, on the host."""
        full = self.gallery.full_axes
        return PrincipalAxes(to_numpy(full.variances), to_numpy(full.axes), full.rank)

    @cached_property
    def query_reach(self) -> float:
        """Length of the longest query: by distance from the gallery's mean, else from the origin."""
        return self._query_summary[2]

    @cached_property
    def resolution(self) -> float:
        """Differences of scores below this are ties: products of these rows cannot tell them apart.

        A product of d terms in arithmetic of unit roundoff u is off by about sqrt(d) u |y||x| (Higham
        & Mary, 2019), and both rows were rounded when they were made and when they were read. Only
        differences of items count, so far from the origin no more than a few radii of the gallery
        stand for |x|. Scores are y.x, by distance y.x - |x|^2 / 2.
        """
        relative = tie_share(self.width, self.eps)
        near = self.gallery.radius
        if not self.metric.is_distance:
            near = min(self.gallery.longest, FAR * near)
        return 2 * relative * self.query_reach * near

    @cached_property
    def query_probes(self) -> np.ndarray:
        """A few queries, or where they were streamed rows like them, shape (<= 64, d), float64."""
        return _probes(self.query_rows, self.query_moments)

    @cached_property
    def gallery_probes(self) -> np.ndarray:
        """A few items, or where they were streamed rows like them, shape (<= 64, d), float64."""
        return _probes(self.gallery_rows, self.gallery)

    @cached_property
    def _query_summary(self) -> tuple[int, np.ndarray, float]:
        """Count, mean and reach, in one pass over the rows where there are any."""
        rows, moments = self.query_rows, self.query_moments
        if moments is not None or rows is None:
            moments = self.queries
            mean = to_numpy(moments.mean)
            reach = moments.longest
            if self.metric.is_distance:
                reach = moments.radius + float(np.linalg.norm(mean - self.gallery_mean))
            return moments.count, mean, reach
        origin = self.gallery.mean if self.metric.is_distance else 0.0 * self.gallery.mean
        return int(rows.shape[0]), *_mean_and_reach(rows, origin)

    def need_rows(self, method: str) -> tuple[Array, Array]:
        """Return the prepared rows of both clouds.

        Raises
        ------
        ArgumentError
            There are moments only.
        """
        if self.query_rows is None or self.gallery_rows is None:
            raise ArgumentError(
                f"`{method}` is fitted from rows, not moments; call closers.fit with both clouds"
            )
        return self.query_rows, self.gallery_rows


def tie_share(width: int, eps: float) -> float:
    """Return by how much of |y||x| two products of rows may differ and be one; see `resolution`."""
    return max((math.sqrt(width) + 4) * eps / 2, _TIE)


def _deciding_eps(stored: float) -> float:
    """Return the rounding unit of products of rows that are stored with this one."""
    return min(stored, float(np.finfo(np.float32).eps))


@halving
def _mean_and_reach(rows: Array, origin: Array) -> tuple[np.ndarray, float]:
    """Return the mean of the rows, (d,), and how far the furthest is from the origin."""
    xp, total, reach = namespace(rows), np.zeros(int(rows.shape[1])), 0.0
    for part in block_slices(*rows.shape):
        block = as_float64(rows[part, :])
        total = total + to_numpy(xp.sum(block, axis=0))
        reach = max(reach, float(xp.max(row_norms(block - origin))))
    return total / int(rows.shape[0]), reach


def _probes(rows: Array | None, moments: Moments | None) -> np.ndarray:
    """Return rows evenly spread over those given; without any, rows as far out as the moments allow."""
    if rows is not None:
        step = max(1, rows.shape[0] // _PROBES)
        return to_numpy(as_float64(rows[::step, :]))[:_PROBES]
    assert moments is not None  # one of both is there
    away = np.random.default_rng(0).normal(size=(_PROBES, moments.width))
    away[::2] = away[::2] @ to_numpy(moments.scatter)  # every other one along the leading axes
    lengths = np.linalg.norm(away, axis=1, keepdims=True)
    away *= moments.radius / np.where(lengths > 0, lengths, 1.0)
    probes: np.ndarray = to_numpy(moments.mean) + away
    return probes


@halving
def longest_row(rows: Array) -> float:
    """Return the length of the longest row."""
    xp = namespace(rows)
    return max(
        float(xp.max(row_norms(working_float(rows[part, :])))) for part in block_slices(*rows.shape)
    )
