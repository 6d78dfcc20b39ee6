"""Clouds in blocks: float64 rows, means, samples and pairs, never a second copy of a cloud."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from modgap._core.arrays import (
    Array,
    as_float64,
    asarray_like,
    block_slices,
    device,
    dtype_eps,
    float64,
    namespace,
    normalize_rows,
)
from modgap._core.checks import check_count
from modgap._core.moments import Moments

#: Rows along each side of a tile of pairs: 1 Mi float64 values, 8 MiB.
_TILE_ROWS = 1024


@dataclass(frozen=True)
class Center:
    """What the centroid measures need of a cloud: no (d, d) scatter, one pass.

    Attributes
    ----------
    count : int
        Rows, n.
    mean : array (d,), float64
    variance : float
        Mean squared distance of the rows to their mean, >= 0.
    eps : float
        Rounding unit of the rows' own dtype.
    """

    count: int
    mean: Array
    variance: float
    eps: float

    @cached_property
    def power(self) -> float:
        """Mean squared length of the rows."""
        return self.variance + squared_length(self.mean)


@dataclass(frozen=True)
class Tile:
    """Two blocks of rows whose pairs are looked at together.

    Attributes
    ----------
    left, right : array (p, d) and (q, d), float64
    is_diagonal : bool
        Both blocks are the same rows, so the tile's diagonal pairs each row with itself.
    weight : int
        How often each entry counts among the ordered pairs: 2 off the diagonal, where the mirrored
        tile is left out.
    """

    left: Array
    right: Array
    is_diagonal: bool
    weight: int


def float64_rows(x: Array, *, normalize: bool) -> Array:
    """Return rows in float64, of unit length if asked; a graph of gradients is left behind."""
    x = as_float64(x.detach() if hasattr(x, "detach") else x)
    return normalize_rows(x) if normalize else x


def row_blocks(x: Array, *, normalize: bool) -> Iterator[Array]:
    """Yield the rows of a cloud in float64 blocks, of unit length if asked."""
    for rows in block_slices(x.shape[0], x.shape[1]):
        yield float64_rows(x[rows, :], normalize=normalize)


def paired_blocks(a: Array, b: Array, *, normalize: bool) -> Iterator[tuple[Array, Array]]:
    """Yield blocks of both clouds that hold the same row numbers."""
    yield from zip(
        row_blocks(a, normalize=normalize), row_blocks(b, normalize=normalize), strict=True
    )


def cloud_center(x: Array, *, normalize: bool) -> Center:
    """Return count, mean and variance of the rows, in one pass.

    Summed about the mean of a few rows: the variance keeps its digits far from the origin.
    """
    xp = namespace(x)
    n = int(x.shape[0])
    pivot = xp.mean(float64_rows(x[: min(256, n), :], normalize=normalize), axis=0)
    total = xp.zeros((x.shape[1],), dtype=float64(xp), device=device(x))
    squares = 0.0
    for block in row_blocks(x, normalize=normalize):
        block = block - pivot
        total = total + xp.sum(block, axis=0)
        squares += float(xp.sum(block * block))
    step = total / n
    return Center(n, pivot + step, max(squares / n - squared_length(step), 0.0), dtype_eps(x))


def cloud_moments(x: Array, *, normalize: bool) -> Moments:
    """Return the moments of the rows, products in float64, rounding unit that of the input."""
    moments = Moments.from_blocks(row_blocks(x, normalize=normalize), precision="float64")
    return replace(moments, eps=max(moments.eps, dtype_eps(x)))


def moments_center(moments: Moments) -> Center:
    """Return the part of the moments that the centroid measures need."""
    return Center(moments.count, moments.mean, moments.total_variance, moments.eps)


def has_spread(moments: Moments) -> bool:
    """Whether the rows differ by more than the rounding of their dtype."""
    center = moments_center(moments)
    return center.variance > 4 * center.eps**2 * center.power


def subsample(x: Array, sample: int | None, seed: int) -> Array:
    """Return `sample` rows drawn without replacement, in their order; all where there are fewer.

    The draw depends on the row count, `sample` and `seed` alone, so paired clouds stay paired.
    """
    check_count(seed, "seed", low=0)
    if sample is None or x.shape[0] <= check_count(sample, "sample", low=2):
        return x
    chosen = np.random.default_rng(seed).choice(x.shape[0], size=sample, replace=False)
    return namespace(x).take(x, asarray_like(np.sort(chosen), x), axis=0)


def pair_tiles(x: Array, *, normalize: bool, center: Array) -> Iterator[Tile]:
    """Yield tiles that cover every pair of rows of one cloud, each row minus `center`."""
    slices = list(block_slices(x.shape[0], 1, elements=_TILE_ROWS))
    for i, rows in enumerate(slices):
        left = float64_rows(x[rows, :], normalize=normalize) - center
        yield Tile(left, left, is_diagonal=True, weight=1)
        for columns in slices[i + 1 :]:
            right = float64_rows(x[columns, :], normalize=normalize) - center
            yield Tile(left, right, is_diagonal=False, weight=2)


def tile_slices(rows: int) -> list[slice]:
    """Return the slices that cut a cloud into the sides of tiles."""
    return list(block_slices(rows, 1, elements=_TILE_ROWS))


def squared_distances(left: Array, right: Array) -> Array:
    """Return |a - b|^2 of every pair, shape (p, q); one matrix product, not below zero.

    Its rounding error is that of |a|^2 + |b|^2: take a common offset off the rows first.
    """
    xp = namespace(left, right)
    lengths = xp.sum(left * left, axis=1)[:, None] + xp.sum(right * right, axis=1)[None, :]
    return xp.clip(lengths - 2.0 * xp.matmul(left, right.T), min=0.0)


def diagonal_mask(tile: Tile) -> Array:
    """Return a (p, p) array of booleans that are true where a row meets itself."""
    xp = namespace(tile.left)
    size = tile.left.shape[0]
    return xp.eye(size, dtype=tile.left.dtype, device=device(tile.left)) > 0


def squared_length(v: Array) -> float:
    """Return |v|^2 of one vector as a float."""
    return float(namespace(v).sum(v * v))


def length(v: Array) -> float:
    """Return |v| of one vector as a float."""
    return math.sqrt(squared_length(v))


def dot(v: Array, w: Array) -> float:
    """Return the inner product of two vectors as a float."""
    xp: Any = namespace(v, w)
    return float(xp.sum(v * w))
