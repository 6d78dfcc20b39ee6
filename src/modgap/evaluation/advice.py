"""From the facts of a task to one recommendation, with the evidence it rests on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modgap._core.checks import check_choice
from modgap._core.moments import Moments
from modgap.closers import METHODS
from modgap.errors import ClosureWarning
from modgap.evaluation.study import Study, evaluate, half_of
from modgap.evaluation.tasks import Problem, Task
from modgap.robustness.noise import Gaussian, Noise

__all__ = ["Advice", "advise"]

ANSWERS = ("same", "may-change")


@dataclass(frozen=True)
class Advice:
    """A recommendation.

    Attributes
    ----------
    method : str
        Closer to use; "none" where closing cannot help.
    options : dict
        Options of the closer.
    text : str
        One paragraph: what to do, why, and what it does on these data.
    command : str
        The command to run next, with QUERIES and GALLERY to fill in.
    evidence : dict
        The figures behind the paragraph.
    """

    method: str
    options: dict[str, Any]
    text: str
    command: str
    evidence: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as a plain dict."""
        return {
            "method": self.method,
            "options": self.options,
            "text": self.text,
            "command": self.command,
            "evidence": self.evidence,
        }


def advise(
    task: Task,
    noises: Sequence[Noise] = (Gaussian(0.022),),
    *,
    answers: str = "same",
    draws: int = 100,
    seed: int = 0,
) -> Advice:
    """Return which closer to use for a task, judged on its first problem.

    * Noise on the queries alone: closing cannot help, exact closers keep every decision whatever it
      is.
    * The same answers wanted, and the gallery spans less than the space (r < d): `affine`; where it
      would make them less stable, as it can under cosine, the most stable exact closer.
    * The same answers wanted, and r = d: `recenter`, since no direction is free.
    * Answers may change: the closer with the highest retention on a held-out half of the queries,
      the other half having fitted it; agreement is reported beside it.
    * A mixed gallery, whose answers the gap spoils: the closer with the highest accuracy under noise
      on the held-out half, or the highest retention where there are no labels.

    Parameters
    ----------
    task : Task
    noises : sequence of Noise
        What the embeddings will meet.
    answers : {"same", "may-change"}
    draws, seed : int
        For sampled noise, and the split into halves.

    Examples
    --------
    >>> from modgap import load_sample
    >>> advise(load_sample().task()).method
    'affine'
    """
    check_choice(answers, "answers", ANSWERS)
    problem = task.problems[0]
    rank = Moments.from_rows(problem.gallery_rows, precision="float64").full_axes.rank
    width = int(problem.queries.shape[1])
    if noises and all(noise.side == "queries" for noise in noises):
        return _queries_only(task, noises, rank, width)
    if problem.companions is not None or answers == "may-change":
        return _held_out(task, problem, noises, draws, seed)
    if rank >= width:
        return _full_rank(task, noises, rank, draws, seed)
    return _affine(task, noises, rank, width, draws, seed)


def _queries_only(task: Task, noises: Sequence[Noise], rank: int, width: int) -> Advice:
    text = (
        "Leave the embeddings as they are. The noise acts on the queries, and no exact closer can help "
        "against that: it leaves every decision as it was, whatever the noise. Only a closer that "
        "changes answers could, and then for another reason than the gap."
    )
    evidence = {"rank": rank, "dimension": width, "noises": [n.label for n in noises]}
    return Advice("none", {}, text, "modgap report QUERIES GALLERY", evidence)


def _affine(
    task: Task, noises: Sequence[Noise], rank: int, width: int, draws: int, seed: int
) -> Advice:
    names = ("none", "affine") if task.metric == "ip" else ("none", "affine", "scaled")
    study = _first_problem(task, names, noises, draws, seed)
    none, affine = study.closers[:2]
    if _stability(affine) < _stability(none):
        return _not_affine(task, study, rank)
    text = (
        f"Use affine: project the queries onto the affine hull of the gallery ({rank} of {width} "
        f"dimensions). Every noise-free answer stays as it is; on these data {_share(affine['agreement'])} "
        f"agree. {_compare(none, affine)} With reduce the embeddings also shrink to {rank} dimensions."
        + _scaled(study)
    )
    command = (
        f"modgap close --queries QUERIES --gallery GALLERY --metric {task.metric} --method affine"
    )
    return Advice(
        "affine", {}, text, f"{command} --out closure.safetensors", _evidence(study, rank)
    )


def _not_affine(task: Task, study: Study, rank: int) -> Advice:
    """Under cosine the exact closers lead to Euclidean distances, which noise may hurt more."""
    none, affine = study.closers[:2]
    best = max((row for row in study.closers if row["exact"]), key=_stability)
    method = best["method"]
    text = (
        f"{_compare(none, affine)} So affine would make answers less stable here: decisions by "
        f"{task.metric} already ignore what it removes, and it leads to Euclidean distances, where the "
        "noise counts for more. "
    )
    if method == "none":
        text += (
            "Leave the embeddings as they are; every exact closer that was tried is less stable."
        )
        return Advice("none", {}, text, "modgap report QUERIES GALLERY", _evidence(study, rank))
    text += f"Use {method}, which keeps every answer too. {_compare(none, best)}"
    command = (
        f"modgap close --queries QUERIES --gallery GALLERY --metric {task.metric} --method {method}"
    )
    return Advice(method, {}, text, f"{command} --out closure.safetensors", _evidence(study, rank))


def _stability(row: dict[str, Any]) -> float:
    return float(np.mean([noise["stability"] for noise in row["noises"]])) if row["noises"] else 1.0


def _full_rank(task: Task, noises: Sequence[Noise], rank: int, draws: int, seed: int) -> Advice:
    names = ("none", "recenter") if task.metric == "ip" else ("none", "recenter", "scaled")
    study = _first_problem(task, names, noises, draws, seed)
    none, recenter = study.closers[:2]
    text = (
        f"Use recenter, or nothing. The gallery spans all {rank} dimensions, so every direction bears "
        "on some decision and nothing can be removed without changing answers. Recentring keeps every "
        "answer and helps only where the noise depends on the position, as quantization does. "
        f"{_compare(none, recenter)} If answers may change, ask again with --answers-may-change."
        + _scaled(study)
    )
    command = (
        f"modgap close --queries QUERIES --gallery GALLERY --metric {task.metric} --method recenter"
    )
    return Advice(
        "recenter", {}, text, f"{command} --out closure.safetensors", _evidence(study, rank)
    )


def _held_out(
    task: Task, problem: Problem, noises: Sequence[Noise], draws: int, seed: int
) -> Advice:
    """Fit every closer on one half of the queries, judge it on the other."""
    rows = np.random.default_rng(seed).permutation(problem.queries.shape[0])
    cut = max(1, rows.size // 2)
    fit_half, test_half = np.sort(rows[:cut]), np.sort(rows[cut:] if rows.size > 1 else rows)
    names = [name for name, method in METHODS.items() if method.needs != "pairs"]
    if task.metric == "ip":
        names.remove("scaled")  # has no meaning there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        fitted = evaluate(_only(task, half_of(problem, fit_half)), names, noises=())
        closures = [detail.closure for detail in fitted.details]
        study = evaluate(
            _only(task, half_of(problem, test_half)),
            closures,
            noises=noises,
            draws=draws,
            seed=seed,
        )
    front = _front(study)
    by_accuracy = problem.companions is not None and problem.positives is not None
    if by_accuracy:
        best = max(_summary(study), key=lambda row: (row["noisy_accuracy"], row["agreement"]))
    else:
        best = max(front, key=lambda row: (row["retention"], row["agreement"]))
    none = next(row for row in _summary(study) if row["method"] == "none")
    method = best["method"]
    exact = best["exact"]
    text = (
        f"Use {method}. Fitted on half of the queries and judged on the other half, it retains "
        f"{_share(best['retention'])} of the original answers under noise, against "
        f"{_share(none['retention'])} without closing; "
        + ("it is exact: " if exact else "it is not exact: ")
        + f"{_share(best['agreement'])} of the noise-free answers agree with those before."
        + (
            ""
            if best["clean_accuracy"] is None
            else f" Clean accuracy goes from {none['clean_accuracy']:.3f} to {best['clean_accuracy']:.3f}."
        )
    )
    command = (
        f"modgap close --queries QUERIES --gallery GALLERY --metric {task.metric} --method {method}"
    )
    return Advice(
        method,
        {},
        text,
        f"{command} --out closure.safetensors",
        {"front": front, "closers": _summary(study), "held_out_queries": int(test_half.size)},
    )


def _only(task: Task, problem: Problem) -> Task:
    return Task(task.kind, task.metric, (problem,))


def _first_problem(
    task: Task, names: Sequence[str], noises: Sequence[Noise], draws: int, seed: int
) -> Study:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)
        return evaluate(_only(task, task.problems[0]), names, noises=noises, draws=draws, seed=seed)


def _summary(study: Study) -> list[dict[str, Any]]:
    rows = []
    for row in study.closers:
        kept = {key: row[key] for key in ("method", "exact", "agreement", "clean_accuracy")}
        unperturbed = {"stability": 1.0, "retention": row["agreement"]}
        for name in ("stability", "retention", "noisy_accuracy"):
            values = [noise[name] for noise in row["noises"] if noise[name] is not None]
            kept[name] = (
                float(np.mean(values)) if values else unperturbed.get(name, row["clean_accuracy"])
            )
        rows.append(kept)
    return rows


def _front(study: Study) -> list[dict[str, Any]]:
    """Return the rows that no other row beats in both agreement and retention."""
    rows = _summary(study)
    return [
        row
        for row in rows
        if not any(
            other["agreement"] >= row["agreement"]
            and other["retention"] >= row["retention"]
            and (other["agreement"], other["retention"]) != (row["agreement"], row["retention"])
            for other in rows
        )
    ]


def _compare(none: dict[str, Any], closed: dict[str, Any]) -> str:
    if not none["noises"]:
        return ""
    parts = [
        f"{before['noise']}: {before['stability']:.3f} to {after['stability']:.3f}"
        for before, after in zip(none["noises"], closed["noises"], strict=True)
    ]
    return "Stability under noise goes from before to after as follows: " + "; ".join(parts) + "."


def _scaled(study: Study) -> str:
    """Return what `scaled` would add, where the gallery lies on a sphere and it is exact."""
    last = study.closers[-1]
    if last["method"] != "scaled" or not last["exact"] or not last["noises"]:
        return ""
    values = "; ".join(f"{noise['noise']}: {noise['stability']:.3f}" for noise in last["noises"])
    return f" All items have one length, so scaled keeps every answer too, with stability {values}."


def _evidence(study: Study, rank: int) -> dict[str, Any]:
    return {"rank": rank, "dimension": study.task["dimension"], "closers": _summary(study)}


def _share(value: float) -> str:
    return f"{value:.1%}"
