"""Arrays of every library through one door: namespaces, devices, dtypes, and blocks of rows.

This is the only module that imports array-api-compat. The rest of the core asks here for a namespace
and writes plain Array API code, so results follow the input: its library, its device, its dtype.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated as Float
from typing import Annotated as Int
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import (
    array_namespace as _array_namespace,
)
from array_api_compat import (
    device,
    is_array_api_obj,
    is_cupy_array,
    is_jax_array,
    is_numpy_array,
    is_torch_array,
    to_device,
)

from modgap._core.halves import widen_halves
from modgap._core.memory import block_elements
from modgap.errors import DataError

__all__ = [
    "Array",
    "Float",
    "Int",
    "RowBlock",
    "as_float64",
    "asarray_like",
    "bincount",
    "block_slices",
    "bytes_as_integers",
    "cache_elements",
    "constant_like",
    "device",
    "device_elements",
    "dtype_eps",
    "float64",
    "gather_rows",
    "is_array",
    "is_cupy_array",
    "is_jax_array",
    "is_kept",
    "is_numpy_array",
    "is_torch_array",
    "longest_row",
    "namespace",
    "normalize_rows",
    "row_norms",
    "scale_range",
    "stack_rows",
    "to_numpy",
    "working_float",
]

#: An array of any library. `Float[Array, "n d"]` and `Int[Array, "m k"]` name what it holds and its
#: axes, as jaxtyping would, for the reader: checkers and `typing.get_type_hints` see the array alone.
Array: TypeAlias = Any

#: Elements that one temporary block may hold; 4 Mi float64 values are 32 MiB.
BLOCK_ELEMENTS = 4 * 1024 * 1024

# The same for temporaries that are gone over several times.
_CACHE_ELEMENTS = 256 * 1024
_DEVICE_ELEMENTS = 16 * 1024 * 1024
# And for those of one step, where a device has room and each of its steps costs a start.
_DEVICE_BLOCK = 128 * 1024 * 1024


def is_array(x: object) -> bool:
    """Whether `x` is an array of a library that follows the Array API standard."""
    return bool(is_array_api_obj(x))


def namespace(*arrays: Array) -> Any:
    """Return the Array API namespace that the arrays share."""
    return _array_namespace(*arrays)


def float64(xp: Any) -> Any:
    """Return the namespace's float64, or say how to switch it on (JAX hides it by default)."""
    if "jax" in xp.__name__:
        import jax

        if not jax.config.jax_enable_x64:
            raise DataError(
                "JAX computes in 32 bits here, too few for these statistics; call "
                'jax.config.update("jax_enable_x64", True) first'
            )
    return xp.float64


def as_float64(x: Array) -> Array:
    """Return `x` in float64, the same object where it already is."""
    xp = namespace(x)
    return xp.astype(x, float64(xp), copy=False)


def working_float(x: Array) -> Array:
    """Return `x` in the precision that products are made in: float32 for half floats, else its own."""
    xp = namespace(x)
    if x.dtype in (xp.float32, xp.float64):
        return x
    if is_numpy_array(x) and x.dtype == np.float16:
        return widen_halves(x)
    return xp.astype(x, xp.float32)


def dtype_eps(x: Array) -> float:
    """Return the unit of rounding of the floats in `x`, for example 1.2e-7 for float32."""
    name = str(x.dtype)
    if "bfloat16" in name:
        return 2.0**-7
    if "float16" in name:
        return float(np.finfo(np.float16).eps)
    return float(np.finfo(np.float32 if "float32" in name else np.float64).eps)


def asarray_like(values: Any, like: Array, *, dtype: Any = None) -> Array:
    """Return host values as an array of the library and on the device of `like`.

    `dtype` is one of that library's; without it the values keep theirs. Memory is shared with `values`
    where the library can.
    """
    xp = namespace(like)
    values = np.asarray(values, order="C")  # torch takes no array that runs backwards
    if not values.flags.writeable:  # it warns about sharing memory that it must not write to
        values = values.copy()
    return xp.asarray(values, dtype=dtype, device=device(like))


def constant_like(values: np.ndarray, like: Array) -> Array:
    """Return host values as `asarray_like` does, in the dtype of `like`, fit to be kept for other calls.

    What PyTorch makes in inference mode may never take part in a gradient; this may.
    """
    if not is_torch_array(like):
        return asarray_like(values, like, dtype=like.dtype)
    import torch

    with torch.inference_mode(False):
        return asarray_like(values, like, dtype=like.dtype)


def is_kept(values: Array) -> bool:
    """Whether an array outlives the call that made it: not so what JAX traces."""
    if not is_jax_array(values):
        return True
    import jax

    return not isinstance(values, jax.core.Tracer)


def to_numpy(x: Array) -> np.ndarray:
    """Return `x` as a NumPy array on the host, without a copy where possible."""
    if is_numpy_array(x):
        return np.asarray(x)
    if is_torch_array(x):
        x = x.detach().cpu()
        return np.asarray(x.float() if "bfloat16" in str(x.dtype) else x)
    if is_cupy_array(x):
        return np.asarray(x.get())
    if is_jax_array(x):
        return np.asarray(x)
    where = device(x)
    host = "cpu"
    if "array_api_strict" in type(where).__module__:  # it has a device class and names of its own
        host = type(where)("CPU_DEVICE")
    return np.from_dlpack(to_device(x, host))


def block_slices(
    rows: int, row_elements: int, *, elements: int = BLOCK_ELEMENTS
) -> Iterator[slice]:
    """Yield slices that cut `rows` rows into blocks of about `elements` values, one row at least.

    Where memory ran out before, of fewer (see `memory.halving`).
    """
    step = max(1, block_elements(elements) // max(1, row_elements))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def cache_elements(x: Array) -> int:
    """Return how many elements a temporary may hold that stays in a core's cache.

    Off the host, where every operation costs a launch: that fills a device.
    """
    return _CACHE_ELEMENTS if is_numpy_array(x) else _DEVICE_ELEMENTS


def device_elements(x: Array, elements: int) -> int:
    """Return how many elements a block may have: on the host so many, off it as many as fill a device."""
    return elements if is_numpy_array(x) else max(elements, _DEVICE_BLOCK)


def row_norms(x: Array) -> Array:
    """Return the Euclidean length of each row, shape (n,), in the dtype of `x`."""
    xp = namespace(x)
    if is_torch_array(x):  # its product of rows would write all squares down first
        return xp.linalg.vector_norm(x, axis=-1)
    return xp.sqrt(xp.vecdot(x, x))


def longest_row(x: Array) -> float:
    """Return the largest length of a row, also where its square leaves the dtype's range."""
    xp = namespace(x)
    with np.errstate(over="ignore"):
        longest = float(xp.max(row_norms(x)))
    if math.isfinite(longest):
        return longest
    peak = float(xp.max(xp.abs(x)))
    return peak * float(xp.max(row_norms(x / peak)))


def normalize_rows(x: Array) -> Array:
    """Return the rows scaled to unit length; a zero row stays zero."""
    xp = namespace(x)
    with np.errstate(over="ignore"):  # rows whose squares leave the dtype's range are scaled first
        norms = xp.expand_dims(row_norms(x), axis=-1)
    low, high = scale_range(x)
    least, most = to_numpy(xp.stack([xp.min(norms), xp.max(norms)]))
    if not (low <= least and most <= high):
        peaks = xp.max(xp.abs(x), axis=-1, keepdims=True)
        x = x / xp.where(peaks > 0, peaks, xp.ones_like(peaks))
        norms = xp.expand_dims(row_norms(x), axis=-1)
    return x / xp.where(norms > 0, norms, xp.ones_like(norms))


def scale_range(x: Array) -> tuple[float, float]:
    """Return the least and the largest value whose squares can be summed in the dtype of `x`.

    Float32 and half floats: 2^-60 to 2^50 (9e-19 to 1e15). Float64: 2^-240 to 2^240 (6e-73 to 2e72),
    which leaves room for fourth powers too.
    """
    return (2.0**-240, 2.0**240) if "64" in str(x.dtype) else (2.0**-60, 2.0**50)


def gather_rows(x: Array, rows: Array) -> Array:
    """Return `x[rows]` for an index array of any shape, shape (*rows.shape, d)."""
    xp = namespace(x)
    flat = xp.take(x, xp.reshape(rows, (-1,)), axis=0)
    return xp.reshape(flat, (*rows.shape, *x.shape[1:]))


def stack_rows(parts: Iterator[Array], rows: int) -> Array:
    """Return blocks of rows, `rows` in all, as one array; without holding them twice, but in JAX."""
    first = next(parts)
    if first.shape[0] == rows:
        return first
    if is_jax_array(first):  # its arrays cannot be written to
        return namespace(first).concat([first, *parts], axis=0)
    out = namespace(first).empty((rows, *first.shape[1:]), dtype=first.dtype, device=device(first))
    done = first.shape[0]
    out[:done, ...] = first
    for part in parts:
        out[done : done + part.shape[0], ...] = part
        done += part.shape[0]
    return out


def bytes_as_integers(x: Array) -> Array:
    """Return the bits of floats as integers, int64: those of float32 (half floats become such) or float64.

    The standard has no such cast; the strict reference implementation goes through the host.
    """
    xp = namespace(x)
    x = xp.astype(x, xp.float64 if "64" in str(x.dtype) else xp.float32, copy=False)
    narrow = x.dtype == xp.float32
    if is_torch_array(x) or is_numpy_array(x) or is_cupy_array(x):
        bits = x.view(xp.int32 if narrow else xp.int64)
    elif is_jax_array(x):
        import jax

        bits = jax.lax.bitcast_convert_type(x, xp.int32 if narrow else xp.int64)
    else:
        host = np.ascontiguousarray(to_numpy(x))
        bits = asarray_like(host.view(np.int32 if narrow else np.int64), x)
    return xp.astype(bits, xp.int64, copy=False)


class RowBlock:
    """Rows that are collected until a matrix product of them is worth its start.

    Parameters
    ----------
    capacity : int
        Rows that have room together; more at once have a block of their own.

    Attributes
    ----------
    rows : int
        How many are collected.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.rows = 0
        self._parts: list[Array] = []
        self._room: np.ndarray | None = None  # NumPy's are written where they stay, once

    def has_room_for(self, rows: int) -> bool:
        """Whether so many rows can be appended."""
        return self.rows == 0 or self.rows + rows <= self.capacity

    def append_difference(self, rows: Array, origin: Array) -> Array:
        """Append `rows - origin` and return it; it may be used until the block is taken."""
        start, self.rows = self.rows, self.rows + rows.shape[0]
        if not is_numpy_array(rows):
            self._parts.append(rows - origin)
            return self._parts[-1]
        if self._room is None or len(self._room) < self.rows or self._room.dtype != rows.dtype:
            self._room = np.empty((max(self.capacity, self.rows), rows.shape[1]), rows.dtype)
        return np.subtract(rows, origin, out=self._room[start : self.rows])

    def take(self) -> Array:
        """Return the rows collected, and begin anew; the next to append may be written over them."""
        count, self.rows = self.rows, 0
        if self._room is not None:
            return self._room[:count]
        parts, self._parts = self._parts, []
        return namespace(parts[0]).concat(parts, axis=0) if len(parts) > 1 else parts[0]


def bincount(indices: Array, weights: Array | None, length: int) -> Array:
    """Return the sums of `weights` (or counts) per index, shape (length,).

    The standard has no scatter-add; every library has a `bincount` of its own, and the strict
    reference implementation goes through the host.
    """
    xp = namespace(indices)
    if is_numpy_array(indices):
        return np.bincount(indices, weights=weights, minlength=length)
    if is_torch_array(indices):
        import torch

        return torch.bincount(indices, weights=weights, minlength=length)
    if is_jax_array(indices):
        import jax.numpy as jnp

        return jnp.bincount(indices, weights=weights, length=length)
    if is_cupy_array(indices):
        import cupy

        return cupy.bincount(indices, weights=weights, minlength=length)
    host = np.bincount(
        to_numpy(indices),
        weights=None if weights is None else to_numpy(weights),
        minlength=length,
    )
    return xp.asarray(host, device=device(indices))
