"""A study of 100,000 x 512 over four engines: its minutes, and whether its memory stays flat.

The rows are made ones, two clouds with a gap and spectra like CLIP's. Codecs without graphs: one of
each engine takes minutes more a map. Memory is that of the process and of all that it starts, pages
that several of them map counted once: after the first map, which has been through every codec, neither
what is held between maps nor what a map takes at its largest must grow.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from _harness import in_fresh_process, row, status
from _sets import two_clouds

from modgap import index

CODECS = (
    "faiss:SQ4", "faiss:1bit", "faiss:IVF,SQ8",
    "usearch:i8", "usearch:b1",
    "lancedb:IVF_SQ", "lancedb:IVF_RQ",
    "qdrant:scalar", "qdrant:binary",
)  # fmt: skip
MAPS = ("none", "recenter", "balanced")
#: Seconds from one look at the memory to the next.
_EVERY = 0.25


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    n, m, d = (2000, 60, 32) if quick else (100_000, 1200, 512)
    codecs = CODECS[:2] if quick else CODECS
    found = in_fresh_process("four_engines", "measure", n, m, d, codecs)
    engines = len({codec.partition(":")[0] for codec in codecs})
    work = f"study of {n:,} x {d}, {len(codecs)} codecs of {engines} engines"
    held, largest = found["held_mib"], found["largest_mib"]
    return {
        "setting": {"rows": n, "queries": m, "d": d, "codecs": list(codecs), "maps": list(MAPS)},
        "rows": [
            row(f"{work}: minutes", found["seconds"] / 60, "<= 10"),
            row(
                f"{work}: memory held after a later map, beyond that after the first",
                max(held[1:]) - held[0], "<= 64", unit="MiB",
            ),
            row(
                f"{work}: memory of a later map at its largest, beyond that of the first",
                max(largest[1:]) - largest[0], "<= 64", unit="MiB",
            ),
        ],
        "details": found,
    }  # fmt: skip


def measure(n: int, m: int, d: int, codecs: list[str]) -> dict[str, Any]:
    """Return seconds, seconds of processors, memory by map and by row, and the figures of the rows.

    Memory is looked at four times a second: by row the largest since the row before it, by map the largest
    of its rows, and what is held when its last index has gone.
    """
    queries, gallery = two_clouds(n, m, d)
    inputs = memory()
    lines: list[dict[str, Any]] = []
    watch = Watch()

    def on_row(line: index.CodecRow) -> None:
        here, largest = status("VmRSS") / 2**10, watch.largest()
        print(
            f"  {line.label} {line.map} {largest:.0f} MiB {line.failed or line.recall}",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        lines.append(
            {
                "codec": line.label, "map": line.map, "failed": line.failed,
                "recall": None if line.failed else line.recall["10"],
                "build_seconds": line.build_seconds,
                "largest_mib": largest, "this_process_mib": here,
            }
        )  # fmt: skip

    spent, start = sum(os.times()[:4]), time.perf_counter()
    index.study(queries, gallery, codecs=codecs, maps=MAPS, on_row=on_row)
    seconds = time.perf_counter() - start
    watch.end()
    by_map = [[line for line in lines if line["map"] == name] for name in MAPS]
    return {
        "seconds": seconds,
        "processor_seconds": sum(os.times()[:4]) - spent,
        "gallery_mib": gallery.nbytes / 2**20,
        "inputs_mib": inputs,
        "held_mib": [each[-1]["this_process_mib"] for each in by_map],
        "largest_mib": [max(line["largest_mib"] for line in each) for each in by_map],
        "rows": lines,
    }


class Watch:
    """Looks at the memory of this process and its children until it is ended."""

    def __init__(self) -> None:
        self._largest, self._ended = memory(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def largest(self) -> float:
        """Return the largest since the last call, in MiB."""
        found, self._largest = max(self._largest, memory()), 0.0
        return found

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_EVERY):
            self._largest = max(self._largest, memory())


def memory() -> float:
    """Return the memory of this process and of all below it, in MiB; shared pages count once (Linux)."""
    total, ours = 0, [Path("/proc/self")]
    for process in ours:
        try:
            sizes = (process / "smaps_rollup").read_text(encoding="ascii").splitlines()
            for children in process.glob("task/*/children"):
                ours += [Path("/proc", child) for child in children.read_text().split()]
        except OSError:  # gone meanwhile
            continue
        total += next((int(line.split()[1]) for line in sizes if line.startswith("Pss:")), 0)
    return total / 2**10
