"""Timing in turns, memory of a fresh process, and what a result must say about its machine.

No figure here is a time: the machine may be shared and noisy, so every result is a ratio of things
that were measured in turns, A, B, A, B, ..., in one process. Two readings of a ratio are kept: the
median of the rounds' ratios, which is the one reported, and the ratio of the fastest rounds.
"""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SEED = 0
PACKAGES = (
    "numpy", "scipy", "modgap", "faiss-cpu", "scikit-learn", "torch", "usearch", "hnswlib", "lancedb",
    "qdrant-edge-py", "pgvector", "scalable-vs",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Return processor, cores, threads and memory; no names of hosts, users or folders."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": blas_threads(),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "system": platform.system(),
        "accelerator": _accelerator(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of all packages that take part."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit of the working tree, marked where tracked files differ from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def load_average() -> float | None:
    """Return the mean number of running processes over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def set_threads(threads: int) -> None:
    """Give NumPy's and FAISS's matrix products the same number of threads."""
    import faiss
    import threadpoolctl

    threadpoolctl.threadpool_limits(threads)
    faiss.omp_set_num_threads(threads)


def blas_threads() -> int:
    """Return the number of threads of NumPy's matrix products."""
    import threadpoolctl

    counts = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    return max(counts, default=1)


def in_turns(
    rounds: int,
    *,
    warm_up: bool = True,
    before: Callable[[str], Any] = lambda side: None,
    **sides: Callable[[], Any],
) -> dict[str, list[float]]:
    """Time the sides in turns and return seconds per side and round, after one unmeasured round.

    `before` is called with a side's name ahead of that side, and not timed.
    """
    if warm_up:
        for name, side in sides.items():
            before(name)
            side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            before(name)
            gc.collect()
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(over: list[float], under: list[float]) -> dict[str, Any]:
    """Return over / under: the median of the rounds' ratios, and the ratio of the fastest rounds."""
    rounds = [a / b for a, b in zip(over, under, strict=True)]
    return {
        "median_of_ratios": statistics.median(rounds),
        "ratio_of_minima": min(over) / min(under),
        "rounds": rounds,
    }


def row(work: str, value: float, bar: str, **more: Any) -> dict[str, Any]:
    """Return one line of the table: what was measured, against a bar such as ">= 30"."""
    sense, limit = bar.split()
    holds = value >= float(limit) if sense == ">=" else value <= float(limit)
    return {"work": work, "value": value, "bar": bar, "holds": bool(holds), **more}


def ratio_row(work: str, over: list[float], under: list[float], bar: str, **more: Any) -> dict:
    """Return a line of the table whose value is a median of ratios."""
    found = ratio(over, under)
    return row(work, found["median_of_ratios"], bar, unit="x", ratio=found, **more)


def clouds(m: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit-length queries (m, d), gallery (n, d), float32, and the class of each query.

    They look like images and class texts of CLIP: mean cosines of about .49 within the queries, .72
    within the gallery, .17 across, .31 for true pairs; a gap of length .93; spectra that decay. Each
    query is right by its nearest item about six times in ten (1,000 classes of 512 dimensions).
    """
    rng = np.random.default_rng(SEED)
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    spectrum = (1.0 + np.arange(d)) ** -0.5
    spectrum[:2] = 0.0  # the axes of the two cones
    spectrum /= np.linalg.norm(spectrum)
    classes = rng.normal(size=(n, d))
    label = rng.integers(n, size=m)
    images = 0.35 * classes[label] + math.sqrt(1 - 0.35**2) * rng.normal(size=(m, d))
    gallery = 0.85 * basis[:, 0] + 0.527 * (classes * spectrum) @ basis.T
    queries = 0.2 * basis[:, 0] + 0.65 * basis[:, 1] + 0.7 * (images * spectrum) @ basis.T
    return _unit(queries), _unit(gallery), label


def unit_rows(n: int, d: int, seed: int) -> np.ndarray:
    """Return rows of random directions, (n, d) float32, made without a second copy of them."""
    x = np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)
    for start in range(0, n, 4096):
        part = x[start : start + 4096]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return x


def in_fresh_process(module: str, function: str, *args: Any) -> Any:
    """Return what a function of a benchmark module returns when it runs in a process of its own."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import importlib, _harness; "
        "_harness.set_threads(int(sys.argv[2])); "
        "f = getattr(importlib.import_module(sys.argv[3]), sys.argv[4]); "
        "print(json.dumps(f(*json.loads(sys.argv[5]))))"
    )
    command = [sys.executable, "-c", code, str(HERE), str(blas_threads()), module, function]
    done = subprocess.run([*command, json.dumps(args)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module}.{function} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def extra_memory(work: Callable[[], Any]) -> float:
    """Return by how many MiB the process grew at its largest while `work` ran."""
    gc.collect()
    _forget_peak()
    before = status("VmRSS")
    work()
    return (status("VmHWM") - before) / 2**10


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a document; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, allow_nan=False)
            file.write("\n")
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def stamp() -> str:
    """Return the date, in UTC."""
    return datetime.now(UTC).date().isoformat()


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def _git(*words: str) -> str:
    command = ["git", *words]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _accelerator() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _forget_peak() -> None:
    """Start the count of the largest resident size anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def status(field: str) -> int:
    """Return a size from the kernel's account of this process, in KiB (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"the kernel gives no {field}")
