"""What closures do to some of the queries, query by query; parts of them joined again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from modgap._core.arrays import asarray_like, namespace, to_numpy
from modgap.closers import Closure
from modgap.decisions.metric import Metric
from modgap.evaluation._merged import Merged
from modgap.evaluation.tasks import Problem
from modgap.robustness.outcomes import Outcome
from modgap.robustness.systems import System

RIGHT_AT = (1, 5, 10)


@dataclass(frozen=True)
class Judged:
    """What one closure does to some of the queries."""

    rows: np.ndarray
    decided: np.ndarray
    right: np.ndarray | None
    hits: dict[str, np.ndarray] | None
    kept: dict[str, np.ndarray] | None
    outcomes: list[Outcome]
    merged: Merged | None = None

    @classmethod
    def joined(cls, parts: list[Judged]) -> Judged:
        """Return the parts as one, queries in their order."""
        if len(parts) == 1:
            return parts[0]
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows)

        def whole(pick: Callable[[Judged], np.ndarray]) -> np.ndarray:
            joint: np.ndarray = np.concatenate([pick(part) for part in parts])[order]
            return joint

        first = parts[0]
        return cls(
            rows[order],
            whole(lambda part: part.decided),
            None if first.right is None else whole(lambda part: part.right),  # type: ignore[arg-type,return-value]
            _joined([part.hits for part in parts], order),
            _joined([part.kept for part in parts], order),
            [
                _joined_outcome([part.outcomes[j] for part in parts], order)
                for j in range(len(first.outcomes))
            ],
            None
            if first.merged is None
            else Merged.joined([part.merged for part in parts if part.merged], order),
        )


def means(per_query: dict[str, np.ndarray] | None) -> dict[str, float] | None:
    """Return the mean over queries of each figure."""
    if per_query is None:
        return None
    return {name: float(values.mean()) for name, values in per_query.items()}


def _joined(
    parts: list[dict[str, np.ndarray] | None], order: np.ndarray
) -> dict[str, np.ndarray] | None:
    """Return figures of several parts of the queries as one, queries in their order."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return {name: np.concatenate([part[name] for part in known])[order] for name in known[0]}


def _joined_outcome(parts: list[Outcome], order: np.ndarray) -> Outcome:
    """Return the outcomes of several parts of the queries as one; their draws are independent."""
    failed = next((part for part in parts if part.failed is not None), None)
    if failed is not None:
        nothing = np.full(order.size, np.nan)
        return replace(failed, stability=nothing, retention=nothing, accuracy=None)
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
        recall=_joined([part.recall for part in parts], order),
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


@dataclass(frozen=True)
class _Rephrased:
    """Another caption template, in the place of a noise."""

    label: str
    side: str = "gallery"


def rephrased_outcomes(
    problem: Problem, closure: Closure, system: System, own: np.ndarray, before: np.ndarray
) -> list[Outcome]:
    """Return what the other templates do to decisions under this template's closure."""
    found = []
    for name, gallery in problem.rephrased.items():
        decided = System(system.queries, closure.gallery(gallery), system.comparison).decisions
        right = is_right(decided, problem.positives)
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


def is_right(decisions: np.ndarray, positives: np.ndarray | None) -> np.ndarray | None:
    """Return whether each decision is among the right ones; None without labels."""
    return None if positives is None else (positives == decisions[:, None]).any(axis=1)


def hits_among_nearest(problem: Problem, system: System) -> dict[str, np.ndarray] | None:
    """Per query, whether a right item is among the k nearest; for retrieval tasks."""
    if problem.positives is None or not problem.ranks:
        return None
    ks = [k for k in RIGHT_AT if k <= system.gallery.shape[0]]
    found = system.leaders(ks[-1])
    hit = (found[:, :, None] == problem.positives[:, None, :]).any(axis=2)
    return {str(k): hit[:, :k].any(axis=1) for k in ks}
