"""Nearest gallery items, blockwise: decisions, top-k and margins, never an (m, n) array at once.

Every metric is reduced to the largest inner product (`Metric.search_form`), so a search costs one
matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from modgap._core import copies
from modgap._core.arrays import (
    Array,
    Float,
    as_float64,
    asarray_like,
    block_slices,
    cache_elements,
    device,
    device_elements,
    dtype_eps,
    gather_rows,
    is_numpy_array,
    longest_row,
    namespace,
    row_norms,
    stack_rows,
    working_float,
)
from modgap._core.checks import (
    check_cloud,
    check_clouds,
    check_count,
    check_same_width,
)
from modgap._core.memory import halving
from modgap.decisions.choices import check_present
from modgap.decisions.metric import INNER_PRODUCT, Metric, as_metric
from modgap.decisions.top_k import top_k
from modgap.errors import ShapeError

__all__ = ["Neighbors", "first_copies", "margins", "nearest", "nearest_candidates"]

_QUERY_BLOCK = 2048
_DEVICE_QUERY_BLOCK = 8192
_SCORE_ELEMENTS = 8 * 1024 * 1024
#: Tells the rows of one query from equal ones of another, modulo 2^64.
_ODD = np.int64(0x5851F42D4C957F2D)
#: Items found beyond the k asked for, among which float64 scores settle what rounding left open.
_SPARE = 3


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
    *,
    k: int = 1,
    metric: str = "cosine",
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
    metric : {"cosine", "ip", "euclidean"}

    Raises
    ------
    DataError, ShapeError, ArgumentError
        The clouds do not fit together, hold NaN, have zero rows under cosine, or k is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> found = nearest(np.array([[0.9, 0.1]]), np.eye(2), k=2)
    >>> found.indices.tolist(), found.scores.round(3).tolist()
    ([[0, 1]], [[0.994, 0.11]])
    """
    metric = as_metric(metric)
    queries, gallery = check_clouds(queries, gallery, zero_rows=not metric.needs_directions)
    check_count(k, "k", high=gallery.shape[0])
    return search(queries, gallery, k, metric)


@halving
def nearest_candidates(
    queries: Float[Array, "m d"],
    candidates: Float[Array, "m c d"],
    *,
    k: int = 1,
    metric: str = "cosine",
    present: np.ndarray | None = None,
) -> Neighbors:
    """Return the k nearest of each query's own candidates. Cost: m c d.

    Parameters
    ----------
    queries : array (m, d), floating
    candidates : array (m, c, d), floating
    k : int
        1 <= k <= c.
    metric : {"cosine", "ip", "euclidean"}
    present : ndarray (m, c) of bool, optional
        Which candidates are there; the others come last, with the worst score there is.

    Raises
    ------
    DataError, ShapeError, ArgumentError
        As for `nearest`; also where the number of candidate sets differs from that of queries.
    """
    metric = as_metric(metric)
    queries, candidates = check_candidates(
        queries, candidates, zero_rows=not metric.needs_directions
    )
    check_count(k, "k", high=candidates.shape[1])
    there = check_present(present, candidates.shape)
    xp = namespace(queries)
    worst = -xp.inf if metric.largest_first else xp.inf
    found = []
    for rows in block_slices(queries.shape[0], candidates.shape[1] * candidates.shape[2]):
        block = metric.pair_scores(queries[rows, :], candidates[rows, :, :])
        if there is not None:
            own = asarray_like(there[rows], block)
            block = xp.where(own, block, xp.full_like(block, worst))
        order = xp.argsort(block, axis=1, descending=metric.largest_first, stable=True)[:, :k]
        found.append((order, xp.take_along_axis(block, order, axis=1)))
    return Neighbors(*(xp.concat(part, axis=0) for part in zip(*found, strict=True)))


def margins(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    *,
    metric: str = "cosine",
) -> Float[Array, " m"]:
    """Return how far ahead each query's nearest item is of the second, shape (m,), float64, >= 0.

    In units of the metric: difference of distances, of inner products, or of cosines. Infinite
    where the gallery has one item, since nothing can overtake it.
    """
    metric = as_metric(metric)
    queries, gallery = check_clouds(queries, gallery, zero_rows=not metric.needs_directions)
    xp = namespace(queries)
    if gallery.shape[0] == 1:
        return xp.full_like(as_float64(queries[:, 0]), xp.inf)
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


def first_copies(gallery: Array) -> np.ndarray | None:
    """Return, per item, the lowest index of an equal one (of the same query); None if all differ.

    Copies tie whatever the noise on the queries, but products round them apart. Shape (1, n), or (m, c)
    where each query has its own candidates.
    """
    xp, items = namespace(gallery), int(gallery.shape[-2])
    flat = xp.reshape(gallery, (-1, gallery.shape[-1]))
    keys = copies.row_keys(flat)
    owner = np.arange(keys.size) // items
    keys += owner * _ODD  # equal rows of two queries are no copies
    found = copies.first_copies(flat, keys).reshape(-1, items) - owner.reshape(-1, items) * items
    return None if (found == np.arange(items)).all() else found


def _item_scores(queries: Array, gallery: Array, indices: Array, metric: Metric) -> Array:
    """Return the scores of each query's items at `indices` (q, k), in float64."""
    xp = namespace(queries)
    found = []
    for rows in block_slices(
        queries.shape[0], indices.shape[1] * gallery.shape[1], elements=cache_elements(queries)
    ):
        items = gather_rows(gallery, indices[rows, :])
        found.append(metric.pair_scores(queries[rows, :], items))
    return xp.concat(found, axis=0)


@halving
def search(queries: Array, gallery: Array, k: int, metric: Metric) -> Neighbors:
    """Return what `nearest` does, for arrays that were checked before."""
    xp = namespace(queries)
    pivot = xp.mean(working_float(gallery[: min(4096, gallery.shape[0]), :]), axis=0)
    found = []
    block_rows = _QUERY_BLOCK if is_numpy_array(queries) else _DEVICE_QUERY_BLOCK
    for rows in block_slices(queries.shape[0], 1, elements=block_rows):
        block = queries[rows, :]
        form = _search_form(block, metric, pivot, side="queries")
        values, indices, slack = _search_block(form, gallery, k + _SPARE, metric, pivot)
        settled = _settle(block, gallery, [indices], k, metric)
        if indices.shape[1] < gallery.shape[0]:
            floor = values[:, k - 1] - slack
            undecided = values[:, -1] >= floor  # more items tie than were looked at
            (some,) = xp.nonzero(undecided)
            if some.shape[0]:
                block, form, floor, kept = (
                    xp.take(part, some, axis=0) for part in (block, form, floor, indices)
                )
                first = _search_block(form, gallery, k, metric, pivot, floor=floor)[1]
                again = _settle(block, gallery, [kept, first], k, metric)
                (rest,) = xp.nonzero(~undecided)
                order = xp.argsort(xp.concat([rest, some]))
                settled = tuple(
                    xp.take(xp.concat([xp.take(old, rest, axis=0), new]), order, axis=0)
                    for old, new in zip(settled, again, strict=True)
                )
        found.append(settled)
    return Neighbors(*(xp.concat(part, axis=0) for part in zip(*found, strict=True)))


def _settle(
    queries: Array, gallery: Array, indices: list[Array], k: int, metric: Metric
) -> tuple[Array, Array]:
    """Return the k best of the items found, by float64 scores; ties go to the lower index."""
    xp = namespace(queries)
    every = xp.sort(xp.concat(indices, axis=1), axis=1)
    scores = _item_scores(queries, gallery, every, metric)
    if len(indices) > 1:  # an item that both searches found counts once
        again = xp.concat([every[:, :1] < 0, every[:, 1:] == every[:, :-1]], axis=1)
        worst = -xp.inf if metric.largest_first else xp.inf
        scores = xp.where(again, xp.full_like(scores, worst), scores)
    order = xp.argsort(scores, axis=1, descending=metric.largest_first, stable=True)[:, :k]
    return xp.take_along_axis(every, order, axis=1), xp.take_along_axis(scores, order, axis=1)


def _search_block(
    queries: Array,
    gallery: Array,
    k: int,
    metric: Metric,
    pivot: Array,
    *,
    floor: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Return scores and indices (q, min(k, n)) of the best items, and a bound of the rounding (q,).

    Goes through gallery blocks. With `floor` (q,), the items are those of lowest index that reach it.
    """
    xp = namespace(queries)
    k = min(k, gallery.shape[0])
    best_scores = best_indices = None
    longest = 0.0
    for start, block in _gallery_blocks(gallery, queries.shape[0], metric, pivot):
        scores = xp.matmul(queries, block.T)
        if floor is None:
            longest = max(longest, longest_row(block))
        else:
            place = -as_float64(xp.arange(start, start + block.shape[0], device=device(block)))
            reached = scores >= xp.expand_dims(floor, axis=1)
            scores = xp.where(reached, place[None, :], xp.full_like(place, -xp.inf)[None, :])
        above = None
        if best_scores is not None and best_scores.shape[1] == k:
            above = best_scores[:, -1]
        values, columns = top_k(scores, min(k, block.shape[0]), above=above)
        columns = columns + start
        if best_scores is None:
            best_scores, best_indices = values, columns
            continue
        values = xp.concat([best_scores, values], axis=1)
        columns = xp.concat([best_indices, columns], axis=1)
        best_scores, order = top_k(values, min(k, values.shape[1]))
        best_indices = xp.take_along_axis(columns, order, axis=1)
    rounding = dtype_eps(queries) * math.sqrt(queries.shape[1]) * longest
    return best_scores, best_indices, rounding * row_norms(queries)


def _gallery_blocks(
    gallery: Array, queries: int, metric: Metric, pivot: Array
) -> Iterator[tuple[int, Array]]:
    elements = device_elements(gallery, _SCORE_ELEMENTS)
    for rows in block_slices(gallery.shape[0], max(queries, 512), elements=elements):
        yield rows.start, _search_form(gallery[rows, :], metric, pivot, side="gallery")


def _search_form(rows: Array, metric: Metric, pivot: Array, *, side: str) -> Array:
    """Return rows whose inner product orders as the metric does."""
    rows = working_float(rows)
    if metric is INNER_PRODUCT:  # as they are, without a copy
        return rows
    parts = block_slices(*rows.shape, elements=cache_elements(rows))
    forms = (metric.search_form(rows[part, :], pivot, side) for part in parts)
    return stack_rows(forms, rows.shape[0])
