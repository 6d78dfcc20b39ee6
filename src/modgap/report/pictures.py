"""The picture of a closure: both clouds along the gap and across it, before closing and after."""

from __future__ import annotations

from typing import Any

import numpy as np

from modgap._core.arrays import Array, asarray_like, namespace, to_numpy
from modgap.closers.closure import Closure
from modgap.closers.mixed import MixedClosure, by_modality
from modgap.closers.statistics import Statistics
from modgap.decisions.metric import INNER_PRODUCT

__all__ = ["clouds"]

_NAMES = ("queries", "gallery")


def clouds(
    stats: Statistics,
    closure: Closure,
    *,
    most: int,
    seed: int,
    kinds: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return both clouds in two coordinates, before closing and after, at most so many points each.

    x runs along the gap; y along the first principal axis of what remains of both clouds, each about
    its own mean, at right angles to the gap. The gallery's mean is the origin of both pictures. By
    inner product a shift of the whole gallery changes no answer: it is drawn where it lies nearest to
    the queries, as it was stored or where the query map takes it. `kinds` are the modalities of the
    gallery's rows where each has a map of its own.
    """
    rng = np.random.default_rng(seed)
    chosen = [
        np.sort(rng.permutation(cloud.shape[0])[:most])  # type: ignore[union-attr]
        for cloud in (stats.query_rows, stats.gallery_rows)
    ]  # of the prepared rows: under cosine of unit length
    rows = [
        _rows(cloud, at)
        for cloud, at in zip((stats.query_rows, stats.gallery_rows), chosen, strict=True)
    ]
    before = [np.asarray(to_numpy(cloud), dtype=np.float64) for cloud in rows]
    if isinstance(closure, MixedClosure) and kinds is not None:
        items = by_modality(closure.galleries, rows[1], kinds[chosen[1]])
    else:
        items = closure.gallery(rows[1])
    mapped = (closure.queries(rows[0]), items)
    after = [np.asarray(to_numpy(cloud), dtype=np.float64) for cloud in mapped]
    if closure.comparison == INNER_PRODUCT and closure.bound is not None:
        after[1] = _nearest(after, np.asarray(to_numpy(closure.queries(rows[1])), np.float64))
    axes = _axes(stats.gap, before, after)
    origins = (stats.gallery_mean, after[1].mean(axis=0))
    return {
        "before": _points(before, origins[0], axes),
        "after": _points(after, origins[1], axes),
        "stretch": _size(after[0]) / _size(before[0]) if _size(before[0]) > 0 else 1.0,
        "shown": dict(zip(_NAMES, (len(cloud) for cloud in before), strict=True)),
        "of": {"queries": stats.query_count, "gallery": stats.gallery.count},
    }


def _size(cloud: np.ndarray) -> float:
    """Return the root mean square distance of the points to their mean."""
    return float(np.sqrt(cloud.var(axis=0).sum()))


def _rows(cloud: Array | None, at: np.ndarray) -> Any:
    return namespace(cloud).take(cloud, asarray_like(at, cloud), axis=0)


def _nearest(after: list[np.ndarray], moved: np.ndarray) -> np.ndarray:
    """Return the mapped gallery at its own mean, or at that of the gallery under the query map."""
    mean = after[0].mean(axis=0)
    own, other = after[1].mean(axis=0), moved.mean(axis=0)
    if np.linalg.norm(mean - own) <= np.linalg.norm(mean - other):
        return after[1]
    shifted: np.ndarray = after[1] - own + other
    return shifted


def _axes(gap: np.ndarray, before: list[np.ndarray], after: list[np.ndarray]) -> np.ndarray:
    """Return the two axes as (2, d); a missing gap gives way to a principal axis."""
    rows = np.vstack([cloud - cloud.mean(axis=0) for cloud in before])
    left = np.vstack([cloud - cloud.mean(axis=0) for cloud in after])
    length = float(np.linalg.norm(gap))
    size = float(np.abs(rows).max(initial=0.0))
    along = gap / length if length > 1e-9 * max(size, 1e-300) else _first_axis(rows)
    return np.stack([along, _first_axis(left - np.outer(left @ along, along))])


def _first_axis(rows: np.ndarray) -> np.ndarray:
    """Return the first principal axis, its largest entry positive; zeros where nothing varies."""
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    if sizes[0] <= 1e-12:
        return np.zeros(rows.shape[1])
    axis: np.ndarray = axes[0] * np.sign(axes[0][np.argmax(np.abs(axes[0]))])
    return axis


def _points(
    pair: list[np.ndarray], origin: np.ndarray, axes: np.ndarray
) -> dict[str, list[list[float]]]:
    return {
        name: np.round((cloud - origin) @ axes.T, 5).tolist()
        for name, cloud in zip(_NAMES, pair, strict=True)
    }
