"""Certificates: how far anything may move before a decision can change."""

from __future__ import annotations

import numpy as np

from modgap._core.arrays import (
    Array,
    Float,
    as_float64,
    asarray_like,
    block_slices,
    gather_rows,
    namespace,
    normalize_rows,
    row_norms,
)
from modgap._core.checks import check_choice, check_clouds
from modgap._core.memory import halving
from modgap.decisions.metric import Metric, as_metric
from modgap.decisions.neighbors import first_copies, nearest

__all__ = ["certified_radius"]


@halving
def certified_radius(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    *,
    metric: str = "cosine",
    side: str = "gallery",
) -> Float[Array, " m"]:
    """Return the largest r such that no perturbation of norm <= r changes a decision, shape (m,).

    Gallery: every item may move by r, each its own way. Euclidean: (d_2 - d_1) / 2; inner product:
    (s_1 - s_2) / (2 |y|); cosine: the r that turns the decision, of length a, and another item, of length
    b, together by the difference D of their angles to the query, asin(r/a) + asin(r/b) = D, so
    r = a b sin D / |a + b exp(iD)|, and the shorter length where that turns neither far enough;
    for unit rows sin(D / 2). Queries: the distance to the nearest plane between the decision and another
    item. Ties give 0; a gallery of one item gives infinity, and so do queries where all items are
    equal, since the first of equal items wins wherever the query lies.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    metric : {"cosine", "ip", "euclidean"}
    side : {"gallery", "queries"}

    Raises
    ------
    ArgumentError, DataError, ShapeError
        Unknown options; the clouds do not fit.

    Notes
    -----
    Cost: m n d; twice that for cosine and for side="queries". Deterministic, no sampling.

    Examples
    --------
    >>> import numpy as np
    >>> certified_radius(np.array([[0.25]]), np.array([[0.0], [1.0]]), metric="l2").tolist()
    [0.25]
    """
    metric = as_metric(metric)
    check_choice(side, "side", ("gallery", "queries"))
    queries, gallery = check_clouds(queries, gallery, zero_rows=not metric.needs_directions)
    xp = namespace(queries)
    if gallery.shape[0] == 1:
        return xp.full_like(xp.astype(queries[:, 0], xp.float64), float("inf"))
    if side == "queries":
        return _query_radius(queries, gallery, metric)
    if metric.needs_directions:
        return _turned_radius(queries, gallery)
    scores = nearest(queries, gallery, k=2, metric=metric).scores
    margin = xp.abs(scores[:, 1] - scores[:, 0]) / 2
    if metric.is_distance:
        return margin
    norms = row_norms(as_float64(queries))
    safe = xp.where(norms > 0, norms, xp.ones_like(norms))
    return xp.where(norms > 0, margin / safe, xp.zeros_like(norms))


def _turned_radius(queries: Array, gallery: Array) -> Array:
    """Radius under cosine of items, blockwise over queries: every item is a rival, its length counts."""
    xp = namespace(queries)
    decided = nearest(queries, gallery).indices[:, 0]
    items = as_float64(gallery)
    lengths = row_norms(items)
    unit = items / xp.expand_dims(lengths, axis=1)
    every = xp.expand_dims(asarray_like(np.arange(items.shape[0]), decided), axis=0)
    found = []
    for rows in block_slices(queries.shape[0], items.shape[0]):
        y, column = normalize_rows(as_float64(queries[rows, :])), decided[rows]
        cosines = xp.clip(xp.matmul(y, unit.T), min=-1.0, max=1.0)
        own = xp.expand_dims(xp.take_along_axis(cosines, column[:, None], axis=1)[:, 0], axis=1)
        a, b = xp.expand_dims(xp.take(lengths, column), axis=1), xp.expand_dims(lengths, axis=0)
        turn = xp.acos(cosines) - xp.acos(own)
        along = xp.cos(turn)
        far = (a + b * along <= 0) | (
            b + a * along <= 0
        )  # one would have to turn beyond a right angle
        size = xp.sqrt(xp.where(far, a * a, a * a + b * b + 2 * a * b * along))
        shorter = xp.minimum(a + 0 * b, b + 0 * a)
        radius = xp.where(far, shorter, a * b * xp.sin(turn) / size)
        # Cosines this close may be equal ones, differently rounded: no radius is safe but 0.
        radius = xp.where(own - cosines <= 1e-14, xp.zeros_like(radius), radius)
        radius = xp.where(
            xp.expand_dims(column, axis=1) == every, xp.full_like(radius, xp.inf), radius
        )
        found.append(xp.min(radius, axis=1))
    return xp.concat(found)


def _query_radius(queries: Array, gallery: Array, metric: Metric) -> Array:
    """Distance to the nearest bisecting plane, blockwise over queries."""
    xp = namespace(queries)
    decided = nearest(queries, gallery, metric=metric).indices[:, 0]
    copies = first_copies(gallery)
    if copies is not None:  # between two equal items lies no plane
        firsts, place = np.unique(copies[0], return_inverse=True)
        gallery = xp.take(gallery, asarray_like(firsts, decided), axis=0)
        decided = xp.take(asarray_like(place, decided), decided)
    queries, items = as_float64(queries), as_float64(gallery)
    items = metric.prepare(items)
    pivot = xp.mean(items, axis=0)  # only differences of items matter: they keep their digits
    items = items - pivot
    squared = xp.sum(items * items, axis=1)
    if metric.is_distance:
        queries = queries - pivot
    every = xp.expand_dims(asarray_like(np.arange(items.shape[0]), decided), axis=0)
    found = []
    for rows in block_slices(queries.shape[0], items.shape[0]):
        y, column = queries[rows, :], decided[rows]
        own = gather_rows(items, column)
        own_squared = xp.expand_dims(xp.take(squared, column), axis=1)
        ahead = xp.expand_dims(xp.sum(y * own, axis=1), axis=1) - xp.matmul(y, items.T)
        if metric.is_distance:
            ahead = ahead - 0.5 * (own_squared - squared[None, :])
        both = own_squared + squared[None, :]
        between = both - 2 * xp.matmul(own, items.T)
        close = between <= 1e-12 * both  # rounding hides how close: no radius is safe but 0
        width = xp.sqrt(xp.where(close, xp.ones_like(between), between))
        radius = xp.where(close, xp.zeros_like(between), ahead / width)
        same = xp.expand_dims(column, axis=1) == every
        radius = xp.where(same, xp.full_like(radius, xp.inf), radius)
        found.append(xp.clip(xp.min(radius, axis=1), min=0.0))
    return xp.concat(found)
