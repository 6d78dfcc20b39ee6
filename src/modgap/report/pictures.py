"""The picture of a closure: both clouds along the gap and across it, at every stop on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap._core.arrays import Array, asarray_like, namespace, to_numpy
from modgap.closers import METHODS
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.closers.mixed import MixedClosure, by_modality
from modgap.closers.statistics import Statistics
from modgap.decisions.metric import INNER_PRODUCT
from modgap.report.way import Way

__all__ = ["clouds"]

_NAMES = ("queries", "gallery")


def clouds(
    stats: Statistics,
    way: Way,
    closed: Closure,
    *,
    most: int,
    seed: int,
    kinds: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return both clouds in two coordinates at every stop of a closer, at most so many points each.

    x runs along the gap; y along the first principal axis of what is left of both clouds when all is
    closed, each about its own mean, at right angles to the gap. The gallery's mean is the origin of every
    stop. By inner product a shift of the whole gallery changes no answer: it is drawn where it lies nearest
    to the queries, as it was stored or where the query map takes it. Maps are drawn without the rotation
    that codes want, which changes no distance. `kinds` are the modalities of the gallery's rows where each
    has a map of its own.

    A factor of all queries changes no ranking by inner product. Where the closer makes second moments the
    same, up to one, the closed queries are drawn as wide as the items, those of other stops in step.

    Each stop has `outlines`: of all rows of a side the centre and the root of the second moments in the
    picture, (x, y, a, b, c) for [[a, b], [b, c]]; about each side's mean, or where the closer makes second
    moments the same, of both sides about the items' mean.
    """
    rng = np.random.default_rng(seed)
    rows = (stats.query_rows, stats.gallery_rows)
    chosen = [np.sort(rng.permutation(cloud.shape[0])[:most]) for cloud in rows]  # type: ignore[union-attr]
    known = METHODS.get(closed.method)
    options = {"rotation": "none"} if known is not None and "rotation" in known.takes else {}
    stops = [_Stop(stats, one, kinds) for one in way.closures(stats, closed, **options)]
    end = stops[way.alphas.index(1.0)]
    axes = _axes(stats.gap, [stop.shown(chosen) for stop in (stops[0], end)])
    moments = closed.method == "balanced"
    follows = end.follows_queries and not moments
    wider = end.items_over_queries(chosen) if moments else 1.0
    drawn = [
        stop.drawn(axes, follows, about_items=moments, scale=wider**alpha)
        for alpha, stop in zip(way.alphas, stops, strict=True)
    ]
    sizes = [_size(stop.shown(chosen)[0]) for stop in (stops[0], end)]
    return {
        "alphas": list(way.alphas),
        "steps": [
            {
                **{name: np.round(points[at], 4).tolist()
                   for name, points, at in zip(_NAMES, both, chosen, strict=True)},
                "outlines": {name: np.round(line, 4).tolist()
                             for name, line in zip(_NAMES, lines, strict=True)},
            }
            for both, lines in drawn
        ],
        "about_items": moments,
        "stretch": sizes[1] / sizes[0] if sizes[0] > 0 else 1.0,
        "shown": dict(zip(_NAMES, (len(at) for at in chosen), strict=True)),
        "of": {"queries": stats.query_count, "gallery": stats.gallery.count},
    }  # fmt: skip


class _Stop:
    """Both sides' maps at one stop of the way; None for the rows as they are."""

    def __init__(
        self, stats: Statistics, closure: Closure | None, kinds: np.ndarray | None
    ) -> None:
        self.stats, self.closure, self.kinds = stats, closure, kinds

    def shown(self, chosen: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the rows in the picture, mapped, in all dimensions."""
        rows = (self.stats.query_rows, self.stats.gallery_rows)
        some = [_take(cloud, at) for cloud, at in zip(rows, chosen, strict=True)]
        kinds = None if self.kinds is None else self.kinds[chosen[1]]
        return [_host(self._queries(some[0])), _host(self._items(some[1], kinds))]

    @property
    def follows_queries(self) -> bool:
        """Whether the gallery is drawn where the query map takes it: nearer than where it is stored."""
        closure = self.closure
        if closure is None or closure.comparison != INNER_PRODUCT or closure.bound is None:
            return False
        centres = self.stats.query_mean[None, :], self.stats.gallery_mean[None, :]
        mean, own, other = (
            _affine(side, row)
            for side, row in (
                (closure.queries, centres[0]),
                (closure.gallery, centres[1]),
                (closure.queries, centres[1]),
            )
        )
        return bool(np.linalg.norm(mean - own) > np.linalg.norm(mean - other))

    def items_over_queries(self, chosen: Sequence[np.ndarray]) -> float:
        """Return the root mean square length of mapped items over that of mapped queries."""
        queries, items = (float(np.mean(cloud**2)) for cloud in self.shown(chosen))
        return math.sqrt(items / queries) if queries > 0 and items > 0 else 1.0

    def drawn(
        self, axes: np.ndarray, follows: bool, *, about_items: bool, scale: float
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return all rows of both sides in the picture, and their outlines."""
        queries, items = self._placed(axes)
        origin = items.mean(axis=0)
        if follows and self.closure is not None:
            origin = (_affine(self.closure.queries, self.stats.gallery_mean[None, :]) @ axes.T)[0]
        queries, items = (queries - origin) * scale, items - items.mean(axis=0)
        return [queries, items], [_outline(one, about_items) for one in (queries, items)]

    def _placed(self, axes: np.ndarray) -> list[np.ndarray]:
        """Return all rows along the axes; through one product where the map is affine."""
        stats, closure = self.stats, self.closure
        if closure is None or (isinstance(closure, MixedClosure) and self.kinds is not None):
            rows = (self._queries(stats.query_rows), self._items(stats.gallery_rows, self.kinds))
            return [_host(cloud) @ axes.T for cloud in rows]
        sides = ((closure.queries, stats.query_rows), (closure.gallery, stats.gallery_rows))
        return [
            _host(side(cloud)) @ axes.T if side.normalize_output else _affine(side, _host(cloud), axes)
            for side, cloud in sides
        ]  # fmt: skip

    def _queries(self, rows: Any) -> Any:
        return rows if self.closure is None else self.closure.queries(rows)

    def _items(self, rows: Any, kinds: np.ndarray | None) -> Any:
        if self.closure is None:
            return rows
        if isinstance(self.closure, MixedClosure) and kinds is not None:
            return by_modality(self.closure.galleries, rows, kinds)
        return self.closure.gallery(rows)


def _affine(side: AffineMap, rows: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    """Return the affine part of a map of prepared rows, along some axes where they are given."""
    basis = np.eye(side.output_width) if axes is None else axes.T
    linear = basis if side.matrix is None else side.matrix @ basis
    mapped: np.ndarray = rows @ linear + side.offset @ basis
    return mapped


def _outline(points: np.ndarray, about_origin: bool) -> np.ndarray:
    """Return centre and root of the second moments of points in the plane, shape (5,)."""
    centre = np.zeros(2) if about_origin else points.mean(axis=0)
    away = points - centre
    moments = away.T @ away / len(away)
    # Of a 2 x 2 matrix M >= 0: M^1/2 = (M + det(M)^1/2 I) / (tr M + 2 det(M)^1/2)^1/2.
    edge = math.sqrt(max(0.0, moments[0, 0] * moments[1, 1] - moments[0, 1] ** 2))
    scale = math.sqrt(np.trace(moments) + 2 * edge)
    root = (moments + edge * np.eye(2)) / scale if scale > 0 else moments
    return np.array([*centre, root[0, 0], root[0, 1], root[1, 1]])


def _size(cloud: np.ndarray) -> float:
    """Return the root mean square distance of the points to their mean."""
    return float(np.sqrt(cloud.var(axis=0).sum()))


def _host(rows: Any) -> np.ndarray:
    return np.asarray(to_numpy(rows), dtype=np.float64)


def _take(cloud: Array | None, at: np.ndarray) -> Any:
    return namespace(cloud).take(cloud, asarray_like(at, cloud), axis=0)


def _axes(gap: np.ndarray, ends: Sequence[list[np.ndarray]]) -> np.ndarray:
    """Return the two axes as (2, d); a missing gap gives way to a principal axis."""
    rows, left = (np.vstack([cloud - cloud.mean(axis=0) for cloud in end]) for end in ends)
    length = float(np.linalg.norm(gap))
    size = float(np.abs(rows).max(initial=0.0))
    along = gap / length if length > 1e-9 * max(size, 1e-300) else _first_axis(rows)
    return np.stack([along, _first_axis(left - np.outer(left @ along, along))])


def _first_axis(rows: np.ndarray) -> np.ndarray:
    """Return the first principal axis, its largest entry positive; zeros where nothing varies."""
    sizes, axes = np.linalg.eigh(rows.T @ rows)
    if sizes[-1] <= 1e-24:
        return np.zeros(rows.shape[1])
    axis: np.ndarray = axes[:, -1] * np.sign(axes[np.argmax(np.abs(axes[:, -1])), -1])
    return axis
