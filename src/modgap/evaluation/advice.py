"""One recommendation for a task: candidates are measured on it, and the best beyond its error wins."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from modgap._core.checks import check_choice, check_count
from modgap._core.json import plain, stamp
from modgap.closers import METHODS
from modgap.errors import ClosureWarning
from modgap.evaluation._stage import Plan
from modgap.evaluation.records import NoiseResult, Row, Study
from modgap.evaluation.study import FOLDS, Evaluator, read_noises
from modgap.evaluation.tasks import Task
from modgap.robustness.noise import Gaussian, Noise

__all__ = ["Advice", "Candidate", "Survey", "advise", "advise_on", "survey"]

ANSWERS = ("same", "may-change")
#: A difference counts where it exceeds so many standard errors, and this much.
_ERRORS, _LEAST = 2.0, 0.001
#: Rows of each side that candidates are measured on; more are drawn at random, and it is said.
QUERIES, ITEMS = 2000, 20_000

#: Fewer queries say too little of their second moments for `balanced`.
_FEW = 10

#: Closers that can keep every answer, the simplest first: of equals the first is recommended.
_EXACT = ("none", "recenter", "orthogonal", "affine", "scaled", "balanced")
_OTHER_COMPARISONS = ("none:ip", "recenter:ip", "affine:ip")


@dataclass(frozen=True)
class Candidate:
    """One closer as it was measured: means over the noises that closing can bear on.

    Attributes
    ----------
    label, method : str
    exact : bool
        Whether it changed no answer here and promises not to.
    agreement : float
        Share of noise-free answers that stay.
    retention, stability : float
        Under the noises, on average; both are the agreement or 1 where there are none.
    accuracy : float or None
        Under the noises; None without labels.
    gain, gain_stderr : float
        What it adds to the judged figure of doing nothing, and the standard error of that over
        queries and draws.
    """

    label: str
    method: str
    exact: bool
    agreement: float
    retention: float
    stability: float
    accuracy: float | None
    gain: float
    gain_stderr: float


@dataclass(frozen=True, eq=False)
class Survey:
    """Every candidate measured on a task, or on a random sample of it: what an advice is taken from.

    Attributes
    ----------
    task : Task
        As it was given.
    evaluator : Evaluator
        Of what was measured.
    noises : tuple of Noise
        As they were asked for, but for those that no candidate could be put under (codes that cannot
        store such rows): the study has a remark on each.
    plan : Plan
    free : bool
        Whether closers that change answers may be recommended.
    study : Study
        Of all candidates, and of the closers that were asked for besides.
    candidates : tuple of str
        Labels that an advice may choose from.
    """

    task: Task
    evaluator: Evaluator
    noises: tuple[Noise, ...]
    plan: Plan
    free: bool
    study: Study
    candidates: tuple[str, ...]

    @property
    def drawn(self) -> Task:
        """What was measured."""
        return self.evaluator.task

    @property
    def sampled(self) -> bool:
        """Whether that is a part of the task's rows."""
        return self.drawn.describe() != self.task.describe()


@dataclass(frozen=True)
class Advice:
    """A recommendation.

    Attributes
    ----------
    method : str
        Closer to use, with its comparison where that is not the usual one; "none" where closing
        does nothing here.
    options : dict
        Options of the closer, ready for `closers.fit`.
    text : str
        One paragraph: what to do, why, and what it does on these data.
    command : str
        The command to run next, with QUERIES and GALLERY to fill in.
    evidence : dict
        The figures behind the paragraph: what was judged by, and every candidate.
    """

    method: str
    options: dict[str, Any]
    text: str
    command: str
    evidence: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as a plain dict."""
        found: dict[str, Any] = plain({**stamp(), **vars(self)})
        return found


def advise(
    task: Task,
    noises: str | Noise | Iterable[str | Noise] = (Gaussian(0.022),),  # noqa: B008
    *,
    answers: str = "same",
    draws: int = 100,
    seed: int = 0,
) -> Advice:
    """Return which closer to use for a task: the best of those measured, beyond its error.

    Every sensible candidate is evaluated on the task under the noises, doing nothing and comparing
    in another way among them. With `answers="same"` only closers that keep every answer here can be
    recommended, judged by the share of answers that survive the noise. With "may-change", and in a
    mixed gallery, whose answers the gap spoils, all closers are candidates, each judged on queries
    that it was not fitted to: by accuracy under noise where there are labels, else by retention.
    Where nothing beats doing nothing by more than its error, that is the advice.

    Parameters
    ----------
    task : Task
        Of a zero-shot task with several caption templates the first one counts. Beyond 2,000 queries
        or 20,000 items a random sample is measured, and the text says so.
    noises : one or several of str or Noise
        What the embeddings will meet. Noise on the queries is left out of the judgement: no closer
        that keeps answers can help against it.
    answers : {"same", "may-change"}
    draws, seed : int
        For sampled noise, samples of rows, and folds.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        Options out of range.

    Examples
    --------
    >>> from modgap import load_sample
    >>> advice = advise(load_sample().task())
    >>> advice.evidence["closers"][0]["label"]
    'none'
    """
    check_choice(answers, "answers", ANSWERS)
    asked = read_noises(noises)
    bearing = [noise for noise in asked if noise.side != "queries"]
    drawn = task.first().sampled(queries=QUERIES, items=ITEMS, seed=seed)
    if asked and not bearing and not _is_free(drawn, answers):
        return _queries_only(drawn, asked)
    return advise_on(survey(task, bearing, answers=answers, draws=draws, seed=seed), asked)


def survey(
    task: Task,
    noises: str | Noise | Iterable[str | Noise],
    *,
    closers: Iterable[str] = (),
    answers: str = "same",
    draws: int = 100,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Survey:
    """Return every candidate of `advise` measured under noises, and other closers beside them.

    Parameters
    ----------
    closers : sequence of str
        To be measured too, and not to be recommended.
    task, noises, answers, draws, seed
        As `advise` takes them.
    progress : callable, optional
        Called with 1 after each draw of each block.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        Options out of range.
    """
    drawn = task.first().sampled(queries=QUERIES, items=ITEMS, seed=seed)
    free = _is_free(drawn, answers)
    names = _candidates(drawn, free)
    plan = Plan(
        closers=tuple(dict.fromkeys([*names, *closers])),
        alphas=(1.0,),
        noises=read_noises(noises),
        n_components=None,
        paraphrase=False,
        folds=FOLDS,
        draws=check_count(draws, "draws"),
        seed=check_count(seed, "seed", low=0),
        progress=progress,
    )
    evaluator = Evaluator(drawn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        study = evaluator.study(plan).without_failures()
    kept = {result.noise for result in study.rows[0].results}
    plan = replace(plan, noises=tuple(noise for noise in plan.noises if noise.label in kept))
    return Survey(task, evaluator, plan.noises, plan, free, study, tuple(names))


def advise_on(found: Survey, asked: tuple[Noise, ...] | None = None) -> Advice:
    """Return the advice that a survey supports.

    Parameters
    ----------
    found : Survey
    asked : tuple of Noise, optional
        Noises that were asked for, where not all of them were measured.
    """
    drawn, study, free = found.drawn, found.study, found.free
    asked = found.noises if asked is None else asked
    asked = tuple(noise for noise in asked if noise.side == "queries" or noise in found.noises)
    if asked and all(noise.side == "queries" for noise in asked) and not free:
        return _queries_only(drawn, asked)
    judge = "accuracy" if free and study.rows[0].right is not None else "retention"
    candidates = _summaries(study, judge, found.candidates)
    allowed = [c for c in candidates if free or c.exact or c.method == "none"]
    chosen = _choose(allowed)
    text = _text(found.task, drawn, candidates, chosen, judge, asked, free)
    counts = drawn.describe()
    evidence = {
        "judged_by": judge,
        "noises": [noise.label for noise in asked if noise.side != "queries"],
        "left_out": [noise.label for noise in asked if noise.side == "queries"],
        "rank": study.gaps[0].rank,
        "dimension": counts["dimension"],
        "queries": counts["queries"],
        "items": counts["gallery"],
        "sampled": found.sampled,
        "remarks": [str(remark) for remark in study.remarks],
        "closers": [vars(c) for c in candidates],
    }
    return Advice(chosen.label, _options(chosen), text, _command(found.task, chosen), evidence)


def _is_free(task: Task, answers: str) -> bool:
    """Whether closers that change answers count: in a mixed gallery the gap spoils the answers."""
    return answers == "may-change" or task.problems[0].companions is not None


def _queries_only(task: Task, noises: tuple[Noise, ...]) -> Advice:
    text = (
        "Leave the embeddings as they are. The noise acts on the queries, and no closer that keeps the "
        "answers can help against that: it leaves every decision as it was, whatever the noise. Only "
        "one that changes answers could, and then for another reason than the gap; ask with "
        "--answers-may-change."
    )
    evidence: dict[str, Any] = {
        "judged_by": None,
        "noises": [],
        "left_out": [noise.label for noise in noises],
        "dimension": task.describe()["dimension"],
        "remarks": [],
        "closers": [],
    }
    return Advice("none", {}, text, "modgap report QUERIES GALLERY", evidence)


def _candidates(task: Task, free: bool) -> list[str]:
    problem = task.problems[0]
    names = list(_EXACT)
    if problem.queries.shape[0] < _FEW:
        names.remove("balanced")
    if task.metric.is_distance or task.metric.needs_directions:
        names[1:1] = [name for name in _OTHER_COMPARISONS if _differs(name, task)]
    if free:
        names += [
            name
            for name, method in METHODS.items()
            if name not in _EXACT and (method.needs != "pairs" or problem.paired)
        ]
    return names


def _differs(word: str, task: Task) -> bool:
    """Whether the word names another comparison than the method has anyway."""
    name, _, comparison = word.partition(":")
    return METHODS[name].compared_by(task.metric) != comparison


def _summaries(study: Study, judge: str, names: tuple[str, ...]) -> list[Candidate]:
    """Return one candidate per label, over all problems; "none" is the first."""
    labels = [name for name in dict.fromkeys(row.label for row in study.rows) if name in names]
    groups = {label: [row for row in study.rows if row.label == label] for label in labels}
    base = groups["none"]
    found = []
    for rows in groups.values():
        steps = [
            _judged(row, judge) - _judged(none, judge) for row, none in zip(rows, base, strict=True)
        ]
        gains = np.concatenate(steps)
        sampling = [_sampling_error(row) for row in (*rows, *base)] if rows is not base else [0.0]
        spread = float(gains.std(ddof=1) / np.sqrt(gains.size)) if gains.size > 1 else 0.0
        accuracies = [_mean(row, "noisy_accuracy", row.clean_accuracy) for row in rows]
        found.append(
            Candidate(
                label=rows[0].label,
                method=rows[0].method,
                exact=all(row.exact for row in rows),
                agreement=float(np.mean([row.agreement for row in rows])),
                retention=float(np.mean([_mean(row, "retention", row.agreement) for row in rows])),
                stability=float(np.mean([_mean(row, "stability", 1.0) for row in rows])),
                accuracy=None if None in accuracies else float(np.mean(accuracies)),  # type: ignore[arg-type]
                gain=float(gains.mean()),
                gain_stderr=float(
                    np.hypot(spread, np.sqrt(np.sum(np.square(sampling))) / len(rows))
                ),
            )
        )
    return found


def _bearing(row: Row) -> list[NoiseResult]:
    """Return the results that closing can bear on."""
    return [result for result in row.results if result.side != "queries"]


def _judged(row: Row, judge: str) -> np.ndarray:
    """Return the figure that decides, per query: its mean over the noises."""
    if judge == "accuracy":
        parts = [result.outcome.accuracy for result in _bearing(row)] or [row.right]
    else:
        parts = [result.outcome.retention for result in _bearing(row)] or [
            row.decisions == row.before
        ]
    mean: np.ndarray = np.mean([np.asarray(part, dtype=np.float64) for part in parts], axis=0)
    return mean


def _sampling_error(row: Row) -> float:
    """Return the standard error of the row's mean that drawing the noise leaves."""
    errors = [result.stderr or 0.0 for result in _bearing(row)]
    return float(np.sqrt(np.sum(np.square(errors))) / len(errors)) if errors else 0.0


def _mean(row: Row, name: str, without: float | None) -> float | None:
    values = [getattr(result, name) for result in _bearing(row)]
    if not values:
        return without
    return None if None in values else float(np.mean(values))


def _choose(candidates: list[Candidate]) -> Candidate:
    """Return the simplest candidate that the best one does not beat beyond its error.

    Doing nothing comes first; whatever is chosen instead beats it beyond the error of the difference.
    """
    none = candidates[0]
    better = [c for c in candidates if _beats(c, none)]
    if not better:
        return none
    best = max(better, key=lambda c: c.gain)
    slack = max(_LEAST, best.gain_stderr)
    return next(c for c in better if best.gain - c.gain <= slack)


def _beats(candidate: Candidate, none: Candidate) -> bool:
    return candidate.gain > max(_LEAST, _ERRORS * candidate.gain_stderr)


def _text(
    task: Task,
    drawn: Task,
    candidates: list[Candidate],
    chosen: Candidate,
    judge: str,
    noises: tuple[Noise, ...],
    free: bool,
) -> str:
    none = candidates[0]
    words = "accuracy" if judge == "accuracy" else "share of answers that survive"
    under = " under noise" if any(noise.side != "queries" for noise in noises) else ""
    if chosen is none:
        best = max(candidates[1:], key=lambda c: c.gain, default=none)
        text = (
            f"Leave it: closing does nothing here. The {words}{under} is {_figure(none, judge):.3f} as "
            f"it is"
        )
        if best is not none:
            text += (
                f"; the best other candidate, {best.label}, reaches {_figure(best, judge):.3f} "
                f"(difference {best.gain:+.4f}, standard error {best.gain_stderr:.4f})"
            )
        text += "."
    else:
        keeps = (
            "It keeps every noise-free answer."
            if chosen.exact
            else f"It changes {1 - chosen.agreement:.1%} of the noise-free answers."
        )
        text = (
            f"Use {chosen.label}. The {words}{under} goes from {_figure(none, judge):.3f} to "
            f"{_figure(chosen, judge):.3f} (+{chosen.gain:.3f}, standard error "
            f"{chosen.gain_stderr:.3f}). {keeps}{_split(candidates, chosen, judge)}"
        )
    if free:
        text += " Closers that can change answers were judged on queries they were not fitted to."
    left = [noise.label for noise in noises if noise.side == "queries"]
    if left and not free:
        text += f" Against {', '.join(left)} no closer that keeps the answers can help."
    if drawn.describe()["queries"] < task.describe()["queries"] or (
        drawn.describe()["gallery"] < task.describe()["gallery"]
    ):
        text += (
            f" Measured on a random sample: {drawn.describe()['queries']} queries, "
            f"{drawn.describe()['gallery']} items."
        )
    return text


def _split(candidates: list[Candidate], chosen: Candidate, judge: str) -> str:
    """Say how much of a gain comes from the comparison alone, with nothing closed."""
    name, _, comparison = chosen.label.partition(":")
    bare = next((c for c in candidates if c.label == f"none:{comparison or 'ip'}"), None)
    if bare is None or name == "none" or abs(bare.gain) < _LEAST:
        return ""
    return (
        f" Comparing by inner product alone, nothing closed, gives {_figure(bare, judge):.3f}; the rest "
        "is what closing does."
    )


def _figure(candidate: Candidate, judge: str) -> float:
    value = candidate.accuracy if judge == "accuracy" else candidate.retention
    return float("nan") if value is None else value


def _options(chosen: Candidate) -> dict[str, Any]:
    _, colon, comparison = chosen.label.partition(":")
    return {"compare": comparison} if colon else {}


def _command(task: Task, chosen: Candidate) -> str:
    if chosen.label == "none":
        return "modgap report QUERIES GALLERY"
    return (
        f"modgap close --queries QUERIES --gallery GALLERY --metric {task.metric} "
        f"--method {chosen.label} --out closure.safetensors"
    )
