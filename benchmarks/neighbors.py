"""Nearest neighbours: against FAISS's flat index, and the memory they take."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from _harness import SEED, extra_memory, in_fresh_process, in_turns, ratio_row, row, unit_rows

from modgap.decisions.neighbors import nearest

INDEXES = {"ip": faiss.IndexFlatIP, "euclidean": faiss.IndexFlatL2}
NAMES = {"ip": "inner product", "euclidean": "Euclidean"}


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    shape = (20, 300, 8) if quick else (2_000, 100_000, 512)
    queries, gallery = _inputs(*shape)
    rows, seconds, memory = [], {}, {}
    for metric, index_of in INDEXES.items():
        index = index_of(shape[2])
        index.add(gallery)
        for k in (1,) if quick else (1, 10):
            name = f"{metric}, k = {k}"
            seconds[name] = in_turns(
                rounds or (1 if quick else 5),
                modgap=lambda k=k, metric=metric: nearest(queries, gallery, k=k, metric=metric),
                faiss=lambda k=k, index=index: index.search(queries, k),
            )
            found = nearest(queries, gallery, k=k, metric=metric).indices
            agreement = float(np.mean(found == index.search(queries, k)[1]))
            memory[name] = in_fresh_process("neighbors", "memory", *shape, k, metric)
            rows.append(
                ratio_row(
                    f"{k} nearest of {shape[1]:,} for {shape[0]:,} queries, {NAMES[metric]}: time over "
                    "FAISS flat",
                    seconds[name]["modgap"], seconds[name]["faiss"], "<= 1.3", agreement=agreement,
                )
            )  # fmt: skip
    peak = max(memory.values())
    rows.append(row("the same: memory beyond the inputs", peak, "<= 512", unit="MiB"))
    return {
        "setting": dict(zip(("queries", "gallery", "d"), shape, strict=True)),
        "rows": rows,
        "details": {"seconds": seconds, "memory_mib": memory},
    }


def memory(m: int, n: int, d: int, k: int, metric: str) -> float:
    """Return the peak memory of one search beyond its inputs, in MiB."""
    queries, gallery = _inputs(m, n, d)
    nearest(queries[:2], gallery[:20], metric=metric)  # what is imported late counts for no search
    return extra_memory(lambda: nearest(queries, gallery, k=k, metric=metric))


def _inputs(m: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    return unit_rows(m, d, SEED), unit_rows(n, d, SEED + 1)
