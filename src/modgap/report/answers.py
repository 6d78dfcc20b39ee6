"""Answers by name: which ones closing saves or loses, which are fragile, how far items may move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap._core.arrays import as_float64, row_norms, to_numpy
from modgap.evaluation._ground import Ground
from modgap.evaluation._judged import item_scores
from modgap.evaluation.records import Row
from modgap.evaluation.tasks import Problem
from modgap.report.naming import Side, row_in_all
from modgap.report.words import brief

__all__ = ["Answers", "certificate", "survival"]

_MOST, _LOST = 10, 3
#: A query counts as steadier or less steady from this difference of shares on.
_MOVED = 0.01


def survival(row: Row) -> np.ndarray:
    """Return per query the chance that its original answer survives, the mean over the noises."""
    results = [result for result in row.results if result.side != "queries"]
    parts = [result.outcome.retention for result in results] or [row.decisions == row.before]
    mean: np.ndarray = np.mean([np.asarray(part, dtype=np.float64) for part in parts], axis=0)
    return mean


@dataclass(frozen=True)
class Answers:
    """One problem's answers, as they are and after the closer of the page."""

    ground: Ground
    none: Row
    closed: Row
    query: Side
    item: Side

    def flips(self) -> dict[str, Any]:
        """Return the answers that the closer changes, or, where it keeps all, those it saves.

        Without noise: queries whose answer is another one after closing. Under noise: those whose
        answer gains most, and up to three that lose, never only the good news.
        """
        if self.closed.changed:
            rows = np.flatnonzero(self.closed.decisions != self.none.decisions)
            return {
                "kind": "changed",
                "count": int(rows.size),
                "rows": [self._changed(int(i)) for i in rows[:_MOST]],
            }
        gain = survival(self.closed) - survival(self.none)
        order = np.argsort(-gain, kind="stable")
        worst = [int(i) for i in order[::-1][:_LOST] if gain[i] < -_MOVED]
        best = [int(i) for i in order[: _MOST - len(worst)] if gain[i] > _MOVED]
        return {
            "kind": "survive",
            "gained": int((gain > _MOVED).sum()),
            "lost": int((gain < -_MOVED).sum()),
            "rows": [self._survives(i) for i in best + worst],
        }

    def fragile(self) -> list[dict[str, Any]]:
        """Return the queries whose answer survives least as it is, the most fragile first."""
        if not self.none.results:
            return []
        order = np.argsort(survival(self.none), kind="stable")[:_MOST]
        return [self._survives(int(i)) for i in order]

    def moves(self) -> list[dict[str, Any]]:
        """Return per noise the shares of queries that closing makes steadier, and less steady."""
        found = []
        for before, after in zip(self.none.results, self.closed.results, strict=True):
            gain = after.outcome.retention - before.outcome.retention
            up, down = float((gain > _MOVED).mean()), float((gain < -_MOVED).mean())
            found.append(
                {"noise": before.noise, "steadier": up, "same": 1 - up - down, "less": down}
            )
        return found

    def _survives(self, i: int) -> dict[str, Any]:
        leaders = self.ground.leaders[i]
        return {
            **self._truth(i, self.none),
            "answer": self._name(int(leaders[0])),
            "answer_picture": self._picture(int(leaders[0])),
            "rival": self._name(int(leaders[1])) if leaders.size > 1 else None,
            "rival_picture": self._picture(int(leaders[1])) if leaders.size > 1 else None,
            "before": float(survival(self.none)[i]),
            "after": float(survival(self.closed)[i]),
        }

    def _changed(self, i: int) -> dict[str, Any]:
        before, after = int(self.none.decisions[i]), int(self.closed.decisions[i])
        return {
            **self._truth(i, self.closed),
            "before": self._name(before),
            "before_picture": self._picture(before),
            "after": self._name(after),
            "after_picture": self._picture(after),
            "was_right": None if self.none.right is None else bool(self.none.right[i]),
        }

    def _truth(self, i: int, row: Row) -> dict[str, Any]:
        positives = self.ground.problem.positives
        right = None
        if positives is not None:
            right = [self._name(int(p)) for p in positives[i] if p >= 0]
        place = row_in_all(self.ground.problem.judged_rows, i)
        return {
            "query": self.query.name(place),
            "query_row": place,
            "query_picture": self.query.picture(place),
            "right_answers": right,
            "is_right": None if row.right is None else bool(row.right[i]),
        }

    def _name(self, index: int) -> str:
        problem = self.ground.problem
        if problem.gallery.ndim == 3:
            return f"choice {index}"
        place = row_in_all(problem.item_rows, index)
        if problem.modalities is not None and self.item.names is None:
            return brief(f"{problem.modalities[index]} {place}")
        return self.item.name(place)

    def _picture(self, index: int) -> str | None:
        problem = self.ground.problem
        if problem.gallery.ndim == 3:
            return None
        return self.item.picture(row_in_all(problem.item_rows, index))


def certificate(ground: Ground) -> dict[str, float] | None:
    """Return how far every item may move, each its own way, before an answer changes; quantiles.

    By cosine of rows of unit length, compared by inner product. None in a gallery of one item.
    """
    if ground.leaders.shape[1] < 2:
        return None
    problem: Problem = ground.problem
    metric, system = ground.metric, problem.system(ground.metric)
    if metric.is_distance:
        distances = np.sqrt(np.maximum(-2 * item_scores(system, metric, ground.leaders), 0))
        radius = (distances[:, 1] - distances[:, 0]) / 2
    else:
        radius = ground.margins / 2
        if not metric.needs_directions:
            norms = to_numpy(row_norms(as_float64(system.queries)))
            radius = np.divide(radius, norms, out=np.zeros_like(radius), where=norms > 0)
    low, middle = np.quantile(np.maximum(radius, 0), [0.1, 0.5])
    return {"tenth": float(low), "median": float(middle)}
