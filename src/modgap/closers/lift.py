"""Nearest by Euclidean distance as the largest inner product, for rows of any length."""

from __future__ import annotations

from modgap._core.arrays import Array, Float, as_float64, asarray_like, namespace, to_numpy
from modgap._core.checks import check_array, check_cloud
from modgap.errors import ShapeError

__all__ = ["lift_gallery", "lift_queries"]


def lift_gallery(
    gallery: Float[Array, "n d"], *, center: Float[Array, " d"]
) -> Float[Array, "n e"]:
    """Return the items (x - c, |x - c|^2 / 2), shape (n, d + 1), in their own dtype.

    Their products with lifted queries are (|y - c|^2 - |y - x|^2) / 2: the largest one is the smallest
    distance. They no longer have one length, so compare them by inner product.

    Parameters
    ----------
    gallery : array (n, d), floating
    center : array (d,)
        The same for both sides. Near the gallery's mean it saves digits.

    Raises
    ------
    DataError, ShapeError
        The gallery is no finite cloud, or the centre has another dimension.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.array([[3.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 0.0]])
    >>> c = np.zeros(2)
    >>> (lift_queries(y, center=c) @ lift_gallery(x, center=c).T).tolist()
    [[-1.5, 0.0]]
    """
    rows = _about(gallery, center, "gallery")
    xp = namespace(rows)
    last = 0.5 * xp.expand_dims(xp.vecdot(rows, rows), axis=1)
    return xp.astype(xp.concat([rows, last], axis=1), gallery.dtype, copy=False)


def lift_queries(
    queries: Float[Array, "m d"], *, center: Float[Array, " d"]
) -> Float[Array, "m e"]:
    """Return the queries (y - c, -1), shape (m, d + 1), for items that `lift_gallery` made.

    Parameters
    ----------
    queries : array (m, d), floating
    center : array (d,)
        The one that the gallery was lifted about.

    Raises
    ------
    DataError, ShapeError
        As `lift_gallery`.
    """
    rows = _about(queries, center, "queries")
    xp = namespace(rows)
    return xp.astype(
        xp.concat([rows, -xp.ones_like(rows[:, :1])], axis=1), queries.dtype, copy=False
    )


def _about(rows: Array, center: Array, name: str) -> Array:
    rows = check_cloud(rows, name)
    center = check_array(center, "center", ndim=1)
    if center.shape[0] != rows.shape[1]:
        raise ShapeError(
            f"`center` must have the dimension of `{name}`, {rows.shape[1]}; got {center.shape[0]}"
        )
    return as_float64(rows) - asarray_like(to_numpy(center), as_float64(rows))
