"""Applying a closure to shards: against copying them, and against the bare matrix product."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _harness import SEED, ratio

from modgap.io import apply_to_source, open_source
from modgap.maps import AffineMap


def run(quick: bool) -> list[dict[str, Any]]:
    n, d, shards = (500, 16, 2) if quick else (50_000, 512, 4)
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        folder.mkdir()
        for i in range(shards):
            np.save(folder / f"img_emb_{i}.npy", rng.standard_normal((n, d), dtype=np.float32))
        basis = np.linalg.qr(rng.normal(size=(d, d)))[0][:, : d // 2]
        shift = AffineMap(d, shift=rng.normal(size=d))
        project = AffineMap(d, left=basis, right=basis.T, residual=False, shift=rng.normal(size=d))
        matrix = project.matrix.astype(np.float32)
        rounds, size = (
            (1, f"{shards} x {n} x {d}") if quick else (5, f"{shards} shards of {n} x {d} float32")
        )
        copied = ratio(lambda: copy(folder), lambda: applied(shift, folder), rounds)
        bare = ratio(lambda: multiplied(folder, matrix), lambda: applied(project, folder), rounds)
    return [
        {
            "work": "speed of applying a shift, over copying the shards",
            "size": size,
            "bar": ">= 0.7x",
            **copied,
        },
        {
            "work": "speed of applying a projection, over the bare product",
            "size": size,
            "bar": ">= 0.7x",
            **bare,
        },
    ]


_COUNTER = itertools.count()


def fresh(folder: Path) -> Path:
    """Return a new output folder, the last one gone."""
    for old in folder.parent.glob("out*"):
        shutil.rmtree(old)
    out = folder.parent / f"out{next(_COUNTER)}"
    out.mkdir()
    return out


def copy(folder: Path) -> None:
    out = fresh(folder)
    for path in sorted(folder.iterdir()):
        shutil.copyfile(path, out / path.name)


def applied(fitted: AffineMap, folder: Path) -> None:
    apply_to_source(fitted, open_source(folder), fresh(folder), fingerprint="benchmark")


def multiplied(folder: Path, matrix: np.ndarray) -> None:
    out = fresh(folder)
    for path in sorted(folder.iterdir()):
        np.save(out / path.name, np.load(path) @ matrix)
