"""One problem of a task under a plan: closers are fitted, judged, and their promises checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from modgap import measures
from modgap._core.arrays import as_float64, asarray_like, namespace, to_numpy
from modgap.closers import METHODS, Closure, Statistics, fit_statistics, method_and_comparison
from modgap.decisions.metric import Metric
from modgap.decisions.neighbors import nearest, nearest_candidates
from modgap.errors import ClosureError, ClosureWarning, DataError, ShapeError
from modgap.evaluation.records import GapFigures, NoiseResult, Row
from modgap.evaluation.tasks import Problem, Task
from modgap.robustness.noise import Noise
from modgap.robustness.outcomes import Outcome, decide, outcomes
from modgap.robustness.sampling import System

RECALL_AT = (1, 5, 10)
#: Where more answers than this change among ties, nothing can be promised: the data are all ties.
_MANY_TIES = 0.01

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
        return not self.given and method is not None and method.held_out


@dataclass(frozen=True)
class Stage:
    """One problem under a plan: statistics and noise-free search are made once."""

    task: Task
    problem: Problem
    plan: Plan

    @property
    def metric(self) -> Metric:
        return self.task.metric

    @cached_property
    def statistics(self) -> Statistics:
        return Statistics.of_rows(self.problem.queries, self.problem.gallery_rows, self.metric)

    @cached_property
    def before(self) -> np.ndarray:
        return self._leaders[0]

    @cached_property
    def _leaders(self) -> tuple[np.ndarray, np.ndarray]:
        """Noise-free decisions, and by how much each wins, in differences of `item_scores`."""
        system = self.problem.system(self.metric)
        k = min(2, int(system.gallery.shape[-2]))
        search = nearest_candidates if system.own_candidates else nearest
        found = search(system.queries, system.gallery, k=k, metric=self.metric)
        decided = to_numpy(found.indices)
        if k == 1:
            return decided[:, 0], np.full(decided.shape[0], np.inf)
        scores = item_scores(system, self.metric, decided)
        return decided[:, 0], scores[:, 0] - scores[:, 1]

    def gap(self) -> GapFigures:
        """Return the figures of the gap before closing."""
        queries, gallery = self.problem.queries, self.problem.gallery_rows
        variance = _defined(lambda: measures.gap_variance_ratio(queries, gallery))
        pairs = self.problem.paired
        return GapFigures(
            problem=self.problem.name,
            centroid_gap=_defined(lambda: measures.centroid_gap(queries, gallery)),
            centroid_cosine=_defined(lambda: measures.centroid_cosine(queries, gallery)),
            gap_variance_ratio_queries=None if variance is None else variance.queries,
            gap_variance_ratio_gallery=None if variance is None else variance.gallery,
            relative_modality_gap=_defined(lambda: measures.relative_modality_gap(queries, gallery))
            if pairs
            else None,
            rank=self.statistics.axes.rank,
        )

    def rows(self) -> list[Row]:
        """Return one row per closer and alpha, in the order asked for."""
        fitted = self._fit_all(self.statistics)
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

    def _fit_all(self, stats: Statistics, only: Sequence[int] | None = None) -> list[_Fitted]:
        """Return every closure asked for, fitted to these statistics; or those at some places."""
        jobs: list[tuple[str | Closure, float | None]] = []
        for closer in self.plan.closers:
            takes = frozenset() if isinstance(closer, Closure) else _takes(closer)
            jobs += [
                (closer, alpha) for alpha in (self.plan.alphas if "alpha" in takes else (None,))
            ]
        chosen = range(len(jobs)) if only is None else only
        return [self._fit(*jobs[i], stats) for i in chosen]

    def _fit(self, closer: str | Closure, alpha: float | None, stats: Statistics) -> _Fitted:
        if isinstance(closer, Closure):
            closer.check_metric(self.metric)
            if closer.queries.width != stats.width:
                raise ClosureError(
                    f"the closure was fitted for embeddings of dimension {closer.queries.width}; "
                    f"the task has dimension {stats.width}"
                )
            return _Fitted(closer, given=True)
        options: dict[str, Any] = {} if alpha is None else {"alpha": alpha}
        if "n_components" in _takes(closer) and self.plan.n_components is not None:
            options["n_components"] = self.plan.n_components
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ClosureWarning)
            closure = fit_statistics(closer, stats, **options)
        return _Fitted(closure, tuple(str(w.message) for w in caught))

    def _judge_fold(self, part: np.ndarray, unseen: list[int]) -> list[_Judged]:
        """Return what closures fitted to the other queries do to this part of them."""
        rest = np.setdiff1d(np.arange(self.before.size), part)
        others = self.problem if rest.size == 0 else self.problem.subset(rest)
        gallery = others.partners if others.paired else others.gallery_rows
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClosureWarning)
            fitted = self._fit_all(Statistics.of_rows(others.queries, gallery, self.metric), unseen)
        problem = self.problem.subset(part)
        return self._judge(problem, [one.closure for one in fitted], part)

    def _judge(self, problem: Problem, closures: list[Closure], rows: np.ndarray) -> list[_Judged]:
        """Return what closures do to some of the queries, one entry per closure."""
        plan, before = self.plan, self.before[rows]
        systems = [problem.system(self.metric, closure) for closure in closures]
        results = outcomes(
            systems,
            [before] * len(systems),
            problem.positives,
            plan.noises,
            draws=plan.draws,
            seed=plan.seed,
            progress=plan.progress,
        )
        judged = []
        for closure, system, result in zip(closures, systems, results, strict=True):
            decided = decide(system)
            if plan.paraphrase:
                result = result + _paraphrases(problem, closure, system, decided, before)
            recall = _hits(problem, system)
            judged.append(
                _Judged(rows, decided, _is_right(decided, problem.positives), recall, result)
            )
        return judged

    def _row(self, fitted: _Fitted, parts: list[_Judged], folds: int) -> Row:
        closure, whole = fitted.closure, _Judged.joined(parts)
        changed = np.flatnonzero(whole.decided != self.before)
        lost = self._lost_by(changed, whole.decided[changed])
        ties = int((lost <= closure.resolution).sum())
        withdrawn = self._withdrawn(fitted, changed.size, ties)
        for sentence in withdrawn:
            warnings.warn(sentence, ClosureWarning, stacklevel=5)
        return Row(
            problem=self.problem.name,
            closure=closure,
            exact=self._keeps(fitted, changed.size, ties),
            changed=int(changed.size) - ties,
            ties=ties,
            decisions=whole.decided,
            before=self.before,
            right=whole.right,
            gap_after=_gap_after(self.problem, closure),
            recall=whole.recall_means(),
            folds=folds,
            notes=(*fitted.notes, *withdrawn),
            results=tuple(NoiseResult(outcome) for outcome in whole.outcomes),
        )

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
        margins = self._leaders[1]
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


@dataclass(frozen=True)
class _Judged:
    """What one closure does to some of the queries."""

    rows: np.ndarray
    decided: np.ndarray
    right: np.ndarray | None
    hits: dict[str, np.ndarray] | None
    outcomes: list[Outcome]

    @classmethod
    def joined(cls, parts: list[_Judged]) -> _Judged:
        """Return the parts as one, queries in their order."""
        if len(parts) == 1:
            return parts[0]
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows)

        def whole(pick: Callable[[_Judged], np.ndarray]) -> np.ndarray:
            joint: np.ndarray = np.concatenate([pick(part) for part in parts])[order]
            return joint

        first = parts[0]
        hits = None
        if first.hits is not None:
            hits = {k: whole(lambda part, k=k: part.hits[k]) for k in first.hits}  # type: ignore[misc]
        return cls(
            rows[order],
            whole(lambda part: part.decided),
            None if first.right is None else whole(lambda part: part.right),  # type: ignore[arg-type,return-value]
            hits,
            [
                _joined_outcome([part.outcomes[j] for part in parts], order)
                for j in range(len(first.outcomes))
            ],
        )

    def recall_means(self) -> dict[str, float] | None:
        if self.hits is None:
            return None
        return {k: float(hit.mean()) for k, hit in self.hits.items()}


def _joined_outcome(parts: list[Outcome], order: np.ndarray) -> Outcome:
    """Return the outcomes of several parts of the queries as one; their draws are independent."""
    first = parts[0]
    sizes = np.array([part.stability.size for part in parts])
    errors = np.array([part.stderr for part in parts])
    accuracy = None
    if first.accuracy is not None:
        accuracy = np.concatenate([np.asarray(part.accuracy) for part in parts])[order]
    return replace(
        first,
        stability=np.concatenate([part.stability for part in parts])[order],
        retention=np.concatenate([part.retention for part in parts])[order],
        accuracy=accuracy,
        stderr=float(np.sqrt(np.sum((sizes * errors) ** 2)) / sizes.sum()),
    )


def item_scores(system: System, metric: Metric, columns: np.ndarray) -> np.ndarray:
    """Return float64 scores (m, k) of some items of each query, larger is nearer.

    In the units of `Closure.bound`: y.x, by distance y.x - |x|^2 / 2 up to a constant per query.
    """
    xp = namespace(system.queries)
    place = asarray_like(columns, system.queries)
    if system.own_candidates:
        wide = xp.broadcast_to(
            xp.expand_dims(place, axis=-1), (*place.shape, system.gallery.shape[-1])
        )
        items = xp.take_along_axis(system.gallery, wide, axis=1)
    else:
        flat = xp.take(system.gallery, xp.reshape(place, (-1,)), axis=0)
        items = xp.reshape(flat, (*place.shape, system.gallery.shape[-1]))
    scores = to_numpy(metric.pair_scores(system.queries, items))
    return np.asarray(-0.5 * scores**2 if metric.is_distance else scores)


def _takes(word: str) -> frozenset[str]:
    return METHODS[method_and_comparison(word)[0]].takes


def _folds(count: int, folds: int, seed: int) -> list[np.ndarray]:
    """Return the queries in parts of nearly one size, drawn at random; one part of a single query."""
    rows = np.random.default_rng([seed, count]).permutation(count)
    parts = np.array_split(rows, min(folds, count))
    return [np.sort(part) for part in parts]


def _warn_once(fitted: list[_Fitted]) -> None:
    for message in dict.fromkeys(text for one in fitted for text in one.notes):
        warnings.warn(message, ClosureWarning, stacklevel=4)


def _defined(compute: Callable[[], Figure]) -> Figure | None:
    """Return a figure, or None where these clouds have none: one row, no direction, no spread."""
    try:
        return compute()
    except (DataError, ShapeError):
        return None


@dataclass(frozen=True)
class _Rephrased:
    """Another caption template, in the place of a noise."""

    label: str
    side: str = "gallery"


def _paraphrases(
    problem: Problem, closure: Closure, system: System, own: np.ndarray, before: np.ndarray
) -> list[Outcome]:
    """Return what the other templates do to decisions under this template's closure."""
    found = []
    for name, gallery in problem.rephrased.items():
        decided = decide(System(system.queries, closure.gallery(gallery), system.comparison))
        right = _is_right(decided, problem.positives)
        found.append(
            Outcome(
                noise=_Rephrased(f"paraphrase:{name}"),  # type: ignore[arg-type]
                stability=(decided == own).astype(float),
                retention=(decided == before).astype(float),
                accuracy=None if right is None else right.astype(float),
                stderr=0.0,
                estimator="deterministic",
            )
        )
    return found


def _is_right(decisions: np.ndarray, positives: np.ndarray | None) -> np.ndarray | None:
    return None if positives is None else (positives == decisions[:, None]).any(axis=1)


def _gap_after(problem: Problem, closure: Closure) -> float:
    """Distance of the means after the maps, in whatever space they lead to."""
    means = []
    for cloud in (closure.queries(problem.queries), closure.gallery(problem.gallery_rows)):
        means.append(to_numpy(namespace(cloud).mean(as_float64(cloud), axis=0)))
    return float(np.linalg.norm(means[0] - means[1]))


def _hits(problem: Problem, system: System) -> dict[str, np.ndarray] | None:
    """Per query, whether a right item is among the k nearest; for retrieval tasks."""
    if problem.positives is None or not problem.ranks:
        return None
    ks = [k for k in RECALL_AT if k <= system.gallery.shape[0]]
    found = to_numpy(
        nearest(system.queries, system.gallery, k=ks[-1], metric=system.comparison).indices
    )
    hit = (found[:, :, None] == problem.positives[:, None, :]).any(axis=2)
    return {str(k): hit[:, :k].any(axis=1) for k in ks}
