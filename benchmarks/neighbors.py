"""Nearest neighbours against FAISS' flat index, and their memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
from _harness import SEED, ratio

from modgap.neighbors import nearest


def run(quick: bool) -> list[dict[str, Any]]:
    import faiss

    m, n, d = (50, 400, 16) if quick else (2_000, 100_000, 512)
    rng = np.random.default_rng(SEED)
    queries = rng.standard_normal((m, d), dtype=np.float32)
    gallery = rng.standard_normal((n, d), dtype=np.float32)
    rows = []
    for metric, index in (("ip", faiss.IndexFlatIP(d)), ("euclidean", faiss.IndexFlatL2(d))):
        index.add(gallery)
        for k in (1, 10):
            timed = ratio(
                lambda k=k, metric=metric: nearest(queries, gallery, k=k, metric=metric),
                lambda k=k, index=index: index.search(queries, k),
                1 if quick else 5,
            )
            theirs = index.search(queries, k)[1]
            ours = nearest(queries, gallery, k=k, metric=metric).indices
            rows.append(
                {
                    "work": f"{k} nearest by {metric}, time over FAISS flat",
                    "size": f"{m} x {n} x {d}",
                    "bar": "<= 1.3x",
                    "same_items": float((ours == theirs).mean()),
                    "peak_mib_beyond_inputs": peak(queries, gallery, k, metric),
                    **timed,
                }
            )
    return rows


def peak(queries: np.ndarray, gallery: np.ndarray, k: int, metric: str) -> float:
    tracemalloc.start()
    nearest(queries, gallery, k=k, metric=metric)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest / 2**20
