"""What to do with a mixed collection: candidates judged by what their merged lists find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap.evaluation._candidates import FEW, Candidate, choose, measured, simplest, stderr
from modgap.evaluation.records import Row, Study
from modgap.evaluation.tasks import Task

__all__ = ["MixedVerdict", "mixed_candidates", "mixed_verdict"]

#: A modality whose share of the first ten is below this times its share of the collection is hidden.
_HIDDEN = 0.1


@dataclass(frozen=True)
class MixedCandidate(Candidate):
    """One closer as it was measured on a mixed collection.

    Attributes
    ----------
    ndcg, recall : float or None
        Of the first ten; recall that of right items. None where no answers are known.
    shares : dict of str to float
        Of each modality among the first ten.
    shown : float
        The smallest of these over its share of the collection: 0 where a modality is never seen.
    lists : float
        Share of queries whose list of every one modality stays as it was; the smallest over modalities.
    gain, gain_stderr : float
        In NDCG, or without answers in `shown`, over doing nothing.
    """

    ndcg: float | None
    shares: dict[str, float]
    shown: float
    lists: float


@dataclass(frozen=True)
class MixedVerdict:
    """The candidate to use, all of them, what they were judged by, and a paragraph."""

    chosen: MixedCandidate
    candidates: tuple[MixedCandidate, ...]
    judge: str
    text: str


def mixed_candidates(task: Task) -> list[str]:
    """Return what is measured for a mixed collection, the simplest first."""
    if min(problem.queries.shape[0] for problem in task.problems) < FEW:
        return ["none"]
    others = ["center", "standardize"]
    return [
        "none",
        *([] if task.metric.is_distance else ["calibrate", "calibrate:quantile"]),
        *others,
    ]


def mixed_verdict(study: Study, labels: Sequence[str], task: Task) -> MixedVerdict:
    """Return which of the closers to use, by the answers that their first ten hold.

    Without answers what is right cannot be known; then `calibrate`, which keeps every list, is used where
    one modality is hidden and it shows it.
    """
    groups = {label: [row for row in study.rows if row.label == label] for label in labels}
    base = groups["none"]
    judge = "shown" if base[0].ndcg is None else "ndcg"
    found = tuple(_measured(rows, base, judge, task) for rows in groups.values())
    none = found[0]
    chosen = none
    if judge == "ndcg":
        chosen = choose(found)
    elif none.shown < _HIDDEN:
        able = [c for c in found if c.label == "calibrate" and c.shown > none.shown]
        chosen = simplest(able) if able else none
    return MixedVerdict(chosen, found, judge, _text(found, chosen, judge))


def _measured(rows: list[Row], base: list[Row], judge: str, task: Task) -> MixedCandidate:
    """Return one closer over all problems."""
    depth = _depth(rows[0])
    shares = _mean_of([row.shares[depth] for row in rows])  # type: ignore[index]
    steps = [
        _per_query(row, depth) - _per_query(old, depth) for row, old in zip(rows, base, strict=True)
    ]
    gains = np.concatenate(steps)
    shown = _shown(rows, task, depth)
    gain, error = shown - _shown(base, task, depth), 0.0
    if judge == "ndcg":
        gain, error = float(gains.mean()), stderr(gains)
    return MixedCandidate(
        **measured(rows),
        ndcg=_at(depth, [row.ndcg for row in rows]),
        recall=_at(depth, [row.recall for row in rows]),
        shares=shares,
        shown=shown,
        lists=min(min((row.lists or {}).values()) for row in rows),
        gain=gain,
        gain_stderr=error,
    )


def _at(depth: str, figures: list[Any]) -> float | None:
    """Return the mean over problems of a figure at a depth; None where there is none."""
    return None if None in figures else float(np.mean([each[depth] for each in figures]))


def _depth(row: Row) -> str:
    return "10" if "10" in (row.shares or {}) else "1"


def _per_query(row: Row, depth: str) -> np.ndarray:
    merged = row.merged
    assert merged is not None  # rows of a mixed problem
    return np.zeros(row.decisions.size) if merged.ndcg is None else merged.ndcg[depth]


def _shown(rows: list[Row], task: Task, depth: str) -> float:
    """Return the smallest share of a modality in the first ten over its share of the collection.

    At most 1 counts, and of several kinds of queries the one that hides the most.
    """
    found = 1.0
    for row, problem in zip(rows, task.problems, strict=True):
        items = int(problem.gallery.shape[0])
        for name, own in problem.by_modality().items():
            found = min(found, (row.shares or {})[depth][name] * items / own.size)
    return found


def _mean_of(tables: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([table[name] for table in tables])) for name in tables[0]}


def _text(found: Sequence[MixedCandidate], chosen: MixedCandidate, judge: str) -> str:
    none = found[0]
    if judge == "shown":
        if chosen is none:
            return (
                f"Leave it: no modality is hidden, the first ten hold {_listed(none)}. Which merge is "
                "right cannot be told without answers; give partners or labels to have it judged."
            )
        return (
            f"Use calibrate: as it is, the first ten hold {_listed(none)}; with calibrate "
            f"{_listed(chosen)}, and no ranking within a modality changes. Which merge is right cannot be "
            "told without answers; give partners or labels to have it judged."
        )
    if chosen is none:
        best = max(found[1:], key=lambda c: c.gain, default=none)
        text = f"Leave it: the merge needs no help here. NDCG of the first ten is {none.ndcg:.3f} as it is"
        if best is not none:
            text += (
                f"; the best other candidate, {best.label}, reaches {best.ndcg:.3f} (difference "
                f"{best.gain:+.4f}, standard error {best.gain_stderr:.4f})"
            )
        return text + f". The first ten hold {_listed(none)}."
    kept = (
        "No ranking within a modality changes."
        if chosen.lists == 1
        else f"Rankings within a modality change too: for {1 - chosen.lists:.0%} of the queries."
    )
    return (
        f"Use {chosen.label}. NDCG of the first ten goes from {none.ndcg:.3f} to {chosen.ndcg:.3f} "
        f"({chosen.gain:+.3f}, standard error {chosen.gain_stderr:.3f}), recall from {none.recall:.3f} to "
        f"{chosen.recall:.3f}; they hold {_listed(chosen)}, and held {_listed(none)}. {kept} Judged on "
        "queries that it was not fitted to."
    )


def _listed(candidate: MixedCandidate) -> str:
    """Return the shares of the first ten in words."""
    return ", ".join(f"{share:.0%} {name}" for name, share in candidate.shares.items())
