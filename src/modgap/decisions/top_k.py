"""The k largest values of each row, on every array library; on NumPy without sorting the rest."""

from __future__ import annotations

import numpy as np

from modgap._core.arrays import (
    Array,
    block_slices,
    cache_elements,
    is_jax_array,
    is_numpy_array,
    is_torch_array,
    namespace,
)

__all__ = ["top_k"]

# Columns below which sorting whole rows is the fastest way to their largest values.
_FEW_COLUMNS = 64


def top_k(x: Array, k: int, *, above: Array | None = None) -> tuple[Array, Array]:
    """Return the k largest values of each row and their columns, both (m, k), largest first.

    With `above` (m,), values up to it are of no interest and may come back as -inf at column 0. The
    standard has no top-k; libraries that have one use it.
    """
    xp = namespace(x)
    if is_torch_array(x):
        values, columns = x.topk(k, dim=1)
        return values, columns
    if is_jax_array(x):
        import jax

        values, columns = jax.lax.top_k(x, k)
        return values, columns.astype(int)  # it counts in int32
    if is_numpy_array(x) and x.shape[1] >= _FEW_COLUMNS:
        return _numpy_top_k(x, k, above)
    columns = xp.argsort(x, axis=1, descending=True, stable=True)[:, :k]
    return xp.take_along_axis(x, columns, axis=1), columns


def _numpy_top_k(
    x: np.ndarray, k: int, above: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    values = np.empty((x.shape[0], k), dtype=x.dtype)
    columns = np.empty((x.shape[0], k), dtype=np.int64)
    find = _repeated_maximum if k <= 4 and x.flags.writeable else _top_k_of_block
    for part in block_slices(*x.shape, elements=cache_elements(x)):
        if above is None:
            values[part], columns[part] = find(x[part], k)
        else:
            inside = ~(x[part] <= above[part, None])  # NaN stays in, and sorts last
            values[part], columns[part] = _largest_inside(x[part], inside, k)
    return values, columns


def _repeated_maximum(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k largest of each row in k passes, each hiding what the last one found."""
    rows = np.arange(x.shape[0])
    columns = np.empty((x.shape[0], k), dtype=np.int64)
    values = np.empty((x.shape[0], k), dtype=x.dtype)
    for place in range(k):
        columns[:, place] = np.argmax(x, axis=1)
        values[:, place] = x[rows, columns[:, place]]
        x[rows, columns[:, place]] = -np.inf
    for place in range(k):
        x[rows, columns[:, place]] = values[:, place]
    return values, columns


def _top_k_of_block(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k largest of each row among all that reach the k-th largest group maximum.

    At least k entries of a row do, and of random ones few more. Groups are strided, so that their
    maxima come from whole-row operations; ties stay in, and fall to the first column.
    """
    best = x
    while best.shape[1] >= max(_FEW_COLUMNS, 4 * k):
        half = best.shape[1] // 2  # leaving out an odd last column can only lower the bar
        best = np.maximum(best[:, :half], best[:, half : 2 * half])
    cut = best.shape[1] - k
    least = np.partition(best, cut, axis=1)[:, cut, None]
    return _largest_inside(x, ~(x < least), k)  # NaN stays in here too


def _largest_inside(x: np.ndarray, inside: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k largest of each row among few; -inf in column 0 where there are fewer than k."""
    rows, width = x.shape
    row, column = np.divmod(np.flatnonzero(inside), width)
    value = x[row, column]
    order = np.lexsort((-value, row))  # stable, so columns stay in order where values tie
    ends = np.searchsorted(row, np.arange(rows + 1))
    place = ends[:-1, None] + np.arange(k)
    there = place < ends[1:, None]
    chosen = order[place[there]]
    values = np.full((rows, k), -np.inf, dtype=x.dtype)
    columns = np.zeros((rows, k), dtype=np.int64)
    values[there], columns[there] = value[chosen], column[chosen]
    return values, columns
