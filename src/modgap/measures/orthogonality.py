"""Is the gap orthogonal to the clouds? Three views of the claim of Chowers et al. (2026).

The claim, their assumption 3.3: the gap vector is orthogonal to the differences between the rows of
either cloud. Each measure comes with what a random direction would give, since in d dimensions two
random directions are nearly orthogonal too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import Array, Float, as_float64, namespace, to_numpy
from modgap._core.checks import check_array, check_count, check_finite, check_same_width
from modgap._core.clouds import Cloud, Tile, diagonal_mask, squared_distances
from modgap._core.opening import open_cloud, open_clouds
from modgap.errors import ArgumentError, DataError
from modgap.measures.centroids import gap_direction

__all__ = [
    "DifferenceCosines",
    "GapVarianceRatio",
    "ResidualGapCurve",
    "difference_cosines",
    "gap_variance_ratio",
    "residual_gap_curve",
]

#: Squared distance, against the squared lengths of the centred rows, below which two rows count as
#: one: their difference is then mostly rounding of the expanded square.
_SAME_ROW = 1e-12


@dataclass(frozen=True)
class GapVarianceRatio:
    """Variance along the gap over the average variance per direction, for each cloud.

    Attributes
    ----------
    queries, gallery : float
        In [0, d]; 0 where the cloud is flat along the gap, 1 on average for a random direction.
    """

    queries: float
    gallery: float


@dataclass(frozen=True)
class ResidualGapCurve:
    """What is left of the gap outside the gallery's leading principal axes.

    Attributes
    ----------
    components : tuple of int
        Numbers k of leading axes that were taken out.
    ratios : tuple of float
        |g - V_k V_k^T g| / |g|, in [0, 1], falling with k.
    expected : tuple of float
        Root mean square of the same for a random direction: sqrt(1 - k / d).
    """

    components: tuple[int, ...]
    ratios: tuple[float, ...]
    expected: tuple[float, ...]


@dataclass(frozen=True)
class DifferenceCosines:
    """Cosines of the differences of rows, x_i - x_j, with one direction.

    Attributes
    ----------
    mean_abs : float
        Mean absolute cosine over pairs, in [0, 1].
    rms : float
        Root mean square cosine over pairs, in [0, 1].
    weighted_rms : float
        The same with each pair weighted by |x_i - x_j|^2: in closed form, the square root of the
        variance along the direction over the total variance.
    expected_mean_abs : float
        Mean absolute cosine with a random direction, about sqrt(2 / (pi d)).
    expected_rms : float
        Root mean square cosine with a random direction, 1 / sqrt(d).
    rows : int
        Rows whose pairs were looked at.
    """

    mean_abs: float
    rms: float
    weighted_rms: float
    expected_mean_abs: float
    expected_rms: float
    rows: int


def gap_variance_ratio(
    queries: Float[Array, "m d"], gallery: Float[Array, "n d"], *, normalize: bool = True
) -> GapVarianceRatio:
    """Return, for each cloud, its variance along the gap over its average variance per direction.

    A ratio well below 1 says that the cloud is flatter along the gap than along a direction at
    random. Real spectra are uneven, so most single directions lie below 1: the average is 1, the
    median is not. On unit rows the sphere alone ties the spread along g to the cone's width.

    Parameters
    ----------
    queries : array (m, d), floating
        m >= 2.
    gallery : array (n, d), floating
        n >= 2.
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        The clouds do not fit together, have one row, hold NaN or infinity; a row to be normalised
        has no direction; the means coincide; or all rows of a cloud are equal.

    Notes
    -----
    d u.C u / tr(C), u = g / |g|, C the cloud's covariance (section 3 of Chowers et al., 2026).
    Cost: (m + n) d^2.

    Examples
    --------
    >>> import numpy as np
    >>> flat = np.array([[0.0, 1.0], [0.0, -1.0]])
    >>> round_cloud = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    >>> gap_variance_ratio(flat + [2.0, 0.0], round_cloud, normalize=False)
    GapVarianceRatio(queries=0.0, gallery=1.0)
    """
    clouds = open_clouds(queries, gallery, normalize=normalize, min_rows=2)
    direction = gap_direction(*clouds)
    for cloud, name in zip(clouds, ("queries", "gallery"), strict=True):
        _check_spread(cloud, name)
    return GapVarianceRatio(*(variance_ratio_along(cloud, direction) for cloud in clouds))


def variance_ratio_along(cloud: Cloud, unit: Array) -> float:
    """Return a cloud's variance along a unit direction over its average one, NaN where it has none."""
    total = cloud.center.variance
    if total <= 0:
        return math.nan
    return min(cloud.variance_along(unit) / total, 1.0) * cloud.width


def residual_gap_curve(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    *,
    ks: Iterable[int] | None = None,
    normalize: bool = True,
) -> ResidualGapCurve:
    """Return the share of the gap outside the gallery's k leading principal axes, for each k.

    The last value, all axes taken out, is the part of the gap that the orthogonal closer can remove
    without changing a decision. It is zero where the gallery spans the whole space, and large for
    any direction where the gallery has few rows: compare with `expected`.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
        n >= 2.
    ks : iterable of int, optional
        Numbers of axes, each between 0 and the gallery's numerical rank; None for all of them.
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    ArgumentError
        A k exceeds the numerical rank of the gallery.
    DataError, ShapeError
        As for `gap_variance_ratio`.

    Notes
    -----
    |g - V_k V_k^T g| / |g|, V_k the leading principal axes of the centred gallery (eq. 11 of
    Chowers et al., 2026, for the full projection). Cost: n d^2 + d^3.

    Examples
    --------
    >>> import numpy as np
    >>> gallery = np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    >>> curve = residual_gap_curve(gallery + [3.0, 4.0, 0.0], gallery, normalize=False)
    >>> curve.components, [round(r, 6) for r in curve.ratios]
    ((0, 1), [1.0, 0.6])
    """
    ours, theirs = open_clouds(queries, gallery, normalize=normalize)
    open_cloud(theirs, "gallery", min_rows=2)
    direction, axes, d = gap_direction(ours, theirs), theirs.moments.full_axes, theirs.width
    counts = tuple(range(axes.rank + 1)) if ks is None else tuple(ks)
    for k in counts:
        if check_count(k, "ks", low=0) > axes.rank:
            raise ArgumentError(
                f"`ks` asks for {k} components, but the gallery of {theirs.count} rows has only "
                f"{axes.rank} directions; ask for at most {axes.rank}"
            )
    xp = namespace(direction, axes.axes)
    squares = to_numpy(xp.matmul(direction, axes.axes)) ** 2
    # Summed from the far end: 1 - (sum of the removed) would lose the digits of a small rest.
    left = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
    return ResidualGapCurve(
        components=tuple(int(k) for k in counts),
        ratios=tuple(min(1.0, math.sqrt(left[k])) for k in counts),
        expected=tuple(math.sqrt(1 - k / d) for k in counts),
    )


def difference_cosines(
    x: Float[Array, "n d"],
    direction: Float[Array, " d"],
    *,
    normalize: bool = True,
    sample: int | None = None,
    seed: int = 0,
) -> DifferenceCosines:
    """Return how the differences between the rows of one cloud lie to a direction, such as the gap.

    Orthogonality pair by pair. Against `expected_mean_abs` and `expected_rms` a value says whether
    the cloud avoids the direction; 0.03 alone says nothing where d = 512.

    Parameters
    ----------
    x : array (n, d), floating
        n >= 2.
    direction : array (d,), floating
        Of any length above zero; `gap_vector(queries, gallery)` as a rule.
    normalize : bool
        Scale the rows of `x` to unit length first.
    sample : int, optional
        Look at the pairs among this many rows, drawn without replacement; None for all rows.
        `weighted_rms` uses the same rows.
    seed : int
        Seed of the draw.

    Raises
    ------
    DataError, ShapeError
        `x` is not a finite (n, d) array of two different rows or more, a row to be normalised has
        no direction, or `direction` is zero or of another width.

    Notes
    -----
    cos_ij = (x_i - x_j).u / |x_i - x_j| over all pairs i < j of the rows looked at, exact over
    them, block by block; pairs of equal rows (closer than about 1e-6 of their length) are left out.
    `weighted_rms` needs no pairs. For random directions E|cos| = Gamma(d/2) / (sqrt(pi)
    Gamma((d+1)/2)) and E cos^2 = 1/d. Cost: n^2 d / 2, memory O(block).

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    >>> found = difference_cosines(x, np.array([2.0, 0.0]), normalize=False)
    >>> round(found.mean_abs, 4), round(found.rms, 4), round(found.weighted_rms, 4)
    (0.569, 0.7071, 0.7071)
    """
    cloud = open_cloud(x, "x", normalize=normalize, min_rows=2).sample(sample, seed)
    unit = _unit_direction(direction, cloud.rows)
    _check_spread(cloud, "x")
    xp = namespace(cloud.rows)
    count, absolute, squared = 0.0, 0.0, 0.0
    for tile in cloud.tiles():
        cosines, kept = _tile_cosines(tile, unit)
        count += tile.weight * float(xp.sum(kept))
        absolute += tile.weight * float(xp.sum(xp.abs(cosines)))
        squared += tile.weight * float(xp.sum(cosines * cosines))
    d = cloud.width
    return DifferenceCosines(
        mean_abs=absolute / count,
        rms=math.sqrt(squared / count),
        weighted_rms=math.sqrt(variance_ratio_along(cloud, unit) / d),
        expected_mean_abs=math.exp(math.lgamma(d / 2) - math.lgamma((d + 1) / 2))
        / math.sqrt(math.pi),
        expected_rms=1 / math.sqrt(d),
        rows=cloud.count,
    )


def _tile_cosines(tile: Tile, unit: Array) -> tuple[Array, Array]:
    """Return the cosines of a tile's differences with `unit`, and 1 where the two rows differ."""
    xp = namespace(tile.left, unit)
    squared = squared_distances(tile.left, tile.right)
    lengths = xp.sum(tile.left**2, axis=1)[:, None] + xp.sum(tile.right**2, axis=1)[None, :]
    differ = squared > _SAME_ROW * lengths
    if tile.is_diagonal:
        differ = differ & ~diagonal_mask(tile)
    along = xp.matmul(tile.left, unit)[:, None] - xp.matmul(tile.right, unit)[None, :]
    kept = xp.astype(differ, along.dtype)
    return kept * along / xp.sqrt(xp.where(differ, squared, xp.ones_like(squared))), kept


def _unit_direction(direction: Array, x: Array) -> Array:
    direction = check_array(direction, "direction", ndim=1)
    check_same_width(direction, "direction", x, "x")
    check_finite(direction[None, :], "direction")
    wide = as_float64(direction.detach() if hasattr(direction, "detach") else direction)
    size = float(namespace(wide).linalg.vector_norm(wide))
    if size == 0:
        raise DataError("`direction` is zero, which is no direction; pass a vector of some length")
    return wide / size


def _check_spread(cloud: Cloud, name: str) -> None:
    if not cloud.center.has_spread:
        raise DataError(
            f"`{name}` has no spread: all rows are equal up to rounding, so its variance cannot be "
            "compared between directions; measure rows that differ"
        )
