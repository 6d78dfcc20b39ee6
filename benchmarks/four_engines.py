"""A study of 100,000 x 512 over four engines: its minutes, and whether its memory stays flat.

The rows are made ones, two clouds with a gap and spectra like CLIP's. Codecs without graphs, which take a
minute and more each to build at this size. Memory is that of the process, engines included: it holds one
index at a time, so after the first map, which has been through every codec, it must not grow any more.
"""

from __future__ import annotations

import os
import sys
import time
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


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    n, m, d = (2000, 60, 32) if quick else (100_000, 1200, 512)
    codecs = CODECS[:2] if quick else CODECS
    found = in_fresh_process("four_engines", "measure", n, m, d, codecs)
    engines = len({codec.partition(":")[0] for codec in codecs})
    work = f"study of {n:,} x {d}, {len(codecs)} codecs of {engines} engines"
    return {
        "setting": {"rows": n, "queries": m, "d": d, "codecs": list(codecs), "maps": list(MAPS)},
        "rows": [
            row(f"{work}: minutes", found["seconds"] / 60, "<= 10"),
            row(
                f"{work}: memory at the end beyond that of the first map",
                found["mib"][-1] - found["mib"][len(codecs) - 1], "<= 64", unit="MiB",
            ),
        ],
        "details": found,
    }  # fmt: skip


def measure(n: int, m: int, d: int, codecs: list[str]) -> dict[str, Any]:
    """Return seconds, seconds of processors, the largest size of the process by row, and its figures."""
    queries, gallery = two_clouds(n, m, d)
    before = status("VmHWM") / 2**10
    sizes, lines = [], []

    def on_row(line: index.CodecRow) -> None:
        sizes.append(status("VmHWM") / 2**10)
        print(
            f"  {line.label} {line.map} {line.failed or line.recall}", file=sys.stderr, flush=True
        )
        lines.append(
            {
                "codec": line.label, "map": line.map, "failed": line.failed,
                "recall": None if line.failed else line.recall["10"],
                "build_seconds": line.build_seconds,
            }
        )  # fmt: skip

    spent, start = sum(os.times()[:4]), time.perf_counter()
    index.study(queries, gallery, codecs=codecs, maps=MAPS, on_row=on_row)
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": sum(os.times()[:4]) - spent,
        "gallery_mib": gallery.nbytes / 2**20,
        "inputs_mib": before,
        "mib": sizes,
        "rows": lines,
    }
