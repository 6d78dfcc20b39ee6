"""Closing shards on disk: a shift against copying the files, a projection against the bare product."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _harness import SEED, in_turns, ratio_row, row, unit_rows

from modgap.closers.maps import AffineMap
from modgap.io import apply_to_source, open_source


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    shards, n, d = (2, 50, 8) if quick else (4, 16_384, 512)
    rank = 6 if quick else 400  # more than half of d: one product with the whole matrix is cheapest
    rng = np.random.default_rng(SEED)
    center = rng.normal(size=d) * 0.04
    axes = np.linalg.qr(rng.normal(size=(d, rank)))[0]
    shift = AffineMap(d, shift=center)
    # As closers write it: the centre goes into the constant, unless it lies far from the origin.
    far = AffineMap(d, center=center, left=axes, right=axes.T, residual=False)
    projection = AffineMap(d, shift=far.offset, left=axes, right=axes.T, residual=False)
    rounds = rounds or (1 if quick else 60)  # the system writes files out when it likes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "in"
        source.mkdir()
        for i in range(shards):
            np.save(source / f"img_emb_{i}.npy", unit_rows(n, d, SEED + i))
        files = sorted(source.iterdir())

        def clear(side: str) -> None:
            shutil.rmtree(folder / side, ignore_errors=True)

        copied = in_turns(
            rounds,
            before=clear,
            copy=lambda: _copy(files, folder / "copy"),
            shift=lambda: _apply(shift, source, folder / "shift"),
        )
        matrix = (axes @ axes.T).astype(np.float32)
        multiplied = in_turns(
            rounds,
            before=clear,
            product=lambda: _multiply(matrix, files, folder / "product"),
            projection=lambda: _apply(projection, source, folder / "projection"),
        )
        loaded = [np.load(file) for file in files]
        place = np.empty_like(loaded[0])
        bare = in_turns(  # apart from the side above, whose files the system is still writing out
            rounds,
            before=clear,
            product=lambda: [np.matmul(part, matrix, out=place) for part in loaded],
            projection=lambda: _apply(projection, source, folder / "projection"),
        )
        error = _difference(projection, files, folder / "projection")
    rows = [
        ratio_row(
            "a shift applied to shards: throughput over that of copying them",
            copied["copy"], copied["shift"], ">= 0.7",
        ),
        ratio_row(
            "a projection applied to shards: throughput over read, bare product, write",
            multiplied["product"], multiplied["projection"], ">= 0.7",
        ),
        ratio_row(
            "the same over the bare product alone: rows in memory, nothing written",
            bare["product"], bare["projection"], ">= 0.7",
        ),
        row("the same: largest difference from float64", error, "<= 1e-5"),
    ]  # fmt: skip
    size = shards * n * d * 4 / 2**20
    return {
        "setting": {
            "shards": shards,
            "rows": n,
            "d": d,
            "rank": rank,
            "mib": size,
            "format": "npy",
        },
        "rows": rows,
        "details": {"seconds": {"shift": copied, "projection": multiplied, "bare": bare}},
    }


def _apply(mapping: AffineMap, source: Path, out: Path) -> None:
    out.mkdir()
    # Without hashes, as the other sides make none: a core hashes about a gibibyte a second.
    apply_to_source(mapping, open_source(source), out, fingerprint="benchmark", hashes=False)


def _copy(files: list[Path], out: Path) -> None:
    out.mkdir()
    for file in files:
        shutil.copyfile(file, out / file.name)


def _multiply(matrix: np.ndarray, files: list[Path], out: Path) -> None:
    out.mkdir()
    for file in files:
        np.save(out / file.name, np.load(file) @ matrix)


def _difference(mapping: AffineMap, files: list[Path], out: Path) -> float:
    rows = np.load(files[-1], mmap_mode="r")[:500].astype(np.float64)
    done = np.load(out / files[-1].name, mmap_mode="r")[:500]
    return float(np.abs(mapping(rows) - done).max())
