"""Closures: the fitted pair of maps, what it promises, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap._core.arrays import Array
from modgap._core.checks import check_cloud
from modgap.closers.maps import PARTS, AffineMap
from modgap.decisions.metric import COSINE, Metric, as_metric
from modgap.errors import ClosureError, FormatError

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Closure"]

#: Version of the file layout; readers refuse files with a later one.
FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Closure:
    """A fitted closer: one map for the queries, one for the gallery, and what they promise.

    Attributes
    ----------
    method : str
        Name of the closer.
    queries, gallery : AffineMap
    metric : {"cosine", "ip", "euclidean"}
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
    metric: Metric = COSINE
    comparison: Metric = COSINE
    exact: bool = False
    alpha: float | None = None
    n_components: int | None = None
    rank: int | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def apply_queries(self, queries: Float[Array, "m d"]) -> Float[Array, "m e"]:
        """Return the queries after closing, shape (m, e); checks the input first."""
        return self._apply(self.queries, queries, "queries")

    def apply_gallery(self, gallery: Float[Array, "n d"]) -> Float[Array, "n e"]:
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

    def then(self, other: Closure) -> Closure:
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

    def save(self, path: str | Path) -> Path:
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
            for part in PARTS:
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
    def load(cls, path: str | Path) -> Closure:
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
                metric=as_metric(header["metric"]),
                comparison=as_metric(header["comparison"]),
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
    parts: dict[str, Any] = {part: tensors.get(f"{side}.{part}") for part in PARTS}
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
