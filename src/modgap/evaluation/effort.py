"""How much of a task is looked at, so that no work grows with queries times items without end."""

from __future__ import annotations

import math
from typing import Any

from modgap.evaluation.tasks import Task

__all__ = ["affordable_draws", "affordable_queries", "sample_of"]

#: Pairs of a query and an item that one search looks at: 300,000 items leave 666 queries.
PAIRS = 200_000_000
#: Queries that are judged on at least: the standard error of a share is .022 then, or less.
LEAST = 500
#: Random numbers that the draws of noise on a gallery take in all, and the draws that are made anyway.
_NUMBERS, _DRAWS = 3_000_000_000, (5, 100)


def affordable_queries(task: Task) -> int:
    """Return the number of queries to judge on; more than the task has, unless its gallery is large."""
    return max(LEAST, PAIRS // max(_items(task)))


def affordable_draws(task: Task) -> int:
    """Return the usual number of draws of sampled noise, fewer where each disturbs a large gallery."""
    width = int(task.problems[0].gallery.shape[-1])
    low, high = _DRAWS
    return min(high, max(low, _NUMBERS // (max(_items(task)) * width)))


def sample_of(drawn: Task, whole: Task, seed: int) -> dict[str, Any] | None:
    """Return what was judged on, ready for JSON; None where it is every query.

    Returns
    -------
    dict
        ``queries`` of ``of``, drawn with ``seed``, and ``largest_stderr``: the standard error of a share of
        one half, for having these queries and no others. Differences between closers have smaller
        ones, since all are judged on the same queries.
    """
    if drawn is whole:
        return None
    part, count = (int(task.problems[0].queries.shape[0]) for task in (drawn, whole))
    fewest = min(int(problem.queries.shape[0]) for problem in drawn.problems)
    stderr = 0.5 / math.sqrt(fewest)
    return {"queries": part, "of": count, "seed": seed, "largest_stderr": stderr}


def _items(task: Task) -> list[int]:
    return [int(problem.gallery.shape[-2]) for problem in task.problems]
