"""The candidates of an advice: what each gains over doing nothing, with its error, and which one wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from modgap.evaluation.records import NoiseResult, Row, Study
from modgap.evaluation.tasks import Task

#: A difference counts where it exceeds so many standard errors, and this much.
ERRORS, LEAST = 2.0, 0.001


#: Fewer queries, less a fold, say too little of how they spread for what is fitted to them.
FEW = 10


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
    recall : float or None
        Of the exact ten nearest items before closing, under the codes among the noises; None without.
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
    recall: float | None
    gain: float
    gain_stderr: float


C = TypeVar("C", bound=Candidate)


def judged_by(study: Study, task: Task, *, free: bool) -> str:
    """Return which figure decides: "accuracy", "recall" or "retention".

    Right answers count where answers may change and are known. An index in codes is judged by what it
    finds of the ten nearest, of which it is asked for several, and which says ten times as much.
    """
    first = study.rows[0]
    if free and first.right is not None:
        return "accuracy"
    recalls = [result.recall for result in _bearing(first)]
    listed = task.kind == "search" or task.problems[0].ranks
    found = bool(recalls) and all(recall and "10" in recall for recall in recalls)
    return "recall" if listed and found else "retention"


def summaries(study: Study, judge: str, names: tuple[str, ...]) -> list[Candidate]:
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
        found.append(
            Candidate(
                **measured(rows),
                recall=_recall(rows),
                gain=float(gains.mean()),
                gain_stderr=float(
                    np.hypot(stderr(gains), np.sqrt(np.sum(np.square(sampling))) / len(rows))
                ),
            )
        )
    return found


def measured(rows: list[Row]) -> dict[str, Any]:
    """Return what candidates of every kind of task have, over all problems."""
    accuracies = [_mean(row, "noisy_accuracy", row.clean_accuracy) for row in rows]
    return {
        "label": rows[0].label,
        "method": rows[0].method,
        "exact": all(row.exact for row in rows),
        "agreement": float(np.mean([row.agreement for row in rows])),
        "retention": float(np.mean([_mean(row, "retention", row.agreement) for row in rows])),
        "stability": float(np.mean([_mean(row, "stability", 1.0) for row in rows])),
        "accuracy": None if None in accuracies else float(np.mean(accuracies)),  # type: ignore[arg-type]
    }


def stderr(gains: np.ndarray) -> float:
    """Return the standard error of a mean over queries; 0 of one query, which has none."""
    return float(gains.std(ddof=1) / np.sqrt(gains.size)) if gains.size > 1 else 0.0


def _bearing(row: Row) -> list[NoiseResult]:
    """Return the results that closing can bear on."""
    return [result for result in row.results if result.side != "queries"]


def _judged(row: Row, judge: str) -> np.ndarray:
    """Return the figure that decides, per query: its mean over the noises."""
    bearing = _bearing(row)
    parts: list[Any] = [row.decisions == row.before]
    if judge == "recall":
        parts = [(result.outcome.recall or {})["10"] for result in bearing]
    elif judge == "accuracy":
        parts = [result.outcome.accuracy for result in bearing] or [row.right]
    elif bearing:
        parts = [result.outcome.retention for result in bearing]
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


def _recall(rows: list[Row]) -> float | None:
    """Return the mean recall of ten under codes; None where none of ten can be missed, or no code is."""
    known = [result.recall or {} for row in rows for result in _bearing(row)]
    found = [recall["10"] for recall in known if "10" in recall]
    return float(np.mean(found)) if found else None


def choose(candidates: Sequence[C]) -> C:
    """Return the simplest candidate that the best one does not beat beyond its error.

    Doing nothing comes first; whatever is chosen instead beats it beyond the error of the difference.
    """
    better = [c for c in candidates if c.gain > max(LEAST, ERRORS * c.gain_stderr)]
    return simplest(better) if better else candidates[0]


def simplest(better: Sequence[C]) -> C:
    """Return the first of several that is not worse than the best of them by more than its error."""
    best = max(better, key=lambda c: c.gain)
    slack = max(LEAST, best.gain_stderr)
    return next(c for c in better if best.gain - c.gain <= slack)
