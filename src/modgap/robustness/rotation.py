"""A fixed random rotation, made from a seed: what spreads a row evenly over its coordinates."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from modgap._core.arrays import Array, asarray_like, namespace

__all__ = ["random_rotation", "rotated_rows"]


@lru_cache(maxsize=2)
def random_rotation(d: int, seed: int) -> np.ndarray:
    """Return an orthogonal matrix (d, d), float64, uniform over all rotations and reflections.

    The orthogonal factor of a normal matrix, with the signs that make it unique (Mezzadri 2007). Cost: d^3.
    """
    normal = np.random.default_rng(seed).standard_normal((d, d))
    q, r = np.linalg.qr(normal)
    turned: np.ndarray = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    turned.flags.writeable = False  # shared by all who ask
    return turned


def rotated_rows(rows: Array, seed: int, *, back: bool = False) -> Array:
    """Return rows (n, d) times the rotation of the seed, or times its inverse."""
    turn = random_rotation(rows.shape[1], seed)
    matrix = asarray_like(turn.T if back else turn, rows, dtype=rows.dtype)
    return namespace(rows).matmul(rows, matrix)
