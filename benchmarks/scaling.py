"""Shards over workers: processes and a Dask cluster of 1, 2 and 4, and what that says of ten billion rows.

A worker multiplies with one thread, beside which others read, prepare and write; one process that
multiplies with a thread for each core stands beside them. The machine at hand sets what can be seen: more
workers than cores only show that nothing is lost. The time of a job has the start of its processes in it,
which is measured apart too. A small run measures the rates, and a larger one has to take the time that the
plan predicts from them, or the page must not be believed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
from _harness import (
    SEED,
    blas_threads,
    in_fresh_process,
    in_turns,
    ratio,
    ratio_row,
    row,
    status,
    unit_rows,
)
from _plan import PLANNED

from modgap._core.moments import Moments
from modgap.closers.maps import AffineMap
from modgap.decisions.metric import as_metric
from modgap.engines import Processes, Reading, moments_of
from modgap.engines.dask import DaskCluster
from modgap.engines.fitting import ReadShards, pieces_of
from modgap.io import apply_to_source, open_source
from modgap.io.source import Source

QUERIES = Reading("queries", as_metric("cosine"), "input")
GALLERY = Reading("gallery", as_metric("cosine"))


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    n, d, shards, more, mapped = (60, 8, 2, 4, 2) if quick else (8_192, 512, 96, 288, 24)
    counts = (1, 2) if quick else (1, 2, 4)
    rounds = rounds or (1 if quick else 3)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        small = a_folder_of_shards(folder / "small", n, d, shards)
        large = a_folder_of_shards(folder / "large", n, d, more)
        some = a_folder_of_shards(folder / "some", n, d, mapped)
        mapping = _a_map(d)
        engines: dict[str, Any] = {f"local {w}": Processes(w) for w in counts}
        for w in counts[:1] if quick else counts:
            cluster = DaskCluster.opened(workers=w)
            engines[f"dask {w}"] = stack.enter_context(cluster)
        closing = in_turns(
            rounds,
            warm_up=False,
            threads=lambda: moments_of(small, GALLERY),
            **{_key(k): _closing(e, small) for k, e in engines.items()},
        )
        applying = in_turns(
            rounds,
            warm_up=False,
            before=lambda side: shutil.rmtree(folder / side, ignore_errors=True),
            **{_key(k): _applying(e, some, mapping, folder / _key(k)) for k, e in engines.items()},
        )
        starting = in_turns(
            rounds, warm_up=False, **{_key(k): _starting(e) for k, e in engines.items()}
        )
        difference = _difference(some, [e for k, e in engines.items() if k.startswith("dask")])
        plan = _checked_plan(closing, starting, small, large, rounds)
    few, many = (2, 2) if quick else (8, 32)
    memory = {k: in_fresh_process("scaling", "peak", n, d, k) for k in dict.fromkeys((few, many))}
    seconds = {"closing": closing, "applying": applying, "starting": starting}
    rows = [
        *[
            ratio_row(
                f"{what}, two processes: throughput over one, their start included",
                s["local_1"], s["local_2"], ">= 1.5",
            )
            for what, s in (("close over shards", closing), ("apply to shards", applying))
        ],
        ratio_row(
            f"close over shards, two processes: throughput over one with {blas_threads()} threads",
            closing["threads"], closing["local_2"], ">= 1",
        ),
        row("moments of a Dask cluster: largest difference from one process", difference, "<= 1e-10"),
        row(
            f"close over {many} shards instead of {few}: memory of the largest of three processes beyond",
            max(memory[many].values()) - max(memory[few].values()), "<= 32", unit="MiB",
        ),
        row("time of a larger run: off by so much of what the plan says", plan["off_by"], "<= 0.25"),
    ]  # fmt: skip
    return {
        "setting": {"rows_per_shard": n, "d": d, "shards": shards,
                    "shards_mapped": mapped, "dtype": "float16",
                    "workers": list(counts), "threads_per_worker": 1},
        "rows": rows,
        "details": {
            "seconds": seconds,
            "table": _table(counts, {"closing": shards * n, "applying": mapped * n}, seconds),
            "memory_mib": {str(k * n): found for k, found in memory.items()},
            "plan": {**plan, "planned": PLANNED, "merge_seconds": _merge_seconds(d)},
        },
    }  # fmt: skip


def _key(name: str) -> str:
    return name.replace(" ", "_")


def a_folder_of_shards(folder: Path, n: int, d: int, count: int) -> Source:
    """Return a folder of float16 shards; a few stand in it many times over, by hard links."""
    folder.mkdir()
    made = min(count, 3)
    for i in range(count):
        path = folder / f"img_emb_{i}.npy"
        if i < made:
            np.save(path, (unit_rows(n, d, SEED + i) + 0.02).astype(np.float16))
        else:
            os.link(folder / f"img_emb_{i % made}.npy", path)
    return open_source(folder)


def _a_map(d: int) -> AffineMap:
    """Return a map of the kind that `balanced` makes: one full matrix and an offset."""
    rng = np.random.default_rng(SEED)
    left = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return AffineMap(
        d, left=left, residual=False, shift=rng.normal(size=d) * 0.04, normalize_input=True
    )


def _closing(engine: Any, source: Source) -> Callable[[], Any]:
    return lambda: moments_of(source, GALLERY, engine=engine)


def _applying(engine: Any, source: Source, mapping: AffineMap, out: Path) -> Callable[[], Any]:
    return lambda: apply_to_source(mapping, source, out, fingerprint="benchmark", engine=engine)


def _nothing(task: int, tell: Callable[[int], None]) -> int:
    return task


def _starting(engine: Any) -> Callable[[], Any]:
    """Return what an engine does before the first row and after the last one."""
    return lambda: list(engine.each(_nothing, [0], lambda rows: None, in_order=True))


def _difference(source: Source, engines: Any) -> float:
    """Return by how much moments of the engines differ from those of this process, with one thread."""
    with threadpoolctl.threadpool_limits(1):
        (wanted,) = moments_of(source, GALLERY)
    found = [moments_of(source, GALLERY, engine=engine)[0] for engine in engines]
    return max(float(np.abs(one.covariance - wanted.covariance).max()) for one in found)


def _checked_plan(
    closing: dict[str, list[float]],
    starting: dict[str, list[float]],
    small: Source,
    large: Source,
    rounds: int,
) -> dict[str, Any]:
    """Return the rate of a worker from a small run, and how far off it is for a larger one with two."""
    found: dict[str, Any] = {}
    spent = min(closing["local_2"]) - min(starting["local_2"])
    found["rows_per_second_of_two"] = small.rows / spent
    predicted = large.rows / found["rows_per_second_of_two"] + min(starting["local_2"])
    measured = min(in_turns(rounds, warm_up=False, large=_closing(Processes(2), large))["large"])
    return {
        **found,
        "rows": large.rows,
        "predicted_s": predicted,
        "measured_s": measured,
        "off_by": abs(measured / predicted - 1),
    }


def _table(
    counts: tuple[int, ...], rows: dict[str, int], seconds: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return rows a second and what was gained over one worker, a line for each engine and number."""
    lines = []
    for engine in ("local", "dask"):
        for workers in counts:
            if f"{engine}_{workers}" not in seconds["closing"]:
                continue
            line: dict[str, Any] = {"engine": engine, "workers": workers}
            line["start_s"] = min(seconds["starting"][f"{engine}_{workers}"])
            for what in ("closing", "applying"):
                own = seconds[what][f"{engine}_{workers}"]
                line[what] = {
                    "rows_per_second": rows[what] / (min(own) - line["start_s"]),
                    "over_one": ratio(seconds[what][f"{engine}_1"], own)["median_of_ratios"],
                }
            lines.append(line)
    return lines


def _merge_seconds(d: int) -> float:
    """Return the time in which two records of moments are merged: all that one process does alone."""
    parts = [Moments.from_rows(unit_rows(2 * d, d, SEED + k)) for k in range(2)]
    start = time.perf_counter()
    for _ in range(20):
        parts[0].merge(parts[1])
    return (time.perf_counter() - start) / 20


class _Watched:
    """Work that returns the largest size of its process so far, in MiB."""

    def __init__(self, work: Any) -> None:
        self.work = work

    def __call__(self, task: Any, tell: Callable[[int], None]) -> float:
        self.work(task, tell)
        return status("VmHWM") / 2**10


def peak(n: int, d: int, shards: int) -> dict[str, float]:
    """Return the largest size of this process and of the largest worker, in MiB, over so many shards."""
    with tempfile.TemporaryDirectory() as name:
        source = a_folder_of_shards(Path(name) / "in", n, d, shards)
        moments_of(source, GALLERY, engine=Processes(2))
        work, pieces = _Watched(ReadShards(GALLERY, "in")), pieces_of(source)
        sizes = Processes(2).each(work, pieces, lambda rows: None, in_order=True)
        worker = max(size for _, size in sizes)
    return {"parent": status("VmHWM") / 2**10, "worker": worker}
