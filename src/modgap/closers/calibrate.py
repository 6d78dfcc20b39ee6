"""`calibrate`: each modality of a mixed collection moved and scaled on its own, so that lists merge fairly.

x -> (x - mu_m) / s_m on the items of modality m; the queries stay as they are. For a query all scores
within one modality change by the same increasing map, y.x -> (y.x - y.mu_m) / s_m: no ranking within a
modality changes, only how the lists are merged does. Derived in docs/theory_balanced.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from modgap._core.arrays import Array, Float, to_numpy
from modgap._core.checks import check_choice, check_cloud, check_same_width
from modgap._core.moments import Moments
from modgap.closers._scales import (
    SCALES,
    Lists,
    checked_pairs,
    checked_shares,
    scale_of_moments,
    scales_of_lists,
)
from modgap.closers.maps import AffineMap
from modgap.closers.mixed import MixedClosure, several_maps
from modgap.decisions.metric import INNER_PRODUCT, Metric, as_metric
from modgap.errors import ArgumentError, DataError, ShapeError

__all__ = ["MIXED_METHODS", "SCALES", "calibrate", "calibrate_moments", "fit_mixed"]

#: Closers of a mixed collection, besides `none`: what users do to it, and what keeps every list.
MIXED_METHODS = (
    "center",
    "standardize",
    "calibrate",
    *(f"calibrate:{scale}" for scale in SCALES if scale != "rms"),
)


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
    asked, items = _checked(queries, galleries, seen)
    moments = {name: Moments.from_rows(rows, precision="float64") for name, rows in items.items()}
    _check_spread(moments)
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
    return _calibrated(way, seen, int(asked.shape[0]), moments, scales)


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
    _check_several(tuple(galleries))
    moments = {str(name): each for name, each in galleries.items()}
    for name, each in moments.items():
        if each.width != queries.width:
            raise ShapeError(
                f"`queries` and `galleries[{name!r}]` must share the embedding dimension d; got "
                f"{queries.width} and {each.width}"
            )
    if queries.count < 2:
        raise ShapeError(f"`queries` must have at least 2 row(s); got {queries.count}")
    _check_spread(moments)
    scales = {name: scale_of_moments(way, queries, each) for name, each in moments.items()}
    return _calibrated(way, seen, queries.count, moments, scales)


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
    check_choice(method, "method", MIXED_METHODS)
    name, _, way = method.partition(":")
    if name == "calibrate":
        return calibrate(
            queries, galleries, scale=way or "rms", metric=metric, pairs=pairs, shares=shares
        )
    if pairs is not None or shares is not None:
        raise ArgumentError(f"`{name}` takes neither pairs nor shares; leave them out")
    seen = as_metric(metric)
    asked, items = _checked(queries, galleries, seen)
    make = _centred if name == "center" else _standardized
    whole = Moments.from_rows(asked, precision="float64")
    maps = {
        each: make(seen, Moments.from_rows(rows, precision="float64"))
        for each, rows in items.items()
    }
    return _closure(name, seen, make(seen, whole), maps, whole.count, comparison=seen)


def _metric(metric: str) -> Metric:
    found = as_metric(metric)
    if found.is_distance:
        raise ArgumentError(
            "`metric` must be cosine or ip for calibrate: a distance is no multiple of another; "
            "got euclidean, lift both sides first (closers.lift_gallery, closers.lift_queries) and use ip"
        )
    return found


def _checked(
    queries: Array, galleries: Mapping[str, Array], metric: Metric
) -> tuple[Array, dict[str, Array]]:
    """Return queries and items as the metric sees them, checked."""
    if not isinstance(galleries, Mapping):
        raise ArgumentError(
            "`galleries` must be a mapping of modality to rows, such as "
            f'{{"image": images, "text": texts}}; got {type(galleries).__name__}'
        )
    strict = not metric.needs_directions
    asked = check_cloud(queries, "queries", min_rows=2, zero_rows=strict)
    _check_several(tuple(galleries))
    items = {}
    for name, rows in galleries.items():
        label = f"galleries[{str(name)!r}]"
        found = check_cloud(rows, label, zero_rows=strict)
        check_same_width(asked, "queries", found, label)
        if found.shape[0] < 2:
            raise ShapeError(
                f"`{label}` must have at least 2 rows, whose spread is measured; got "
                f"{found.shape[0]}; leave this modality out, or add to it"
            )
        items[str(name)] = metric.prepare(found)
    return metric.prepare(asked), items


def _check_several(names: tuple[Any, ...]) -> None:
    if len(names) < 2:
        raise ArgumentError(
            f"`galleries` must hold two modalities or more; got {len(names)} "
            f"({', '.join(map(str, names)) or 'none'}), and one list needs no merging"
        )


def _check_spread(moments: Mapping[str, Moments]) -> None:
    """Raise an error for a modality of one row, or whose rows are all equal."""
    for name, each in moments.items():
        if each.count < 2:
            raise ShapeError(
                f"`galleries[{name!r}]` must have at least 2 rows, whose spread is measured; got "
                f"{each.count}; leave this modality out, or add to it"
            )
        if math.sqrt(max(each.total_variance, 0.0)) <= each.eps * each.longest:
            raise DataError(
                f"`galleries[{name!r}]` holds {each.count} rows that are all equal, which have no spread "
                "to be scaled by; leave this modality out"
            )


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
    spread = np.sqrt(np.maximum(np.diagonal(to_numpy(moments.covariance)), 0.0))
    constant = spread <= 1e-12 * max(float(spread.max()), 1e-300)
    return AffineMap(
        moments.width,
        center=to_numpy(moments.mean),
        scale=np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, spread)),
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
        info={"queries": count, "dimension": queries.width, "modgap": version("modgap")},
        galleries=maps,
        scales=scales or {},
    )
