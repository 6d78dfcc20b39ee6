"""How the lists of several modalities are merged: what is found, who is shown, and that no list changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import (
    asarray_like,
    dtype_eps,
    namespace,
    to_numpy,
    working_float,
)
from modgap.closers.statistics import longest_row, tie_share
from modgap.decisions.metric import Metric
from modgap.decisions.neighbors import Neighbors, nearest
from modgap.evaluation.tasks import Problem
from modgap.robustness.systems import System

__all__ = ["DEPTHS", "Merged", "lists_of", "merged_of"]

#: Lengths of the merged list that figures are given for; the longest is that of a modality's own list too.
DEPTHS = (1, 10, 50)


@dataclass(frozen=True, eq=False)
class Merged:
    """What a merged list holds, query by query.

    Attributes
    ----------
    modalities : tuple of str
    hits : dict of str to ndarray (m,) of bool, or None
        Whether a right item is among the k nearest; None where none are known.
    ndcg : dict of str to ndarray (m,), or None
        Discounted gain of the right items among the k nearest, 1 / log2(1 + place) each, over that of the
        best list (Järvelin & Kekäläinen, 2002); in [0, 1], 0 for a query that nothing answers.
    shares : dict of str to ndarray (m, M)
        Share of each modality among the k nearest.
    lists : ndarray (m, M) of bool
        Whether the 50 best items of a modality, in their order, are those from before closing; items
        whose scores differ by less than products of the rows can tell count as one.
    """

    modalities: tuple[str, ...]
    hits: dict[str, np.ndarray] | None
    ndcg: dict[str, np.ndarray] | None
    shares: dict[str, np.ndarray]
    lists: np.ndarray

    @classmethod
    def joined(cls, parts: list[Merged], order: np.ndarray) -> Merged:
        """Return the parts as one, rows sorted by `order`."""

        def whole(tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
            return {k: np.concatenate([table[k] for table in tables])[order] for k in tables[0]}

        hits = [part.hits for part in parts if part.hits is not None]
        ndcg = [part.ndcg for part in parts if part.ndcg is not None]
        return cls(
            parts[0].modalities,
            whole(hits) if hits else None,
            whole(ndcg) if ndcg else None,
            whole([part.shares for part in parts]),
            np.concatenate([part.lists for part in parts])[order],
        )

    def mean_shares(self) -> dict[str, dict[str, float]]:
        """Return the share of each modality among the k nearest, by k and by modality."""
        return {
            k: dict(zip(self.modalities, map(float, table.mean(axis=0)), strict=True))
            for k, table in self.shares.items()
        }

    def lists_kept(self) -> dict[str, float]:
        """Return by modality the share of queries whose list of its items stayed as it was."""
        return dict(zip(self.modalities, map(float, self.lists.mean(axis=0)), strict=True))


def lists_of(problem: Problem, metric: Metric) -> list[Neighbors]:
    """Return the list of each modality before closing, on the host, modalities in their order."""
    xp = namespace(problem.gallery)
    found = []
    for rows in problem.by_modality().values():
        items = xp.take(problem.gallery, asarray_like(rows, problem.gallery), axis=0)
        best = nearest(problem.queries, items, k=min(DEPTHS[-1], rows.size), metric=metric)
        found.append(Neighbors(to_numpy(best.indices), to_numpy(best.scores)))
    return found


def merged_of(
    problem: Problem, system: System, metric: Metric, before: list[Neighbors], asked: np.ndarray
) -> Merged:
    """Return what the merged list holds after closing, and whether lists within modalities stayed.

    `before` is what `lists_of` says of all queries, of which the problem has those at `asked`.
    """
    groups = problem.by_modality()
    names = tuple(groups)
    items = int(problem.gallery.shape[0])
    depths = [k for k in DEPTHS if k <= items]
    found = system.leaders(depths[-1])
    kinds = np.empty(items, dtype=np.int64)
    for place, rows in enumerate(groups.values()):
        kinds[rows] = place
    shown = kinds[found][:, :, None] == np.arange(len(names))
    lists = [
        _list_stays(problem, system, metric, rows, old.indices[asked], old.scores[asked])
        for rows, old in zip(groups.values(), before, strict=True)
    ]
    hits = gains = None
    if problem.positives is not None:
        hits, gains = _right(found, problem.positives, items, depths)
    return Merged(
        names,
        hits,
        gains,
        {str(k): shown[:, :k].mean(axis=1) for k in depths},
        np.stack(lists, axis=1),
    )


def _right(
    found: np.ndarray, positives: np.ndarray, items: int, depths: list[int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return hits and discounted gains at each depth."""
    # One number for a query and an item together, so that one look-up serves all queries.
    row = np.arange(len(found))[:, None] * items
    right = np.isin(found + row, (positives + row)[positives >= 0])
    known = np.minimum((positives >= 0).sum(axis=1), depths[-1])
    weights = 1 / np.log2(np.arange(2, depths[-1] + 2))
    best = np.concatenate([[0.0], np.cumsum(weights)])
    gains = {}
    for k in depths:
        most = best[np.minimum(known, k)]
        gains[str(k)] = (right[:, :k] @ weights[:k]) / np.where(most > 0, most, 1.0)
    hits = {str(k): np.asarray(right[:, :k].any(axis=1)) for k in depths}
    return hits, gains


def _list_stays(
    problem: Problem,
    system: System,
    metric: Metric,
    rows: np.ndarray,
    old: np.ndarray,
    was: np.ndarray,
) -> np.ndarray:
    """Return per query whether the best items of one modality are those from before, ties aside."""
    xp = namespace(system.queries)
    after = xp.take(system.gallery, asarray_like(rows, system.gallery), axis=0)
    now = nearest(system.queries, after, k=old.shape[1], metric=system.comparison)
    places = to_numpy(now.indices)
    stays: np.ndarray = ~(places != old).any(axis=1)
    some = np.flatnonzero(~stays)
    if some.size:
        asked = xp.take(problem.queries, asarray_like(some, problem.queries), axis=0)
        flat = asarray_like(rows[places[some]].ravel(), problem.gallery)
        chosen = xp.reshape(xp.take(problem.gallery, flat, axis=0), (some.size, old.shape[1], -1))
        scores = to_numpy(metric.pair_scores(asked, chosen))
        stays[some] = np.abs(scores - was[some]).max(axis=1) <= _tie(problem, metric)
    return stays


def _tie(problem: Problem, metric: Metric) -> float:
    """Return the difference of scores below which two are a tie; see `Statistics.resolution`."""
    longest = []
    eps = 0.0
    for rows in (problem.queries, problem.gallery):
        seen = metric.prepare(working_float(rows))
        longest.append(longest_row(seen))
        eps = max(eps, dtype_eps(seen))
    return 2 * tie_share(int(problem.queries.shape[1]), eps) * math.prod(longest)
