"""Moments of many rows: against one matrix product, and against IncrementalPCA."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
from _harness import SEED, ratio, seconds

from modgap.moments import Moments


def run(quick: bool) -> list[dict[str, Any]]:
    n, d = (2_000, 16) if quick else (200_000, 512)
    rows = np.random.default_rng(SEED).standard_normal((n, d), dtype=np.float32) + 0.3
    product = ratio(lambda: Moments.from_rows(rows), lambda: rows.T @ rows, 2 if quick else 7)
    truth = np.cov(rows[: min(n, 50_000)].astype(np.float64).T, bias=True)
    found = Moments.from_rows(rows[: min(n, 50_000)]).covariance
    error = float(np.abs(found - truth).max() / np.abs(truth).max())
    size = f"{n} x {d} float32"
    return [
        {
            "work": "moments / a.T @ a",
            "size": size,
            "bar": "<= 1.5x",
            "covariance_error": error,
            **product,
        },
        incremental_pca(rows, quick),
        growing_stream(quick),
    ]


def incremental_pca(rows: np.ndarray, quick: bool) -> dict[str, Any]:
    from sklearn.decomposition import IncrementalPCA

    part = rows if quick else rows[:40_000]
    pairs = []
    for _ in range(1 if quick else 3):
        ours = seconds(lambda: Moments.from_rows(part).full_axes)
        theirs = seconds(lambda: IncrementalPCA(batch_size=5 * part.shape[1]).fit(part))
        pairs.append(theirs / ours)
    return {
        "work": "moments and their axes, scikit-learn's IncrementalPCA / ours",
        "size": f"{part.shape[0]} x {part.shape[1]} float32",
        "bar": ">= 20x",
        "speedup": sorted(pairs)[len(pairs) // 2],
        "speedups": pairs,
        "note": "all components on both sides, batches of 5 d rows; the axes are part of ours",
    }


def growing_stream(quick: bool) -> dict[str, Any]:
    """Stream ever more rows, and watch the memory not grow."""
    rng = np.random.default_rng(SEED)
    block = rng.standard_normal((20_000, 64), dtype=np.float32)
    peaks, rate = {}, 0.0
    for blocks in (2, 4) if quick else (25, 250):
        tracemalloc.start()
        took = seconds(lambda b=blocks: Moments.from_blocks(block for _ in range(b)))
        peaks[str(blocks * len(block))] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        rate = blocks * len(block) / took
    small, large = peaks.values()
    return {
        "work": "one pass over a stream: peak memory of ten times the rows",
        "size": f"{', '.join(peaks)} rows x 64",
        "bar": "independent of the rows",
        "ratio": large / small,
        "peak_mib": peaks,
        "rows_per_s": rate,
    }
