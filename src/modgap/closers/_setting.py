"""What closers take: the list of methods, their checked settings, and the record they return."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from modgap._arrays import Array, to_numpy
from modgap._validate import check_choice, check_components, check_number
from modgap.errors import ArgumentError
from modgap.maps import AffineMap, Closure
from modgap.moments import Moments

#: How far `scaled` pushes the queries: most of what an infinite scale would give (docs/theory.md).
DEFAULT_SCALE = 4.0


@dataclass(frozen=True)
class Method:
    """What a closer takes and promises.

    Attributes
    ----------
    name, summary : str
    takes : frozenset of str
        Which of "alpha", "n_components", "side", "reduce", "scale" it knows.
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
            "scaled",
            "project as affine does, and push the queries away from the sphere's centre",
            takes="n_components reduce scale",
            needs="rows",
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
class Setting:
    """Everything a closer may use, checked; statistics on the host in float64."""

    queries: Moments
    gallery: Moments
    metric: str
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
        return AffineMap(self.width, normalize_input=self.metric == "cosine", **parts)


def known_method(method: str) -> Method:
    return METHODS[check_choice(method, "method", tuple(METHODS))]


def checked_setting(
    known: Method,
    queries: Moments,
    gallery: Moments,
    *,
    metric: str,
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


def _default_side(metric: str) -> str:
    return "queries" if metric == "ip" else "gallery"


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


def share_of(part: np.ndarray, whole: np.ndarray) -> float:
    size = float(np.linalg.norm(whole))
    return float(np.linalg.norm(part)) / size if size > 0 else 0.0
