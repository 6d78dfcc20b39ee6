"""Clouds larger than memory: one pass over shards, whose memory the number of rows does not change.

A hundred million rows are not run here. One shard stands in a folder many times over, by hard links;
all of it is read, and the moments, the fit and the mapped rows of the folder are computed as they
would be for any other. Four times the rows must take no more memory.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _harness import SEED, extra_memory, in_fresh_process, row, unit_rows

from modgap import closers
from modgap._core.moments import Moments
from modgap.io import open_source


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    n, d, few, many = (100, 8, 2, 8) if quick else (65_536, 512, 16, 64)
    runs = []
    for _ in range(rounds or (1 if quick else 2)):
        runs += [in_fresh_process("streaming", "stream", n, d, shards) for shards in (few, many)]
    memory = {
        rows: min(run["extra_mib"] for run in runs if run["rows"] == rows)
        for rows in (few * n, many * n)
    }
    grown = memory[many * n] - memory[few * n]
    fastest = max(run["rows_per_second"] for run in runs)
    rows = [
        row(
            f"{many * n:,} rows x {d} streamed, fitted and mapped: memory beyond that for a quarter",
            grown,
            "<= 32",
            unit="MiB",
        )
    ]
    return {
        "setting": {"rows_per_shard": n, "d": d, "shards": [few, many], "dtype": "float32"},
        "rows": rows,
        "details": {
            "runs": runs,
            "hours_for_100_million_rows": 1e8 / fastest / 3600,
            "note": "extrapolated: the passes are linear in the number of rows",
        },
    }


def stream(n: int, d: int, shards: int) -> dict[str, float]:
    """Fit a closer to a folder of shards and map all its rows, a block at a time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "img_emb_0.npy", unit_rows(n, d, SEED))
        for i in range(1, shards):
            os.link(folder / "img_emb_0.npy", folder / f"img_emb_{i}.npy")
        gallery = Moments.from_rows(unit_rows(max(40, d // 2), d, SEED + 1))
        found: dict[str, float] = {"rows": n * shards}

        def work() -> None:
            start = time.perf_counter()
            source = open_source(folder)
            moments = Moments.from_blocks(source.blocks())
            closure = closers.fit_moments("affine", moments, gallery)
            mapped = sum(len(block) for block in closure.queries.stream(source.blocks(4096)))
            if mapped != moments.count:
                raise RuntimeError(f"{moments.count} rows in, {mapped} rows out")
            found["rows_per_second"] = mapped / (time.perf_counter() - start)

        found["extra_mib"] = extra_memory(work)
        return found
