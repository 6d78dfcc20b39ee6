"""From a task to the report's content, as one plain dictionary: no HTML, no optional package."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from keyword import iskeyword
from typing import Any, Protocol

import numpy as np

from modgap._core.checks import check_count
from modgap._core.json import plain, stamp
from modgap.errors import ClosureWarning, ModgapError
from modgap.evaluation._ground import Ground
from modgap.evaluation.advice import Advice, Survey, advise_on, answers_of, sample, survey
from modgap.evaluation.records import NoiseResult, Row, Study
from modgap.evaluation.study import FOLDS
from modgap.evaluation.tasks import Task
from modgap.report.answers import Answers, certificate
from modgap.report.figures import bits, free_share, gap_figures
from modgap.report.naming import Names, Side
from modgap.report.pictures import clouds
from modgap.report.recipe import recipe
from modgap.report.templates import reworded
from modgap.report.verdict import due, verdict, when_not
from modgap.report.way import Way, way_of
from modgap.report.words import brief, said
from modgap.robustness.noise import Bins, Gaussian, Noise, parse

__all__ = ["summarize", "table"]

#: What users do to a gap, beside the candidates of the advice; judged on queries not fitted to.
BASELINES = ("mean-shift", "center", "standardize")
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
NOISES: tuple[Noise, ...] = (Gaussian(0.022), Gaussian(0.04), Bins(16))
#: Where items are many they stand in an index, whose cheapest code is a sign and a length.
INDEX_CODES, _INDEX = (parse("sign:lengths"),), 100
POINTS = 600
#: Pairs of a query and an item that the draws of sampled noise may look at in all.
_LOOKS, _DRAWS = 20_000_000, (5, 100)
#: Parts of the queries that are judged by closers fitted to the rest: few where pairs are many, since
#: each part costs draws of its own.
_FOLDS = (2, FOLDS)
_TITLES = {
    "zero-shot": "Zero-shot classification",
    "search": "Search",
    "paired-retrieval": "Retrieval in both directions",
    "multiple-choice": "Multiple choice",
    "mixed-retrieval": "Retrieval from a mixed index",
}

#: Longest name of a variable in the code for an index.
_VARIABLE = 30

Progress = Callable[[int], None]


class Stage(Protocol):
    """Told of each stage that begins, and of how much work it is."""

    def __call__(self, text: str, *, total: int | None = None) -> None:
        """Begin a stage."""


def summarize(
    task: Task,
    *,
    title: str | None = None,
    names: tuple[str, str] = ("queries", "gallery"),
    classes: Sequence[str] | None = None,
    query_names: Sequence[str] | None = None,
    pictures: tuple[Sequence[bytes | None] | None, Sequence[bytes | None] | None] = (None, None),
    methods: Sequence[str] = BASELINES,
    alphas: Sequence[float] = ALPHAS,
    noises: Sequence[Noise] | None = None,
    draws: int | None = None,
    seed: int = 0,
    max_points: int = POINTS,
    model: str | None = None,
    progress: Progress | None = None,
    stage: Stage | None = None,
) -> dict[str, Any]:
    """Return everything that a report says about a task, as a dictionary that JSON can hold.

    Candidates and baselines are measured in one study, the advice is taken from it, and every section
    speaks of the advice's closer; where the advice is to leave the embeddings as they are, of the best
    other candidate, and says so. Absent figures are None, never invented.

    Parameters
    ----------
    task : Task
        With several caption templates the first one is reported in full, and the others under
        "templates". Of large tasks a random sample is measured, as `advise` does.
    title : str, optional
        Headline of the page; what kind of task it is by default.
    names : pair of str
        What queries and gallery are, for example ("image", "text").
    classes, query_names : sequence of str, optional
        Names of the gallery's items, and of the queries. Of names longer than 200 characters the middle
        is left out, here and in the title.
    pictures : pair of (sequence of (bytes or None), optional)
        Small JPEGs of the queries and of the items, which go into the page where a row is named.
    methods : sequence of str
        Closers to measure beside the candidates. One that cannot be fitted to this task is listed
        under "skipped" with the reason.
    alphas : sequence of float
        Shares of the gap at which the advice's closer stops on its way.
    noises : sequence of Noise, optional
        By default Gaussian noise of 0.022 and 0.04 and storage in 16 levels, and in a gallery of a hundred
        items or more storage of a sign a coordinate and a length.
    draws : int, optional
        For sampled noise; by default 100, and fewer, at least 5, where the task is large. There closers
        that can change answers are judged in two folds instead of five; `settings` says both.
    seed : int
        For sampled noise, samples of rows, folds, and the points of the pictures.
    max_points : int
        Most points of each cloud in a picture.
    model : str, optional
        What made the embeddings.
    progress : callable, optional
        Called with the number of answers (queries times closers) that were judged since the last call.
    stage : callable, optional
        Called with the name of each stage that begins, and the answers that it judges as `total`.

    Raises
    ------
    ArgumentError, ClosureError, DataError, ShapeError
        Options out of range; `classes` does not name every item.

    Examples
    --------
    >>> from modgap import load_sample
    >>> sample = load_sample()
    >>> found = summarize(sample.task(), title="CIFAR-10", classes=sample.classes, noises=())
    >>> found["task"]["rank"], found["closer"]["recommended"]
    (9, False)
    """
    if draws is not None:
        check_count(draws, "draws")
    check_count(seed, "seed", low=0)
    check_count(max_points, "max_points", low=2)
    words = [brief(name) for name in names]
    called = Names(Side(words[0], query_names, pictures[0]), Side(words[1], classes, pictures[1]))
    called.check(task)
    noises = _usual_noises(task) if noises is None else noises
    step, begin = progress or (lambda done: None), stage or (lambda text, total=None: None)
    drawn = sample(task, seed)
    usual, folds = _effort_for(drawn)
    draws = usual if draws is None else draws
    begin("measuring closers", total=answers_of(drawn, methods))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)  # they stand in the rows
        found, skipped = _survey(task, methods, noises, draws, folds, seed, step)
        advice = advise_on(found)
        closer = _closer(advice, found.study)
        way = way_of(found, closer, alphas)
        begin("other templates")
        templates = reworded(found, closer.label)
        begin(f"on the way to {closer.label}", total=way.answers(found.drawn))
        problems = [
            _problem(ground, found.study, way, called, max_points, seed)
            for ground in found.evaluator.grounds
        ]
    document = {
        **stamp(),
        "title": brief(title) if title else _TITLES.get(task.kind, task.kind),
        "model": None if model is None else brief(model),
        "task": _described(task, found),
        "remarks": [str(remark) for remark in found.study.remarks],
        "advice": advice.to_dict(),
        "closer": _described_closer(closer, advice, called),
        "problems": problems,
        "templates": templates,
        "skipped": skipped,
        "settings": _settings(found, way.alphas, max_points),
    }
    document |= {"verdict": verdict(document), "due": due(document)}
    document["when_not"] = when_not(document)
    result: dict[str, Any] = plain(document)
    return result


def table(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figures of a report as flat rows, one per problem, closer and noise."""
    rows = []
    for problem in found["problems"]:
        for row in problem["closers"]:
            flat = {key: v for key, v in row.items() if not isinstance(v, list | dict)}
            flat |= {f"recall_{k}": v for k, v in (row["recall"] or {}).items()}
            rows += [{**flat, **noise} for noise in row["noises"]] or [flat]
    return rows


def _usual_noises(task: Task) -> tuple[Noise, ...]:
    gallery = task.problems[0].gallery
    return NOISES + (INDEX_CODES if gallery.ndim == 2 and gallery.shape[0] >= _INDEX else ())


def _effort_for(drawn: Task) -> tuple[int, int]:
    """Return the usual numbers of draws and folds, fewer where each draw looks at many pairs."""
    counts = drawn.describe()
    low, high = _DRAWS
    affordable = _LOOKS // (counts["queries"] * counts["gallery"])
    return int(np.clip(affordable, low, high)), _FOLDS[affordable >= high]


def _survey(
    task: Task,
    methods: Sequence[str],
    noises: Sequence[Noise],
    draws: int,
    folds: int,
    seed: int,
    judged: Progress,
) -> tuple[Survey, list[dict[str, str]]]:
    """Measure all closers at once; where one cannot be fitted, the others without it."""

    def measured(closers: Sequence[str]) -> Survey:
        return survey(
            task, noises, closers=closers, folds=folds, draws=draws, seed=seed, judged=judged
        )

    try:
        return measured(methods), []
    except ModgapError:
        found = measured(())
    rows, skipped = list(found.study.rows), []
    for name in methods:
        if any(row.label == name for row in rows):
            continue
        try:
            rows += found.evaluator.study(replace(found.plan, closers=(name,))).rows
        except ModgapError as error:
            skipped.append({"method": name, "reason": str(error)})
    return replace(found, study=replace(found.study, rows=tuple(rows))), skipped


def _closer(advice: Advice, study: Study) -> Row:
    """Return the closer of the page: the advice's, or the best other one where that closes nothing."""
    if study[advice.method].method != "none":
        return study[advice.method]
    closing = [c for c in advice.evidence["closers"] if c["method"] != "none"]
    exact = [c for c in closing if c["exact"]] or closing
    if exact:
        return study[max(exact, key=lambda c: c["gain"])["label"]]
    closers = [row for row in study if row.method != "none"]
    return next((row for row in closers if row.exact), closers[0])


def _problem(
    ground: Ground, study: Study, way: Way, called: Names, max_points: int, seed: int
) -> dict[str, Any]:
    """Return the sections of one problem."""
    problem, mine = ground.problem, study.of_problem(ground.problem.name)
    none, closed = (study[one, problem.name] for one in ("none", way.closed.label))
    bare = next((row for row in mine if row.label == "none:ip"), None)
    query, item = called.sides(problem)
    answers = Answers(ground, none, closed, query, item)
    return {
        "name": called.of_problem(problem.name),
        "sides": {"queries": query.word, "gallery": item.word},
        "queries": int(problem.queries.shape[0]),
        "items": int(problem.gallery.shape[-2]),
        "rank": ground.statistics.axes.rank,
        "free_share": free_share(ground),
        "gap": gap_figures(ground),
        "bits": bits(ground),
        "clouds": clouds(
            ground.statistics,
            way,
            closed.closure,
            most=max_points,
            seed=seed,
            kinds=problem.kinds,
        ),
        "way": way.figures(ground, none, closed),
        "noises": _noises(none, bare, closed),
        "moves": answers.moves(),
        "flips": answers.flips(),
        "fragile": answers.fragile(),
        "certificate": certificate(ground),
        "closers": [{**row.to_dict(), "stored_spread": row.enlarges} for row in mine],
    }


def _variable(word: str) -> str:
    """Return a name of rows as code has it."""
    name = "".join(c if c.isalnum() and c.isascii() else "_" for c in word.lower()).strip("_")
    plural = name if name.endswith("s") or name == "gallery" else f"{name}s"
    fits = plural.isidentifier() and not iskeyword(plural) and len(plural) <= _VARIABLE
    return plural if fits else "rows"


def _noises(none: Row, bare: Row | None, closed: Row) -> list[dict[str, Any]]:
    """Return what each noise leaves: as it is, compared by inner product, and closed."""
    found = []
    for j, before in enumerate(none.results):
        after = closed.results[j]
        found.append(
            {
                "noise": before.noise,
                "side": before.side,
                "before": before.retention,
                "compared": None if bare is None else bare.results[j].retention,
                "after": after.retention,
                "recall_before": _ten(before),
                "recall_compared": None if bare is None else _ten(bare.results[j]),
                "recall_after": _ten(after),
                "accuracy_before": before.noisy_accuracy,
                "accuracy_after": after.noisy_accuracy,
            }
        )
    return found


def _ten(result: NoiseResult) -> float | None:
    """Return the share of the exact ten nearest that a code finds; None where none is counted."""
    return (result.recall or {}).get("10")


def _described_closer(closer: Row, advice: Advice, called: Names) -> dict[str, Any]:
    """Return what the page's closer is, and the code that serves it."""
    return {
        "label": closer.label,
        "recommended": closer.label == advice.method,
        "exact": closer.exact,
        "comparison": closer.closure.comparison,
        "recipe": recipe(closer.closure, *(_variable(side.word) for side in called.both)),
    }


def _described(task: Task, found: Survey) -> dict[str, Any]:
    """Return what the task is, and what of it was measured."""
    whole, first = task.describe(), found.drawn.problems[0]
    return {
        **found.study.task,
        "problems": [brief(problem.name) for problem in task.problems],
        "labels": first.positives is not None,
        "templates": len(first.rephrased) + 1,
        "sampled": found.sampled,
        "of": {"queries": whole["queries"], "gallery": whole["gallery"]},
    }


def _settings(found: Survey, alphas: Sequence[float], max_points: int) -> dict[str, Any]:
    """Return what it takes to get the same numbers again."""
    return {
        **found.plan.describe(),
        "alphas": list(alphas),
        "noises_in_words": [said(noise.label) for noise in found.noises],
        "estimators": sorted({r.estimator for row in found.study for r in row.results}),
        "max_points": max_points,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
