"""Affine maps of embeddings, and closures: the fitted pair, one map for each modality."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap._arrays import (
    Array,
    asarray_like,
    is_numpy_array,
    namespace,
    normalize_rows,
    working_float,
)
from modgap._validate import METRICS, check_choice, check_cloud
from modgap.errors import ClosureError, FormatError, ShapeError

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["AffineMap", "Closure"]

#: Version of the file layout; readers refuse files with a later one.
FORMAT_VERSION = 1
_PARTS = ("center", "left", "right", "scale", "shift")


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
            all(getattr(self, part) is None for part in _PARTS)
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
            return np.diag(np.broadcast_to(np.asarray(self.scale, dtype=np.float64), (self.width,)))
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

    def __call__(self, rows: Float[Array, "... d"], /) -> Float[Array, "... e"]:
        """Return the mapped rows; library, device and dtype follow the input, which is not changed.

        Raises
        ------
        ClosureError
            The rows have another width than the map.
        """
        if rows.shape[-1] != self.width:
            raise ClosureError(
                f"this map was fitted for embeddings of dimension {self.width}; "
                f"got rows of dimension {rows.shape[-1]}"
            )
        if self.is_identity:
            return rows
        xp = namespace(rows)
        out = working_float(rows)
        if self.normalize_input:
            out = normalize_rows(out)
        out = self._affine(out)
        if self.normalize_output:
            out = normalize_rows(out)
        return xp.astype(out, rows.dtype, copy=False)

    def stream(self, blocks: Iterable[Array], /) -> Iterator[Array]:
        """Yield the mapped blocks one by one."""
        for block in blocks:
            yield self(block)

    def then(self, other: AffineMap, /) -> AffineMap:
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

    def _affine(self, rows: Array) -> Array:
        """Multiply once or twice, whichever is cheaper, and add everything constant in one go."""
        if all(getattr(self, part) is None for part in _PARTS):
            return rows
        offset = self._like("offset", self.offset, rows)
        if self.left is None:
            return (rows if self.scale is None else self._scaled(rows)) + offset
        xp = namespace(rows)
        two_steps = self.left.shape[1] * (self.width + self.output_width)
        if self.right is None or two_steps >= self.width * self.output_width:
            matrix = self.matrix
            assert matrix is not None  # `left` is there
            product = xp.matmul(rows, self._like("matrix", matrix, rows))
        else:
            product = xp.matmul(rows, self._like("left", self.left, rows))
            product = xp.matmul(product, self._like("right", self._scaled_right, rows))
            if self.residual:
                product += rows if self.scale is None else self._scaled(rows)
        product += offset
        return product

    def _scaled(self, rows: Array) -> Array:
        scale = np.broadcast_to(np.asarray(self.scale), (self.width,))
        return rows * self._like("scale", scale, rows)

    def _like(self, name: str, values: np.ndarray, rows: Array) -> Array:
        """Return constants as the rows are; NumPy's are kept, for a stream asks for every block."""
        if not is_numpy_array(rows):
            return asarray_like(values, rows, dtype=rows.dtype)
        key = (name, rows.dtype.str)
        if key not in self._casts:
            self._casts[key] = np.asarray(values, dtype=rows.dtype)
        return self._casts[key]

    @cached_property
    def _scaled_right(self) -> np.ndarray:
        assert self.right is not None
        return self.right if self.scale is None else self.right * self.scale

    @cached_property
    def _casts(self) -> dict[tuple[str, str], np.ndarray]:
        return {}


@dataclass(frozen=True, eq=False)
class Closure:
    """A fitted closer: one map for the queries, one for the gallery, and what they promise.

    Attributes
    ----------
    method : str
        Name of the closer.
    queries, gallery : AffineMap
    metric : {"euclidean", "ip", "cosine"}
        Metric of the decisions that the closer was fitted for.
    comparison : {"euclidean", "ip", "cosine"}
        How mapped queries and mapped items are to be compared. It differs from `metric` for the
        exact closers under cosine: unit rows are compared by Euclidean distance once moved.
    exact : bool
        Whether every decision stays as it was, ties and rounding aside.
    alpha : float, optional
        Share of the gap that is closed; None where the method has no such setting.
    n_components : int, optional
        Principal components of the gallery that were used; None where the method uses none.
    rank : int, optional
        Numerical rank of the gallery.
    info : dict
        Where the closure comes from: row counts, gap before, package version.

    Examples
    --------
    >>> import numpy as np
    >>> from modgap import closers
    >>> rng = np.random.default_rng(0)
    >>> queries, gallery = rng.normal(size=(9, 4)) + 2, rng.normal(size=(3, 4))
    >>> closure = closers.fit("affine", queries, gallery)
    >>> closure.exact, closure.apply_queries(queries).shape
    (True, (9, 4))
    """

    method: str
    queries: AffineMap
    gallery: AffineMap
    metric: str = "euclidean"
    comparison: str = "euclidean"
    exact: bool = False
    alpha: float | None = None
    n_components: int | None = None
    rank: int | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def apply_queries(self, queries: Float[Array, "m d"], /) -> Float[Array, "m e"]:
        """Return the queries after closing, shape (m, e); checks the input first."""
        return self._apply(self.queries, queries, "queries")

    def apply_gallery(self, gallery: Float[Array, "n d"], /) -> Float[Array, "n e"]:
        """Return the gallery after closing, shape (n, e); checks the input first."""
        return self._apply(self.gallery, gallery, "gallery")

    def _apply(self, side: AffineMap, rows: Array, name: str) -> Array:
        rows = check_cloud(rows, name, zero_rows=not side.normalize_input, ndim=(2, 3))
        return side(rows)

    def check_metric(self, metric: str) -> None:
        """Raise a ClosureError if decisions are taken under another metric than the fitted one."""
        if metric != self.metric:
            raise ClosureError(
                f"this closure was fitted for metric {self.metric!r} and is used under {metric!r}; "
                f"fit it again with metric={metric!r}"
            )

    def then(self, other: Closure, /) -> Closure:
        """Return the closure that applies this one first; exact only if both are."""
        other.check_metric(self.comparison)
        return replace(
            self,
            method=f"{self.method}+{other.method}",
            queries=self.queries.then(other.queries),
            gallery=self.gallery.then(other.gallery),
            comparison=other.comparison,
            exact=self.exact and other.exact,
            alpha=None,
            n_components=None,
        )

    def save(self, path: str | Path, /) -> Path:
        """Write the closure as one safetensors file (atomically) and return its path.

        The header's metadata holds one JSON document under the key "modgap": format version,
        method, metric, promises, and provenance.
        """
        import safetensors.numpy

        from modgap.io.atomic import atomic_path

        tensors = {}
        header: dict[str, Any] = {"format_version": FORMAT_VERSION, "info": dict(self.info)}
        for name in ("method", "metric", "comparison", "exact", "alpha", "n_components", "rank"):
            header[name] = getattr(self, name)
        for side in ("queries", "gallery"):
            fitted: AffineMap = getattr(self, side)
            header[side] = {
                "width": fitted.width,
                "residual": fitted.residual,
                "normalize_input": fitted.normalize_input,
                "normalize_output": fitted.normalize_output,
            }
            for part in _PARTS:
                value = getattr(fitted, part)
                if value is not None:
                    tensors[f"{side}.{part}"] = np.asarray(value, dtype=np.float64, order="C")
        if not tensors:  # safetensors files hold one tensor at least
            tensors["queries.none"] = np.zeros(1)
        target = Path(path)
        with atomic_path(target) as temporary:
            safetensors.numpy.save_file(tensors, temporary, metadata={"modgap": json.dumps(header)})
        return target

    @classmethod
    def load(cls, path: str | Path, /) -> Closure:
        """Return the closure in a file that `save` wrote.

        Raises
        ------
        FormatError
            The file is missing, broken, from elsewhere, or of a later format version.
        """
        header, tensors = _read_closure_file(Path(path))
        try:
            sides = {
                side: _read_map(header[side], tensors, side) for side in ("queries", "gallery")
            }
            return cls(
                queries=sides["queries"],
                gallery=sides["gallery"],
                method=str(header["method"]),
                metric=check_choice(header["metric"], "metric", METRICS),
                comparison=check_choice(header["comparison"], "comparison", METRICS),
                exact=bool(header["exact"]),
                alpha=header["alpha"],
                n_components=header["n_components"],
                rank=header["rank"],
                info=dict(header["info"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"`{path}` is a damaged closure file ({error!r}); fit it again"
            ) from None


def _read_closure_file(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as handle:
            metadata = handle.metadata() or {}
            if "modgap" not in metadata:  # before any tensor: NumPy lacks some of others' types
                raise FormatError(
                    f"`{path}` is a safetensors file, but no closure of modgap; "
                    "write one with modgap close"
                )
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise FormatError(f"no closure file at `{path}`") from None
    except FormatError:
        raise
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise FormatError(f"`{path}` is no readable safetensors file: {error}") from None
    try:
        header = json.loads(metadata["modgap"])
        version = int(header["format_version"])
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"`{path}` has a damaged closure header; fit it again") from None
    if version > FORMAT_VERSION:
        raise FormatError(
            f"`{path}` has closure format {version}; this modgap reads up to {FORMAT_VERSION}: upgrade it"
        )
    return header, tensors


def _read_map(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], side: str) -> AffineMap:
    parts: dict[str, Any] = {part: tensors.get(f"{side}.{part}") for part in _PARTS}
    width = int(header["width"])
    left, right = parts["left"], parts["right"]
    inner = width if left is None else left.shape[-1]
    output = inner if right is None else right.shape[-1]
    expected = {
        "center": (width,),
        "left": (width, inner),
        "right": (inner, output),
        "scale": (output,),
        "shift": (output,),
    }
    for part, value in parts.items():
        if value is None:
            continue
        if value.shape != expected[part] and not (part == "scale" and value.ndim == 0):
            raise ValueError(f"{side}.{part} has shape {value.shape}, not {expected[part]}")
        if not np.isfinite(value).all():
            raise ValueError(f"{side}.{part} holds NaN or infinity")
    scale = parts["scale"]
    if scale is not None and scale.ndim == 0:
        parts["scale"] = float(scale)
    return AffineMap(
        width=width,
        residual=bool(header["residual"]),
        normalize_input=bool(header["normalize_input"]),
        normalize_output=bool(header["normalize_output"]),
        **parts,
    )
