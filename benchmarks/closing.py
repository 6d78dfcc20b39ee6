"""Close over shards in one process: its time over that of the slower of the disk and the bare product.

Nothing else is open meanwhile: beside seven idle workers of Dask queries came to .59 on two cores.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
from _harness import in_turns, ratio_row
from scaling import GALLERY, QUERIES, a_folder_of_shards

from modgap.engines import HERE, moments_of
from modgap.io.source import Source


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    n, d, shards = (60, 8, 2) if quick else (8_192, 512, 24)
    with tempfile.TemporaryDirectory() as name:
        source = a_folder_of_shards(Path(name) / "shards", n, d, shards)
        bare, floors, processor = _bare(source, rounds or (1 if quick else 9))
    rows = [
        ratio_row(
            f"close over shards, {reading}: throughput over the lower of disk and product",
            floors[reading], bare[reading], ">= 0.7",
        )
        for reading in ("queries", "gallery")
    ]  # fmt: skip
    setting = {"rows_per_shard": n, "d": d, "shards": shards, "dtype": "float16", "threads": 1}
    details = {"seconds": bare, "processor_seconds": processor}
    return {"setting": setting, "rows": rows, "details": details}


def _bare(
    source: Source, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, list[float]]]:
    """Return seconds of reading moments here, of the slower of disk and product, and of the processors.

    Products have one thread here and there; what is done beside them has others. The files are dropped
    from the system's cache ahead of every side that reads them.
    """
    blocks = list(source.blocks(8192))
    wide = {"queries": np.float32, "gallery": np.float64}
    rows = {name: blocks[0].astype(dtype) for name, dtype in wide.items()}
    processor: dict[str, list[float]] = {}

    def product(name: str) -> None:
        for _ in blocks:
            np.matmul(rows[name].T, rows[name])

    def counted(name: str, side: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            start = time.process_time()
            side()
            processor.setdefault(name, []).append(time.process_time() - start)

        return run

    sides: dict[str, Callable[[], Any]] = {"disk": lambda: _read(source)}
    for reading in (QUERIES, GALLERY):
        sides[reading.name] = lambda reading=reading: moments_of(source, reading, engine=HERE)
        sides[f"{reading.name}_product"] = lambda name=reading.name: product(name)
    sides = {name: counted(name, side) for name, side in sides.items()}
    with threadpoolctl.threadpool_limits(1):
        seconds = in_turns(rounds, before=lambda side: _forget(source), **sides)
    floors = {
        name: [max(pair) for pair in zip(seconds["disk"], seconds[f"{name}_product"], strict=True)]
        for name in wide
    }
    # The first is the round that warms up.
    return seconds, floors, {name: found[1:] for name, found in processor.items()}


def _forget(source: Source) -> None:
    """Let the system drop the files from its cache, so that they are read from the disk again."""
    for shard in source.shards:
        handle = os.open(shard.path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _read(source: Source) -> None:
    buffer = bytearray(16 * 2**20)
    for shard in source.shards:
        with open(shard.path, "rb", buffering=0) as handle:
            while handle.readinto(buffer):
                pass
