"""`modgap report`: from two clouds to the page, in seconds; and how large the page is."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _harness import SEED, clouds, in_turns, row
from _sets import load


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:

    rounds = rounds or (1 if quick else 3)
    sizes = ((60, 40, ""),) if quick else ((1000, 1000, "<= 15"), (50_000, 1000, "<= 60"))
    rows, seconds = [], {}
    for m, n, bar in sizes:
        queries, gallery = _rows(m, n, quick=quick)
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "report.html"
            name = f"{m}x{n}"
            taken = in_turns(rounds, report=lambda: _report(queries, gallery, page))["report"]  # noqa: B023
            size = page.stat().st_size
        seconds[name] = taken
        words = f"a report of {m:,} x {n:,} x {queries.shape[1]}, figures and page"
        rows += [
            row(words, statistics.median(taken), bar or "<= 1000", unit="s", seconds=taken),
            row(f"{words}: size of the page", size / 1e6, "<= 2", unit="MB"),
        ]
    return {"setting": {"rounds": rounds, "seed": SEED}, "rows": rows, "details": seconds}


def _rows(m: int, n: int, *, quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return texts and photos of CLIP; beyond those at hand, texts moved a little."""
    if quick:
        queries, gallery, _ = clouds(m, n, 16)
        return queries, gallery
    texts, photos = (load("photos_clip_vitb32", name) for name in ("texts", "images"))
    rng = np.random.default_rng(SEED)
    if m > len(texts):
        texts = texts[rng.integers(len(texts), size=m)]
        texts = texts + 0.3 * texts.std(axis=0) * rng.normal(size=texts.shape).astype(np.float32)
    return texts[:m], photos[rng.permutation(len(photos))[:n]]


def _report(queries: np.ndarray, gallery: np.ndarray, page: Path) -> None:
    import modgap
    from modgap.report import summarize, write_report

    write_report(summarize(modgap.ZeroShot(queries, gallery)), page)
