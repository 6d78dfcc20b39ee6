"""What every benchmark shares: interleaved timing, the machine, and the JSON file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from modgap.io.atomic import atomic_path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SEED = 0


def ratio(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int = 5) -> dict[str, Any]:
    """Time both by turns, and return the median of the ratios ours / theirs of each round.

    The machine is shared: a round's two halves meet about the same load, its neighbours may not.
    """
    pairs = []
    for _ in range(rounds):
        pairs.append((seconds(ours), seconds(theirs)))
    return {
        "ours_s": min(first for first, _ in pairs),
        "theirs_s": min(second for _, second in pairs),
        "ratio": median(first / second for first, second in pairs),
        "ratios": [first / second for first, second in pairs],
        "rounds": rounds,
        "statistic": "median over rounds of ours / theirs, measured by turns",
    }


def seconds(work: Callable[[], Any]) -> float:
    """Return the wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    """Return processor, memory, threads and load."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30),
        "threads": os.environ.get("OPENBLAS_NUM_THREADS", "default"),
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Return the versions of what takes part."""
    found = {"python": platform.python_version()}
    for package in ("modgap", "numpy", "scipy", "scikit-learn", "faiss-cpu", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def commit() -> str:
    """Return the commit the tree is at."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def write(name: str, rows: list[dict[str, Any]], folder: Path) -> Path:
    """Write a subject's rows with everything needed to judge them."""
    document = {
        "subject": name,
        "rows": rows,
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "seed": SEED,
        "date": datetime.now(UTC).date().isoformat(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n")
    return path
