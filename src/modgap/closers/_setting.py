"""What a closer is given: checked settings and statistics; and the record it returns."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from modgap._core.arrays import Array, to_numpy
from modgap._core.checks import check_choice, check_components, check_number
from modgap._core.moments import Moments
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.closers.registry import METHODS, Method
from modgap.decisions.metric import INNER_PRODUCT, Metric
from modgap.errors import ArgumentError

#: How far `scaled` pushes the queries: most of what an infinite scale would give (docs/theory.md).
DEFAULT_SCALE = 4.0


@dataclass(frozen=True)
class Setting:
    """Everything a closer may use, checked; statistics on the host in float64."""

    queries: Moments
    gallery: Moments
    metric: Metric
    alpha: float
    n_components: int | float | str
    side: str
    reduce: bool
    scale: float
    query_rows: Array | None = None
    gallery_rows: Array | None = None

    @property
    def width(self) -> int:
        return self.gallery.width

    @property
    def gap(self) -> np.ndarray:
        gap: np.ndarray = to_numpy(self.queries.mean) - to_numpy(self.gallery.mean)
        return gap

    def map(self, **parts: Any) -> AffineMap:
        return AffineMap(self.width, normalize_input=self.metric.needs_directions, **parts)


def checked_setting(
    known: Method,
    queries: Moments,
    gallery: Moments,
    *,
    metric: Metric,
    alpha: float | None,
    n_components: int | float | str | None,
    side: str | None,
    reduce: bool,
    scale: float | None,
    rows: tuple[Array | None, Array | None] = (None, None),
) -> Setting:
    given = {
        "alpha": alpha,
        "n_components": n_components,
        "side": side,
        "reduce": reduce or None,
        "scale": scale,
    }
    for name, value in given.items():
        if value is not None and name not in known.takes:
            takers = [m.name for m in METHODS.values() if name in m.takes]
            raise ArgumentError(
                f"`{known.name}` has no option `{name}`; leave it out, or use {' or '.join(takers)}"
            )
    return Setting(
        queries=queries,
        gallery=gallery,
        metric=metric,
        alpha=1.0 if alpha is None else check_number(alpha, "alpha", low=-100, high=100),
        n_components="all" if n_components is None else check_components(n_components),
        side=_default_side(metric)
        if side is None
        else check_choice(side, "side", ("gallery", "queries")),
        reduce=reduce,
        scale=DEFAULT_SCALE
        if scale is None
        else check_number(scale, "scale", low=0.0, open_low=True),
        query_rows=rows[0],
        gallery_rows=rows[1],
    )


def _default_side(metric: Metric) -> str:
    """By distance the gallery moves, as in the paper; by product moving it would change nothing."""
    return "gallery" if metric.is_distance else "queries"


def closure_of(
    method: str,
    setting: Setting,
    queries: AffineMap,
    gallery: AffineMap,
    *,
    exact: bool,
    n_components: int | None = None,
    info: dict[str, Any] | None = None,
) -> Closure:
    moved_exactly = exact and setting.metric == "cosine" and method != "none"
    return Closure(
        method=method,
        queries=queries,
        gallery=gallery,
        metric=setting.metric,
        comparison=INNER_PRODUCT if moved_exactly else setting.metric,
        exact=exact,
        alpha=setting.alpha if "alpha" in METHODS[method].takes else None,
        n_components=n_components,
        rank=setting.gallery.full_axes.rank,
        info={
            "queries": setting.queries.count,
            "gallery": setting.gallery.count,
            "dimension": setting.width,
            "gap": float(np.linalg.norm(setting.gap)),
            "modgap": version("modgap"),
            **(info or {}),
        },
    )


def share_of(part: np.ndarray, whole: np.ndarray) -> float:
    size = float(np.linalg.norm(whole))
    return float(np.linalg.norm(part)) / size if size > 0 else 0.0
