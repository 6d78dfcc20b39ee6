"""Ten billion rows on paper: what so many cores do, by the rates that one of them has here."""

from __future__ import annotations

from typing import Any

#: Rows of 512 half floats; a shard of clip-retrieval has a million.
PLANNED = {"rows": 10_000_000_000, "rows_per_shard": 1_000_000, "d": 512, "bytes_per_value": 2}


def plan(workers: int, measured: dict[str, Any]) -> dict[str, float]:
    """Return what `workers` cores do to the rows of `PLANNED`, by the rates of one of them here.

    A process uses more than one core where others are free, so the rates are those of a process where as
    many ran as there are cores.

    Parameters
    ----------
    workers : int
    measured : dict
        The benchmark's document.

    Returns
    -------
    dict
        Hours to fit and to map, the bytes that the storage must deliver a second meanwhile, all of them
        together, and the share of its time that the merging process is busy.
    """
    lines = [line for line in measured["details"]["table"] if line["engine"] == "local"]
    full = max(
        (line for line in lines if line["workers"] <= max(1, measured["machine"]["cores"])),
        key=lambda line: line["workers"],
    )
    rows, d = PLANNED["rows"], PLANNED["d"]
    bytes_in = rows * d * PLANNED["bytes_per_value"]
    found: dict[str, float] = {}
    for what in ("closing", "applying"):
        seconds = rows / (full[what]["rows_per_second"] / full["workers"] * workers)
        found[f"{what}_hours"] = seconds / 3600
        found[f"{what}_read_bytes_per_second"] = bytes_in / seconds
    shards = rows / PLANNED["rows_per_shard"]
    merging = shards * measured["details"]["plan"]["merge_seconds"]
    found["merging_share"] = merging / (found["closing_hours"] * 3600)
    return found
