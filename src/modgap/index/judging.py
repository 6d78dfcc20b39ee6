"""Counting what a search found: shares of the exact answers, after rescoring too, and right answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["bare_scores", "right_among", "share_found", "shares_by_depth"]

#: Values of candidates' rows that are held at once: 32 MiB of float32.
_ELEMENTS = 8 * 1024 * 1024


def share_found(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return for each query the share of its true rows (m, k) among those found (m, c), (m,)."""
    width = 1 + max(int(truth.max(initial=0)), int(found.max(initial=0)))
    base = np.arange(len(truth), dtype=np.int64)[:, None] * width
    there = np.isin(truth + base, (found + base)[found >= 0])
    return np.asarray(there.mean(axis=1))


def bare_scores(queries: np.ndarray, gallery: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the inner product of each query with the rows found for it, (m, c); -inf for none."""
    scores = np.empty(found.shape, dtype=np.float32)
    block = max(1, _ELEMENTS // (found.shape[1] * gallery.shape[1]))
    for first in range(0, len(queries), block):
        part = slice(first, first + block)
        rows = gallery[np.maximum(found[part], 0)]
        scores[part] = np.matmul(rows, queries[part, :, None])[:, :, 0]
    scores[found < 0] = -np.inf
    return scores


def shares_by_depth(
    truth: np.ndarray,
    found: np.ndarray,
    scores: np.ndarray | None,
    depths: Sequence[int],
    factor: int = 1,
) -> dict[str, np.ndarray]:
    """Return by depth k the share found of the exact k, each (m,).

    With a factor over 1 the first `factor` k candidates are put in the order of their exact scores, and
    the first k of them count: what engines call oversampling and rescoring.

    Parameters
    ----------
    truth : ndarray (m, K)
        Exact answers, best first.
    found : ndarray (m, c)
        What the index found, best first; -1 where it found fewer.
    scores : ndarray (m, c) or None
        Exact scores of what was found; needed for a factor over 1.
    depths : sequence of int
        Each at most K.
    factor : int
    """
    by_depth = {}
    for k in depths:
        first = found[:, : factor * k]
        if factor > 1 and scores is not None:
            order = np.argsort(-scores[:, : factor * k], axis=1, kind="stable")[:, :k]
            first = np.take_along_axis(first, order, axis=1)
        by_depth[str(k)] = share_found(truth[:, :k], first[:, :k])
    return by_depth


def right_among(
    found: np.ndarray, labels: np.ndarray, items: np.ndarray, depths: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return by depth whether one of the first k found has the query's label, as 0 and 1, each (m,).

    Parameters
    ----------
    found : ndarray (m, c)
    labels : ndarray (m,)
    items : ndarray (n,)
        Labels of the gallery's rows.
    depths : sequence of int
    """
    same = (items[np.maximum(found, 0)] == labels[:, None]) & (found >= 0)
    return {str(k): same[:, :k].any(axis=1).astype(np.float64) for k in depths}
