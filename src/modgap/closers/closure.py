"""Closures: the fitted pair of maps and what it promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modgap._core.arrays import Array, Float
from modgap._core.checks import check_cloud
from modgap.closers.maps import AffineMap
from modgap.closers.registry import METHODS
from modgap.decisions.metric import COSINE, Metric, as_metric
from modgap.errors import ClosureError

if TYPE_CHECKING:
    from modgap.closers.summary import FitSummary

__all__ = ["Closure"]


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
        exact closers under cosine: unit rows are compared by inner product once moved.
    bound : float, optional
        How much the difference of two scores can change at most on the fitted rows, in their dtype:
        what the maps leave out, and rounding. Scores are y.x, by distance y.x - |x|^2 / 2. None for
        closers that promise nothing.
    resolution : float
        Differences below this are ties: products of the fitted rows cannot tell them apart.
    gain : float
        Factor of all mapped scores; the bound is in scores before it.
    alpha : float, optional
        Share of the gap that is closed; None where the method has no such setting.
    n_components : int, optional
        Principal components of the gallery that were used; None where the method uses none.
    rank : int, optional
        Numerical rank of the gallery.
    info : dict
        Where the closure comes from: row counts, gap before, package version.
    summary : FitSummary, optional
        Low moments of the rows of the fit, by which `modgap doctor` tells whether others are like them.

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
    bound: float | None = None
    resolution: float = 0.0
    gain: float = 1.0
    alpha: float | None = None
    n_components: int | None = None
    rank: int | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    summary: FitSummary | None = field(default=None, repr=False)

    @property
    def exact(self) -> bool:
        """Whether every decision on the fitted rows stays as it was, ties aside.

        True where `bound` is within `resolution`. Rows of another gallery are another matter:
        `evaluate` counts the answers that change on the data at hand.
        """
        return self.bound is not None and self.bound <= self.resolution

    @property
    def label(self) -> str:
        """Name in tables: the method, and the comparison where it is not the usual one."""
        known = METHODS.get(self.method)
        usual = known is None or self.comparison == known.compared_by(self.metric)
        return self.method if usual else f"{self.method}:{self.comparison}"

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
        if as_metric(metric) != self.metric:
            raise ClosureError(
                f"this closure was fitted for metric {self.metric!r} and is used under {metric!r}; "
                f"fit it again with metric={metric!r}"
            )

    def then(self, other: Closure) -> Closure:
        """Return the closure that applies this one first; the bounds of both add up."""
        other.check_metric(self.comparison)
        known = self.bound is not None and other.bound is not None
        return replace(
            self,
            method=f"{self.method}+{other.method}",
            queries=self.queries.then(other.queries),
            gallery=self.gallery.then(other.gallery),
            comparison=other.comparison,
            bound=self.bound + other.bound / self.gain if known else None,  # type: ignore[operator]
            gain=self.gain * other.gain,
            alpha=None,
            n_components=None,
            summary=None,
        )

    def to(self, device: Any, dtype: Any = None) -> Any:
        """Return both maps as layers of PyTorch on a device, for rows that live there.

        `closure.to("cuda")` maps queries when called, and has `.queries` and `.gallery`; `dtype` is
        that of its constants, float32 by default.

        Raises
        ------
        MissingExtraError
            PyTorch is not installed.
        """
        from modgap.nn import ClosureModule

        return ClosureModule(self, dtype=dtype).to(device)

    def save(self, path: str | Path) -> Path:
        """Write the closure as one safetensors file and return its path; see `write_closure`."""
        from modgap.closers.files import write_closure

        return write_closure(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Closure:
        """Return the closure in a file that `save` wrote; see `read_closure` for the errors."""
        from modgap.closers.files import read_closure

        return read_closure(path)
