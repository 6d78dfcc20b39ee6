"""Closers: from the statistics of two modalities to a `Closure`, a pair of affine maps.

    from modgap import closers
    closure = closers.fit("affine", queries, gallery)

`METHODS` lists every closer and what it takes. Most need the moments of both clouds alone, so they
can be fitted to streams with `fit_moments`; `realign` and `procrustes` look at rows again.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap._arrays import Array, as_float64, normalize_rows, to_numpy
from modgap._validate import (
    check_choice,
    check_clouds,
    check_components,
    check_metric,
    check_number,
    check_paired,
)
from modgap.errors import ArgumentError, ClosureWarning, ShapeError
from modgap.maps import AffineMap, Closure
from modgap.moments import Moments, cross_scatter, principal_axes

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["METHODS", "Method", "fit", "fit_moments"]

#: Below this share of the gap, a closer has so little left to remove that it says so.
_LITTLE = 0.01
_REALIGN_ROUNDS = 50


@dataclass(frozen=True)
class Method:
    """What a closer takes and promises.

    Attributes
    ----------
    name, summary : str
    takes : frozenset of str
        Which of "alpha", "n_components", "side", "reduce" it knows.
    needs : {"moments", "rows", "pairs"}
        What it is fitted from.
    source : str
        Key in docs/references.bib.
    """

    name: str
    summary: str
    takes: frozenset[str]
    needs: str
    source: str


def _method(
    name: str, summary: str, takes: str = "", needs: str = "moments", source: str = ""
) -> Method:
    return Method(name, summary, frozenset(takes.split()), needs, source)


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        _method("none", "leave both sides as they are"),
        _method("recenter", "subtract the gallery's mean from both sides"),
        _method(
            "orthogonal",
            "move one side along the part of the gap that is orthogonal to the gallery",
            takes="alpha n_components side",
            source="chowers2026gap",
        ),
        _method(
            "affine",
            "project the queries onto the affine hull of the gallery",
            takes="alpha n_components reduce",
        ),
        _method(
            "mean-shift",
            "move both sides half the gap towards each other and renormalise",
            takes="alpha",
            source="liang2022mind",
        ),
        _method(
            "center",
            "subtract each modality's own mean and renormalise",
            takes="alpha",
            source="grclip2025",
        ),
        _method("standardize", "z-score each modality and renormalise"),
        _method(
            "realign",
            "give the gallery the mean and the total variance of the queries on the sphere",
            needs="rows",
            source="yu2026realign",
        ),
        _method(
            "procrustes",
            "centre each modality and rotate the queries onto their partners",
            needs="pairs",
            source="schonemann1966",
        ),
        _method(
            "erase",
            "remove the direction that tells the modalities apart, with the least change (LEACE)",
            takes="alpha",
            source="belrose2023leace",
        ),
    )
}


@dataclass(frozen=True)
class _Setting:
    """Everything a closer may use, checked; statistics on the host in float64."""

    queries: Moments
    gallery: Moments
    metric: str
    alpha: float
    n_components: int | float | str
    side: str
    reduce: bool
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
        return AffineMap(self.width, normalize_input=self.metric == "cosine", **parts)


def fit(
    method: str,
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    /,
    *,
    metric: str = "euclidean",
    alpha: float | None = None,
    n_components: int | float | str | None = None,
    side: str | None = None,
    reduce: bool = False,
) -> Closure:
    """Return the closure that a closer fits to two clouds. Neither cloud is changed.

    Parameters
    ----------
    method : str
        A key of `METHODS`.
    queries : array (m, d), floating
        What searches. `procrustes` needs row i of both clouds to belong together.
    gallery : array (n, d), floating
        The items that are searched: one gallery at a time.
    metric : {"euclidean", "ip", "cosine"}
        How decisions are taken. Under cosine the maps normalise rows first.
    alpha : float, optional
        Share of the gap to close; 1 by default, past 1 overshoots, 0 leaves the gap.
    n_components : int, float in (0, 1], or "all", optional
        Principal components of the gallery to keep decisions along; "all" by default, which is
        the setting with a guarantee.
    side : {"gallery", "queries"}, optional
        Which side `orthogonal` moves: the gallery by default; by inner product the queries, since
        moving the gallery there changes nothing, neither decisions nor their stability.
    reduce : bool
        `affine` only: return the r coordinates within the gallery's hull instead of d.

    Raises
    ------
    ArgumentError
        An unknown method, or an option that the method does not take.
    DataError, ShapeError
        The clouds do not fit together, hold NaN, or have zero rows under cosine.

    Warns
    -----
    ClosureWarning
        The gallery spans all of the space (r = d), or nearly all of the gap: nothing to close.

    Notes
    -----
    Cost: n d^2 for the gallery's scatter, d^3 for its axes, m d for the queries' mean.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> gallery, queries = rng.normal(size=(5, 8)), rng.normal(size=(20, 8)) + 3
    >>> closure = fit("orthogonal", queries, gallery)
    >>> closure.exact, closure.n_components
    (True, 4)
    """
    known = _known(method)
    check_metric(metric)
    queries, gallery = check_clouds(queries, gallery, zero_rows=metric != "cosine")
    if known.needs == "pairs":
        check_paired(queries, gallery, names=("queries", "gallery"))
    if metric == "cosine":
        queries, gallery = normalize_rows(as_float64(queries)), normalize_rows(as_float64(gallery))
    setting = _setting(
        known,
        Moments.from_rows(queries, precision="float64" if method == "erase" else "input"),
        Moments.from_rows(gallery, precision="float64"),
        rows=(queries, gallery),
        metric=metric,
        alpha=alpha,
        n_components=n_components,
        side=side,
        reduce=reduce,
    )
    return _FITTERS[method](setting)


def fit_moments(
    method: str,
    queries: Moments,
    gallery: Moments,
    /,
    *,
    metric: str = "euclidean",
    alpha: float | None = None,
    n_components: int | float | str | None = None,
    side: str | None = None,
    reduce: bool = False,
) -> Closure:
    """Return the closure that `fit` would, from moments: for clouds that are streamed.

    The gallery's moments should be made with precision="float64", which a numerical rank needs.
    Under cosine they must be the moments of rows of unit length.

    Raises
    ------
    ArgumentError
        As `fit`; also a method that needs rows (`realign`, `procrustes`).
    ShapeError
        The moments have different widths.
    """
    known = _known(method)
    check_metric(metric)
    if known.needs != "moments":
        raise ArgumentError(
            f"`{method}` is fitted from {known.needs}, not moments; call closers.fit"
        )
    if queries.width != gallery.width:
        raise ShapeError(
            "`queries` and `gallery` must share the embedding dimension d; got "
            f"{queries.width} and {gallery.width}"
        )
    setting = _setting(
        known,
        queries,
        gallery,
        metric=metric,
        alpha=alpha,
        n_components=n_components,
        side=side,
        reduce=reduce,
    )
    return _FITTERS[method](setting)


def _known(method: str) -> Method:
    return METHODS[check_choice(method, "method", tuple(METHODS))]


def _setting(
    known: Method,
    queries: Moments,
    gallery: Moments,
    *,
    metric: str,
    alpha: float | None,
    n_components: int | float | str | None,
    side: str | None,
    reduce: bool,
    rows: tuple[Array | None, Array | None] = (None, None),
) -> _Setting:
    given = {"alpha": alpha, "n_components": n_components, "side": side, "reduce": reduce or None}
    for name, value in given.items():
        if value is not None and name not in known.takes:
            takers = [m.name for m in METHODS.values() if name in m.takes]
            raise ArgumentError(
                f"`{known.name}` has no option `{name}`; leave it out, or use {' or '.join(takers)}"
            )
    return _Setting(
        queries=queries,
        gallery=gallery,
        metric=metric,
        alpha=1.0 if alpha is None else check_number(alpha, "alpha", low=-100, high=100),
        n_components="all" if n_components is None else check_components(n_components),
        side=_default_side(metric)
        if side is None
        else check_choice(side, "side", ("gallery", "queries")),
        reduce=reduce,
        query_rows=rows[0],
        gallery_rows=rows[1],
    )


def _default_side(metric: str) -> str:
    return "queries" if metric == "ip" else "gallery"


def _closure(
    method: str,
    setting: _Setting,
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
        comparison="euclidean" if moved_exactly else setting.metric,
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


def _none(s: _Setting) -> Closure:
    same = AffineMap(s.width)
    return _closure("none", s, same, same, exact=True)


def _recenter(s: _Setting) -> Closure:
    """By inner product only the gallery moves: there the shift is one constant per query."""
    shift = s.map(shift=-to_numpy(s.gallery.mean))
    return _closure(
        "recenter", s, AffineMap(s.width) if s.metric == "ip" else shift, shift, exact=True
    )


def _orthogonal(s: _Setting) -> Closure:
    """Algorithm 1 of Chowers et al. (2026): g' = g - V V^T g; gallery += alpha g'."""
    axes = principal_axes(s.gallery, s.n_components)
    basis = to_numpy(axes.axes)
    gap = s.gap
    free = gap - basis @ (basis.T @ gap)
    used = basis.shape[1]
    exact = used == axes.rank
    share = _share(free, gap)
    if exact and axes.rank == s.width:
        free = np.zeros_like(free)  # what is left is rounding, and no direction is free
        share = 0.0
    _warn_if_little("orthogonal", s, share, used)
    moved, kept = s.map(shift=s.alpha * free), s.map()
    if s.side == "queries":
        moved, kept = kept, s.map(shift=-s.alpha * free)
    return _closure(
        "orthogonal",
        s,
        kept,
        moved,
        exact=exact,
        n_components=used,
        info={"side": s.side, "free_share": share},
    )


def _affine(s: _Setting) -> Closure:
    """Project the queries onto aff(gallery): y -> y + alpha (P y - y), P the projection; recentre both.

    By inner product P projects onto the gallery's directions alone and nothing is recentred: the
    difference of two scores is y.(x_i - x_j), which sees no other part of y.
    """
    axes = principal_axes(s.gallery, s.n_components)
    basis = to_numpy(axes.axes)
    used = basis.shape[1]
    gap = s.gap
    share = _share(gap - basis @ (basis.T @ gap), gap)
    _warn_if_little("affine", s, share, used)
    centre = None if s.metric == "ip" else to_numpy(s.gallery.mean)
    if s.reduce:
        if s.alpha != 1.0:
            raise ArgumentError(f"`reduce` closes the gap fully (alpha 1); got alpha {s.alpha:g}")
        side = s.map(center=centre, left=basis, residual=False)
        queries, gallery = side, side
    else:
        gallery = s.map() if centre is None else s.map(shift=-centre)
        if s.alpha == 1.0:
            queries = s.map(center=centre, left=basis, right=basis.T, residual=False)
        else:  # (1 - alpha) I + alpha B B^T
            queries = s.map(
                center=centre,
                left=basis * (s.alpha / (1 - s.alpha)),
                right=basis.T,
                scale=np.full(s.width, 1 - s.alpha),
            )
    return _closure(
        "affine",
        s,
        queries,
        gallery,
        exact=used == axes.rank,
        n_components=used,
        info={"reduce": s.reduce, "free_share": share},
    )


def _mean_shift(s: _Setting) -> Closure:
    """Liang et al. (2022): both sides move alpha / 2 along the gap, then are renormalised."""
    half = s.alpha / 2 * s.gap
    queries = s.map(shift=-half, normalize_output=True)
    gallery = s.map(shift=half, normalize_output=True)
    return _closure("mean-shift", s, queries, gallery, exact=False)


def _center(s: _Setting) -> Closure:
    """Each modality's own mean goes (GR-CLIP and I0T after training), rows are renormalised."""
    sides = [
        s.map(shift=-s.alpha * to_numpy(m.mean), normalize_output=True)
        for m in (s.queries, s.gallery)
    ]
    return _closure("center", s, *sides, exact=False)


def _standardize(s: _Setting) -> Closure:
    """Each coordinate to mean 0 and variance 1 in each modality; a constant one stays at 0."""
    sides = []
    for moments in (s.queries, s.gallery):
        spread = np.sqrt(np.maximum(np.diagonal(to_numpy(moments.covariance)), 0.0))
        constant = spread <= 1e-12 * max(float(spread.max()), 1e-300)
        scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, spread))
        sides.append(s.map(center=to_numpy(moments.mean), scale=scale, normalize_output=True))
    return _closure("standardize", s, *sides, exact=False)


def _realign(s: _Setting) -> Closure:
    """ReAlign (Yu et al., 2026) on the gallery: anchor, trace and centroid alignment.

    The gallery takes the queries' mean (anchor) and total variance (trace) and goes back to the
    sphere; that moves its mean again, so the shift before normalising is solved for, by fixed-point
    iteration, until the mean on the sphere is that of the queries (centroid).
    """
    query_mean = to_numpy(s.queries.mean)
    spread = s.gallery.total_variance
    scale = math.sqrt(s.queries.total_variance / spread) if spread > 0 else 1.0
    rows = to_numpy(as_float64(s.gallery_rows))
    centred = scale * (rows - to_numpy(s.gallery.mean))
    goal = to_numpy(as_float64(normalize_rows(s.query_rows))).mean(axis=0)
    shift, left_over = query_mean.copy(), math.inf
    for _ in range(_REALIGN_ROUNDS):
        drift = goal - normalize_rows(centred + shift).mean(axis=0)
        left_over = float(np.linalg.norm(drift))
        if left_over < 1e-9:
            break
        shift = shift + drift
    gallery = s.map(
        center=to_numpy(s.gallery.mean),
        scale=np.full(s.width, scale),
        shift=shift,
        normalize_output=True,
    )
    queries = s.map(normalize_output=True)
    return _closure(
        "realign", s, queries, gallery, exact=False, info={"centroid_residual": left_over}
    )


def _procrustes(s: _Setting) -> Closure:
    """Orthogonal Procrustes (Schönemann, 1966) between the centred pairs; the queries turn."""
    cross = to_numpy(cross_scatter(s.query_rows, s.gallery_rows))
    left, _, right = np.linalg.svd(cross)
    queries = s.map(center=to_numpy(s.queries.mean), left=left @ right, residual=False)
    gallery = s.map(shift=-to_numpy(s.gallery.mean))
    return _closure("procrustes", s, queries, gallery, exact=False)


def _erase(s: _Setting) -> Closure:
    """LEACE (Belrose et al., 2023) for a label of two values.

    With one label the whitened projection has rank one and the eraser is
    z - ((z - mean).Sigma^+ g) g / (g.Sigma^+ g), Sigma and mean those of both clouds together.
    """
    both = s.queries.merge(s.gallery)
    axes = both.full_axes
    basis = to_numpy(axes.axes)[:, : axes.rank]
    gap = basis @ (basis.T @ s.gap)
    weights = basis @ ((basis.T @ gap) / to_numpy(axes.variances)[: axes.rank]) * both.count
    strength = float(gap @ weights)
    if strength <= 0 or not math.isfinite(strength):
        same = s.map()
        warnings.warn(
            "`erase`: the clouds have one mean; there is no gap to erase",
            ClosureWarning,
            stacklevel=3,
        )
        return _closure("erase", s, same, same, exact=False)
    side = s.map(
        center=to_numpy(both.mean),
        left=(-s.alpha / strength * weights)[:, None],
        right=gap[None, :],
        shift=to_numpy(both.mean),
    )
    return _closure("erase", s, side, side, exact=False)


_FITTERS: dict[str, Callable[[_Setting], Closure]] = {
    "none": _none,
    "recenter": _recenter,
    "orthogonal": _orthogonal,
    "affine": _affine,
    "mean-shift": _mean_shift,
    "center": _center,
    "standardize": _standardize,
    "realign": _realign,
    "procrustes": _procrustes,
    "erase": _erase,
}


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    size = float(np.linalg.norm(whole))
    return float(np.linalg.norm(part)) / size if size > 0 else 0.0


def _warn_if_little(method: str, s: _Setting, share: float, used: int) -> None:
    if used >= s.width:
        message = (
            f"`{method}`: the gallery spans all {s.width} dimensions (r = d), so |g'|/|g| = 0 and no "
            "exact closer can move anything but the origin; use fewer components (n_components, "
            'approximate) or method="recenter"'
        )
    elif share < _LITTLE:
        message = (
            f"`{method}`: only {share:.2g} of the gap lies outside the {used} components kept "
            "(|g'|/|g|); use fewer components (n_components, approximate)"
        )
    else:
        return
    warnings.warn(message, ClosureWarning, stacklevel=4)
