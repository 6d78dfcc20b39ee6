"""One problem of a task under a plan: closers are fitted, judged, and their promises checked."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap._core.arrays import as_float64, namespace, to_numpy
from modgap.closers import (
    METHODS,
    Closure,
    MixedClosure,
    Statistics,
    fit_statistics,
    method_and_comparison,
)
from modgap.closers.calibrate import is_mixed_method
from modgap.decisions.metric import Metric
from modgap.errors import ClosureError, ClosureWarning
from modgap.evaluation._ground import Ground
from modgap.evaluation._judged import (
    RIGHT_AT,
    Judged,
    hits_among_nearest,
    is_right,
    item_scores,
    means,
    rephrased_outcomes,
)
from modgap.evaluation._merged import DEPTHS, merged_of
from modgap.evaluation._mixed_fit import fit_to_queries
from modgap.evaluation.records import NoiseResult, Row
from modgap.evaluation.tasks import Problem
from modgap.robustness.additive import spread
from modgap.robustness.noise import Code, Noise
from modgap.robustness.outcomes import kept_of, outcomes

#: Where more answers than this change among ties, nothing can be promised: the data are all ties.
_MANY_TIES = 0.01
#: Elements of mapped galleries that may be held at once: 512 MiB of float32.
_MAPPED_ELEMENTS = 128 * 1024 * 1024


@dataclass(frozen=True)
class Plan:
    """What was asked for."""

    closers: tuple[str | Closure, ...]
    alphas: tuple[float, ...]
    noises: tuple[Noise, ...]
    n_components: int | float | str | None
    paraphrase: bool
    folds: int
    draws: int
    seed: int
    progress: Callable[[int], None] | None
    #: Called with the number of answers, queries times closers, that were judged since the last call.
    judged: Callable[[int], None] | None = None

    def describe(self) -> dict[str, Any]:
        """Return the settings as a plain dict."""
        return {
            "closers": [c if isinstance(c, str) else c.label for c in self.closers],
            "alphas": list(self.alphas),
            "noises": [noise.label for noise in self.noises],
            "n_components": self.n_components,
            "paraphrase": self.paraphrase,
            "folds": self.folds,
            "draws": self.draws,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class _Fitted:
    """A closure with the warnings of its fit; `given` where it came from elsewhere."""

    closure: Closure
    notes: tuple[str, ...] = ()
    given: bool = False

    @property
    def held_out(self) -> bool:
        method = METHODS.get(self.closure.method)
        made = isinstance(self.closure, MixedClosure)
        return not self.given and (made or (method is not None and method.held_out))


@dataclass(frozen=True)
class Stage:
    """One problem under a plan."""

    ground: Ground
    plan: Plan

    @property
    def metric(self) -> Metric:
        return self.ground.metric

    @property
    def problem(self) -> Problem:
        return self.ground.problem

    @property
    def before(self) -> np.ndarray:
        return self.ground.before

    def rows(self) -> list[Row]:
        """Return one row per closer and alpha, in the order asked for."""
        fitted = self._fit_all()
        _warn_once(fitted)
        seen = [i for i, one in enumerate(fitted) if not one.held_out]
        unseen = [i for i, one in enumerate(fitted) if one.held_out]
        every = np.arange(self.before.size)
        found: dict[int, Row] = {}
        if seen:
            judged = self._judge(self.problem, [fitted[i].closure for i in seen], every)
            found |= dict(zip(seen, (self._row(fitted[i], [part], 0) for i, part in
                                     zip(seen, judged, strict=True)), strict=True))  # fmt: skip
        if unseen:
            parts = fold_rows(every.size, self.plan.folds, self.plan.seed)
            judged_parts = [self._judge_fold(part, unseen) for part in parts]
            for place, i in enumerate(unseen):
                mine = [judged[place] for judged in judged_parts]
                found[i] = self._row(fitted[i], mine, len(parts) if len(parts) > 1 else 0)
        return [found[i] for i in range(len(fitted))]

    def _fit_all(
        self, only: Sequence[int] | None = None, *, without: np.ndarray | None = None
    ) -> list[_Fitted]:
        """Return every closure asked for, or those at some places; fitted without some of the queries."""
        jobs: list[tuple[str | Closure, float | None]] = []
        for closer in self.plan.closers:
            mixed = isinstance(closer, str) and self.ground.is_mixed(closer)
            takes = frozenset() if mixed or isinstance(closer, Closure) else _takes(closer)
            jobs += [
                (closer, alpha) for alpha in (self.plan.alphas if "alpha" in takes else (None,))
            ]
        chosen = range(len(jobs)) if only is None else only
        ground, made = self.ground, {}
        for pairs in {_needs_pairs(jobs[i][0]) for i in chosen}:
            made[pairs] = ground.statistics
            if without is not None:
                made[pairs] = ground.without(without, pairs=pairs)
            elif pairs and self.problem.partner_rows is not None:
                made[pairs] = ground.without(np.zeros(0, dtype=np.int64), pairs=True)
        return [self._fit(*jobs[i], made[_needs_pairs(jobs[i][0])], without) for i in chosen]

    def _fit(
        self,
        closer: str | Closure,
        alpha: float | None,
        stats: Statistics,
        without: np.ndarray | None,
    ) -> _Fitted:
        if isinstance(closer, Closure):
            self._check_given(closer, stats.width)
            return _Fitted(closer, given=True)
        if self.ground.is_mixed(closer):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ClosureWarning)
                mixed = fit_to_queries(closer, self.problem, self.ground.collection, without)
            return _Fitted(mixed, tuple(str(w.message) for w in caught))
        options: dict[str, Any] = {} if alpha is None else {"alpha": alpha}
        if "n_components" in _takes(closer) and self.plan.n_components is not None:
            options["n_components"] = self.plan.n_components
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ClosureWarning)
            closure = fit_statistics(closer, stats, **options)
        return _Fitted(closure, tuple(str(w.message) for w in caught))

    def _check_given(self, closure: Closure, width: int) -> None:
        """Raise an error for a closure that was fitted for other data than these."""
        closure.check_metric(self.metric)
        if closure.queries.width != width:
            raise ClosureError(
                f"the closure was fitted for embeddings of dimension {closure.queries.width}; "
                f"the task has dimension {width}"
            )
        if isinstance(closure, MixedClosure):
            there = tuple(self.problem.by_modality())
            if not there or not set(there) <= set(closure.modalities):
                raise ClosureError(
                    f"the closure maps the modalities {', '.join(closure.modalities)} of a mixed "
                    f"collection; the task has {', '.join(there) or 'one gallery'}"
                )

    def _judge_fold(self, part: np.ndarray, unseen: list[int]) -> list[Judged]:
        """Return what closures fitted to the other queries do to this part of them."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClosureWarning)
            fitted = self._fit_all(unseen, without=part)
        problem = self.problem.subset(part)
        return self._judge(problem, [one.closure for one in fitted], part)

    def _judge(self, problem: Problem, closures: list[Closure], rows: np.ndarray) -> list[Judged]:
        """Return what closures do to some of the queries, one entry per closure.

        Closures whose mapped galleries fit into memory together share the work of a sweep.
        """
        size = int(problem.gallery.shape[-1]) * int(problem.gallery_rows.shape[0])
        together = max(1, _MAPPED_ELEMENTS // size)
        judged = []
        for start in range(0, len(closures), together):
            judged += self._judge_together(problem, closures[start : start + together], rows)
        return judged

    def _judge_together(
        self, problem: Problem, closures: list[Closure], rows: np.ndarray
    ) -> list[Judged]:
        plan, truth = self.plan, self._truth(rows)
        before = self.before[rows]
        systems = [problem.system(self.metric, closure) for closure in closures]
        for system in systems:  # one search of the longest list serves every figure of shorter ones
            system.leaders(_depth(problem, truth))
        results = outcomes(
            systems,
            [before] * len(systems),
            problem.positives,
            plan.noises,
            truth=truth,
            draws=plan.draws,
            seed=plan.seed,
            progress=plan.progress,
        )
        judged = []
        for closure, system, result in zip(closures, systems, results, strict=True):
            decided = system.decisions
            if plan.paraphrase:
                result = result + rephrased_outcomes(problem, closure, system, decided, before)
            merged = None
            if problem.modalities is not None:
                merged = merged_of(problem, system, self.metric, self.ground.lists, rows)
            hits = hits_among_nearest(problem, system) if merged is None else merged.hits
            kept = None if truth is None else kept_of(truth, system.leaders(truth.shape[1]))
            right = is_right(decided, problem.positives)
            judged.append(Judged(rows, decided, right, hits, kept, result, merged))
        if plan.judged is not None:
            plan.judged(len(closures) * rows.size)
        return judged

    def _truth(self, rows: np.ndarray) -> np.ndarray | None:
        """Return what recall is counted against, where a code is among the noises."""
        if not any(isinstance(noise, Code) for noise in self.plan.noises):
            return None
        found = self.ground.nearest
        return None if found is None else found[rows]

    def _row(self, fitted: _Fitted, parts: list[Judged], folds: int) -> Row:
        closure, whole = fitted.closure, Judged.joined(parts)
        changed = np.flatnonzero(whole.decided != self.before)
        lost = self._lost_by(changed, whole.decided[changed])
        ties = int((lost <= closure.resolution).sum())
        withdrawn = self._withdrawn(fitted, changed.size, ties)
        for sentence in withdrawn:
            warnings.warn(sentence, ClosureWarning, stacklevel=6)
        gap_after, enlarges = self._stored(closure)
        return Row(
            problem=self.problem.name,
            closure=closure,
            exact=self._keeps(fitted, changed.size, ties),
            changed=int(changed.size) - ties,
            ties=ties,
            decisions=whole.decided,
            before=self.before,
            right=whole.right,
            gap_after=gap_after,
            enlarges=enlarges,
            recall=means(whole.hits),
            kept=means(whole.kept),
            folds=folds,
            notes=(*fitted.notes, *withdrawn),
            results=tuple(NoiseResult(outcome) for outcome in whole.outcomes),
            merged=whole.merged,
        )

    def _stored(self, closure: Closure) -> tuple[float, float | None]:
        """Return the distance of the means after the maps, and the items' spread over that before."""
        clouds = closure.queries(self.problem.queries), self.problem.mapped_rows(closure)
        means = [to_numpy(namespace(cloud).mean(as_float64(cloud), axis=0)) for cloud in clouds]
        before, after = self.ground.spread, spread(clouds[1]) * math.sqrt(clouds[1].shape[-1])
        gap = float(np.linalg.norm(means[0] - means[1]))
        return gap, after / before if before > 0 else None

    def _lost_by(self, rows: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Return by how much the new answers had lost, in scores before closing."""
        if rows.size == 0:
            return np.zeros(0)
        system = self.problem.subset(rows).system(self.metric)
        pairs = np.stack([self.before[rows], now], axis=1)
        scores = item_scores(system, self.metric, pairs)
        lost: np.ndarray = scores[:, 0] - scores[:, 1]
        return lost

    def _keeps(self, fitted: _Fitted, changed: int, ties: int) -> bool:
        """Whether this closure can be said to keep every answer, ties aside, here."""
        closure = fitted.closure
        if not self.problem.keeps_decisions(closure):
            return False
        if changed > ties or ties > _MANY_TIES * self.before.size:
            return False
        if closure.exact or fitted.given:
            return closure.exact
        margins = self.ground.margins
        real = margins[margins > closure.resolution]
        return closure.bound is not None and (real.size == 0 or closure.bound < float(real.min()))

    def _withdrawn(self, fitted: _Fitted, changed: int, ties: int) -> tuple[str, ...]:
        """Return one sentence where a claim fails on the data at hand."""
        closure, m = fitted.closure, self.before.size
        if not closure.exact or self._keeps(fitted, changed, ties) or changed == 0:
            return ()
        if changed > ties:
            reason = (
                "it was fitted to another gallery"
                if fitted.given
                else "its bound does not hold here"
            )
            return (
                f"`{closure.label}` promises to keep every answer, and {changed - ties} of {m} "
                f"change: {reason}; the promise is withdrawn",
            )
        return (
            f"`{closure.label}`: {ties} of {m} answers change among items whose scores differ by "
            f"less than {closure.resolution:.1g}, which no product in this precision can tell apart; "
            "store the rows about their mean, or in float64",
        )


def _depth(problem: Problem, truth: np.ndarray | None) -> int:
    """Return the length of the longest list that a figure looks at."""
    asked = [1 if truth is None else truth.shape[1]]
    if problem.ranks:
        asked.append(RIGHT_AT[-1])
    if problem.modalities is not None:
        asked.append(DEPTHS[-1])
    return min(max(asked), int(problem.gallery.shape[-2]))


def _needs_pairs(closer: str | Closure) -> bool:
    if isinstance(closer, Closure) or is_mixed_method(closer):
        return False
    return METHODS[method_and_comparison(closer)[0]].needs == "pairs"


def _takes(word: str) -> frozenset[str]:
    return METHODS[method_and_comparison(word)[0]].takes


def fold_rows(count: int, folds: int, seed: int) -> list[np.ndarray]:
    """Return the queries in parts of nearly one size, drawn at random; one part of a single query."""
    rows = np.random.default_rng([seed, count]).permutation(count)
    parts = np.array_split(rows, min(folds, count))
    return [np.sort(part) for part in parts]


def _warn_once(fitted: list[_Fitted]) -> None:
    for message in dict.fromkeys(text for one in fitted for text in one.notes):
        warnings.warn(message, ClosureWarning, stacklevel=5)
