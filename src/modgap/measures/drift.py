"""Drift: whether a saved closure still fits today's queries and gallery."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from modgap._core.arrays import (
    Array,
    Float,
    as_float64,
    asarray_like,
    block_slices,
    longest_row,
    namespace,
    to_numpy,
)
from modgap._core.checks import check_choice, check_clouds, check_count, check_number
from modgap._core.moments import Moments
from modgap.closers import fit_moments
from modgap.closers._transport import pieces_of
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.closers.mixed import MixedClosure
from modgap.closers.statistics import Statistics
from modgap.closers.summary import FitSummary, ScoreNoise, SideSummary, bits_of, side_of_rows
from modgap.errors import (
    ArgumentError,
    ClosureError,
    ClosureWarning,
    DataError,
    ModgapError,
    ShapeError,
)
from modgap.measures.drift_records import BitsDrift, Drift, ExactnessDrift, SideDrift

__all__ = [
    "THRESHOLDS",
    "BitsDrift",
    "Drift",
    "ExactnessDrift",
    "SideDrift",
    "drift",
    "drift_of_blocks",
]

#: What counts as drift, beyond chance. `bits`: what fitting again would win, a coordinate. `mean`: how far
#: a mean has moved, in spreads of its cloud; a quarter of one costs log2(1 + 1/16) / 2 = .04 bits where
#: means are taken off. `spread`: change of second moments along the leading axes, over their largest; half
#: of the directions with twice the variance cost `balanced` .02 bits.
THRESHOLDS: Mapping[str, float] = {"bits": 0.05, "mean": 0.25, "spread": 0.5}
#: Standard errors within which a figure is chance.
_CHANCE = 3.0
#: Queries below which halves of them tell nothing.
_FEWEST = 8
#: Queries that are looked at, evenly spread over all.
SAMPLE = 20_000


def drift(
    closure: Closure,
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    *,
    modality: str | None = None,
    thresholds: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Drift:
    """Return whether a closure still fits these queries and this gallery.

    Parameters
    ----------
    closure : Closure
    queries : array (m, d), floating
        m >= 8: halves of them are held out. At most 20,000 of them are looked at, evenly spread.
    gallery : array (n, d), floating
        n >= 2.
    modality : str, optional
        Mixed collection: which modality the gallery's rows are.
    thresholds : mapping, optional
        Of `bits`, `mean` and `spread`, those that are not to be as in `THRESHOLDS`.
    seed : int
        Of the halves.

    Raises
    ------
    ArgumentError
        There is no such threshold or modality, or a threshold is below 0.
    ClosureError
        The rows have another width than the closure's, or it is one of a mixed collection and no modality
        is named; or nothing is known of the rows of its fit, nor of its scores.
    DataError, ShapeError
        The clouds do not fit together, hold NaN, or are too few.

    Notes
    -----
    Cost: n d^2 and m d^2, and two fits of the closer from moments.

    Examples
    --------
    >>> from modgap import closers
    >>> rng = np.random.default_rng(0)
    >>> queries, gallery = rng.normal(size=(900, 4)) + 1, rng.normal(size=(500, 4))
    >>> closure = closers.fit("balanced", queries[:500], gallery, metric="ip")
    >>> drift(closure, queries[500:], gallery).drifted
    False
    >>> drift(closure, queries[500:] + 1, gallery).queries.mean_moved
    True
    """
    queries, gallery = check_clouds(queries, gallery, zero_rows=not closure.metric.needs_directions)
    step = -(-int(queries.shape[0]) // SAMPLE)
    blocks = (gallery[part, :] for part in block_slices(*gallery.shape))
    return drift_of_blocks(
        closure,
        queries[::step, :],
        blocks,
        count=int(queries.shape[0]),
        modality=modality,
        thresholds=thresholds,
        seed=seed,
    )


def drift_of_blocks(
    closure: Closure,
    queries: Array,
    gallery: Iterable[Array],
    *,
    count: int | None = None,
    modality: str | None = None,
    thresholds: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Drift:
    """Return what `drift` does, for some of the queries and a gallery that comes in blocks.

    Both were checked before; `count` is the number of queries that those at hand were taken from.
    """
    limits = _limits(thresholds)
    check_count(seed, "seed", low=0)
    summary = _summary_of(closure, modality)
    if queries.shape[0] < _FEWEST:
        raise ShapeError(
            f"`queries` must have at least {_FEWEST} rows, half of which are held out; got "
            f"{queries.shape[0]}"
        )
    if queries.shape[1] != closure.queries.width:
        raise ClosureError(
            f"this closure was fitted for embeddings of dimension {closure.queries.width}; got rows of "
            f"dimension {queries.shape[1]}"
        )
    keeps = closure.bound is not None
    if summary is None and not keeps:
        raise ClosureError(
            f"nothing can be told of this closure: `{closure.method}` may change answers, and its file "
            "holds no summary of the rows of its fit; fit it again with this version"
        )
    rows = to_numpy(as_float64(closure.metric.prepare(queries)))
    reach = _Reach(closure) if keeps else None
    items = _read(closure, gallery, reach)
    missing = [] if keeps else [f"bits and exactness: `{closure.method}` may change answers"]
    sides = _sides(summary, rows, count or len(rows), items, limits, missing)
    bits = exactness = None
    if reach is not None:
        stats = Statistics.of_moments(
            Moments.from_rows(rows, precision="float64"), items, closure.metric
        )
        exactness = _exactness(closure, reach.most(rows), stats.resolution)
        bits = _bits(closure, rows, items, limits, seed, missing)
    return Drift(closure.method, *sides, bits, exactness, limits, tuple(missing))


def _summary_of(closure: Closure, modality: str | None) -> FitSummary | None:
    """Return what is known of the rows of the fit."""
    if not isinstance(closure, MixedClosure):
        if modality is not None:
            raise ArgumentError(
                "`modality` chooses among the gallery maps of a mixed collection; leave it out"
            )
        return closure.summary
    names = ", ".join(closure.modalities)
    if modality is None:
        raise ClosureError(
            f"this closure maps each modality of a mixed gallery on its own ({names}); say which one the "
            "gallery's rows are (modality)"
        )
    return closure.summaries.get(check_choice(modality, "modality", closure.modalities))


def _limits(thresholds: Mapping[str, float] | None) -> dict[str, float]:
    found = dict(THRESHOLDS)
    for name, value in (thresholds or {}).items():
        if name not in THRESHOLDS:
            raise ArgumentError(f"`thresholds` must name {', '.join(THRESHOLDS)}; got {name!r}")
        found[name] = check_number(value, f"threshold {name}", low=0.0)
    return found


def _read(closure: Closure, blocks: Iterable[Array], reach: _Reach | None) -> Moments:
    """Return the moments of the gallery, in one pass that `reach` looks on at."""

    def prepared() -> Iterator[Array]:
        for block in blocks:
            rows = closure.metric.prepare(block)
            if reach is not None:
                reach.look(as_float64(rows))
            yield rows

    items = Moments.from_blocks(prepared(), precision="float64")
    if items.count < 2:
        raise ShapeError(f"`gallery` must have at least 2 rows; got {items.count}")
    return replace(items, mean=to_numpy(items.mean), scatter=to_numpy(items.scatter))


class _Reach:
    """How far the difference of two scores can change at most, over items that come in blocks.

    With maps y -> yA + a and x -> xB + b, the scores, by distance y.x - |x|^2 / 2, change by
    y E x + u(x) and a constant per query, E = A B^T / gain - I: y E (x - x') by 2 |yE| |x - c| or by
    2 |y| |E (x - c)| at most, whichever is less, and u by its range.
    """

    def __init__(self, closure: Closure) -> None:
        left, right = _matrix(closure.queries), _matrix(closure.gallery)
        self._closure, self._right = closure, right
        self._error = left @ right.T / closure.gain - np.eye(len(left))
        self._constant = right @ closure.queries.offset / closure.gain
        self._there: tuple[Array, ...] | None = None
        self._far = self._beyond = 0.0
        self._low, self._high = math.inf, -math.inf

    def look(self, items: Array) -> None:
        """Take in some items, float64, where they are."""
        xp = namespace(items)
        if self._there is None:
            self._there = tuple(asarray_like(each, items) for each in self._constants(items))
        center, error, constant, right, offset = self._there
        away = items - center
        self._far = max(self._far, longest_row(away))
        self._beyond = max(self._beyond, longest_row(xp.matmul(away, error)))
        alone = xp.matmul(items, constant)
        if self._closure.metric.is_distance:
            alone = alone + xp.vecdot(items, items) / 2
        if self._closure.comparison.is_distance:
            mapped = xp.matmul(items, right) + offset
            alone = alone - xp.vecdot(mapped, mapped) / (2 * self._closure.gain)
        self._low = min(self._low, float(xp.min(alone)))
        self._high = max(self._high, float(xp.max(alone)))

    def _constants(self, first: Array) -> tuple[np.ndarray, ...]:
        summary = self._closure.summary
        center = to_numpy(first).mean(axis=0) if summary is None else summary.gallery.mean
        offset = self._closure.gallery.offset
        return center, self._error.T, self._constant, self._right, offset

    def most(self, queries: np.ndarray) -> float:
        """Return the most that a difference of two scores of these queries can change by."""
        along = longest_row(queries @ self._error) * self._far
        return 2 * min(along, longest_row(queries) * self._beyond) + self._high - self._low


def _matrix(side: AffineMap) -> np.ndarray:
    return np.eye(side.width) if side.matrix is None else side.matrix


def _exactness(closure: Closure, left_out: float, resolution: float) -> ExactnessDrift:
    assert closure.bound is not None  # the caller looked
    lost = closure.exact and left_out > resolution
    return ExactnessDrift(closure.exact, closure.bound, left_out, resolution, lost)


def _sides(
    summary: FitSummary | None,
    rows: np.ndarray,
    count: int,
    items: Moments,
    limits: Mapping[str, float],
    missing: list[str],
) -> tuple[SideDrift | None, SideDrift | None]:
    if summary is None:
        missing.append(
            "moments and bits at the fit: the closure holds no summary of its rows; fit it again with "
            "this version to have them"
        )
        return None, None
    queries = side_of_rows(rows, summary.axes, rows.mean(axis=0))
    gallery = SideSummary.of_moments(items, summary.axes)
    return (
        _side(summary.queries, queries, count, limits),
        _side(summary.gallery, gallery, items.count, limits),
    )


def _side(
    then: SideSummary, now: SideSummary, count: int, limits: Mapping[str, float]
) -> SideDrift:
    """Compare two summaries; `count` is that of all rows, of which `now` may hold some."""
    step = float(np.linalg.norm(now.mean - then.mean))
    unit = math.sqrt(then.variance) or 1.0
    error = math.sqrt(then.variance / then.count + now.variance / now.count) or math.inf
    changed = float(np.linalg.norm(now.within - then.within, ord=2))
    largest = float(np.linalg.norm(then.within, ord=2)) or 1.0
    chance = math.hypot(*(_sampling(each, largest) for each in (then, now)))
    return SideDrift(
        then.count,
        count,
        step / unit,
        step / error,
        changed / largest,
        chance,
        _outside(then),
        _outside(now),
        step / unit > limits["mean"] and step / error > _CHANCE,
        changed / largest > limits["spread"] and changed / largest > _CHANCE * chance,
    )


def _sampling(side: SideSummary, largest: float) -> float:
    """Return how far the covariance of so many rows is off, over the largest variance at the fit."""
    share = float(np.trace(side.within)) / largest / side.count
    top = float(np.linalg.norm(side.within, ord=2)) / largest
    return math.sqrt(share * top) + share


def _outside(side: SideSummary) -> float:
    if side.variance <= 0:
        return 0.0
    return max(1.0 - float(np.trace(side.within)) / side.variance, 0.0)


def _bits(
    closure: Closure,
    rows: np.ndarray,
    items: Moments,
    limits: Mapping[str, float],
    seed: int,
    missing: list[str],
) -> BitsDrift:
    noise = ScoreNoise(closure, items)
    now, error = _ratio(noise.before(rows), noise.after(rows))
    at_fit = None if closure.summary is None else closure.summary.bits
    order = np.random.default_rng(seed).permutation(len(rows))
    halves = np.array_split(order, 2)
    saved, wins = [], []
    try:
        for fit, test in (halves, halves[::-1]):
            again = ScoreNoise(_refit(closure, rows[fit], items), items)
            held_out = rows[test]
            saved.append(_ratio(again.before(held_out), again.after(held_out))[0])
            wins.append(_ratio(noise.after(held_out), again.after(held_out)))
    except ModgapError as reason:
        missing.append(f"what fitting again would win: {reason}")
        return BitsDrift(at_fit, now, error, None, None, None, False)
    win = float(np.mean([each for each, _ in wins]))
    spread = math.hypot(*(each for _, each in wins)) / 2
    drifted = win > limits["bits"] and win > _CHANCE * spread
    return BitsDrift(at_fit, now, error, float(np.mean(saved)), win, spread, drifted)


def _ratio(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Return the bits that a ratio of means is, and their standard error by the delta method."""
    bits = bits_of(float(np.mean(before)), float(np.mean(after)))
    if bits is None:
        raise DataError(
            "`queries` or the mapped `gallery` have no length that could be compared: all rows of one side "
            "are zero, or too large to be squared; check that they come from the closure's model"
        )
    off = before / np.mean(before) - after / np.mean(after)
    return bits, float(np.std(off, ddof=1)) / (2 * math.log(2) * math.sqrt(len(off)))


def _refit(closure: Closure, rows: np.ndarray, items: Moments) -> Closure:
    """Return the closure of the same method and settings, fitted to these queries and items."""
    info = closure.info
    known: dict[str, Callable[[], Any]] = {
        "alpha": lambda: closure.alpha,
        "n_components": lambda: _fewer(closure),
        "side": lambda: info.get("side"),
        "reduce": lambda: bool(info.get("reduce")),
        "scale": lambda: info.get("scale"),
        "compare": lambda: closure.comparison,
        "rotation": lambda: "none" if info.get("rotation") is None else info["rotation"],
    }
    from modgap.closers import METHODS

    takes = METHODS[closure.method].takes
    options = {name: value() for name, value in known.items() if name in takes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)  # said when it was fitted
        return fit_moments(closure.method, pieces_of(rows), items, metric=closure.metric, **options)


def _fewer(closure: Closure) -> int | None:
    """Return how many components were kept where that was fewer than all."""
    kept, rank = closure.n_components, closure.rank
    return kept if kept is not None and rank is not None and kept < rank else None
