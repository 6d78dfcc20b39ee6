"""Nearest gallery items, blockwise: decisions, top-k and margins, never an (m, n) array at once.

Every metric is reduced to the largest inner product. Euclidean distance needs one more coordinate
for that: |y - x|^2 = |y|^2 - 2 (y, 1).(x, -|x|^2 / 2), so its search costs one matrix product too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modgap._arrays import (
    Array,
    as_float64,
    block_slices,
    cache_elements,
    gather_rows,
    namespace,
    normalize_rows,
    top_k,
    working_float,
)
from modgap._validate import check_cloud, check_clouds, check_count, check_metric, check_same_width
from modgap.errors import ShapeError

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Neighbors", "margins", "nearest", "nearest_candidates"]

_QUERY_BLOCK = 2048
_SCORE_ELEMENTS = 8 * 1024 * 1024


@dataclass(frozen=True)
class Neighbors:
    """The k nearest items of each query, nearest first.

    Attributes
    ----------
    indices : array (m, k), int64
        Rows of the gallery (or positions among a query's own candidates).
    scores : array (m, k), float64
        Euclidean distances (smallest first), inner products or cosines (largest first).
    """

    indices: Array
    scores: Array


def nearest(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    /,
    *,
    k: int = 1,
    metric: str = "euclidean",
) -> Neighbors:
    """Return the k nearest gallery items of each query. Cost: m n d, memory O(block).

    The search runs in the dtype of the input (float32 for half floats); the scores of the k items
    found are computed again in float64, and put them in order. Ties go to the lower index.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    k : int
        1 <= k <= n.
    metric : {"euclidean", "ip", "cosine"}

    Raises
    ------
    DataError, ShapeError, ArgumentError
        The clouds do not fit together, hold NaN, have zero rows under cosine, or k is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> found = nearest(np.array([[0.9, 0.1]]), np.eye(2), k=2)
    >>> found.indices.tolist(), found.scores.round(3).tolist()
    ([[0, 1]], [[0.141, 1.273]])
    """
    check_metric(metric)
    queries, gallery = check_clouds(queries, gallery, zero_rows=metric != "cosine")
    check_count(k, "k", high=gallery.shape[0])
    return _search(queries, gallery, k, metric)


def nearest_candidates(
    queries: Float[Array, "m d"],
    candidates: Float[Array, "m c d"],
    /,
    *,
    k: int = 1,
    metric: str = "euclidean",
) -> Neighbors:
    """Return the k nearest of each query's own candidates. Cost: m c d.

    Raises
    ------
    DataError, ShapeError, ArgumentError
        As for `nearest`; also where the number of candidate sets differs from that of queries.
    """
    check_metric(metric)
    queries, candidates = check_candidates(queries, candidates, zero_rows=metric != "cosine")
    check_count(k, "k", high=candidates.shape[1])
    xp = namespace(queries)
    found = []
    for rows in block_slices(queries.shape[0], candidates.shape[1] * candidates.shape[2]):
        block = pair_scores(queries[rows, :], candidates[rows, :, :], metric)
        sign = -1.0 if metric == "euclidean" else 1.0
        values, columns = top_k(sign * block, k)
        found.append((columns, sign * values))
    return Neighbors(*(xp.concat(part, axis=0) for part in zip(*found, strict=True)))


def margins(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    /,
    *,
    metric: str = "euclidean",
) -> Float[Array, " m"]:
    """Return how far ahead each query's nearest item is of the second, shape (m,), float64, >= 0.

    In units of the metric: difference of distances, of inner products, or of cosines. Infinite
    where the gallery has one item, since nothing can overtake it.
    """
    check_metric(metric)
    queries, gallery = check_clouds(queries, gallery, zero_rows=metric != "cosine")
    xp = namespace(queries)
    if gallery.shape[0] == 1:
        return xp.full((queries.shape[0],), xp.inf, dtype=xp.float64)
    scores = nearest(queries, gallery, k=2, metric=metric).scores
    return xp.abs(scores[:, 1] - scores[:, 0])


def check_candidates(
    queries: Array, candidates: Array, *, zero_rows: bool = True
) -> tuple[Array, Array]:
    """Return both arrays if every query has one set of candidates of its width."""
    queries = check_cloud(queries, "queries", zero_rows=zero_rows)
    candidates = check_cloud(candidates, "candidates", zero_rows=zero_rows, ndim=3)
    check_same_width(queries, "queries", candidates, "candidates")
    if candidates.shape[0] != queries.shape[0]:
        raise ShapeError(
            "`candidates` must hold one set per query, shape (m, c, d); got "
            f"{tuple(candidates.shape)} for {queries.shape[0]} queries"
        )
    return queries, candidates


def pair_scores(queries: Array, items: Array, metric: str) -> Array:
    """Return the scores of each query's own items, queries (m, d), items (m, k, d), in float64."""
    xp = namespace(queries)
    queries = xp.expand_dims(as_float64(queries), axis=1)
    items = as_float64(items)
    if metric == "euclidean":
        step = items - queries
        return xp.sqrt(xp.sum(step * step, axis=-1))
    if metric == "cosine":
        queries, items = normalize_rows(queries), normalize_rows(items)
    return xp.sum(items * queries, axis=-1)


def _item_scores(queries: Array, gallery: Array, indices: Array, metric: str) -> Array:
    """Return the scores of each query's items at `indices` (q, k), in float64."""
    xp = namespace(queries)
    found = []
    for rows in block_slices(
        queries.shape[0], indices.shape[1] * gallery.shape[1], elements=cache_elements(queries)
    ):
        items = gather_rows(gallery, indices[rows, :])
        found.append(pair_scores(queries[rows, :], items, metric))
    return xp.concat(found, axis=0)


def _search(queries: Array, gallery: Array, k: int, metric: str) -> Neighbors:
    xp = namespace(queries)
    pivot = xp.mean(working_float(gallery[: min(4096, gallery.shape[0]), :]), axis=0)
    found = []
    for rows in block_slices(queries.shape[0], 1, elements=_QUERY_BLOCK):
        block = queries[rows, :]
        indices = _search_block(block, gallery, k, metric, pivot)
        scores = _item_scores(block, gallery, indices, metric)
        if k > 1:  # float64 scores settle what rounding left open
            order = xp.argsort(scores, axis=1, descending=metric != "euclidean", stable=True)
            indices = xp.take_along_axis(indices, order, axis=1)
            scores = xp.take_along_axis(scores, order, axis=1)
        found.append((indices, scores))
    return Neighbors(*(xp.concat(part, axis=0) for part in zip(*found, strict=True)))


def _search_block(queries: Array, gallery: Array, k: int, metric: str, pivot: Array) -> Array:
    """Return the indices (q, k) of the best items, best first, going through gallery blocks."""
    xp = namespace(queries)
    queries = _search_form(queries, metric, pivot, side="queries")
    best_scores = best_indices = None
    for start, block in _gallery_blocks(gallery, queries.shape[0], metric, pivot):
        values, columns = top_k(xp.matmul(queries, block.T), min(k, block.shape[0]))
        columns = columns + start
        if best_scores is None:
            best_scores, best_indices = values, columns
            continue
        values = xp.concat([best_scores, values], axis=1)
        columns = xp.concat([best_indices, columns], axis=1)
        best_scores, order = top_k(values, min(k, values.shape[1]))
        best_indices = xp.take_along_axis(columns, order, axis=1)
    return best_indices


def _gallery_blocks(
    gallery: Array, queries: int, metric: str, pivot: Array
) -> Iterator[tuple[int, Array]]:
    for rows in block_slices(gallery.shape[0], max(queries, 512), elements=_SCORE_ELEMENTS):
        yield rows.start, _search_form(gallery[rows, :], metric, pivot, side="gallery")


def _search_form(rows: Array, metric: str, pivot: Array, *, side: str) -> Array:
    """Return rows whose inner product orders as the metric does."""
    xp = namespace(rows)
    rows = working_float(rows)
    if metric == "ip":
        return rows
    if metric == "cosine":
        return normalize_rows(rows)
    rows = rows - pivot  # distances stay, and no digits are lost to a common offset
    if side == "queries":
        last = xp.ones_like(rows[:, :1])
    else:
        last = -0.5 * xp.sum(rows * rows, axis=1, keepdims=True)
    return xp.concat([rows, last], axis=1)
