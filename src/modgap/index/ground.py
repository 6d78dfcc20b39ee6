"""What a study stands on: rows to store, queries to judge by, their exact answers, and the maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from modgap._core.arrays import normalize_rows, to_numpy
from modgap._core.checks import check_clouds, check_count, check_indices
from modgap.closers import METHODS, Closure, Statistics, fit_statistics, method_and_comparison
from modgap.closers.maps import PARTS
from modgap.decisions.metric import COSINE, INNER_PRODUCT, Metric, as_metric
from modgap.decisions.neighbors import nearest
from modgap.errors import ArgumentError, ClosureError, ShapeError
from modgap.index.choosing import LENGTHS
from modgap.index.records import DEPTHS
from modgap.index.served import Served

__all__ = ["Ground", "Maps", "closures", "leaves_gallery", "make_ground", "mapped"]

#: Closures by the names of their columns; None leaves both sides as they are.
Maps = Mapping[str, Closure | Served | None]

#: Maps that no query is looked at for.
_UNFITTED = ("none", "recenter")
_FEWEST = 4
#: Queries that judge unless said otherwise: this many pairs with the rows, within these bounds.
_PAIRS, _LEAST, _MOST = 30_000_000, 200, 1000
#: Rows that are mapped at once.
_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class Ground:
    """Bare rows (by cosine of unit length) and what is known of them.

    Attributes
    ----------
    metric : Metric
    gallery : ndarray (n, d) float32
        The rows to store: all but those held out.
    queries, fit : ndarray (m, d), (f, d) float32
        Those that judge, and those that maps are fitted to: none does both.
    own : ndarray (r, d) float32
        Queries of the gallery's own kind.
    own_rows : ndarray (r,) or None
        Where they lie in `gallery`; None where they were held out of it.
    labels, items : ndarray or None
        Labels of the queries, and of `gallery`.
    """

    metric: Metric
    gallery: np.ndarray
    queries: np.ndarray
    fit: np.ndarray
    own: np.ndarray
    own_rows: np.ndarray | None
    labels: np.ndarray | None
    items: np.ndarray | None

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Depths that the gallery is large enough for."""
        return tuple(k for k in DEPTHS if k < max(len(self.gallery), 2))

    @cached_property
    def truth(self) -> np.ndarray:
        """Exact answers (m, K) to the queries."""
        return exact_answers(self.queries, self.gallery, self.depths[-1])

    @cached_property
    def own_truth(self) -> np.ndarray:
        """Exact answers (r, K) to the rows of the gallery's own kind, themselves left out."""
        spare = 0 if self.own_rows is None else 1
        return self.without_self(
            exact_answers(self.own, self.gallery, self.depths[-1] + spare), self.depths[-1]
        )

    def without_self(self, found: np.ndarray, k: int) -> np.ndarray:
        """Return the first k found for each row of `own`, that row itself left out."""
        if self.own_rows is None:
            return found[:, :k]
        itself = found == self.own_rows[:, None]
        order = np.argsort(itself, axis=1, kind="stable")
        return np.take_along_axis(np.where(itself, -1, found), order, axis=1)[:, :k]


def exact_answers(queries: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """Return the k rows of largest inner product, (m, k), best first; blockwise, settled in float64."""
    if not len(queries):
        return np.empty((0, k), dtype=np.int64)
    return np.asarray(nearest(queries, gallery, k=k, metric=INNER_PRODUCT).indices)


def make_ground(
    queries: Any,
    gallery: Any,
    *,
    maps: Sequence[str | Closure | Served],
    fit_queries: Any,
    labels: Any,
    item_labels: Any,
    reference: int | None,
    sample: int | None,
    hold_out: bool,
    metric: str,
    seed: int,
) -> Ground:
    """Return what a study stands on; see `study` for the parameters.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        The inputs do not fit together, or there are too few queries to fit to some and judge by others.
    """
    chosen = as_metric(metric)
    if chosen.is_distance:
        raise ArgumentError(
            "`metric` must be cosine or ip: engines are compared by inner product; got euclidean"
        )
    strict = chosen.needs_directions
    queries, gallery = check_clouds(queries, gallery, zero_rows=not strict)
    asked, rows = _bare(queries, chosen), _bare(gallery, chosen)
    if len(rows) < 2:
        raise ShapeError(f"`gallery` must have at least 2 row(s); got shape {rows.shape}")
    sample, reference = _counts(sample, reference, len(rows))
    rng = np.random.default_rng(seed)
    judges, fit = _split(asked, maps, fit_queries, chosen, rng)
    judges = np.sort(rng.permutation(judges)[:sample])
    own_labels, items = _labels(labels, item_labels, len(asked), len(rows))
    answers = own_labels[judges] if own_labels is not None and item_labels is None else judges[:0]
    held = _held(len(rows), min(reference, len(rows) // 10), answers, rng)
    stored, own_rows = rows, None
    if hold_out and len(held):
        keep = np.setdiff1d(np.arange(len(rows)), held)
        stored, items = rows[keep], None if items is None else items[keep]
    elif len(held):
        own_rows = held
    return Ground(
        chosen,
        stored,
        asked[judges],
        fit,
        rows[held],
        own_rows,
        None if own_labels is None else own_labels[judges],
        items,
    )


def _counts(sample: int | None, reference: int | None, rows: int) -> tuple[int, int]:
    """Return how many queries judge and how many rows are held out, at most."""
    most = max(_LEAST, min(_MOST, _PAIRS // rows)) if sample is None else sample
    check_count(most, "sample", low=2)
    held = most // 3 if reference is None else reference
    return most, check_count(held, "reference", low=0)


def _bare(rows: Any, metric: Metric) -> np.ndarray:
    """Return rows as the engines get them: float32, by cosine of unit length."""
    return np.ascontiguousarray(to_numpy(metric.prepare(rows)), dtype=np.float32)


def _split(
    asked: np.ndarray,
    maps: Sequence[str | Closure | Served],
    fit_queries: Any,
    metric: Metric,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the queries that may judge, and the queries to fit to."""
    every = np.arange(len(asked))
    if fit_queries is not None:
        known, _ = check_clouds(
            fit_queries,
            asked,
            names=("fit_queries", "queries"),
            zero_rows=not metric.needs_directions,
        )
        return every, _bare(known, metric)
    if all(not isinstance(one, str) or one.partition(":")[0] in _UNFITTED for one in maps):
        return every, asked
    if len(asked) < _FEWEST:
        raise ShapeError(
            f"`queries` must have at least {_FEWEST} row(s), half to fit maps to and half to judge by; "
            f"got shape {asked.shape}; give more, or others to fit to with `fit_queries`"
        )
    order = rng.permutation(len(asked))
    half = len(asked) // 2
    return order[half:], asked[np.sort(order[:half])]


def _labels(
    labels: Any, item_labels: Any, count: int, rows: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return labels of the queries and of the gallery's rows, whose own positions are the usual ones."""
    if labels is None:
        if item_labels is not None:
            raise ArgumentError("`item_labels` needs `labels`, those of the queries")
        return None, None
    if item_labels is None:
        return check_indices(labels, "labels", rows=count, below=rows), np.arange(rows)
    most = np.iinfo(np.int64).max
    kinds = check_indices(item_labels, "item_labels", rows=rows, below=most, rows_of="gallery")
    return check_indices(labels, "labels", rows=count, below=most), kinds


def _held(rows: int, count: int, answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return positions to hold out of a gallery, none of which answers a query by its label."""
    free = np.setdiff1d(np.arange(rows), answers)
    return np.sort(rng.permutation(free)[:count])


def closures(ground: Ground, maps: Sequence[str | Closure | Served]) -> Maps:
    """Return the maps by name, those that are words fitted; equal names are told apart by a number.

    Raises
    ------
    ArgumentError
        No closer has such a name.
    ClosureError
        A closure is compared by distance, or was fitted for another metric or width.
    """
    found: dict[str, Closure | Served | None] = {}
    stats: Statistics | None = None
    for one in maps:
        made: Closure | Served | None = None
        if isinstance(one, str) and one != "none":
            word = one.removesuffix(LENGTHS)
            _check_method(word)
            if stats is None:
                stats = Statistics.of_rows(ground.fit, ground.gallery, ground.metric)
            made = _usable(fit_statistics(word, stats), ground)
            if word != one:
                made = Served(made).with_lengths(ground.fit, ground.gallery)
        elif not isinstance(one, str):
            _usable(one.closure if isinstance(one, Served) else one, ground)
            made = one
        found[_name(made, found)] = made
    return found


def _name(closure: Closure | Served | None, taken: Mapping[str, object]) -> str:
    """Return what a map is called in tables."""
    if closure is None:
        label = "none"
    elif isinstance(closure, Served):
        label = closure.closure.label + (LENGTHS if closure.lengths is not None else "")
    else:
        label = closure.label
    name, again = label, 2
    while name in taken:
        name, again = f"{label} #{again}", again + 1
    return name


def _check_method(word: str) -> None:
    name, _ = method_and_comparison(word)
    if METHODS[name].needs == "pairs":
        raise ArgumentError(
            f"`maps` cannot hold {name!r}, which is fitted to pairs; fit it with `modgap close` and give "
            "the file"
        )


def _usable(closure: Closure, ground: Ground) -> Closure:
    closure.check_metric(ground.metric)
    if closure.comparison.is_distance:
        raise ClosureError(
            f"`maps`: {closure.label!r} is compared by distance, and the engines compare by inner product; "
            "fit it with compare='ip'"
        )
    if closure.gallery.width != ground.gallery.shape[1]:
        raise ClosureError(
            f"`maps`: {closure.label!r} was fitted for embeddings of dimension {closure.gallery.width}; "
            f"got rows of dimension {ground.gallery.shape[1]}"
        )
    return closure


def leaves_gallery(closure: Closure | Served | None, metric: Metric) -> bool:
    """Whether a closure stores the bare rows: its index is that of no map at all."""
    if closure is None:
        return True
    if isinstance(closure, Served):
        return False
    side = closure.gallery
    moved = any(getattr(side, part) is not None for part in PARTS)
    scaled = side.normalize_input or side.normalize_output or closure.comparison == COSINE
    return not moved and (metric == COSINE or not scaled)


def mapped(closure: Closure | Served | None, rows: np.ndarray, side: str) -> np.ndarray:
    """Return rows of one side as they are compared by inner product, float32.

    They are mapped some at a time: a matrix product keeps buffers of the size that it once needed.
    """
    if closure is None or len(rows) <= _BLOCK:
        return _mapped(closure, rows, side)
    first = _mapped(closure, rows[:_BLOCK], side)
    out = np.empty((len(rows), first.shape[1]), dtype=np.float32)
    out[:_BLOCK] = first
    for start in range(_BLOCK, len(rows), _BLOCK):
        out[start : start + _BLOCK] = _mapped(closure, rows[start : start + _BLOCK], side)
    return out


def _mapped(closure: Closure | Served | None, rows: np.ndarray, side: str) -> np.ndarray:
    if closure is None or not len(rows):
        return rows
    moved = getattr(closure, side)(rows)
    if isinstance(closure, Closure) and closure.comparison == COSINE:
        moved = normalize_rows(moved)
    return np.ascontiguousarray(moved, dtype=np.float32)
