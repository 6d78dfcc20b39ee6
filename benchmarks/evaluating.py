"""Evaluating: what `evaluate`, `report` and a fit of `balanced` take."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from _harness import SEED, clouds, in_turns, ratio_row, row
from _sets import load, stored

CLOSERS = ("none", "orthogonal", "affine")


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    queries, gallery, labels = clouds(60, 8, 16) if quick else _caltech()
    rounds = rounds or (1 if quick else 5)
    works = _works(queries, gallery, labels)
    counts = {name: _decompositions(work) for name, work in works.items()}
    seconds = in_turns(rounds, bare=lambda: _bare(queries, gallery), **works)
    size = f"{len(queries):,} x {len(gallery):,} x {queries.shape[1]}"
    rows = [
        ratio_row(
            f"{words}, {size}: time over one search and one decomposition of each cloud",
            seconds[name],
            seconds["bare"],
            bar,
            decompositions=counts[name],
        )
        for name, words, bar in (
            ("three_closers", "`evaluate`, 3 closers, no noise", "<= 4"),
            ("report", "figures of a `report`, no noise", "<= 30"),
        )
    ]
    for d, bar in ((16, "<= 1"),) if quick else ((512, "<= 1"), (1024, "<= 6")):
        rows += _fits(d, bar, rounds)
    setting = {"m": len(queries), "n": len(gallery), "rounds": rounds, "seed": SEED}
    return {"setting": setting, "rows": rows, "details": {"seconds": seconds}}


def _caltech() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images, the class texts of one template, and labels of Caltech-101 by CLIP."""
    name = "caltech101_clip_vitb32"
    return load(name, "images"), load(name, "texts")[3], stored(name, "labels")


def _works(queries: Any, gallery: Any, labels: Any) -> dict[str, Callable[[], Any]]:
    import modgap
    from modgap.report import summarize

    task = modgap.ZeroShot(queries, gallery, labels)
    return {
        "three_closers": lambda: modgap.evaluate(task, CLOSERS, noises=()),
        "report": lambda: summarize(task, noises=(), alphas=()),
    }


def _bare(queries: np.ndarray, gallery: np.ndarray) -> None:
    """Do once what none can do without."""
    (queries @ gallery.T).argmax(axis=1)
    for cloud in (queries, gallery):
        centred = cloud.astype(np.float64) - cloud.mean(axis=0, dtype=np.float64)
        np.linalg.eigh(centred.T @ centred)


def _fits(d: int, bar: str, rounds: int) -> list[dict[str, Any]]:
    """Return what a fit of `balanced` from moments takes, shrinkage chosen on thirds of the queries."""
    from modgap._core.moments import Moments
    from modgap.closers.balanced import balance

    queries, gallery, _ = clouds(3 * d, 4 * d, d)
    items = Moments.from_rows(gallery, precision="float64")
    thirds = [Moments.from_rows(queries[k::3], precision="float64") for k in range(3)]

    def fit() -> None:
        balance(items, thirds)

    taken = in_turns(rounds, fit=fit)["fit"]
    words = f"`balanced` fitted to moments of {d} dimensions"
    return [
        row(f"{words}, median", statistics.median(taken), bar, unit="s", seconds=taken),
        row(f"{words}: decompositions of matrices that wide", _decompositions(fit), "<= 6"),
    ]


def _decompositions(work: Callable[[], Any]) -> int:
    """Return how many symmetric matrices are decomposed."""
    real, calls = np.linalg.eigh, 0

    def counted(*words: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return real(*words, **options)

    np.linalg.eigh = counted
    try:
        work()
    finally:
        np.linalg.eigh = real
    return calls
