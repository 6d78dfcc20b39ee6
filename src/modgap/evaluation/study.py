"""Evaluate closers on a task, and keep the answer as a plain record."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from modgap import closers as closers_module
from modgap import measures as gap_measures
from modgap._core.arrays import Array, as_float64, asarray_like, namespace, normalize_rows, to_numpy
from modgap._core.checks import check_count, check_number
from modgap._core.moments import Moments
from modgap.closers.closure import Closure
from modgap.decisions.neighbors import nearest
from modgap.errors import ArgumentError, ClosureError, ClosureWarning, DataError, ShapeError
from modgap.evaluation.tasks import PairedRetrieval, Problem, Task
from modgap.robustness.noise import Gaussian, Noise
from modgap.robustness.outcomes import Outcome, decide, outcomes
from modgap.robustness.sampling import System

__all__ = ["Detail", "Study", "evaluate"]

DEFAULT_CLOSERS = ("none", "orthogonal", "affine")
RECALL_AT = (1, 5, 10)

Figure = TypeVar("Figure")


@dataclass(frozen=True)
class Detail:
    """Per-query results of one row of a study: what the row's means are made of."""

    closure: Closure
    decisions: np.ndarray
    before: np.ndarray
    right: np.ndarray | None
    outcomes: list[Outcome]


@dataclass(frozen=True)
class Study:
    """What closers do to a task, clean and perturbed.

    Attributes
    ----------
    task : dict
        Kind, counts, dimension, rank and metric.
    gap : dict
        Figures of the gap; one dict per problem where the task has several.
    closers : list of dict
        One row per problem, method and alpha: agreement, accuracies, and one entry per noise.
    details : list of Detail
        The same rows, query by query; not part of the JSON.
    """

    task: dict[str, Any]
    gap: dict[str, Any]
    closers: list[dict[str, Any]]
    details: list[Detail] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-able record, without per-query arrays."""
        return {"task": self.task, "gap": self.gap, "closers": self.closers}

    def to_json(self) -> str:
        """Return the record as one JSON document; absent figures are null."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def table(self) -> list[dict[str, Any]]:
        """Return flat rows, one per closer and noise (one per closer without noises)."""
        rows = []
        for row in self.closers:
            flat = {key: value for key, value in row.items() if key not in ("noises", "recall")}
            rows += [{**flat, **noise} for noise in row["noises"]] or [flat]
        return rows

    def best(self, *, min_agreement: float = 1.0, noise: str | None = None) -> dict[str, Any]:
        """Return the row with the highest stability among those that keep enough answers.

        Parameters
        ----------
        min_agreement : float
            Smallest share of unchanged noise-free decisions that is still acceptable.
        noise : str, optional
            Label of the noise to judge by; the mean over all noises by default.

        Raises
        ------
        ArgumentError
            No row qualifies, or no such noise was evaluated.
        """
        check_number(min_agreement, "min_agreement", low=0.0, high=1.0)
        candidates = [row for row in self.closers if row["agreement"] >= min_agreement]
        scored = [(_mean_stability(row, noise), row) for row in candidates]
        scored = [(score, row) for score, row in scored if not math.isnan(score)]
        if not scored:
            raise ArgumentError(
                f"no row has agreement >= {min_agreement:g} and a stability"
                + ("" if noise is None else f" under {noise!r}")
                + "; lower `min_agreement`, or evaluate with that noise"
            )
        return max(scored, key=lambda pair: pair[0])[1]

    def fragile(self, k: int = 10, *, row: int = 0, noise: int = 0) -> list[dict[str, Any]]:
        """Return the k queries whose decision is least stable, the most fragile first.

        Parameters
        ----------
        k : int
        row, noise : int
            Positions in `closers` and in that row's "noises".
        """
        check_count(k, "k")
        check_count(row, "row", low=0, high=len(self.details) - 1)
        detail = self.details[row]
        if not detail.outcomes:
            raise ArgumentError(
                "the study has no noise to be fragile under; evaluate with `noises`"
            )
        check_count(noise, "noise", low=0, high=len(detail.outcomes) - 1)
        outcome = detail.outcomes[noise]
        order = np.argsort(outcome.stability, kind="stable")[:k]
        return [
            {
                "query": int(i),
                "decision": int(detail.decisions[i]),
                "stability": float(outcome.stability[i]),
                "retention": float(outcome.retention[i]),
                "right": None if detail.right is None else bool(detail.right[i]),
            }
            for i in order
        ]


def evaluate(
    task: Task,
    closers: Sequence[str | Closure] = DEFAULT_CLOSERS,
    alphas: Sequence[float] = (1.0,),
    noises: Sequence[Noise] = (Gaussian(0.022),),
    *,
    n_components: int | float | str | None = None,
    paraphrase: bool = False,
    draws: int = 100,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Study:
    """Return what each closer does to a task's decisions, noise-free and under each noise.

    Parameters
    ----------
    task : Task
    closers : sequence of str or Closure
        Names from `closers.METHODS`, or fitted closures, which are used as they are; those count as
        exact if they promise to be and change no answer here, where the gallery may be another.
    alphas : sequence of float
        Shares of the gap to close, for the methods that take alpha; the others run once.
    noises : sequence of Noise
    n_components : int, float, or "all", optional
        For the methods that take it.
    paraphrase : bool
        Also treat each other caption template as a noise: the closure of one template is applied to
        the texts of another. Needs a task with several templates.
    draws, seed : int
        For sampled noise; the exact integral needs neither.
    progress : callable, optional
        Called with 1 after each draw of each block.

    Raises
    ------
    ArgumentError, ClosureError, DataError, ShapeError
        Options out of range, or closures that do not fit the task.

    Examples
    --------
    >>> from modgap import load_sample
    >>> study = evaluate(load_sample().task(), closers=["none", "affine"])
    >>> [row["agreement"] for row in study.closers]
    [1.0, 1.0]
    """
    check_count(draws, "draws")
    check_count(seed, "seed", low=0)
    if not closers:
        raise ArgumentError("`closers` must name at least one method; got none")
    if not list(alphas):
        raise ArgumentError("`alphas` must hold at least one number; got none")
    if paraphrase and not any(problem.rephrased for problem in task.problems):
        raise ArgumentError(
            "`paraphrase` needs a gallery per caption template, shape (t, n, d) with t >= 2"
        )
    rows: list[dict[str, Any]] = []
    details: list[Detail] = []
    gaps: dict[str, dict[str, Any]] = {}
    given = [closer for closer in closers if isinstance(closer, Closure)]
    for problem in task.problems:
        fitted = _fit_all(problem, task.metric, closers, alphas, n_components)
        gaps[problem.name] = _gap(problem, task.metric)
        solved = _solve(task, problem, fitted, given, noises, paraphrase, draws, seed, progress)
        for row, detail in solved:
            rows.append(row)
            details.append(detail)
    only = len(gaps) == 1
    described = {**task.describe(), "rank": next(iter(gaps.values()))["rank"]}
    return Study(described, next(iter(gaps.values())) if only else gaps, rows, details)


def _fit_all(
    problem: Problem,
    metric: str,
    closers: Sequence[str | Closure],
    alphas: Sequence[float],
    n_components: int | float | str | None,
) -> list[tuple[Closure, list[str]]]:
    """Return every closure with the warnings its fit gave; moments are made once."""
    queries, gallery = problem.queries, problem.gallery_rows
    if metric == "cosine":
        queries, gallery = normalize_rows(as_float64(queries)), normalize_rows(as_float64(gallery))
    moments: tuple[Moments, Moments] | None = None
    fitted: list[tuple[Closure, list[str]]] = []
    for closer in closers:
        if isinstance(closer, Closure):
            closer.check_metric(metric)
            if closer.queries.width != queries.shape[1]:
                raise ClosureError(
                    f"the closure was fitted for embeddings of dimension {closer.queries.width}; "
                    f"the task has dimension {queries.shape[1]}"
                )
            fitted.append((closer, []))
            continue
        method = closers_module.METHODS.get(closer)
        takes = method.takes if method else frozenset()
        for alpha in alphas if "alpha" in takes else (None,):
            options: dict[str, Any] = {"metric": metric, "alpha": alpha}
            if "n_components" in takes:
                options["n_components"] = n_components
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ClosureWarning)
                if method is not None and method.needs == "moments":
                    if moments is None:
                        moments = (
                            Moments.from_rows(queries, precision="float64"),
                            Moments.from_rows(gallery, precision="float64"),
                        )
                    closure = closers_module.fit_moments(closer, *moments, **options)
                else:
                    closure = closers_module.fit(closer, queries, gallery, **options)
            fitted.append((closure, [str(w.message) for w in caught]))
    _warn_once(fitted)
    return fitted


def _warn_once(fitted: list[tuple[Closure, list[str]]]) -> None:
    for message in dict.fromkeys(text for _, texts in fitted for text in texts):
        warnings.warn(message, ClosureWarning, stacklevel=4)


def _gap(problem: Problem, metric: str) -> dict[str, Any]:
    queries, gallery = problem.queries, problem.gallery_rows
    moments = Moments.from_rows(gallery, precision="float64")
    variance = _defined(lambda: gap_measures.gap_variance_ratio(queries, gallery))
    figures: dict[str, Any] = {
        "centroid_gap": _defined(lambda: gap_measures.centroid_gap(queries, gallery)),
        "centroid_cosine": _defined(lambda: gap_measures.centroid_cosine(queries, gallery)),
        "gap_variance_ratio_queries": None if variance is None else variance.queries,
        "gap_variance_ratio_gallery": None if variance is None else variance.gallery,
        "relative_modality_gap": None,
        "rank": moments.full_axes.rank,
    }
    if problem.paired:
        figures["relative_modality_gap"] = _defined(
            lambda: gap_measures.relative_modality_gap(queries, gallery)
        )
    return {key: _plain(value) for key, value in figures.items()}


def _defined(compute: Callable[[], Figure]) -> Figure | None:
    """Return a figure, or None where these clouds have none: one row, no direction, no spread."""
    try:
        return compute()
    except (DataError, ShapeError):
        return None


def _solve(
    task: Task,
    problem: Problem,
    fitted: list[tuple[Closure, list[str]]],
    given: list[Closure],
    noises: Sequence[Noise],
    paraphrase: bool,
    draws: int,
    seed: int,
    progress: Callable[[int], None] | None,
) -> list[tuple[dict[str, Any], Detail]]:
    before = decide(problem.system(task.metric))
    systems = [problem.system(task.metric, closure) for closure, _ in fitted]
    results = outcomes(
        systems,
        [before] * len(systems),
        problem.positives,
        noises,
        draws=draws,
        seed=seed,
        progress=progress,
    )
    solved = []
    for (closure, notes), system, result in zip(fitted, systems, results, strict=True):
        if paraphrase:
            result = result + _paraphrases(problem, closure, system, before)
        decisions = decide(system)
        right = _is_right(decisions, problem.positives)
        agreement = float((decisions == before).mean())
        # A closure from elsewhere may have been fitted to another gallery: its promise is void here.
        void = agreement < 1 and any(closure is one for one in given)
        detail = Detail(closure, decisions, before, right, result)
        row = {
            "problem": problem.name,
            "method": closure.method,
            "alpha": closure.alpha,
            "n_components": closure.n_components,
            "exact": problem.keeps_decisions(closure) and not void,
            "gap_after": _gap_after(problem, closure),
            "clean_accuracy": None if right is None else float(right.mean()),
            "agreement": agreement,
            "recall": _recall(task, problem, system),
            "warnings": notes,
            "noises": [_noise_row(outcome) for outcome in result],
        }
        solved.append((row, detail))
    return solved


@dataclass(frozen=True)
class _Rephrased:
    """Another caption template, in the place of a noise."""

    label: str
    side: str = "gallery"


def _paraphrases(
    problem: Problem, closure: Closure, system: System, before: np.ndarray
) -> list[Outcome]:
    """Return what the other templates do to decisions under this template's closure."""
    own = decide(system)
    found = []
    for name, gallery in problem.rephrased.items():
        moved = System(system.queries, closure.gallery(gallery), system.comparison)
        decided = decide(moved)
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


def _recall(task: Task, problem: Problem, system: System) -> dict[str, float] | None:
    """Share of queries with a right item among the k nearest, for retrieval tasks."""
    if problem.positives is None or not isinstance(task, PairedRetrieval):
        return None
    ks = [k for k in RECALL_AT if k <= system.gallery.shape[0]]
    found = to_numpy(
        nearest(system.queries, system.gallery, k=ks[-1], metric=system.comparison).indices
    )
    hit = (found[:, :, None] == problem.positives[:, None, :]).any(axis=2)
    return {str(k): float(hit[:, :k].any(axis=1).mean()) for k in ks}


def _noise_row(outcome: Outcome) -> dict[str, Any]:
    return {
        "noise": outcome.noise.label,
        "side": outcome.noise.side,
        "stability": float(outcome.stability.mean()),
        "stability_stderr": _plain(outcome.stderr),
        "retention": float(outcome.retention.mean()),
        "noisy_accuracy": None if outcome.accuracy is None else float(outcome.accuracy.mean()),
        "estimator": outcome.estimator,
    }


def _mean_stability(row: dict[str, Any], noise: str | None) -> float:
    values = [n["stability"] for n in row["noises"] if noise is None or n["noise"] == noise]
    return float(np.mean(values)) if values else math.nan


def _plain(value: Any) -> Any:
    """Return a number that JSON can hold; NaN and infinity become None."""
    if value is None or isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def half_of(problem: Problem, rows: np.ndarray) -> Problem:
    """Return the problem with some of its queries only."""
    take = asarray_like(rows, problem.queries)
    xp = namespace(problem.queries)
    own = problem.gallery.ndim == 3
    gallery: Array = xp.take(problem.gallery, take, axis=0) if own else problem.gallery
    return Problem(
        problem.name,
        xp.take(problem.queries, take, axis=0),
        gallery,
        None if problem.positives is None else problem.positives[rows],
        problem.companions,
        problem.rephrased,
    )
