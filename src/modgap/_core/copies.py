"""Rows that are equal to the last bit: found by hashing, and compared before they are called copies."""

from __future__ import annotations

import numpy as np

from modgap._core.arrays import Array, asarray_like, block_slices, gather_rows, to_numpy

__all__ = ["first_copies", "in_both", "row_keys"]


def row_keys(x: Array) -> np.ndarray:
    """Return a 64-bit hash of each row of `x` (n, d), shape (n,), the same for equal rows.

    The sum of the words times random odd numbers, modulo 2^64; cost n d.
    """
    width = int(x.shape[1])
    odd = np.random.default_rng(0).integers(0, 2**63, size=2 * width, dtype=np.uint64) * 2 + 1
    keys = np.empty(int(x.shape[0]), dtype=np.uint64)
    for rows in block_slices(*x.shape):
        words = _words(to_numpy(x[rows, :]))
        keys[rows] = (words * odd[: words.shape[1]]).sum(axis=1, dtype=np.uint64)
    return keys


def first_copies(x: Array, keys: np.ndarray | None = None) -> np.ndarray:
    """Return, for each row of `x` (n, d), the lowest index of an equal one, shape (n,), int64.

    Zeros of either sign are equal. Cost n d.
    """
    keys = row_keys(x) if keys is None else keys
    first = np.arange(keys.size)
    order = np.argsort(keys, kind="stable")
    (at,) = np.nonzero(keys[order[1:]] == keys[order[:-1]])
    if not at.size:
        return first
    copies = at[_equal(x, order[at], x, order[at + 1])]
    new = np.ones(keys.size, dtype=bool)
    new[copies + 1] = False  # a run of equal rows goes on
    first[order] = order[np.maximum.accumulate(np.where(new, first, 0))]
    return first


def in_both(a: Array, b: Array, keys: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return which rows of `a` (m, d) are also rows of `b` (n, d), shape (m,), given both hashes."""
    order = np.argsort(keys[1], kind="stable")
    place = np.minimum(np.searchsorted(keys[1][order], keys[0]), order.size - 1)
    partner = order[place]
    found: np.ndarray = keys[1][partner] == keys[0]
    (rows,) = np.nonzero(found)
    found[rows] = _equal(a, rows, b, partner[rows])
    return found


def _words(host: np.ndarray) -> np.ndarray:
    """Return the rows' bits as 64-bit words, mixed so that no bits of a float stay idle."""
    if host.dtype.itemsize < 4:
        host = host.astype(np.float32)
    host = np.ascontiguousarray(host + 0)  # -0 becomes 0
    bits = np.uint32 if host.dtype.itemsize == 4 else np.uint64
    words: np.ndarray = host.view(bits).astype(np.uint64)
    words ^= words >> np.uint64(29)
    return words


def _equal(a: Array, rows: np.ndarray, b: Array, others: np.ndarray) -> np.ndarray:
    """Return whether a[rows] and b[others] are equal row by row."""
    same = np.empty(rows.size, dtype=bool)
    for part in block_slices(rows.size, int(a.shape[1])):
        left, right = (
            to_numpy(gather_rows(x, asarray_like(picked[part], x)))
            for x, picked in ((a, rows), (b, others))
        )
        same[part] = (left == right).all(axis=1)
    return same
