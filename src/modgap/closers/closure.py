"""Closures: the fitted pair of maps and what it promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modgap._core.arrays import Array, Float
from modgap._core.checks import check_cloud
from modgap.closers.maps import AffineMap
from modgap.decisions.metric import COSINE, Metric
from modgap.errors import ClosureError

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
        """Write the closure as one safetensors file and return its path; see `write_closure`."""
        from modgap.closers.files import write_closure

        return write_closure(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Closure:
        """Return the closure in a file that `save` wrote; see `read_closure` for the errors."""
        from modgap.closers.files import read_closure

        return read_closure(path)
