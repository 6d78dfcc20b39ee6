"""One recommendation for a task: candidates are measured on it, and the best beyond its error wins."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from modgap._core.checks import check_choice, check_count
from modgap._core.json import plain, stamp
from modgap.closers import METHODS
from modgap.errors import ClosureWarning
from modgap.evaluation._advice_text import sample_words, text_of
from modgap.evaluation._candidates import FEW, Candidate, choose, judged_by, summaries
from modgap.evaluation._mixed_advice import mixed_candidates, mixed_verdict
from modgap.evaluation._stage import Plan
from modgap.evaluation.records import Study
from modgap.evaluation.study import FOLDS, Evaluator, read_noises
from modgap.evaluation.tasks import Task
from modgap.robustness.noise import Gaussian, Noise

__all__ = ["Advice", "Candidate", "Survey", "advise", "advise_on", "survey"]

ANSWERS = ("same", "may-change")
#: Rows of each side that candidates are measured on; more are drawn at random, and it is said.
QUERIES, ITEMS = 2000, 20_000
#: Pairs of the two that are measured; where items are many, fewer queries are drawn.
PAIRS = 10_000_000

#: Closers that can keep every answer, the simplest first: of equals the first is recommended.
_EXACT = ("none", "recenter", "orthogonal", "affine", "scaled", "balanced")
_OTHER_COMPARISONS = ("none:ip", "recenter:ip", "affine:ip")


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
    recommended, judged by the share of answers that survive the noise, a search in codes by the recall of
    the exact ten nearest. With "may-change" all closers are candidates, each judged on queries that it was
    not fitted to: by accuracy under noise where there are labels, else by retention. A mixed collection is
    judged by the NDCG of its first ten without noise; where no answers are known, `calibrate` is advised if
    a modality is hidden in them.
    Where nothing beats doing nothing by more than its error, that is the advice.

    Parameters
    ----------
    task : Task
        Of a zero-shot task with several caption templates the first one counts. Beyond 2,000 queries,
        20,000 items or 10 million pairs of them a random sample is measured, and the text says so.
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
    drawn = sample(task, seed)
    if asked and not bearing and not _is_free(drawn, answers):
        return _queries_only(drawn, asked)
    return advise_on(survey(task, bearing, answers=answers, draws=draws, seed=seed), asked)


def sample(task: Task, seed: int) -> Task:
    """Return what of a task is measured: all of it, or a random sample of a size that takes minutes."""
    check_count(seed, "seed", low=0)
    first = task.first()
    items = min(first.describe()["gallery"], ITEMS)
    return first.sampled(queries=min(QUERIES, max(1, PAIRS // items)), items=ITEMS, seed=seed)


def survey(
    task: Task,
    noises: str | Noise | Iterable[str | Noise],
    *,
    closers: Iterable[str] = (),
    answers: str = "same",
    folds: int = FOLDS,
    draws: int = 100,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    judged: Callable[[int], None] | None = None,
) -> Survey:
    """Return every candidate of `advise` measured under noises, and other closers beside them.

    Parameters
    ----------
    closers : sequence of str
        To be measured too, and not to be recommended.
    folds : int
        As `evaluate` takes it.
    task, noises, answers, draws, seed
        As `advise` takes them.
    progress : callable, optional
        Called with 1 after each draw of each block.
    judged : callable, optional
        Called with the number of answers that were judged since the last call, `answers_of` in all.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        Options out of range.
    """
    drawn = sample(task, seed)
    free = _is_free(drawn, answers)
    names = _candidates(drawn, free)
    plan = Plan(
        closers=_every(names, closers),
        alphas=(1.0,),
        noises=read_noises(noises),
        n_components=None,
        paraphrase=False,
        folds=check_count(folds, "folds", low=2),
        draws=check_count(draws, "draws"),
        seed=check_count(seed, "seed", low=0),
        progress=progress,
        judged=judged,
    )
    evaluator = Evaluator(drawn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        study = evaluator.study(plan).without_failures()
    kept = {result.noise for result in study.rows[0].results}
    plan = replace(plan, noises=tuple(noise for noise in plan.noises if noise.label in kept))
    return Survey(task, evaluator, plan.noises, plan, free, study, tuple(names))


def answers_of(drawn: Task, closers: Iterable[str] = ()) -> int:
    """Return how many answers a `survey` of what was drawn judges: queries times closers."""
    count = len(_every(_candidates(drawn, _is_free(drawn, "same")), closers))
    return count * sum(int(problem.queries.shape[0]) for problem in drawn.problems)


def _every(names: Iterable[str], closers: Iterable[str]) -> tuple[str, ...]:
    """Return candidates and other closers, each once."""
    return tuple(dict.fromkeys([*names, *closers]))


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
    if _is_mixed(drawn):
        return _advise_mixed(found, asked)
    if asked and all(noise.side == "queries" for noise in asked) and not free:
        return _queries_only(drawn, asked)
    judge = judged_by(study, drawn, free=free)
    candidates = summaries(study, judge, found.candidates)
    allowed = [c for c in candidates if free or c.exact or c.method == "none"]
    chosen = choose(allowed)
    text = text_of(found.task, drawn, candidates, chosen, judge, asked, free)
    evidence = _evidence(found, asked, judge, [vars(c) for c in candidates])
    return Advice(
        chosen.label, _options(chosen), text, _command(found.task, chosen.label), evidence
    )


def _advise_mixed(found: Survey, asked: tuple[Noise, ...]) -> Advice:
    """Return the advice for a collection of several modalities."""
    verdict = mixed_verdict(found.study, found.candidates, found.drawn)
    text = verdict.text + sample_words(found.task, found.drawn)
    evidence = _evidence(found, asked, verdict.judge, [vars(c) for c in verdict.candidates])
    return Advice(
        verdict.chosen.label, {}, text, _command(found.task, verdict.chosen.label), evidence
    )


def _evidence(
    found: Survey, asked: tuple[Noise, ...], judge: str, closers: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the figures behind an advice."""
    counts = found.drawn.describe()
    return {
        "judged_by": judge,
        "noises": [noise.label for noise in asked if noise.side != "queries"],
        "left_out": [noise.label for noise in asked if noise.side == "queries"],
        "rank": found.study.gaps[0].rank,
        "dimension": counts["dimension"],
        "queries": counts["queries"],
        "items": counts["gallery"],
        "sampled": found.sampled,
        "remarks": [str(remark) for remark in found.study.remarks],
        "closers": closers,
    }


def _is_mixed(task: Task) -> bool:
    return task.problems[0].modalities is not None


def _is_free(task: Task, answers: str) -> bool:
    """Whether closers that change answers count: in a mixed gallery the gap spoils the answers."""
    return answers == "may-change" or _is_mixed(task)


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
    if _is_mixed(task):
        return mixed_candidates(task)
    problem = task.problems[0]
    names = list(_EXACT)
    if problem.queries.shape[0] < FEW:
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


def _options(chosen: Candidate) -> dict[str, Any]:
    _, colon, comparison = chosen.label.partition(":")
    return {"compare": comparison} if colon else {}


def _command(task: Task, label: str) -> str:
    if label == "none":
        return "modgap report QUERIES GALLERY"
    return (
        f"modgap close --queries QUERIES --gallery GALLERY --metric {task.metric} "
        f"--method {label} --out closure.safetensors"
    )
