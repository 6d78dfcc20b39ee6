"""The gap between the means of two clouds: vector, length, direction, and what chance gives."""

from __future__ import annotations

import math

from modgap._core.arrays import Array, Float
from modgap._core.clouds import dot, length, squared_length
from modgap._core.opening import open_clouds
from modgap.errors import DataError

__all__ = [
    "centroid_cosine",
    "centroid_gap",
    "centroid_gap_floor",
    "gap_direction",
    "gap_vector",
    "squared_gap_per_dimension",
]


def gap_vector(
    queries: Float[Array, "m d"], gallery: Float[Array, "n d"], *, normalize: bool = True
) -> Float[Array, " d"]:
    """Return the global gap g = mean(queries) - mean(gallery), shape (d,), float64.

    It points from the gallery to the queries; library and device follow the input.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    normalize : bool
        Scale the rows to unit length first (the means are not scaled again).

    Raises
    ------
    DataError, ShapeError
        The clouds do not fit together, hold NaN or infinity, or a row to be normalised has no
        direction.

    Notes
    -----
    Liang et al., "Mind the Gap", 2022; Chowers et al., "Is the Modality Gap a Bug or a Feature?",
    2026, eq. 4. Cost: (m + n) d.

    Examples
    --------
    >>> import numpy as np
    >>> gap_vector(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 2.0]])).tolist()
    [1.0, -1.0]
    """
    ours, theirs = open_clouds(queries, gallery, normalize=normalize)
    return ours.center.mean - theirs.center.mean


def gap_direction(
    queries: Float[Array, "m d"], gallery: Float[Array, "n d"], *, normalize: bool = True
) -> Float[Array, " d"]:
    """Return the gap vector scaled to unit length, shape (d,), float64.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        As for `gap_vector`; also where the means are equal up to the rounding of the input's dtype,
        so that the gap has no direction.

    Notes
    -----
    Cost: (m + n) d.

    Examples
    --------
    >>> import numpy as np
    >>> gap_direction(np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    clouds = open_clouds(queries, gallery, normalize=normalize)
    gap = gap_vector(*clouds)
    size = length(gap)
    scale = math.sqrt(max(cloud.center.power for cloud in clouds))
    if size <= max(cloud.center.eps for cloud in clouds) * scale:
        raise DataError(
            f"`queries` and `gallery` have the same mean up to rounding (|g| = {size:.3g}), so the "
            "gap has no direction; measure before it is closed"
        )
    return gap / size


def centroid_gap(
    queries: Float[Array, "m d"], gallery: Float[Array, "n d"], *, normalize: bool = True
) -> float:
    """Return the length of the gap, |mean(queries) - mean(gallery)|, in [0, 2] for unit rows.

    It is not a measure of quality: a shift of one cloud changes it at will, and moving by a vector
    orthogonal to the gallery changes no decision. Small clouds have a gap by chance alone, see
    `centroid_gap_floor`.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        As for `gap_vector`.

    Notes
    -----
    Liang et al., "Mind the Gap", 2022. Cost: (m + n) d.

    Examples
    --------
    >>> import numpy as np
    >>> centroid_gap(np.array([[1.0, 0.0]]), np.array([[-3.0, 0.0]]))
    2.0
    """
    return length(gap_vector(queries, gallery, normalize=normalize))


def squared_gap_per_dimension(
    queries: Float[Array, "m d"], gallery: Float[Array, "n d"], *, normalize: bool = True
) -> float:
    """Return |g|^2 / d, the mean squared difference of the two means' coordinates, >= 0.

    A variant that some codes print under the name of the gap. For unit rows it shrinks as 1/d, so
    it cannot be compared between models of different width.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        As for `gap_vector`.

    Notes
    -----
    Cost: (m + n) d.

    Examples
    --------
    >>> import numpy as np
    >>> squared_gap_per_dimension(np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]]))
    2.0
    """
    gap = gap_vector(queries, gallery, normalize=normalize)
    return squared_length(gap) / int(gap.shape[0])


def centroid_cosine(
    queries: Float[Array, "m d"], gallery: Float[Array, "n d"], *, normalize: bool = True
) -> float:
    """Return the cosine of the two means, in [-1, 1].

    Near 1 where both clouds share one cone. It depends on where the origin lies, so it does not
    fall or rise with the length of the gap alone.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        As for `gap_vector`; also where a mean is zero up to the rounding of the input's dtype.

    Notes
    -----
    Cost: (m + n) d.

    Examples
    --------
    >>> import numpy as np
    >>> centroid_cosine(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [2.0, 0.0]])).__round__(4)
    0.7071
    """
    ours, theirs = (c.center for c in open_clouds(queries, gallery, normalize=normalize))
    for center, name in ((ours, "queries"), (theirs, "gallery")):
        if length(center.mean) <= center.eps * math.sqrt(center.power):
            raise DataError(
                f"the mean of `{name}` is zero up to rounding and has no direction; "
                "its cosine is undefined, use centroid_gap"
            )
    cosine = dot(ours.mean, theirs.mean) / (length(ours.mean) * length(theirs.mean))
    return min(1.0, max(-1.0, cosine))


def centroid_gap_floor(
    queries: Float[Array, "m d"], gallery: Float[Array, "n d"], *, normalize: bool = True
) -> float:
    """Return the root mean square gap that sampling alone gives clouds of one true mean, >= 0.

    The yardstick for small clouds: a gallery of ten class texts lies some tenths from its own true
    mean. A `centroid_gap` well above the floor is no accident of the sample; the floor says nothing
    about how large the gap is otherwise.

    Parameters
    ----------
    queries : array (m, d), floating
        m >= 2, rows drawn independently.
    gallery : array (n, d), floating
        n >= 2, rows drawn independently.
    normalize : bool
        Scale the rows to unit length first.

    Raises
    ------
    DataError, ShapeError
        As for `gap_vector`; also where a cloud has one row only.

    Notes
    -----
    sqrt(v_y / (m - 1) + v_x / (n - 1)), v the mean squared distance of the rows to their mean: the
    unbiased estimate of E|g|^2 under equal true means. Cost: (m + n) d.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
    >>> round(centroid_gap_floor(x, x), 4)
    0.6325
    """
    clouds = open_clouds(queries, gallery, normalize=normalize, min_rows=2)
    return math.sqrt(sum(c.center.variance / (c.count - 1) for c in clouds))
