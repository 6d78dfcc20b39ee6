"""Rows that are equal to the last bit: found by hashing, and compared before they are called copies."""

from __future__ import annotations

import numpy as np

from modgap._core.arrays import (
    Array,
    asarray_like,
    block_slices,
    bytes_as_integers,
    gather_rows,
    namespace,
    to_numpy,
)

__all__ = ["first_copies", "in_both", "row_keys"]


def row_keys(x: Array) -> np.ndarray:
    """Return a 64-bit hash of each row of `x` (n, d), shape (n,), the same for equal rows.

    The sum of the words times random odd numbers, modulo 2^64; cost n d. Rows stay on their device.
    """
    xp, width = namespace(x), int(x.shape[1])
    odd = np.random.default_rng(0).integers(-(2**62), 2**62, size=width) * 2 + 1
    factors = asarray_like(odd, x)
    keys = np.empty(int(x.shape[0]), dtype=np.int64)
    for rows in block_slices(*x.shape):
        keys[rows] = to_numpy(xp.sum(_words(x[rows, :]) * factors, axis=1))
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


def _words(rows: Array) -> Array:
    """Return the rows' bits as 64-bit words, mixed so that no bits of a float stay idle."""
    xp = namespace(rows)
    words = bytes_as_integers(rows + 0.0)  # -0 becomes 0
    high = xp.bitwise_right_shift(words, xp.full_like(words, 29))
    return xp.bitwise_xor(words, xp.bitwise_and(high, xp.full_like(words, 2**35 - 1)))


def _equal(a: Array, rows: np.ndarray, b: Array, others: np.ndarray) -> np.ndarray:
    """Return whether a[rows] and b[others] are equal row by row."""
    same = np.empty(rows.size, dtype=bool)
    for part in block_slices(rows.size, int(a.shape[1])):
        left, right = (
            gather_rows(x, asarray_like(picked[part], x)) for x, picked in ((a, rows), (b, others))
        )
        same[part] = to_numpy(namespace(left).all(left == right, axis=1))
    return same
