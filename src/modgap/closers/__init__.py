"""Closers: from the statistics of two modalities to a `Closure`, a pair of affine maps.

    from modgap import closers
    closure = closers.fit("affine", queries, gallery)

`METHODS` lists every closer and what it takes. Most need the moments of both clouds alone, so they
can be fitted to streams with `fit_moments`; `realign` and `procrustes` look at rows. `Statistics` holds
what all closers of one study share. A collection of several modalities has closures of its own kind:
`calibrate`, and `fit_mixed` for the words of `MIXED_METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modgap._core.arrays import Array, Float
from modgap._core.checks import check_choice, check_paired
from modgap._core.moments import Moments
from modgap.closers import approximate, balanced, exact
from modgap.closers._setting import Setting, checked_setting
from modgap.closers.balanced import balance
from modgap.closers.calibrate import MIXED_METHODS, calibrate, calibrate_moments, fit_mixed
from modgap.closers.closure import Closure
from modgap.closers.lift import lift_gallery, lift_queries
from modgap.closers.maps import AffineMap
from modgap.closers.mixed import MixedClosure
from modgap.closers.model_statistics import ModelStatistics
from modgap.closers.registry import METHODS, Method
from modgap.closers.statistics import Statistics
from modgap.closers.summary import remembering
from modgap.decisions.metric import as_metric
from modgap.errors import ArgumentError

__all__ = [
    "METHODS",
    "MIXED_METHODS",
    "AffineMap",
    "Closure",
    "Method",
    "MixedClosure",
    "ModelStatistics",
    "Statistics",
    "balance",
    "calibrate",
    "calibrate_moments",
    "fit",
    "fit_mixed",
    "fit_moments",
    "fit_statistics",
    "lift_gallery",
    "lift_queries",
    "load",
    "method_and_comparison",
]

_FITTERS: dict[str, Callable[[Setting], Closure]] = {
    "none": exact.none,
    "recenter": exact.recenter,
    "orthogonal": exact.orthogonal,
    "affine": exact.affine,
    "scaled": exact.scaled,
    "balanced": balanced.fit,
    "mean-shift": approximate.mean_shift,
    "center": approximate.center,
    "standardize": approximate.standardize,
    "realign": approximate.realign,
    "procrustes": approximate.procrustes,
    "erase": approximate.erase,
}


def fit(
    method: str,
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    *,
    metric: str = "cosine",
    alpha: float | None = None,
    n_components: int | float | str | None = None,
    side: str | None = None,
    reduce: bool = False,
    scale: float | None = None,
    compare: str | None = None,
    rotation: int | str | None = None,
    shrinkage: float | None = None,
) -> Closure:
    """Return the closure that a closer fits to two clouds. Neither cloud is changed.

    Parameters
    ----------
    method : str
        A key of `METHODS`; a comparison may follow, as in "affine:ip".
    queries : array (m, d), floating
        What searches. `procrustes` needs row i of both clouds to belong together.
    gallery : array (n, d), floating
        The items that are searched: one gallery at a time.
    metric : {"cosine", "ip", "euclidean"}
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
        `affine` and `scaled`: return the r coordinates within the gallery's hull instead of d;
        `balanced`: the coordinates themselves, strongest first, of which any prefix may be stored.
    scale : float, optional
        `scaled` only: factor of the projected queries about the centre of the gallery's sphere; 4 by
        default.
    compare : {"ip", "euclidean"}, optional
        How mapped rows will be compared, where the index at hand does not offer the metric: for the
        closers that keep decisions. By default as `metric` says; unit rows that were moved by inner
        product. From a product to a distance or back keeps answers where all items have one length.
    rotation : int or "none", optional
        `balanced` only: seed of a rotation of the mapped rows, 0 by default, which codes of few bits
        want; it costs nothing, being folded into the map. "none" moves rows the least.
    shrinkage : float, optional
        `balanced` only: share of a multiple of I in the queries' second moments, in [0, 1]; chosen on
        queries held out by default. It changes how much is won, never a ranking.

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
    stats = Statistics.of_rows(queries, gallery, as_metric(metric))
    closure = fit_statistics(
        method,
        stats,
        alpha=alpha,
        n_components=n_components,
        side=side,
        reduce=reduce,
        scale=scale,
        compare=compare,
        rotation=rotation,
        shrinkage=shrinkage,
    )
    return remembering(closure, stats)


def fit_moments(
    method: str,
    queries: Moments | Sequence[Moments],
    gallery: Moments,
    *,
    metric: str = "cosine",
    **options: Any,
) -> Closure:
    """Return the closure that `fit` would, from moments: for clouds that are streamed.

    The gallery's moments should be made with precision="float64", which a numerical rank needs.
    Under cosine they must be the moments of rows of unit length. Bounds are wider than those of
    `fit`, which can look at every row.

    Parameters
    ----------
    method : str
    queries : Moments, or several
        In pieces, three or more, they choose the shrinkage of `balanced` as rows would.
    gallery : Moments
    metric : {"cosine", "ip", "euclidean"}
    **options
        As `fit` takes them.

    Raises
    ------
    ArgumentError
        As `fit`; also a method that needs rows (`realign`, `procrustes`).
    ShapeError
        The moments have different widths.
    """
    stats = Statistics.of_moments(queries, gallery, as_metric(metric))
    return remembering(fit_statistics(method, stats, **options), stats)


def fit_statistics(method: str, stats: Statistics, **options: Any) -> Closure:
    """Return the closure that `fit` would, from statistics that several fits share.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        As `fit`.
    """
    name, compare = method_and_comparison(method)
    known = METHODS[name]
    if known.needs != "moments":
        rows = stats.need_rows(name)
        if known.needs == "pairs":
            check_paired(*rows, names=("queries", "gallery"))
    if compare is not None:
        options["compare"] = compare
    return _FITTERS[name](checked_setting(known, stats, **options))


def method_and_comparison(word: str) -> tuple[str, str | None]:
    """Return the method that a word such as "affine" or "affine:ip" names, and the comparison.

    Raises
    ------
    ArgumentError
        There is no such method, or no such comparison.
    """
    name, colon, compare = word.partition(":")
    if name.partition("+")[0] == "calibrate":
        raise ArgumentError(
            "`calibrate` maps each modality of a mixed collection on its own, and one gallery has one "
            "map; use closers.calibrate with the rows of each, or --modalities on the command line"
        )
    check_choice(name, "method", tuple(METHODS))
    return name, as_metric(compare) if colon else None


def load(path: str | Path) -> Closure:
    """Return the closure in a file that `Closure.save` or `modgap close` wrote.

    Raises
    ------
    FormatError
        The file is missing, broken, from elsewhere, or of another format version.
    """
    return Closure.load(path)
