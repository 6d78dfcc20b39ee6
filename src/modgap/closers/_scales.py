"""How large a modality's scores are: the ways to choose s_m that `calibrate` compares."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modgap._core.arrays import Array, as_float64, asarray_like, block_slices, namespace, to_numpy
from modgap._core.checks import check_number
from modgap._core.moments import Moments
from modgap.closers._transport import second_moment
from modgap.decisions.top_k import top_k
from modgap.errors import ArgumentError, ClosureWarning, DataError, ShapeError

__all__ = [
    "SCALES",
    "Lists",
    "checked_pairs",
    "checked_shares",
    "scale_of_moments",
    "scales_of_lists",
]

SCALES = ("rms", "top", "quantile", "pairs", "share", "means")
#: Best share of a query's scores that "top" averages and "quantile" ends at.
_BEST = 0.01
#: Queries that scores are looked at for; more would cost m n d without moving the mean.
_QUERIES = 1000
#: Length of the merged list that "share" looks at, and its search: rounds over the modalities, halvings.
_DEPTH, _ROUNDS, _HALVINGS, _REACH = 10, 12, 30, 6.0
#: A share that is missed by more than this is worth a warning.
_OFF = 0.05


@dataclass(frozen=True, eq=False)
class Lists:
    """Queries and the items of each modality as the metric sees them, with what is known of both."""

    queries: Array
    items: Mapping[str, Array]
    means: Mapping[str, np.ndarray]
    pairs: Mapping[str, np.ndarray] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)

    def typical(self) -> Array:
        """Return at most so many queries, evenly spread over those given, float64."""
        count = int(self.queries.shape[0])
        rows = np.unique(np.linspace(0, count - 1, min(count, _QUERIES)).astype(np.int64))
        xp = namespace(self.queries)
        return as_float64(xp.take(self.queries, asarray_like(rows, self.queries), axis=0))

    def best(self, name: str, k: int) -> np.ndarray:
        """Return the k largest y.(x - mu) of each typical query, largest first, shape (q, k), float64."""
        items = as_float64(self.items[name])
        mean = asarray_like(self.means[name], items, dtype=items.dtype)
        queries = self.typical()
        found = []
        for rows in block_slices(queries.shape[0], items.shape[0]):
            block = queries[rows, :]
            scores = block @ items.T - (block @ mean)[:, None]
            found.append(to_numpy(top_k(scores, k)[0]))
        return np.concatenate(found)


def scale_of_moments(way: str, queries: Moments, items: Moments) -> float:
    """Return the root mean square of y.(x - mu) over all queries and items, or 1 for "means".

    The mean square is tr C S, C the items' covariance and S = E[y y^T]: no pair need be looked at.
    """
    if way == "means":
        return 1.0
    product = np.sum(to_numpy(items.covariance) * second_moment(queries))
    return math.sqrt(max(float(product), 0.0))


def scales_of_lists(way: str, lists: Lists) -> dict[str, float]:
    """Return s_m of every modality by one of the ways that look at scores."""
    if way == "share":
        return _by_share(lists)
    if way == "pairs":
        return {name: _of_pairs(lists, name) for name in lists.items}
    found = {}
    for name, rows in lists.items.items():
        k = max(1, round(_BEST * int(rows.shape[0])))
        best = lists.best(name, k)
        found[name] = float(best.mean() if way == "top" else best[:, -1].mean())
    return found


def _of_pairs(lists: Lists, name: str) -> float:
    """Return the mean of y.(x - mu) over the pairs of a modality."""
    rows, places = lists.pairs[name].T
    xp = namespace(lists.queries)
    asked = to_numpy(as_float64(xp.take(lists.queries, asarray_like(rows, lists.queries), axis=0)))
    items = lists.items[name]
    found = to_numpy(as_float64(xp.take(items, asarray_like(places, items), axis=0)))
    return float(np.mean(np.sum(asked * (found - lists.means[name]), axis=1)))


def _by_share(lists: Lists) -> dict[str, float]:
    """Return scales with which each modality has its share of the best ten, one after the other by halving.

    A smaller s_m lifts the positive scores of m and can only raise its share; the others' fall.
    """
    names = tuple(lists.items)
    best = [lists.best(n, min(_DEPTH, int(lists.items[n].shape[0]))) for n in names]
    start = np.array([math.sqrt(float(np.mean(each**2))) for each in best])
    around = np.log(np.where(start > 0, start, 1.0))
    logs = around.copy()
    want = np.array([lists.shares[name] for name in names])
    depth = min(_DEPTH, sum(each.shape[1] for each in best))
    owner = np.concatenate([np.full(each.shape[1], m) for m, each in enumerate(best)])

    def shares(at: np.ndarray) -> np.ndarray:
        merged = np.concatenate([each / math.exp(s) for each, s in zip(best, at, strict=True)], 1)
        top = np.argpartition(-merged, depth - 1, axis=1)[:, :depth]
        return np.bincount(owner[top].ravel(), minlength=len(names)) / top.size

    for _ in range(_ROUNDS):
        if np.abs(shares(logs) - want).max() <= 0.5 / (depth * len(best[0])):
            break
        for m in range(len(names)):
            low, high = around[m] - _REACH, around[m] + _REACH
            for _ in range(_HALVINGS):
                logs[m] = (low + high) / 2
                if shares(logs)[m] > want[m]:
                    low = logs[m]
                else:
                    high = logs[m]
    found = shares(logs)
    if np.abs(found - want).max() > _OFF:
        got = ", ".join(f"{n} {share:.2f}" for n, share in zip(names, found, strict=True))
        warnings.warn(
            f"`calibrate`: no scales give every modality its share of the {depth} best, since some have "
            f"too few items that score above their mean; these give {got}",
            ClosureWarning,
            stacklevel=5,
        )
    return {name: math.exp(s) for name, s in zip(names, logs, strict=True)}


def checked_pairs(
    pairs: Mapping[str, Any] | None, queries: int, counts: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Return the pairs of every modality, shape (p, 2), p >= 1, rows of a query and of an item.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        A modality has none, or they are no rows.
    """
    found = {}
    for name, count in counts.items():
        own = None if pairs is None else pairs.get(name)
        if own is None or len(own) == 0:
            raise ArgumentError(
                f'`pairs` must hold pairs of every modality for scale="pairs"; {name!r} has none, so '
                "how high its right answers score is unknown; give some, or use scale rms"
            )
        table = np.asarray(to_numpy(own) if not isinstance(own, list | tuple) else own)
        if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind not in "iu":
            raise ShapeError(
                f"`pairs[{name!r}]` must hold integers of shape (p, 2), rows of a query and of an item; "
                f"got {table.dtype} of shape {table.shape}"
            )
        if table.min() < 0 or table[:, 0].max() >= queries or table[:, 1].max() >= count:
            raise DataError(
                f"`pairs[{name!r}]` must name queries below {queries} and items below {count}; got rows "
                f"up to {int(table[:, 0].max())} and {int(table[:, 1].max())}"
            )
        found[name] = table.astype(np.int64)
    unknown = [name for name in pairs or {} if name not in counts]
    if unknown:
        raise ArgumentError(f"`pairs` names {unknown[0]!r}, which `galleries` does not hold")
    return found


def checked_shares(shares: Mapping[str, float] | None, names: tuple[str, ...]) -> dict[str, float]:
    """Return the shares that sum to 1, equal ones by default.

    Raises
    ------
    ArgumentError
        A modality has no share, or one that is not positive; a name is unknown.
    """
    if shares is None:
        return dict.fromkeys(names, 1.0 / len(names))
    if set(shares) != set(names):
        raise ArgumentError(
            f"`shares` must name every modality once ({', '.join(names)}); got "
            f"{', '.join(map(str, shares)) or 'none'}"
        )
    values = {
        name: check_number(shares[name], f"shares[{name!r}]", low=0.0, open_low=True)
        for name in names
    }
    total = sum(values.values())
    return {name: value / total for name, value in values.items()}
