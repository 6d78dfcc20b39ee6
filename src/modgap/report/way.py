"""The way from the rows as they are to the closed ones: what each share of the gap that is closed does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modgap._core.arrays import to_numpy
from modgap.closers import METHODS, Closure, Statistics, fit_statistics
from modgap.closers.maps import AffineMap
from modgap.decisions.metric import INNER_PRODUCT
from modgap.evaluation._ground import Ground
from modgap.evaluation._stage import Plan, Stage, fold_rows
from modgap.evaluation.advice import Survey
from modgap.evaluation.records import Row
from modgap.evaluation.tasks import Task
from modgap.robustness.noise import Code, Noise

__all__ = ["Way", "way_of"]


@dataclass(frozen=True)
class Way:
    """The stops of the page's closer, and the noises that each is put under.

    Attributes
    ----------
    closed : Row
        The closer, all the way.
    alphas : tuple of float
        Shares of the gap, in order; 0, the rows as they are, and 1 are among them.
    noise, code : Noise or None
        The first noise of the study that is no code, and its first code.
    plan : Plan
        Of the study.
    """

    closed: Row
    alphas: tuple[float, ...]
    noise: Noise | None
    code: Noise | None
    plan: Plan

    def answers(self, drawn: Task) -> int:
        """Return how many answers the stops between both ends judge: queries times stops."""
        stops = sum(alpha not in (0.0, 1.0) for alpha in self.alphas)
        return stops * sum(int(problem.queries.shape[0]) for problem in drawn.problems)

    def closures(self, stats: Statistics, closed: Closure, **options: Any) -> list[Closure | None]:
        """Return the closure of every stop; None of the first, where nothing is closed."""
        found: list[Closure | None] = []
        for alpha in self.alphas:
            if alpha == 0.0:
                found.append(None)
            elif _takes_alpha(closed):
                found.append(fit_statistics(closed.label, stats, alpha=alpha, **options))
            else:
                found.append(closed if alpha == 1.0 else _part_of(closed, alpha))
        return found

    def figures(self, ground: Ground, none: Row, closed: Row) -> dict[str, Any]:
        """Return what every stop does to the answers of one problem; those of both ends are the study's."""
        rows = {0.0: none, 1.0: closed, **self._between(ground, closed.closure)}
        mine = [rows[alpha] for alpha in self.alphas]
        return {
            "method": closed.label,
            "noise": self.noise and self.noise.label,
            "code": self.code and self.code.label,
            "alphas": list(self.alphas),
            "agreement": [row.agreement for row in mine],
            "clean_accuracy": [row.clean_accuracy for row in mine],
            "retention": [_retention(row, self.noise) for row in mine],
            "code_retention": [_retention(row, self.code) for row in mine],
            "code_recall": [_recall(row, self.code) for row in mine],
            "bits_won": self._bits_won(ground, closed.closure),
        }

    def _between(self, ground: Ground, closed: Closure) -> dict[float, Row]:
        between = tuple(alpha for alpha in self.alphas if alpha not in (0.0, 1.0))
        if not between:
            return {}
        noises = tuple(noise for noise in (self.noise, self.code) if noise is not None)
        plan = replace(self.plan, closers=(closed.label,), alphas=between, noises=noises)
        if not _takes_alpha(closed):
            plan = replace(plan, closers=tuple(_part_of(closed, alpha) for alpha in between))
        return dict(zip(between, Stage(ground, plan).rows(), strict=True))

    def _bits_won(self, ground: Ground, closed: Closure) -> list[float] | None:
        """Return how many bits a coordinate each stop wins back, on queries that it was not fitted to.

        1/2 log2 of E|x|^2 E|y|^2, which a code's noise in the scores is proportional to where one range
        serves all coordinates, before the maps over that after them. None by distance.
        """
        known = METHODS.get(closed.method)
        if known is None or closed.comparison != INNER_PRODUCT or ground.metric.is_distance:
            return None
        whole = ground.statistics
        count = int(ground.problem.queries.shape[0])
        parts = [np.arange(count)]
        if known.held_out:
            parts = fold_rows(count, self.plan.folds, self.plan.seed)
        before, after = 0.0, np.zeros(len(self.alphas))
        for part in parts:
            stats = ground.without(part) if len(parts) > 1 else whole
            own = ground.metric.prepare(ground.problem.subset(part).queries)
            before += _mean_square(whole, None) * _squares(own, None)
            for i, closure in enumerate(self.closures(stats, closed)):
                gain = 1.0 if closure is None else closure.gain
                after[i] += _mean_square(whole, closure) * _squares(own, closure) / gain**2
        return [float(np.log2(before / each) / 2) if each > 0 else 0.0 for each in after]


def way_of(found: Survey, closed: Row, alphas: Sequence[float]) -> Way:
    """Return the stops of a closer: those asked for where it can stop on the way, else both ends."""
    bearing = [noise for noise in found.noises if noise.side != "queries"]
    noise = next((noise for noise in bearing if not isinstance(noise, Code)), None)
    code = next((noise for noise in bearing if isinstance(noise, Code)), None)
    method, mixed = METHODS.get(closed.method), found.drawn.problems[0].modalities is not None
    partly = method is not None and ("alpha" in method.takes or not method.held_out)
    between = {float(alpha) for alpha in alphas} if partly and not mixed else set()
    return Way(closed, tuple(sorted({0.0, 1.0} | between)), noise, code, found.plan)


def _takes_alpha(closure: Closure) -> bool:
    method = METHODS.get(closure.method)
    return method is not None and "alpha" in method.takes


def _part_of(closed: Closure, alpha: float) -> Closure:
    """Return the closure that goes straight, alpha of the way, for closers without an alpha of their own.

    Such closers leave the items in place but for a shift, so the scores of each stop are (1 - alpha)
    times those of the rows as they are plus alpha times those of the closed ones: both rank alike, and
    so does each stop in between.
    """
    return replace(
        closed,
        queries=_blend(closed.queries, alpha),
        gallery=_blend(closed.gallery, alpha),
        bound=None,
        alpha=alpha,
        gain=(1 - alpha) + alpha * closed.gain,
    )


def _blend(side: AffineMap, alpha: float) -> AffineMap:
    """Return the map to rows + alpha (side(rows) - rows), of rows as the metric sees them."""
    parts: dict[str, Any] = {"shift": alpha * side.offset}
    if side.matrix is not None:
        parts |= {"left": alpha * side.matrix + (1 - alpha) * np.eye(side.width), "residual": False}
    return AffineMap(side.width, normalize_input=side.normalize_input, **parts)


def _mean_square(stats: Statistics, closure: Closure | None) -> float:
    """Return E|x|^2 of the items after a map, from their moments."""
    covariance, mean = to_numpy(stats.gallery.covariance), stats.gallery_mean
    if closure is None:
        return float(np.trace(covariance) + mean @ mean)
    matrix, offset = closure.gallery.matrix, closure.gallery.offset
    if matrix is None:
        return float(np.trace(covariance) + np.sum((mean + offset) ** 2))
    moved = mean @ matrix + offset
    return float(np.sum((covariance @ matrix) * matrix) + moved @ moved)


def _squares(rows: Any, closure: Closure | None) -> float:
    """Return the sum of |y|^2 of queries after a map."""
    mapped = to_numpy(rows if closure is None else closure.queries(rows)).astype(np.float64)
    return float(np.sum(mapped**2))


def _retention(row: Row, noise: Noise | None) -> float | None:
    result = None if noise is None else row.under(noise)
    return None if result is None or result.failed else result.retention


def _recall(row: Row, code: Noise | None) -> float | None:
    """Return the share of the exact ten nearest that the code finds; None where none is counted."""
    found = None if code is None else row.under(code).recall
    return None if found is None else found.get("10")
