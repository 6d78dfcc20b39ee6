"""The affine hull of a gallery, and the exact stability of decisions in it; unchecked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modgap._core.arrays import Array, namespace, to_numpy
from modgap._core.moments import Moments, principal_axes

__all__ = ["INTEGRAL_ERROR", "count", "decision_flat", "hull", "residual", "stabilities"]

#: The exact integral is within this of the truth, so smaller rises and falls say nothing.
INTEGRAL_ERROR = 1e-5


def hull(gallery: Array) -> tuple[Array, Array]:
    """Return the mean of the gallery and an orthonormal basis (d, r) of its directions."""
    moments = Moments.from_rows(gallery, precision="float64")
    return moments.mean, principal_axes(moments).axes


def decision_flat(gallery: Array, metric: str) -> tuple[Array, Array]:
    """Return the point and directions of the flat that decisions by this metric depend on."""
    center, axes = hull(gallery)
    return (center if metric == "euclidean" else 0.0 * center), axes


def residual(rows: Array, axes: Array) -> Array:
    xp = namespace(rows)
    return rows - xp.matmul(xp.matmul(rows, axes), axes.T)


def stabilities(
    moved: Sequence[Array], gallery: Array, targets: Array, sigma: float, metric: str
) -> np.ndarray:
    """Return the exact probability that the target wins under noise, (len(moved), m)."""
    from modgap.robustness.integral import win_probability

    found = (win_probability(y, gallery, targets, [sigma], metric=metric) for y in moved)
    return np.stack([to_numpy(values)[0] for values in found])


def count(mask: Array) -> int:
    return int(np.count_nonzero(to_numpy(mask)))
