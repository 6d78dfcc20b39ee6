"""What a closer is given: statistics and checked options; and the closure it returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import modgap
from modgap._core.checks import check_choice, check_components, check_count, check_number
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.closers.registry import METHODS, Method
from modgap.closers.statistics import FAR, Statistics
from modgap.decisions.metric import Metric, as_metric
from modgap.errors import ArgumentError

#: How far `scaled` pushes the queries: most of what an infinite scale would give (docs/theory.md).
DEFAULT_SCALE = 4.0


@dataclass(frozen=True)
class Setting:
    """Everything a closer may use, checked."""

    stats: Statistics
    alpha: float
    n_components: int | float | str
    side: str
    reduce: bool
    scale: float
    compare: Metric
    rotation: int | None = 0
    shrinkage: float | None = None

    @property
    def width(self) -> int:
        return self.stats.width

    @property
    def gap(self) -> np.ndarray:
        return self.stats.gap

    @property
    def mean(self) -> np.ndarray:
        return self.stats.gallery_mean

    @cached_property
    def is_far(self) -> bool:
        """Whether the gallery lies so far from the origin that products would lose digits to it."""
        return float(np.linalg.norm(self.mean)) > FAR * self.stats.gallery.radius

    @cached_property
    def origin(self) -> np.ndarray:
        """The gallery's mean; far away in float32, so that it is the same in every dtype served.

        Any point near the mean would do; but both sides must lose the same one. Beyond the range of
        float32 there is no dtype to agree with.
        """
        if not self.is_far or np.abs(self.mean).max() > np.finfo(np.float32).max:
            return self.mean
        return self.mean.astype(np.float32).astype(np.float64)

    @property
    def unit(self) -> float:
        """Unit roundoff u of the dtype that rows are served in."""
        return self.stats.eps / 2

    def map(self, *, center: np.ndarray | None = None, **parts: Any) -> AffineMap:
        """Return a map of rows as the metric sees them."""
        unit = self.stats.metric.needs_directions
        if center is None:
            return AffineMap(self.width, normalize_input=unit, **parts)
        whole = AffineMap(self.width, center=center, normalize_input=unit, **parts)
        # Far away the centre goes first, in a pass of its own, lest the product lose its last digits.
        if self.is_far:
            return whole
        return AffineMap(self.width, normalize_input=unit, **{**parts, "shift": whole.offset})


def checked_setting(
    known: Method,
    stats: Statistics,
    *,
    alpha: float | None = None,
    n_components: int | float | str | None = None,
    side: str | None = None,
    reduce: bool = False,
    scale: float | None = None,
    compare: str | None = None,
    rotation: int | str | None = None,
    shrinkage: float | None = None,
) -> Setting:
    """Return the options of a method, those that it does not take refused."""
    check_taken(
        known,
        alpha=alpha,
        n_components=n_components,
        side=side,
        reduce=reduce,
        scale=scale,
        compare=compare,
        rotation=rotation,
        shrinkage=shrinkage,
    )
    comparison = _comparison(known, stats.metric, compare)
    sides = ("gallery", "queries")
    return Setting(
        stats=stats,
        alpha=1.0 if alpha is None else check_number(alpha, "alpha", low=-100, high=100),
        n_components="all" if n_components is None else check_components(n_components),
        side=_default_side(comparison) if side is None else check_choice(side, "side", sides),
        reduce=reduce,
        scale=DEFAULT_SCALE
        if scale is None
        else check_number(scale, "scale", low=0.0, open_low=True),
        compare=comparison,
        rotation=_rotation(rotation),
        shrinkage=None
        if shrinkage is None
        else check_number(shrinkage, "shrinkage", low=0, high=1),
    )


def check_taken(known: Method, **options: Any) -> None:
    """Raise an ArgumentError for an option that is given (not None, not False) and not taken."""
    for name, value in options.items():
        if value is not None and value is not False and name not in known.takes:
            takers = [m.name for m in METHODS.values() if name in m.takes]
            raise ArgumentError(
                f"`{known.name}` has no option `{name}`; leave it out, or use {' or '.join(takers)}"
            )


def _rotation(value: int | str | None) -> int | None:
    """Return the seed of a rotation, 0 by default; None for no rotation."""
    if value is None:
        return 0
    if value == "none":
        return None
    if isinstance(value, str):
        raise ArgumentError(f'`rotation` must be a seed >= 0 or "none"; got {value!r}')
    return check_count(value, "rotation", low=0)


def _comparison(known: Method, metric: Metric, compare: str | None) -> Metric:
    """Return how mapped rows are to be compared."""
    if compare is not None:
        chosen = as_metric(compare)
        if chosen.needs_directions and not metric.needs_directions:
            raise ArgumentError(
                f"`compare` must be ip or euclidean where decisions are taken by {metric}; got cosine"
            )
        if chosen.needs_directions and known.name != "none":
            raise ArgumentError(
                f"`{known.name}` moves rows off the sphere, where cosines change; compare by ip or "
                "euclidean"
            )
        return chosen
    return known.compared_by(metric)


def _default_side(comparison: Metric) -> str:
    """By distance the gallery moves, as in the paper; by product moving it would change nothing."""
    return "gallery" if comparison.is_distance else "queries"


def closure_of(
    method: str,
    s: Setting,
    queries: AffineMap,
    gallery: AffineMap,
    *,
    bound: float | None = None,
    gain: float = 1.0,
    n_components: int | None = None,
    info: dict[str, Any] | None = None,
) -> Closure:
    """Return the closure of two fitted maps; without a `bound` it promises nothing."""
    stats = s.stats
    if bound is not None and stats.gallery.count == 1:
        bound = 0.0  # one item has no rival
    return Closure(
        method=method,
        queries=queries,
        gallery=gallery,
        metric=stats.metric,
        comparison=s.compare,
        bound=bound,
        resolution=stats.resolution,
        gain=gain,
        alpha=s.alpha if "alpha" in METHODS[method].takes else None,
        n_components=n_components,
        rank=stats.axes.rank,
        info={
            "queries": stats.query_count,
            "gallery": stats.gallery.count,
            "dimension": stats.width,
            "gap": float(np.linalg.norm(stats.gap)),
            "modgap": modgap.__version__,
            **(info or {}),
        },
    )


def share_of(part: np.ndarray, whole: np.ndarray) -> float:
    """Return |part| / |whole|, 0 where there is no whole."""
    size = float(np.linalg.norm(whole))
    return float(np.linalg.norm(part)) / size if size > 0 else 0.0
