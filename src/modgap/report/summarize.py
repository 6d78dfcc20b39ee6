"""From a task to the report's content, as one plain dictionary: no HTML, no optional package."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from modgap._core.arrays import to_numpy
from modgap._core.checks import check_count
from modgap.errors import ArgumentError, ClosureWarning, ModgapError
from modgap.evaluation.advice import advise
from modgap.evaluation.records import Study
from modgap.evaluation.study import evaluate
from modgap.evaluation.tasks import Problem, Task
from modgap.measures import measure
from modgap.report import sections
from modgap.report.headline import headline
from modgap.robustness.noise import Bins, Gaussian, Noise

__all__ = ["summarize"]

METHODS = ("none", "recenter", "orthogonal", "affine", "scaled", "mean-shift", "center")
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
NOISES = (Gaussian(0.022), Gaussian(0.04), Bins(16))
_MEASURED_ROWS = 1000
_QUERY_DRAWS = 20

Progress = Callable[[int], None]


def summarize(
    task: Task,
    *,
    title: str,
    classes: Sequence[str] | None = None,
    methods: Sequence[str] = METHODS,
    alphas: Sequence[float] = ALPHAS,
    noises: Sequence[Noise] = NOISES,
    draws: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return everything that a report says about a task, as a dictionary that JSON can hold.

    Absent figures are None, never invented. A closer that cannot be fitted to this task is listed
    under "skipped" with the reason. With several caption templates the first one is reported in
    full, and the others under "templates".

    Parameters
    ----------
    task : Task
    title : str
    classes : sequence of str, optional
        Names of the gallery's items.
    methods : sequence of str
        Closers; "none" is always among them.
    alphas : sequence of float
        Shares of the gap that the sweep of `orthogonal` closes.
    noises : sequence of Noise
    draws, seed : int
        For sampled noise, and for the points of the pictures.
    progress : callable, optional
        Called with 1 after each draw of sampled noise and after each part of the report.

    Raises
    ------
    ArgumentError, ClosureError, DataError, ShapeError
        Options out of range; `classes` does not name every item.

    Examples
    --------
    >>> from modgap import load_sample
    >>> sample = load_sample()
    >>> found = summarize(sample.task(), title="CIFAR-10", classes=sample.classes, noises=())
    >>> found["task"]["rank"], found["advice"]["method"]
    (9, 'affine')
    """
    check_count(draws, "draws")
    check_count(seed, "seed", low=0)
    _check_classes(task, classes)
    methods = ("none", *(name for name in dict.fromkeys(methods) if name != "none"))
    step = progress or (lambda done: None)
    shown = Task(task.kind, task.metric, task.problems[:1]) if task.kind == "zero-shot" else task
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)  # they stand in the rows
        study, skipped = _evaluate(shown, methods, noises, draws, seed, progress)
        step(1)
        swept = evaluate(shown, ["orthogonal"], alphas, _smooth(noises), draws=draws, seed=seed,
                         progress=progress)  # fmt: skip
        step(1)
        on_queries = _query_noise(shown, study, noises, draws, seed, progress)
        step(1)
        problems = [
            _problem(shown, p, study, swept, on_queries, classes, seed) for p in shown.problems
        ]
        templates = sections.templates(shown, noises, draws, seed)
        step(1)
        advice = advise(shown, noises, draws=draws, seed=seed).to_dict()
        step(1)
    found = {
        "title": str(title),
        "task": {
            **study.task,
            "problems": [problem.name for problem in task.problems],
            "labels": shown.problems[0].positives is not None,
            "templates": len(shown.problems[0].rephrased) + 1,
        },
        "problems": problems,
        "skipped": skipped,
        "templates": templates,
        "advice": advice,
        "settings": _settings(study, methods, alphas, noises, draws, seed),
    }
    document: dict[str, Any] = _plain({**found, "headline": headline(found)})
    return document


def _check_classes(task: Task, classes: Sequence[str] | None) -> None:
    items = int(task.problems[0].gallery.shape[-2])
    if classes is not None and task.kind == "zero-shot" and len(classes) != items:
        raise ArgumentError(
            f"`classes` must name each of the {items} gallery items; got {len(classes)} names"
        )


def _evaluate(
    task: Task,
    methods: Sequence[str],
    noises: Sequence[Noise],
    draws: int,
    seed: int,
    progress: Progress | None,
) -> tuple[Study, list[dict[str, str]]]:
    """Evaluate all closers at once; where one cannot be fitted, one by one without it."""

    def run(names: Sequence[str]) -> Study:
        return evaluate(task, names, (1.0,), noises, draws=draws, seed=seed, progress=progress)

    try:
        return run(methods), []
    except ModgapError:
        study = run(["none"])
    skipped = []
    rows = list(study.rows)
    for name in methods[1:]:
        try:
            more = run([name])
        except ModgapError as error:
            skipped.append({"method": name, "reason": str(error)})
        else:
            rows += more.rows
    return replace(study, rows=tuple(rows)), skipped


def _smooth(noises: Sequence[Noise]) -> list[Noise]:
    """Return the noises of the sweep: the Gaussian ones on the gallery, or all if there are none."""
    gaussian: list[Noise] = [n for n in noises if isinstance(n, Gaussian) and n.side == "gallery"]
    return gaussian or list(noises)


def _query_noise(
    task: Task,
    study: Study,
    noises: Sequence[Noise],
    draws: int,
    seed: int,
    progress: Progress | None,
) -> Study:
    """Evaluate the same closers with the first Gaussian noise put on the queries instead.

    `scaled` is left out: it makes queries longer, so noise of a fixed size looks smaller beside them.
    """
    gaussian = next((n for n in noises if isinstance(n, Gaussian)), Gaussian(0.022))
    methods = dict.fromkeys(row.method for row in study)
    names = [method for method in methods if method != "scaled"]
    noise = replace(gaussian, variance=None, side="queries")
    return evaluate(task, names, (1.0,), [noise], draws=min(draws, _QUERY_DRAWS), seed=seed,
                    progress=progress)  # fmt: skip


def _problem(
    task: Task,
    problem: Problem,
    study: Study,
    swept: Study,
    on_queries: Study,
    classes: Sequence[str] | None,
    seed: int,
) -> dict[str, Any]:
    """Return the sections of one problem."""
    mine = study.of_problem(problem.name)
    rows = [row.to_dict() for row in mine]
    closures = {row.method: row.closure for row in mine}
    affine = next((row for row in rows if row["method"] == "affine"), None)
    measured = _measured(problem, seed)
    share = sections.free_share(problem, task.metric)
    return {
        "name": problem.name,
        "queries": int(problem.queries.shape[0]),
        "items": int(problem.gallery.shape[-2]),
        "rank": _rank(study, problem.name),
        "gap": sections.gap_figures(problem, measured, share),
        "clouds": sections.clouds(problem, task.metric, closures.get("affine"), seed),
        "closers": rows,
        "query_noise": [
            {"method": row["method"], "exact": row["exact"], **row["noises"][0]}
            for row in (one.to_dict() for one in on_queries.of_problem(problem.name))
        ],
        "sweep": sections.sweep(swept, problem.name, affine),
        "fragile": sections.fragile(study, problem, task.metric, classes),
    }


def _measured(problem: Problem, seed: int) -> dict[str, Any]:
    """Return all measures of the gap; rows of zeros, which have no direction, are left out."""
    queries, gallery = to_numpy(problem.queries), to_numpy(problem.gallery_rows)
    kept = [np.any(cloud != 0, axis=1) for cloud in (queries, gallery)]
    if problem.paired:
        kept = [kept[0] & kept[1]] * 2
    queries, gallery = queries[kept[0]], gallery[kept[1]]
    found = measure(queries, gallery, paired=problem.paired, sample=_MEASURED_ROWS, seed=seed)
    return found.to_dict()


def _rank(study: Study, name: str) -> int:
    """Return the rank of one problem's gallery."""
    return next(gap.rank for gap in study.gaps if gap.problem == name)


def _settings(
    study: Study,
    methods: Sequence[str],
    alphas: Sequence[float],
    noises: Sequence[Noise],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Return what it takes to get the same numbers again."""
    estimators = {result.estimator for row in study for result in row.results}
    return {
        "methods": list(methods),
        "alphas": list(alphas),
        "noises": [noise.label for noise in noises],
        "noises_in_words": [sections.in_words(noise) for noise in noises],
        "draws": draws,
        "seed": seed,
        "estimators": sorted(estimators),
        "version": version("modgap"),
    }


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold; NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
