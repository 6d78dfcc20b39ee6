"""Candidates of which queries have different numbers: one padded array, and a table of which are there.

Padding is a copy of the query's own first candidate, so that every row has a direction, lies where rows
lie, and widens no range; it never wins, and no statistic counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap._core.arrays import Array, asarray_like, namespace
from modgap._core.checks import check_cloud, check_indices
from modgap.errors import ShapeError

__all__ = ["as_candidates", "check_present", "lay_out", "present_rows"]


def as_candidates(candidates: Any, counts: Any = None) -> tuple[Array, np.ndarray | None]:
    """Return candidates as an array (m, c, d), and which of them are there, shape (m, c); None if all are.

    Parameters
    ----------
    candidates : array (m, c, d), or sequence of m arrays (c_i, d)
    counts : array (m,), integers, optional
        Of an array, how many of each query's candidates are there; the rest is padding of any values.

    Raises
    ------
    DataError, ShapeError
        The arrays do not fit together, or a query has no candidate.
    """
    if not isinstance(candidates, list | tuple):
        if counts is None:
            return candidates, None
        candidates = check_cloud(candidates, "candidates", finite=False, ndim=3)
        rows, most = int(candidates.shape[0]), int(candidates.shape[1])
        found = check_indices(counts, "counts", rows=rows, below=most + 1, low=1)
        present = np.arange(most) < found[:, None]
        return lay_out(present_rows(candidates, present), present), _unless_all(present)
    if counts is not None:
        raise ShapeError("`counts` belong to an array of candidates; a list says itself how many")
    if not candidates:
        raise ShapeError("`candidates` must hold one array for each query; got none")
    each = [check_cloud(own, f"candidates[{i}]") for i, own in enumerate(candidates)]
    xp = namespace(*each)
    widths = {int(own.shape[1]) for own in each}
    if len(widths) > 1:
        raise ShapeError(f"`candidates` must share their last axis; got widths {sorted(widths)}")
    sizes = np.array([int(own.shape[0]) for own in each])
    present = np.arange(sizes.max()) < sizes[:, None]
    return lay_out(xp.concat(each, axis=0), present), _unless_all(present)


def _unless_all(present: np.ndarray) -> np.ndarray | None:
    return None if present.all() else present


def present_rows(gallery: Array, present: np.ndarray | None) -> Array:
    """Return the candidates that are there as one cloud (n, d), query by query."""
    xp = namespace(gallery)
    flat = xp.reshape(gallery, (-1, gallery.shape[-1]))
    if present is None:
        return flat
    return xp.take(flat, asarray_like(np.flatnonzero(present), gallery), axis=0)


def lay_out(rows: Array, present: np.ndarray) -> Array:
    """Return what `present_rows` took as an array (m, c, d), padded with each query's first."""
    first = np.cumsum(present.sum(axis=1)) - present.sum(axis=1)
    place = np.repeat(first[:, None], present.shape[1], axis=1)
    place[present] = np.arange(int(present.sum()))
    xp = namespace(rows)
    flat = xp.take(rows, asarray_like(place.reshape(-1), rows), axis=0)
    return xp.reshape(flat, (*present.shape, rows.shape[-1]))


def check_present(present: Any, shape: Sequence[int]) -> np.ndarray | None:
    """Return a table of which candidates are there if it fits, and every query has one, its first.

    Raises
    ------
    ShapeError
        It does not.
    """
    if present is None:
        return None
    table = np.asarray(present)
    if table.shape != tuple(shape[:2]) or table.dtype != np.bool_ or not table[:, 0].all():
        raise ShapeError(
            f"`present` must be of bools, shape {tuple(shape[:2])}, with every query's first candidate "
            f"there; got {table.dtype} {table.shape}"
        )
    return table
