"""The door of every measure: arrays, or moments, become clouds that were checked once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from modgap._core.arrays import (
    Array,
    as_float64,
    block_slices,
    namespace,
    row_norms,
    scale_range,
)
from modgap._core.checks import (
    check_cloud,
    check_directions,
    check_lengths,
    check_same_width,
)
from modgap._core.clouds import Cloud
from modgap._core.moments import Moments
from modgap.errors import ShapeError

__all__ = ["open_cloud", "open_clouds", "open_pairs", "row_lengths"]


def open_cloud(
    x: Any,
    name: str,
    *,
    normalize: bool = True,
    directions: bool | None = None,
    min_rows: int = 1,
    moments: Moments | None = None,
    whole: bool = False,
) -> Cloud:
    """Return an array, or moments, as a cloud: the door of every measure.

    One pass over the values finds what is not finite, rows without direction, and the lengths. A
    cloud goes through as it is, and moments are taken as those of the rows as they are measured.

    Parameters
    ----------
    x : array (n, d), Moments or Cloud
    name : str
        For messages.
    normalize : bool
        Measure the rows as rows of unit length.
    directions : bool, optional
        Refuse rows of length zero; where `normalize` says so by default.
    min_rows : int
    moments : Moments, optional
        Of the rows as they are measured, if they are there already.
    whole : bool
        Moments will be asked for: take the centre from them.

    Raises
    ------
    DataError
        A value is NaN, infinite or too large to be squared; a row has no direction.
    ShapeError
        The shape is wrong, or there are too few rows.
    """
    if isinstance(x, Moments):
        x = _cloud_of_moments(x)
    if isinstance(x, Cloud):
        if x.count < min_rows:
            raise ShapeError(
                f"`{name}` must have at least {min_rows} row(s); got shape {(x.count, x.width)}"
            )
        return x.need_directions() if directions and x.rows is not None else x
    x = check_cloud(x, name, min_rows=min_rows, finite=False)
    x = x.detach() if hasattr(x, "detach") else x
    lengths = row_lengths(x)
    check_lengths(x, lengths, name)
    needs_directions = normalize if directions is None else directions
    if needs_directions and not bool(namespace(lengths).all(lengths >= scale_range(x)[0])):
        check_directions(x, name)
    if moments is not None and (moments.count, moments.width) != tuple(x.shape):
        raise ShapeError(
            f"`moments` of `{name}` must be of its rows {tuple(x.shape)}; got those of "
            f"{(moments.count, moments.width)}"
        )
    return Cloud(x, normalize, lengths, known=moments, whole=whole)


def open_clouds(
    queries: Any,
    gallery: Any,
    *,
    names: tuple[str, str] = ("queries", "gallery"),
    moments: tuple[Moments | None, Moments | None] = (None, None),
    **options: Any,
) -> tuple[Cloud, Cloud]:
    """Return two clouds of one width and library; options are those of `open_cloud`."""
    ours = open_cloud(queries, names[0], moments=moments[0], **options)
    theirs = open_cloud(gallery, names[1], moments=moments[1], **options)
    if not isinstance(queries, Cloud) or not isinstance(gallery, Cloud):
        check_same_width(_shown(ours), names[0], _shown(theirs), names[1])
    return ours, theirs


def open_pairs(
    a: Any, b: Any, *, names: tuple[str, str] = ("a", "b"), **options: Any
) -> tuple[Cloud, Cloud]:
    """Return two clouds whose row i belongs together."""
    first, second = open_clouds(a, b, names=names, **options)
    if first.count != second.count:
        raise ShapeError(
            f"`{names[0]}` and `{names[1]}` must pair row by row; got {first.count} and "
            f"{second.count} rows"
        )
    return first, second


def _shown(cloud: Cloud) -> Array:
    """Return what says width and library of a cloud."""
    return cloud.moments.mean[None, :] if cloud.rows is None else cloud.rows


def _cloud_of_moments(moments: Moments) -> Cloud:
    """Return moments as a cloud, of unit rows where the lengths that were seen say so."""
    off = max(abs(moments.shortest - 1.0), abs(moments.longest - 1.0))
    # A coordinate rounded to eps moves a unit row's length by that much at most.
    is_unit = off <= max(moments.eps, 4 * math.sqrt(moments.width) * moments.product_eps)
    return Cloud(None, is_unit, None, known=moments)


def row_lengths(x: Array) -> Array:
    """Return the lengths of the rows, shape (n,), float64; not finite where a row is not."""
    found = []
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in block_slices(x.shape[0], x.shape[1]):
            found.append(row_norms(as_float64(x[rows, :])))
    return found[0] if len(found) == 1 else namespace(x).concat(found)
