"""Affine maps of embeddings: the one implementation behind every closer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modgap._core.arrays import (
    Array,
    Float,
    block_slices,
    constant_like,
    device,
    device_elements,
    is_kept,
    is_numpy_array,
    namespace,
    normalize_rows,
    stack_rows,
    working_float,
)
from modgap._core.checks import check_array
from modgap._core.memory import halving
from modgap.errors import ClosureError, ShapeError

__all__ = ["PARTS", "AffineMap", "apply_constants"]

#: Elements of rows that are mapped at once: 2 MiB of float32.
_PIECE_ELEMENTS = 512 * 1024
#: The arrays that make up a map.
PARTS = ("center", "left", "right", "scale", "shift")


@dataclass(frozen=True, eq=False)
class AffineMap:
    """The map ``z -> normalize(scale * ([z - center] + (z - center) left right) + shift)``.

    Every closer is a pair of these. The term in brackets is there when `residual` is true; the two
    normalisations only where asked for. Absent parts cost nothing: a map with a shift alone is one
    addition.

    Attributes
    ----------
    width : int
        Embedding dimension d that goes in.
    center : ndarray (d,), optional
        Subtracted first.
    left : ndarray (d, r), optional
        First factor of the linear part.
    right : ndarray (r, e), optional
        Second factor; without it the map ends in the r coordinates of `left`.
    scale : ndarray (e,) or float, optional
    shift : ndarray (e,), optional
        Added last.
    residual : bool
        Whether the identity is part of the linear map. True without `left`.
    normalize_input, normalize_output : bool
        Scale the rows to unit length before, after.

    Examples
    --------
    >>> import numpy as np
    >>> move = AffineMap(width=2, shift=np.array([1.0, 0.0]))
    >>> move(np.zeros((1, 2))).tolist()
    [[1.0, 0.0]]
    """

    width: int
    center: np.ndarray | None = None
    left: np.ndarray | None = None
    right: np.ndarray | None = None
    scale: np.ndarray | float | None = None
    shift: np.ndarray | None = None
    residual: bool = True
    normalize_input: bool = False
    normalize_output: bool = False

    @property
    def output_width(self) -> int:
        """Embedding dimension that comes out."""
        if self.right is not None:
            return int(self.right.shape[1])
        if self.left is not None:
            return int(self.left.shape[1])
        return self.width

    @property
    def is_identity(self) -> bool:
        """Whether the map returns its input unchanged."""
        return (
            all(getattr(self, part) is None for part in PARTS)
            and not self.normalize_input
            and not self.normalize_output
        )

    @property
    def is_affine(self) -> bool:
        """Whether no normalisation stands in the way: the map is `matrix` and `offset`."""
        return not (self.normalize_input or self.normalize_output)

    @cached_property
    def matrix(self) -> np.ndarray | None:
        """The linear part as one (d, e) matrix, rows times matrix; None for the identity."""
        if self.left is None:
            if self.scale is None:
                return None
            return np.diag(self._diagonal(self.scale))
        product = self.left if self.right is None else self.left @ self.right
        if self.residual:
            product = product + np.eye(self.width)
        return product if self.scale is None else product * self.scale

    @cached_property
    def offset(self) -> np.ndarray:
        """What the map does to the zero row, normalisation aside, shape (e,)."""
        start = np.zeros((1, self.width)) if self.center is None else -self.center[None, :]
        matrix = self.matrix
        moved: np.ndarray = (start if matrix is None else start @ matrix)[0]
        return moved if self.shift is None else moved + self.shift

    @cached_property
    def constants(self) -> dict[str, np.ndarray]:
        """What `apply_constants` needs beside the rows, float64; empty where it would do nothing.

        `offset` (e,), and the linear part as `matrix` (d, e), or as `left` (d, r) and `right` (r, e)
        where two products are cheaper than one; `diagonal` (d,) for what the rows keep of themselves.
        A `center` (d,) goes first where a product follows: far from the origin its digits would be lost.
        """
        if all(getattr(self, part) is None for part in PARTS):
            return {}
        scale = 1.0 if self.scale is None else self.scale
        if self.left is None:
            kept = {} if self.scale is None else {"diagonal": self._diagonal(scale)}
            return {"offset": self.offset, **kept}
        if self.center is None:
            found = {"offset": self.offset}
        else:
            shift = np.zeros(self.output_width) if self.shift is None else self.shift
            found = {"center": self.center, "offset": shift}
        two_steps = self.left.shape[1] * (self.width + self.output_width)
        if self.right is None or two_steps >= self.width * self.output_width:
            assert self.matrix is not None  # `left` is there
            return {**found, "matrix": self.matrix}
        found |= {"left": self.left, "right": self.right * scale}
        return {**found, "diagonal": self._diagonal(scale)} if self.residual else found

    def _diagonal(self, scale: np.ndarray | float) -> np.ndarray:
        return np.broadcast_to(np.asarray(scale, dtype=np.float64), (self.width,))

    def __call__(self, rows: Float[Array, "... d"]) -> Float[Array, "... e"]:
        """Return the mapped rows; library, device and dtype follow the input, which is not changed.

        Half floats come back as float32: rounded to halves again after the map, rows that were a
        hair apart would change places. Cast the result to store halves.

        Raises
        ------
        ClosureError
            The rows have another width than the map.
        DataError, ShapeError
            They are no array of floats: integers would come back cut to integers.
        """
        rows = check_array(rows, "rows", ndim=None)
        if rows.shape[-1] != self.width:
            raise ClosureError(
                f"this map was fitted for embeddings of dimension {self.width}; "
                f"got rows of dimension {rows.shape[-1]}"
            )
        if self.is_identity:
            return working_float(rows)
        if is_numpy_array(rows) or rows.ndim != 2:
            return self._mapped(rows)
        return self._mapped_on_device(rows)

    @halving
    def _mapped_on_device(self, rows: Array) -> Array:
        """Map rows of any library in blocks that leave room on a device for what comes between."""
        elements = device_elements(rows, _PIECE_ELEMENTS)
        parts = block_slices(*rows.shape, elements=elements)
        return stack_rows((self._mapped(rows[part, :]) for part in parts), rows.shape[0])

    def _mapped(self, rows: Array) -> Array:
        out = working_float(rows)
        if self.normalize_input:
            out = normalize_rows(out)
        constants = {name: self._like(name, each, out) for name, each in self.constants.items()}
        if "center" in constants and is_numpy_array(out) and out.ndim == 2:
            out = _in_pieces(out, constants)
        else:
            out = apply_constants(out, constants)
        return normalize_rows(out) if self.normalize_output else out

    def stream(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """Yield the mapped blocks one by one."""
        for block in blocks:
            yield self(block)

    def then(self, other: AffineMap) -> AffineMap:
        """Return the map that applies this one first and `other` second.

        Raises
        ------
        ClosureError
            A normalisation stands between the two, so they are not one affine map.
        ShapeError
            The widths do not meet.
        """
        if self.output_width != other.width:
            raise ShapeError(
                f"a map to dimension {self.output_width} cannot be followed by one from {other.width}"
            )
        if self.is_identity:
            return other
        if other.is_identity:
            return self
        if self.normalize_output or other.normalize_input:
            raise ClosureError(
                "maps with a normalisation between them do not compose into one affine map; "
                "apply them one after the other"
            )
        first, second = self.matrix, other.matrix
        matrix = second if first is None else first if second is None else first @ second
        moved = self.offset if second is None else self.offset @ second
        return AffineMap(
            width=self.width,
            left=matrix,
            shift=moved + other.offset,
            residual=matrix is None,
            normalize_input=self.normalize_input,
            normalize_output=other.normalize_output,
        )

    def _like(self, name: str, values: np.ndarray, rows: Array) -> Array:
        """Return constants as the rows are, moved there once: a stream asks for every block."""
        key = (name, namespace(rows).__name__, str(rows.dtype), str(device(rows)))
        if key not in self._moved:
            moved = constant_like(values, rows)
            if not is_kept(moved):
                return moved
            self._moved[key] = moved
        return self._moved[key]

    @cached_property
    def _moved(self) -> dict[tuple[str, ...], Array]:
        return {}


def _in_pieces(rows: np.ndarray, constants: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return `apply_constants` of a matrix, some rows at a time: what the centre leaves stays in cache."""
    size = max(1, _PIECE_ELEMENTS // rows.shape[1])
    if rows.shape[0] <= size or "matrix" not in constants:
        whole: np.ndarray = apply_constants(rows, constants)
        return whole
    out = np.empty((rows.shape[0], constants["offset"].shape[0]), dtype=rows.dtype)
    moved = np.empty((size, rows.shape[1]), dtype=rows.dtype)
    for start in range(0, rows.shape[0], size):
        part, into = rows[start : start + size], out[start : start + size]
        near = np.subtract(part, constants["center"], out=moved[: part.shape[0]])
        np.matmul(near, constants["matrix"], out=into)
        into += constants["offset"]
    return out


def apply_constants(rows: Array, constants: Mapping[str, Array]) -> Array:
    """Return the affine part of a map: operators alone, so that every library can compile it.

    `rows` and `constants` (of `AffineMap.constants`) are arrays of one library, dtype and device.
    """
    if not constants:
        return rows
    if "center" in constants:
        rows = rows - constants["center"]
    if "matrix" in constants:
        out = rows @ constants["matrix"]
    elif "left" in constants:
        out = rows @ constants["left"] @ constants["right"]
        if "diagonal" in constants:
            out += rows * constants["diagonal"]
    elif "diagonal" in constants:
        out = rows * constants["diagonal"]
    else:
        return rows + constants["offset"]
    out += constants["offset"]
    return out
