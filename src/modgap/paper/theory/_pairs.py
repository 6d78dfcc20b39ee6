"""Paired clouds as statements about gradients need them: checked, in float64, with a gap."""

from __future__ import annotations

import math

from modgap._core.arrays import Array, as_float64, namespace, normalize_rows
from modgap._core.checks import check_paired
from modgap.errors import DataError

__all__ = ["checked_pair", "nonzero_gap", "relative", "tangent"]


def checked_pair(x: Array, y: Array, sphere: bool) -> tuple[Array, Array]:
    """Return the two clouds in float64, as a statement about gradients needs them."""
    x, y = check_paired(x, y, names=("x", "y"), min_rows=2, zero_rows=not sphere)
    x, y = as_float64(x), as_float64(y)
    return (normalize_rows(x), normalize_rows(y)) if sphere else (x, y)


def nonzero_gap(gap: Array) -> Array:
    xp = namespace(gap)
    if float(xp.max(xp.abs(gap))) == 0.0:
        raise DataError(
            "`x` and `y` have the same mean, so there is no gap and no direction of it; "
            "pass clouds with a gap, or a direction where one can be given"
        )
    return gap


def tangent(vectors: Array, at: Array) -> Array:
    xp = namespace(at)
    return vectors - xp.sum(vectors * at, axis=-1, keepdims=True) * at


def relative(error: Array, reference: Array) -> float:
    xp = namespace(reference)
    scale = float(xp.linalg.vector_norm(reference))
    return float(xp.linalg.vector_norm(error)) / scale if scale > 0 else math.nan
