"""Where the gap points, and why decisions do not see it: Assumption 3.3 and Theorem 3.5.

Statements of Chowers et al. (2026); each function computes what a statement predicts and what is so
on this data, and returns both with the size of the error term.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import (
    Array,
    Float,
    as_float64,
    asarray_like,
    block_slices,
    namespace,
    to_numpy,
)
from modgap._core.checks import check_array, check_clouds, check_count, check_finite, check_number
from modgap._core.moments import Moments
from modgap._core.opening import open_cloud
from modgap.decisions.metric import EUCLIDEAN
from modgap.decisions.neighbors import nearest
from modgap.errors import DataError, ShapeError
from modgap.measures.orthogonality import variance_ratio_along
from modgap.paper.theory._tasks import count, hull

__all__ = [
    "DecisionInvariance",
    "GapOrthogonality",
    "OrthogonalityTest",
    "decision_invariance",
    "gap_orthogonality",
]


@dataclass(frozen=True)
class OrthogonalityTest:
    """How flat one cloud is along the gap, against directions drawn at random.

    Attributes
    ----------
    ratio : float
        Variance along the gap over the average variance per direction; 0 is what Assumption 3.3
        says, 1 the mean over all directions.
    null_median, null_low, null_high : float
        Median, 2.5 % and 97.5 % points of the ratio over random directions.
    z_score : float
        Of log(ratio) among the logs of the random directions' ratios; negative is flatter.
    p_value : float
        Share of random directions that are at least as flat, counting the gap itself: at least
        1 / (draws + 1).
    """

    ratio: float
    null_median: float
    null_low: float
    null_high: float
    z_score: float
    p_value: float


@dataclass(frozen=True)
class GapOrthogonality:
    """Assumption 3.3 on one pair of clouds.

    Attributes
    ----------
    x, y : OrthogonalityTest
    gap_norm : float
    draws : int
        Random directions in the null.
    """

    x: OrthogonalityTest
    y: OrthogonalityTest
    gap_norm: float
    draws: int


@dataclass(frozen=True)
class DecisionInvariance:
    """Theorem 3.5 on one task: moving the gallery by one vector.

    Attributes
    ----------
    dimension, rank : int
        d, and the rank r of aff(gallery). With r = d no direction is left that moves nothing.
    offset_norm : float
        Length of the move.
    gap_share : float
        ||v|| / ||g||, before alpha: how much of the gap an exact move can close; 0 where r = d.
    predicted_change : float
        2 |alpha| (max_j v.x_j - min_j v.x_j): the largest change of a difference of two squared
        distances. 0 for v orthogonal to aff(gallery).
    observed_change : float
        The same from the distances before and after.
    rounding : float
        What float64 leaves of a change of zero on these distances.
    changed_decisions : int
        Queries whose nearest item differs afterwards.
    """

    dimension: int
    rank: int
    offset_norm: float
    gap_share: float
    predicted_change: float
    observed_change: float
    rounding: float
    changed_decisions: int


def gap_orthogonality(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> GapOrthogonality:
    """Return how orthogonal the gap is to both clouds, against the null of random directions.

    A small p-value says that the gap is flatter than directions drawn uniformly from the sphere. It
    does not say that the gap is orthogonal: for that, look at how close the ratio is to zero. And
    real spectra are uneven, so random directions are often flat too.

    Parameters
    ----------
    x : array (n, d), floating
        n >= 2.
    y : array (m, d), floating
        m >= 2.
    draws : int
        Random directions; the p-value is at least 1 / (draws + 1).
    seed : int

    Raises
    ------
    ShapeError, DataError, ArgumentError
        The clouds do not fit, have no gap or no variance; `draws` is below 20.

    Notes
    -----
    Assumption 3.3 of Chowers et al. (2026). A uniform direction has the coordinates z / ||z|| of a
    standard normal z in any basis, so its ratio is d sum_k lambda_k z_k^2 / (tr C ||z||^2) with the
    eigenvalues lambda of the covariance C: that is drawn. Cost: (n + m) d^2 + d^3 + draws d.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(2, 200, 30))
    >>> x[:, 0], y[:, 0] = 0.01 * x[:, 0], 5 + 0.01 * y[:, 0]
    >>> test = gap_orthogonality(x, y)
    >>> test.x.ratio < 0.05, test.x.p_value < 0.001
    (True, True)
    """
    x, y = check_clouds(x, y, names=("x", "y"), min_rows=2)
    draws, seed = check_count(draws, "draws", low=20), check_count(seed, "seed", low=0)
    clouds = [Moments.from_rows(cloud, precision="float64") for cloud in (x, y)]
    gap = to_numpy(clouds[1].mean) - to_numpy(clouds[0].mean)
    gap_norm = float(np.linalg.norm(gap))
    if gap_norm == 0.0:
        raise DataError(
            "`x` and `y` have the same mean, so there is no gap to test; pass two clouds"
        )
    squares = np.random.default_rng(seed).standard_normal((draws, x.shape[1])) ** 2
    squares /= squares.sum(axis=1, keepdims=True)
    tests = [
        _orthogonality(moments, gap / gap_norm, squares, name)
        for moments, name in zip(clouds, ("x", "y"), strict=True)
    ]
    return GapOrthogonality(x=tests[0], y=tests[1], gap_norm=gap_norm, draws=draws)


def decision_invariance(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    offset: Float[Array, " d"] | None = None,
    *,
    alpha: float = 1.0,
) -> DecisionInvariance:
    """Return what moving the gallery by ``alpha * offset`` does to decisions, against Theorem 3.5.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
        n >= 2.
    offset : array (d,), floating, optional
        v; if not given, g' = g - V V^T g, the part of the gap that is orthogonal to aff(gallery).
    alpha : float

    Raises
    ------
    ShapeError, DataError, ArgumentError
        The arrays do not fit together or are not finite.

    Notes
    -----
    Theorem 3.5 of Chowers et al. (2026): ``|y - x_i - a v|^2 - |y - x_j - a v|^2`` differs from the
    value at a = 0 by ``2 a v.(x_i - x_j)``, whatever y is. Cost: 2 m n d + n d^2.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> gallery, queries = rng.normal(size=(4, 9)), rng.normal(size=(50, 9)) + 1
    >>> safe = decision_invariance(queries, gallery)
    >>> safe.changed_decisions, safe.observed_change < 1e-12
    (0, True)
    >>> decision_invariance(queries, gallery, np.ones(9)).changed_decisions > 0
    True
    """
    queries, gallery = check_clouds(queries, gallery, min_rows=1)
    alpha = check_number(alpha, "alpha")
    queries, gallery = as_float64(queries), as_float64(gallery)
    xp = namespace(queries, gallery)
    center, axes = hull(gallery)
    gap = xp.mean(queries, axis=0) - center
    if offset is None:
        offset = gap - xp.matmul(axes, xp.matmul(axes.T, gap))
    else:
        offset = _checked_offset(offset, gallery)
    products = xp.matmul(gallery - center, offset)
    moved = gallery + alpha * offset
    observed, largest = _margin_change(queries, gallery, moved)
    before, after = (
        nearest(queries, items, metric=EUCLIDEAN).indices[:, 0] for items in (gallery, moved)
    )
    gap_norm = float(xp.linalg.vector_norm(gap))
    length = float(xp.linalg.vector_norm(offset))
    return DecisionInvariance(
        dimension=int(gallery.shape[1]),
        rank=int(axes.shape[1]),
        offset_norm=abs(alpha) * length,
        gap_share=length / gap_norm if gap_norm > 0 else math.nan,
        predicted_change=2.0 * abs(alpha) * float(xp.max(products) - xp.min(products)),
        observed_change=observed,
        rounding=8.0 * float(np.finfo(np.float64).eps) * math.sqrt(gallery.shape[1]) * largest,
        changed_decisions=count(before != after),
    )


def _orthogonality(
    moments: Moments, unit: np.ndarray, squares: np.ndarray, name: str
) -> OrthogonalityTest:
    if moments.total_variance <= 0.0:
        raise DataError(f"`{name}` has no variance: all of its rows are equal; pass a cloud")
    ratio = variance_ratio_along(open_cloud(moments, name), asarray_like(unit, moments.mean))
    share = moments.width / moments.total_variance
    null = squares @ np.maximum(np.linalg.eigvalsh(to_numpy(moments.covariance)), 0.0) * share
    tiny = float(np.finfo(np.float64).tiny)
    logs = np.log(np.maximum(null, tiny))
    spread = float(logs.std())
    z_score = (math.log(max(ratio, tiny)) - float(logs.mean())) / spread if spread > 0 else 0.0
    low, median, high = (float(q) for q in np.quantile(null, (0.025, 0.5, 0.975)))
    return OrthogonalityTest(
        ratio=ratio,
        null_median=median,
        null_low=low,
        null_high=high,
        z_score=z_score,
        p_value=(1 + int(np.count_nonzero(null <= ratio))) / (1 + null.shape[0]),
    )


def _margin_change(queries: Array, gallery: Array, moved: Array) -> tuple[float, float]:
    """Return the largest change of a margin, and the largest squared distance that went into it."""
    xp = namespace(queries)
    worst, largest = 0.0, 0.0
    for rows in block_slices(queries.shape[0], gallery.shape[0] * gallery.shape[1]):
        y = queries[rows, None, :]
        before = xp.sum((y - gallery[None, :, :]) ** 2, axis=-1)
        after = xp.sum((y - moved[None, :, :]) ** 2, axis=-1)
        change = after - before
        worst = max(worst, float(xp.max(xp.max(change, axis=1) - xp.min(change, axis=1))))
        largest = max(largest, float(xp.max(before)), float(xp.max(after)))
    return worst, largest


def _checked_offset(offset: Array, gallery: Array) -> Array:
    offset = check_array(offset, "offset", ndim=1)
    if offset.shape[0] != gallery.shape[1]:
        raise ShapeError(
            f"`offset` must have one entry per dimension of `gallery`; got {offset.shape[0]} for "
            f"{gallery.shape[1]}"
        )
    check_finite(offset[None, :], "offset")
    return as_float64(offset)
