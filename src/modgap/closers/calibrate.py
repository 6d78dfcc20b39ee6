"""`calibrate`: each modality of a mixed collection moved and scaled on its own, so that lists merge fairly.

x -> (x - mu_m) / s_m on the items of modality m; the queries stay as they are. For a query all scores
within one modality change by the same increasing map, y.x -> (y.x - y.mu_m) / s_m: no ranking within a
modality changes, only how the lists are merged does. Derived in docs/theory_balanced.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import modgap
from modgap._core.arrays import Array, Float, to_numpy
from modgap._core.checks import check_choice
from modgap._core.moments import Moments
from modgap.closers._collection import (
    Collection,
    check_several,
    check_spread,
    check_widths,
    checked_queries,
)
from modgap.closers._scales import (
    SCALES,
    Lists,
    checked_pairs,
    checked_shares,
    scale_of_moments,
    scales_of_lists,
)
from modgap.closers._transport import merged, pieces_of
from modgap.closers.approximate import standard_scale
from modgap.closers.balanced import balance
from modgap.closers.maps import AffineMap
from modgap.closers.mixed import MixedClosure, several_maps
from modgap.closers.summary import summaries_of
from modgap.decisions.metric import INNER_PRODUCT, Metric, as_metric
from modgap.errors import ArgumentError, DataError, ShapeError

__all__ = [
    "MIXED_METHODS",
    "SCALES",
    "calibrate",
    "calibrate_moments",
    "fit_collection",
    "fit_mixed",
    "is_mixed_method",
]

#: Closers of a mixed collection, besides `none`: what users do to it, and what keeps every list.
MIXED_METHODS = (
    "center",
    "standardize",
    "calibrate",
    *(f"calibrate:{scale}" for scale in SCALES if scale != "rms"),
    "calibrate+balanced",
)
_BALANCED = "+balanced"


def calibrate(
    queries: Float[Array, "m d"],
    galleries: Mapping[str, Float[Array, "n d"]],
    *,
    scale: str = "rms",
    metric: str = "cosine",
    pairs: Mapping[str, Any] | None = None,
    shares: Mapping[str, float] | None = None,
) -> MixedClosure:
    """Return the closure that merges the modalities of a collection fairly.

    Parameters
    ----------
    queries : array (m, d), floating
        Typical queries, m >= 2: of the kind that will search, or of all kinds in their proportions.
    galleries : mapping of str to array (n, d)
        The items of each modality, n >= 2.
    scale : {"rms", "top", "quantile", "pairs", "share", "means"}
        What s_m is. "rms": the root mean square of y.(x - mu_m) over queries and items. "top": the mean of
        each query's best 1 % of them. "quantile": their 99th percentile per query, averaged. "pairs": the
        mean over pairs that belong together. "share": such that modality m has its share of the ten
        best of a query on average. "means": 1, moving alone.
    metric : {"cosine", "ip"}
    pairs : mapping of str to array (p, 2), integers, optional
        For "pairs", of every modality: rows of a query and of an item that answers it.
    shares : mapping of str to float, optional
        For "share": positive, in any unit; equal ones by default.

    Raises
    ------
    ArgumentError
        `metric` is a distance; fewer than two modalities; no such scale; pairs or shares that the
        scale does not take or that leave a modality out.
    DataError, ShapeError
        Clouds do not fit together, hold NaN, have too few rows, or a modality has no spread.

    Notes
    -----
    Cost: (m + n) d^2 for "rms", which moments alone can give (`calibrate_moments`); the others look at
    scores, at most 1,000 queries evenly spread over those given: 1000 n d.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> texts = rng.normal(size=(40, 8)) + 2
    >>> images = 0.3 * rng.normal(size=(40, 8)) - 2
    >>> closure = calibrate(texts[:20], {"image": images, "text": texts[20:]}, metric="ip")
    >>> closure.scales["image"] < closure.scales["text"]
    True
    """
    way = check_choice(scale, "scale", SCALES)
    seen = _metric(metric)
    asked = checked_queries(queries, seen)
    collection = Collection.of(galleries, seen)
    check_widths(asked, collection)
    closure = _calibrate(way, asked, collection, pairs, shares)
    return replace(closure, summaries=summaries_of(asked, collection.moments))


def calibrate_moments(
    queries: Moments,
    galleries: Mapping[str, Moments],
    *,
    scale: str = "rms",
    metric: str = "cosine",
) -> MixedClosure:
    """Return the closure that `calibrate` would, from moments: for collections that are streamed.

    Under cosine they must be the moments of rows of unit length.

    Parameters
    ----------
    queries : Moments
    galleries : mapping of str to Moments
        By modality.
    scale : {"rms", "means"}
        Those that moments can tell.
    metric : {"cosine", "ip"}

    Raises
    ------
    ArgumentError, DataError, ShapeError
        As `calibrate`.
    """
    way = check_choice(scale, "scale", ("rms", "means"))
    seen = _metric(metric)
    check_several(tuple(galleries))
    moments = {str(name): each for name, each in galleries.items()}
    for name, each in moments.items():
        if each.width != queries.width:
            raise ShapeError(
                f"`queries` and `galleries[{name!r}]` must share the embedding dimension d; got "
                f"{queries.width} and {each.width}"
            )
    if queries.count < 2:
        raise ShapeError(f"`queries` must have at least 2 row(s); got {queries.count}")
    check_spread(moments)
    scales = {name: scale_of_moments(way, queries, each) for name, each in moments.items()}
    closure = _calibrated(way, seen, queries.count, moments, scales)
    return replace(closure, summaries=summaries_of(queries, moments))


def fit_mixed(
    method: str,
    queries: Float[Array, "m d"],
    galleries: Mapping[str, Float[Array, "n d"]],
    *,
    metric: str = "cosine",
    pairs: Mapping[str, Any] | None = None,
    shares: Mapping[str, float] | None = None,
) -> MixedClosure:
    """Return the closure that a method fits to a mixed collection.

    Parameters
    ----------
    method : str
        A word of `MIXED_METHODS`: "center" takes each modality's own mean off and renormalises (GR-CLIP,
        Li et al., 2025), "standardize" z-scores each modality and renormalises, "calibrate" keeps every
        ranking within a modality; a way to choose its scale may follow, as in "calibrate:top".
    queries, galleries, metric, pairs, shares
        As `calibrate` takes them; the queries are a modality of their own, with a mean of their own.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        As `calibrate`.
    """
    _check_method(method)
    seen = _metric(metric) if method.startswith("calibrate") else as_metric(metric)
    asked = checked_queries(queries, seen)
    collection = Collection.of(galleries, seen)
    check_widths(asked, collection)
    closure = fit_collection(method, asked, collection, pairs=pairs, shares=shares)
    return replace(closure, summaries=summaries_of(asked, collection.moments))


def fit_collection(
    method: str,
    queries: Array,
    collection: Collection,
    *,
    pairs: Mapping[str, Any] | None = None,
    shares: Mapping[str, float] | None = None,
) -> MixedClosure:
    """Return what `fit_mixed` does, for queries as the metric sees them, checked before."""
    _check_method(method)
    first, plus, _ = method.partition("+")
    name, _, way = first.partition(":")
    if name == "calibrate":
        _metric(collection.metric)
        closure = _calibrate(way or "rms", queries, collection, pairs, shares)
        return _balanced(closure, queries, collection) if plus else closure
    if pairs is not None or shares is not None:
        raise ArgumentError(f"`{name}` takes neither pairs nor shares; leave them out")
    make = _centred if name == "center" else _standardized
    whole = Moments.from_rows(queries, precision="float64")
    maps = {each: make(collection.metric, m) for each, m in collection.moments.items()}
    return _closure(
        name,
        collection.metric,
        make(collection.metric, whole),
        maps,
        whole.count,
        comparison=collection.metric,
    )


def is_mixed_method(word: str) -> bool:
    """Whether a word names a closer of mixed collections, a "calibrate" with a way after it included."""
    way = word.removesuffix(_BALANCED)
    return word in MIXED_METHODS or (way.startswith("calibrate:") and way in MIXED_METHODS)


def _check_method(method: str) -> None:
    if not is_mixed_method(method):
        check_choice(method, "method", MIXED_METHODS)


def _calibrate(
    way: str,
    asked: Array,
    collection: Collection,
    pairs: Mapping[str, Any] | None,
    shares: Mapping[str, float] | None,
) -> MixedClosure:
    items, moments = collection.items, collection.moments
    if pairs is not None and way != "pairs":
        raise ArgumentError(f'`pairs` goes with scale="pairs"; got {way!r}')
    if shares is not None and way != "share":
        raise ArgumentError(f'`shares` goes with scale="share"; got {way!r}')
    if way in ("rms", "means"):
        whole = Moments.from_rows(asked, precision="float64")
        scales = {name: scale_of_moments(way, whole, each) for name, each in moments.items()}
    else:
        means = {name: to_numpy(each.mean) for name, each in moments.items()}
        counts = {name: int(rows.shape[0]) for name, rows in items.items()}
        lists = Lists(
            asked,
            items,
            means,
            pairs=checked_pairs(pairs, int(asked.shape[0]), counts) if way == "pairs" else {},
            shares=checked_shares(shares, tuple(items)) if way == "share" else {},
        )
        scales = scales_of_lists(way, lists)
    return _calibrated(way, collection.metric, int(asked.shape[0]), moments, scales)


def _balanced(closure: MixedClosure, asked: Array, collection: Collection) -> MixedClosure:
    """Return the closure with `balanced` of all mapped items after it, which moves no score."""
    pooled = merged([_mapped(m, closure.scales[name]) for name, m in collection.moments.items()])
    return closure.then(balance(pooled, pieces_of(asked), metric="ip"))


def _mapped(moments: Moments, scale: float) -> Moments:
    """Return the moments of (x - mu) / s."""
    return replace(
        moments,
        mean=0.0 * moments.mean,
        scatter=moments.scatter / scale**2,
        shortest=0.0,
        longest=moments.radius / scale,
        radius=moments.radius / scale,
    )


def _metric(metric: str) -> Metric:
    found = as_metric(metric)
    if found.is_distance:
        raise ArgumentError(
            "`metric` must be cosine or ip for calibrate: a distance is no multiple of another; "
            "got euclidean, lift both sides first (closers.lift_gallery, closers.lift_queries) and use ip"
        )
    return found


def _calibrated(
    way: str, metric: Metric, count: int, moments: Mapping[str, Moments], scales: dict[str, float]
) -> MixedClosure:
    for name, scale in scales.items():
        each = moments[name]
        if not scale > 1e-12 * math.sqrt(each.total_variance):
            raise DataError(
                f"`galleries[{name!r}]` has scores about its mean of {scale:.3g} by scale {way!r}: these "
                "queries tell none of its items apart, or none of them well; "
                "choose other queries, or scale rms"
            )
    unit = metric.needs_directions
    maps = {
        name: AffineMap(
            each.width,
            center=to_numpy(each.mean),
            scale=None if way == "means" else 1.0 / scales[name],
            normalize_input=unit,
        )
        for name, each in moments.items()
    }
    width = next(iter(maps.values())).width
    method = "calibrate" if way == "rms" else f"calibrate:{way}"
    queries = AffineMap(width, normalize_input=unit)
    return _closure(method, metric, queries, maps, count, comparison=INNER_PRODUCT, scales=scales)


def _centred(metric: Metric, moments: Moments) -> AffineMap:
    return AffineMap(
        moments.width,
        shift=-to_numpy(moments.mean),
        normalize_input=metric.needs_directions,
        normalize_output=True,
    )


def _standardized(metric: Metric, moments: Moments) -> AffineMap:
    return AffineMap(
        moments.width,
        center=to_numpy(moments.mean),
        scale=standard_scale(moments),
        normalize_input=metric.needs_directions,
        normalize_output=True,
    )


def _closure(
    method: str,
    metric: Metric,
    queries: AffineMap,
    maps: dict[str, AffineMap],
    count: int,
    *,
    comparison: Metric,
    scales: Mapping[str, float] | None = None,
) -> MixedClosure:
    return MixedClosure(
        method=method,
        queries=queries,
        gallery=several_maps(maps),
        metric=metric,
        comparison=comparison,
        info={"queries": count, "dimension": queries.width, "modgap": modgap.__version__},
        galleries=maps,
        scales=scales or {},
    )
