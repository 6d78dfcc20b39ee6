"""The shape of one cloud: its cone, its spectrum, how many dimensions it fills, how evenly.

Every function scales the rows to unit length first, unless `normalize=False`, and returns figures
of float64 accuracy whatever the dtype of the input.
"""

from __future__ import annotations

import math

import numpy as np

from modgap._core.arrays import Array, Float, namespace, to_numpy
from modgap._core.checks import check_number
from modgap._core.clouds import diagonal_mask, squared_distances, squared_length
from modgap._core.opening import open_cloud
from modgap.errors import DataError

__all__ = [
    "average_norm",
    "effective_rank",
    "mean_cosine",
    "participation_ratio",
    "spectrum",
    "total_variance",
    "uniformity",
]


def average_norm(x: Float[Array, "n d"]) -> float:
    """Return the mean Euclidean length of the rows as they are stored, >= 0.

    Says whether the rows are normalised (1) and on which scale they live; nothing about directions.

    Parameters
    ----------
    x : array (n, d), floating

    Raises
    ------
    DataError, ShapeError
        `x` is not a finite (n, d) array of floats.

    Notes
    -----
    Cost: n d.

    Examples
    --------
    >>> import numpy as np
    >>> average_norm(np.array([[3.0, 4.0], [0.0, 1.0]]))
    3.0
    """
    cloud = open_cloud(x, "x", normalize=False)
    cloud.need_rows()
    return float(namespace(cloud.lengths).mean(cloud.lengths))


def mean_cosine(x: Float[Array, "n d"]) -> float:
    """Return the mean cosine between two different rows, in [-1/(n - 1), 1].

    The cone effect: encoders map all inputs into a narrow cone, before any training (Liang et al.,
    "Mind the Gap", 2022). Zero for directions that are spread evenly. It does not say that the rows
    are alike: a constant offset alone raises it.

    Parameters
    ----------
    x : array (n, d), floating
        n >= 2, no zero rows.

    Raises
    ------
    DataError, ShapeError
        `x` is not a finite (n, d) array of floats, has one row only, or a row without direction.

    Notes
    -----
    With u the unit rows, (|sum_i u_i|^2 - n) / (n (n - 1)), which is the mean over all ordered
    pairs i != j. Cost: n d.

    Examples
    --------
    >>> import numpy as np
    >>> round(mean_cosine(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])), 4)
    0.3333
    """
    cloud = open_cloud(x, "x", min_rows=2)
    n, center = cloud.count, cloud.unit_center
    return (n * squared_length(center.mean) - center.power) / (n - 1)


def total_variance(x: Float[Array, "n d"], *, normalize: bool = True) -> float:
    """Return the mean squared distance of the rows to their mean, in [0, 1] for unit rows.

    The trace of the population covariance. For unit rows it is 1 - |mean|^2, so a narrow cone and
    a small variance are one fact, not two.

    Parameters
    ----------
    x : array (n, d), floating
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        `x` is not a finite (n, d) array of floats, or a row to be normalised has no direction.

    Notes
    -----
    Cost: n d.

    Examples
    --------
    >>> import numpy as np
    >>> total_variance(np.array([[1.0, 0.0], [0.0, 1.0]]))
    0.5
    """
    return open_cloud(x, "x", normalize=normalize).center.variance


def spectrum(x: Float[Array, "n d"], *, normalize: bool = True) -> Float[Array, " d"]:
    """Return the principal variances, shape (d,), float64, largest first, >= 0.

    The eigenvalues of the population covariance; they add up to `total_variance`. Library and
    device follow the input. Values below about 1e-16 of the largest are rounding.

    Parameters
    ----------
    x : array (n, d), floating
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        `x` is not a finite (n, d) array of floats, or a row to be normalised has no direction.

    Notes
    -----
    Cost: n d^2 + d^3.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> spectrum(x, normalize=False).tolist()
    [2.0, 0.5]
    """
    moments = open_cloud(x, "x", normalize=normalize).moments
    xp = namespace(moments.mean)
    return xp.clip(moments.full_axes.variances, min=0.0) / moments.count


def effective_rank(x: Float[Array, "n d"], *, normalize: bool = True) -> float:
    """Return the effective rank of the centred rows, in [1, min(n - 1, d)].

    How many dimensions the cloud fills, each weighed by its share of the singular values. It counts
    directions, not what they encode: noise fills dimensions too.

    Parameters
    ----------
    x : array (n, d), floating
        n >= 2.
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        `x` is not a finite (n, d) array of floats, all its rows are equal, or a row to be
        normalised has no direction.

    Notes
    -----
    exp(-sum_i p_i log p_i) with p_i = s_i / sum_j s_j over the *singular values* s of the centred
    rows (Roy & Vetterli, "The effective rank", 2007), not over their squares, the variances; texts
    that use the variances report smaller figures. Axes below the numerical rank are left out.
    Cost: n d^2 + d^3.

    Examples
    --------
    >>> import numpy as np
    >>> round(effective_rank(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 6)
    2.0
    """
    axes = open_cloud(x, "x", normalize=normalize, min_rows=2).moments.full_axes
    _check_spread(axes.rank > 0)
    singular = np.sqrt(np.maximum(to_numpy(axes.variances)[: axes.rank], 0.0))
    share = singular / singular.sum()
    share = share[share > 0]
    return float(np.exp(-np.sum(share * np.log(share))))


def participation_ratio(x: Float[Array, "n d"], *, normalize: bool = True) -> float:
    """Return the participation ratio of the principal variances, in [1, min(n - 1, d)].

    The number of equal variances that would be spread as these are. Large variances dominate it:
    a long tail of small ones, which the effective rank sees, hardly counts.

    Parameters
    ----------
    x : array (n, d), floating
        n >= 2.
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        As for `effective_rank`.

    Notes
    -----
    (sum_i v_i)^2 / sum_i v_i^2 = tr(C)^2 / |C|_F^2 with C the covariance (as in Gao et al., "A
    theory of multineuronal dimensionality", 2017). Cost: n d^2.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(participation_ratio(x, normalize=False), 4)
    1.4706
    """
    cloud = open_cloud(x, "x", normalize=normalize, min_rows=2)
    _check_spread(cloud.center.has_spread)
    covariance = cloud.moments.covariance
    squares = float(namespace(covariance).sum(covariance * covariance))
    return cloud.center.variance**2 / squares


def uniformity(
    x: Float[Array, "n d"],
    *,
    t: float = 2.0,
    normalize: bool = True,
    sample: int | None = None,
    seed: int = 0,
) -> float:
    """Return the logarithm of the mean Gaussian potential of all pairs of rows, in [-4 t, 0].

    The lower, the more evenly the rows cover the sphere; 0 where all are equal. Over unit rows and
    for large d, evenly spread directions give about -2 t. Low uniformity within each modality says
    nothing about the two sharing a region.

    Parameters
    ----------
    x : array (n, d), floating
        n >= 2.
    t : float
        Sharpness of the potential, > 0.
    normalize : bool
        Scale the rows to unit length first. Without it the range is (-inf, 0].
    sample : int, optional
        Look at the pairs among this many rows, drawn without replacement; None for all rows.
    seed : int
        Seed of the draw.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        `t` is not positive, `x` is not a finite (n, d) array of floats with two rows, or a row to
        be normalised has no direction.

    Notes
    -----
    log mean_{i != j} exp(-t |x_i - x_j|^2) (Wang & Isola, "Understanding contrastive representation
    learning through alignment and uniformity on the hypersphere", 2020). A row is not paired with
    itself. Summed tile by tile with a running maximum, so small distances and large ones are safe.
    Cost: n^2 d / 2, memory O(block).

    Examples
    --------
    >>> import numpy as np
    >>> uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    -8.0
    """
    t = check_number(t, "t", low=0.0, open_low=True)
    cloud = open_cloud(x, "x", normalize=normalize, min_rows=2).sample(sample, seed)
    xp = namespace(cloud.rows)
    peak, total = -math.inf, 0.0
    for tile in cloud.tiles():
        logits = -t * squared_distances(tile.left, tile.right)
        if tile.is_diagonal:
            if tile.left.shape[0] == 1:
                continue
            logits = xp.where(diagonal_mask(tile), -xp.inf * xp.ones_like(logits), logits)
        top = float(xp.max(logits))
        part = tile.weight * float(xp.sum(xp.exp(logits - top)))
        if top > peak:
            peak, total = top, total * math.exp(peak - top) + part
        else:
            total += part * math.exp(top - peak)
    n = cloud.count
    return peak + math.log(total / (n * (n - 1)))


def _check_spread(spread: bool) -> None:
    if not spread:
        raise DataError(
            "`x` has no spread: all rows are equal up to rounding, so its dimensions cannot be "
            "counted; measure rows that differ"
        )
