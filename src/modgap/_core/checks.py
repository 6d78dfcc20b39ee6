"""Checks of what callers hand in, each in one place: arrays, clouds, pairs, indices, numbers, choices.

What one function alone asks for is checked beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from modgap._core.arrays import (
    Array,
    is_array,
    namespace,
    row_norms,
    scale_range,
    to_numpy,
    working_float,
)
from modgap.errors import ArgumentError, DataError, ShapeError


def check_array(x: Any, name: str, *, ndim: int | tuple[int, ...] | None) -> Array:
    """Return `x` as an array of floats with `ndim` axes (None: one or more); lists become NumPy's.

    NumPy's come back in the byte order of the machine, longer floats than float64 as float64.

    Raises
    ------
    DataError
        `x` is no array, or holds anything but floating-point numbers.
    ShapeError
        The number of axes is wrong.
    """
    if not is_array(x):
        try:
            x = np.asarray(x, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"`{name}` must be an array of floats; got {type(x).__name__} ({error})"
            ) from None
    if isinstance(x, np.ma.MaskedArray):
        raise DataError(f"`{name}` must have no masked values; fill them, or drop their rows")
    if isinstance(x, np.matrix):  # its products are not those of arrays
        x = np.asarray(x)
    xp = namespace(x)
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed is None and x.ndim == 0:
        raise ShapeError(f"`{name}` must have shape (..., d); got a single number")
    if allowed is not None and x.ndim not in allowed:
        axes = " or ".join({2: "(rows, d)", 3: "(t, rows, d)", 1: "(rows,)"}[k] for k in allowed)
        raise ShapeError(f"`{name}` must have shape {axes}; got {tuple(x.shape)}")
    if not _is_real_floating(x, xp):
        raise DataError(
            f"`{name}` must hold floating-point embeddings; got {x.dtype}; "
            "convert it with its scale, for example to float32"
        )
    return _of_this_machine(x) if isinstance(x, np.ndarray) else x


def _of_this_machine(x: np.ndarray) -> np.ndarray:
    """Return floats in the machine's byte order and float64 at most: products know no others."""
    dtype = np.dtype(np.float64) if x.dtype.itemsize > 8 else x.dtype.newbyteorder("=")
    return x.astype(dtype, copy=False)


def _is_real_floating(x: Array, xp: Any) -> bool:
    try:
        return bool(xp.isdtype(x.dtype, "real floating"))
    except (AttributeError, TypeError, ValueError):
        return "float" in str(x.dtype)


def check_cloud(
    x: Any,
    name: str,
    *,
    min_rows: int = 1,
    finite: bool = True,
    zero_rows: bool = True,
    ndim: int | tuple[int, ...] = 2,
) -> Array:
    """Return `x` as a cloud of embeddings, shape (n, d): floats, finite, n >= `min_rows`, d >= 1.

    `finite=False` leaves the values unread; `zero_rows=False` also refuses rows of length zero, which
    have no direction.

    Raises
    ------
    DataError
        A value is NaN or infinite, or a row has no direction.
    ShapeError
        The shape is wrong, or there are too few rows.
    """
    x = check_array(x, name, ndim=ndim)
    if x.shape[-1] < 1:
        raise ShapeError(f"`{name}` must have at least one column; got shape {tuple(x.shape)}")
    rows = math.prod(x.shape[:-1])
    if x.shape[-2] < min_rows or rows == 0:
        raise ShapeError(
            f"`{name}` must have at least {max(1, min_rows)} row(s); got shape {tuple(x.shape)}"
        )
    if finite or not zero_rows:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is looked at below
            lengths = row_norms(working_float(x))
        if finite:
            check_lengths(x, lengths, name)
        if not zero_rows:
            check_directions(x, name, lengths)
    return x


def check_lengths(x: Array, lengths: Array, name: str) -> None:
    """Raise a DataError where a row is not finite, or the largest value is outside the dtype's scale.

    The values are read again only where the lengths of the rows leave room for a doubt.
    """
    low, high = scale_range(x)
    longest = float(namespace(lengths).max(lengths))
    if low * math.sqrt(x.shape[-1]) <= longest <= high or longest == 0:
        return
    check_scale(check_finite(x, name), x, name)


def check_finite(x: Array, name: str) -> float:
    """Return the largest absolute value; raise a DataError that names the first row with NaN or inf."""
    xp = namespace(x)
    wide = xp.astype(x, xp.float32) if "16" in str(x.dtype) else x
    with np.errstate(invalid="ignore"):  # NaN comes through both, and is looked at below
        largest = max(-float(xp.min(wide)), float(xp.max(wide)))
    if math.isfinite(largest):
        return largest
    bad = to_numpy(xp.any(~xp.isfinite(x), axis=-1)).reshape(-1)
    hint = (
        "; float16 overflows above 65504, store it as float32" if "float16" in str(x.dtype) else ""
    )
    raise DataError(
        f"`{name}` row {int(bad.argmax())} (of {int(bad.sum())} such rows) holds NaN or infinity; "
        f"drop or repair it{hint}"
    )


def check_scale(largest: float, x: Array, name: str) -> None:
    """Raise a DataError unless `largest`, the largest absolute value, can be squared and summed.

    `scale_range` says between which bounds; a cloud of zeros has no scale to be wrong.
    """
    low, high = scale_range(x)
    if largest == 0 or low <= largest <= high:
        return
    verb, fate = ("divide", "overflow") if largest > high else ("multiply", "vanish")
    raise DataError(
        f"`{name}` has values up to {largest:.3g}, whose powers {fate} in {_name(x)}; the largest "
        f"must lie between {low:.2g} and {high:.2g}: {verb} all embeddings by "
        f"2**{abs(math.frexp(largest)[1])}"
    )


def _name(x: Array) -> str:
    return str(x.dtype).removeprefix("torch.")


def check_directions(x: Array, name: str, lengths: Array | None = None) -> None:
    """Raise a DataError that names the first row of length zero, or too short for a direction.

    `lengths` are those of the rows where they are known.
    """
    if lengths is None:  # in float32 or wider: squares of half floats reach 0 and infinity
        lengths = row_norms(working_float(x))
    least = scale_range(x)[0]
    if bool(namespace(lengths).any(lengths < least)):
        lengths = to_numpy(lengths).reshape(-1)
        short = lengths < least
        row = int(short.argmax())
        what = "is all zeros" if lengths[row] == 0 else f"is shorter than {least:.2g}"
        raise DataError(
            f"`{name}` row {row} (of {int(short.sum())} such rows) {what} and has no direction; "
            "drop it, or choose a metric that needs none"
        )


def check_same_width(first: Array, first_name: str, second: Array, second_name: str) -> None:
    """Raise a ShapeError unless both arrays have the same embedding dimension."""
    if first.shape[-1] != second.shape[-1]:
        raise ShapeError(
            f"`{first_name}` and `{second_name}` must share their last axis (the embedding "
            f"dimension d); got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    try:
        namespace(first, second)
    except TypeError:
        raise DataError(
            f"`{first_name}` and `{second_name}` must be arrays of one library; got "
            f"{type(first).__module__} and {type(second).__module__}"
        ) from None


def check_clouds(
    queries: Any,
    gallery: Any,
    *,
    names: tuple[str, str] = ("queries", "gallery"),
    min_rows: int = 1,
    zero_rows: bool = True,
) -> tuple[Array, Array]:
    """Return both clouds checked one by one and against each other."""
    queries = check_cloud(queries, names[0], min_rows=min_rows, zero_rows=zero_rows)
    gallery = check_cloud(gallery, names[1], min_rows=min_rows, zero_rows=zero_rows)
    check_same_width(queries, names[0], gallery, names[1])
    return queries, gallery


def check_paired(
    first: Any,
    second: Any,
    *,
    names: tuple[str, str] = ("a", "b"),
    min_rows: int = 1,
    zero_rows: bool = True,
) -> tuple[Array, Array]:
    """Return two clouds whose row i belongs together."""
    first, second = check_clouds(first, second, names=names, min_rows=min_rows, zero_rows=zero_rows)
    if first.shape[0] != second.shape[0]:
        raise ShapeError(
            f"`{names[0]}` and `{names[1]}` must pair row by row; got {first.shape[0]} and "
            f"{second.shape[0]} rows"
        )
    return first, second


def check_indices(
    x: Any, name: str, *, rows: int, below: int, low: int = 0, rows_of: str = "queries"
) -> np.ndarray:
    """Return labels on the host: shape (rows,), integers in [low, below).

    Raises
    ------
    DataError
        They are no integers, or out of range.
    ShapeError
        Their number differs from `rows`.
    """
    values = to_numpy(x) if is_array(x) else np.asarray(x)
    if values.ndim != 1:
        raise ShapeError(f"`{name}` must have shape (rows,); got {tuple(values.shape)}")
    if values.shape[0] != rows:
        raise ShapeError(
            f"`{name}` must have one entry per row of `{rows_of}`; got {values.shape[0]} for {rows}"
        )
    if not np.issubdtype(values.dtype, np.integer):
        floats = np.issubdtype(values.dtype, np.floating)
        if not floats or not np.isfinite(values).all() or (values != np.floor(values)).any():
            raise DataError(f"`{name}` must hold integer indices; got {values.dtype}")
    if values.size and (values.min() < low or values.max() >= below):
        raise DataError(
            f"`{name}` must lie in [{low}, {below}); got values from {values.min():g} "
            f"to {values.max():g}"
        )
    return values.astype(np.int64)


def check_choice(value: str, name: str, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`."""
    if value not in choices:
        raise ArgumentError(f"`{name}` must be one of {', '.join(choices)}; got {value!r}")
    return value


def check_number(
    value: Any,
    name: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
) -> float:
    """Return `value` as a finite float within [low, high] (or (low, high] with `open_low`)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ArgumentError(f"`{name}` must be a number; got {value!r}") from None
    too_low = number <= low if open_low else number < low
    if not math.isfinite(number) or too_low or number > high:
        left = "(" if open_low else "["
        raise ArgumentError(
            f"`{name}` must be finite and in {left}{low:g}, {high:g}]; got {number:g}"
        )
    return number


def check_count(value: Any, name: str, *, low: int = 1, high: int | None = None) -> int:
    """Return `value` as an int in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ArgumentError(f"`{name}` must be an integer; got {value!r}")
    if value < low or (high is not None and value > high):
        limit = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ArgumentError(f"`{name}` must be {limit}; got {value}")
    return int(value)


def check_components(value: Any) -> int | float | str:
    """Return `n_components`: an int >= 1, a float in (0, 1], or "all"."""
    if value == "all":
        return "all"
    if isinstance(value, bool):
        raise ArgumentError(f'`n_components` must be an int, a fraction or "all"; got {value!r}')
    if isinstance(value, int | np.integer):
        return check_count(value, "n_components")
    if isinstance(value, float | np.floating):
        return check_number(value, "n_components", low=0.0, high=1.0, open_low=True)
    raise ArgumentError(
        f'`n_components` must be an int, a fraction in (0, 1] or "all"; got {value!r}'
    )
