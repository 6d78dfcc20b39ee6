"""One problem of a task under a plan: closers are fitted, judged, and their promises checked."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

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
from modgap.closers._collection import Collection
from modgap.closers.calibrate import is_mixed_method
from modgap.decisions.metric import Metric
from modgap.decisions.neighbors import Neighbors
from modgap.errors import ClosureError, ClosureWarning, DataError, ShapeError
from modgap.evaluation._collection import collection_of, fit_to_queries
from modgap.evaluation._judged import (
    Judged,
    hits_among_nearest,
    is_right,
    item_scores,
    means,
    rephrased_outcomes,
)
from modgap.evaluation._merged import lists_of, merged_of
from modgap.evaluation.records import GapFigures, NoiseResult, Row
from modgap.evaluation.tasks import Problem
from modgap.measures.gap import Gap
from modgap.measures.look import Remark, look
from modgap.measures.pairs import relative_modality_gap
from modgap.robustness.additive import spread
from modgap.robustness.noise import Code, Noise
from modgap.robustness.outcomes import RECALL_AT, kept_of, outcomes

#: Rows of each cloud that figures over pairs of rows look at.
MEASURED_ROWS = 1000
#: Where more answers than this change among ties, nothing can be promised: the data are all ties.
_MANY_TIES = 0.01
#: Elements of mapped galleries that may be held at once: 512 MiB of float32.
_MAPPED_ELEMENTS = 128 * 1024 * 1024

Figure = TypeVar("Figure")


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
class Ground:
    """One problem with what every plan for it needs: statistics and noise-free search, made once."""

    metric: Metric
    problem: Problem

    @cached_property
    def statistics(self) -> Statistics:
        return Statistics.of_rows(self.problem.queries, self.problem.gallery_rows, self.metric)

    @cached_property
    def before(self) -> np.ndarray:
        """Noise-free decisions before closing, shape (m,)."""
        return self.leaders[:, 0]

    @cached_property
    def leaders(self) -> np.ndarray:
        """Nearest item of each query and, in a gallery of several, the second, shape (m, 2)."""
        system = self.problem.system(self.metric)
        return system.leaders(min(2, int(system.gallery.shape[-2])))

    @cached_property
    def nearest(self) -> np.ndarray | None:
        """The exact nearest items before closing, as deep as recall is counted; see `Outcome`.

        None where each query has its own few candidates.
        """
        system = self.problem.system(self.metric)
        deepest = max((k for k in RECALL_AT if k < system.gallery.shape[0]), default=0)
        return None if system.own_candidates or not deepest else system.leaders(deepest)

    @cached_property
    def spread(self) -> float:
        """Root mean square distance of the items from their mean, as the metric sees them."""
        rows = self.metric.prepare(self.problem.gallery_rows)
        return spread(rows) * math.sqrt(rows.shape[-1])

    @cached_property
    def margins(self) -> np.ndarray:
        """By how much each decision wins, in differences of `item_scores`, shape (m,)."""
        if self.leaders.shape[1] == 1:
            return np.full(self.leaders.shape[0], np.inf)
        scores = item_scores(self.problem.system(self.metric), self.metric, self.leaders)
        margins: np.ndarray = scores[:, 0] - scores[:, 1]
        return margins

    @cached_property
    def remarks(self) -> tuple[Remark, ...]:
        """What to know about the data before reading any figure; see `measures.look`."""
        problem = self.problem
        return look(
            problem.queries,
            problem.gallery,
            positives=problem.positives,
            paired=problem.paired and problem.partner_rows is None,
            metric=self.metric,
        )

    def without(self, rows: np.ndarray) -> Statistics:
        """Return statistics of the other queries; a gallery that they share is not measured again."""
        rest = np.setdiff1d(np.arange(self.problem.queries.shape[0]), rows)
        if rest.size == 0:
            return self.statistics
        others = self.problem.subset(rest)
        if others.paired or others.gallery.ndim == 3:
            gallery = others.partners if others.paired else others.gallery_rows
            return Statistics.of_rows(others.queries, gallery, self.metric)
        return replace(self.statistics, query_rows=self.metric.prepare(others.queries))

    def is_mixed(self, word: str) -> bool:
        """Whether a word names a closer that maps each modality of this gallery on its own."""
        return self.problem.modalities is not None and is_mixed_method(word)

    @cached_property
    def lists(self) -> list[Neighbors]:
        """The best items of each modality before closing."""
        return lists_of(self.problem, self.metric)

    @cached_property
    def collection(self) -> Collection:
        """The items of each modality and their moments."""
        return collection_of(self.problem, self.metric)

    @cached_property
    def gap(self) -> GapFigures:
        """Figures of the gap before closing."""
        measured = self.measured
        ratio = None if measured is None else measured.gap_variance_ratio
        return GapFigures(
            problem=self.problem.name,
            centroid_gap=None if measured is None else measured.centroid_gap,
            centroid_cosine=None if measured is None else measured.centroid_cosine,
            gap_variance_ratio_queries=None if ratio is None else ratio.queries,
            gap_variance_ratio_gallery=None if ratio is None else ratio.gallery,
            relative_modality_gap=None if measured is None else self._relative(measured),
            rank=self.statistics.axes.rank,
        )

    @cached_property
    def measured(self) -> Gap | None:
        """The gap of unit rows, from these statistics where they are of such; see `Gap`.

        None where a row has no direction. Where only some of the queries are looked at, the gallery
        as a whole pairs with none of them.
        """
        queries, gallery = self.problem.queries, self.problem.gallery_rows
        whole = self.problem.paired and self.problem.partner_rows is None
        moments = None
        if self.metric.needs_directions:
            moments = (self.statistics.queries, self.statistics.gallery)
        return _defined(
            lambda: Gap(queries, gallery, paired=whole, moments=moments, sample=MEASURED_ROWS)
        )

    def _relative(self, measured: Gap) -> float | None:
        if measured.paired or not self.problem.paired:
            return measured.relative_modality_gap
        partners = self.problem.partners
        return _defined(lambda: relative_modality_gap(self.problem.queries, partners))


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
            parts = _folds(every.size, self.plan.folds, self.plan.seed)
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
        ground = self.ground
        stats = ground.statistics if without is None else ground.without(without)
        return [self._fit(*jobs[i], stats, without) for i in chosen]

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
        plan, before = self.plan, self.before[rows]
        truth = self._truth(rows)
        systems = [problem.system(self.metric, closure) for closure in closures]
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


def _takes(word: str) -> frozenset[str]:
    return METHODS[method_and_comparison(word)[0]].takes


def _folds(count: int, folds: int, seed: int) -> list[np.ndarray]:
    """Return the queries in parts of nearly one size, drawn at random; one part of a single query."""
    rows = np.random.default_rng([seed, count]).permutation(count)
    parts = np.array_split(rows, min(folds, count))
    return [np.sort(part) for part in parts]


def _warn_once(fitted: list[_Fitted]) -> None:
    for message in dict.fromkeys(text for one in fitted for text in one.notes):
        warnings.warn(message, ClosureWarning, stacklevel=5)


def _defined(compute: Callable[[], Figure]) -> Figure | None:
    """Return a figure, or None where these clouds have none: one row, no direction, no spread."""
    try:
        return compute()
    except (DataError, ShapeError):
        return None
