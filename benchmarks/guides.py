"""Figures that guides quote: exports in their runtimes, FAISS behind a closure, drift with no cause."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import faiss
import numpy as np
from _harness import HERE, SEED, row
from _sets import figure, halves, load, sets, setting, share_found, truth_of

import modgap
from modgap import closers
from modgap.index.faiss_adapter import FaissIndex
from modgap.index.qdrant_engine import Qdrant

#: What an export may differ by: some float32 roundings of unit rows.
ROUNDING = 1e-6
EXPORTED = 200
#: What FAISS builds, and how many lists of it a search looks at.
INDEXES = {"SQ4": None, "HNSW32,Flat": None, "IVF64,SQ8": 4}
DEPTH = 10
METHODS = ("balanced", "recenter", "center")
SPLITS = 8
#: Photos at a time, of which one half is fitted to and the other one checked.
PHOTOS = 6000
OTHER = "coco_clip_vitb16"
#: How many times as long as they are queries are made for a code that minds it.
LENGTHS = (1, 2, 4, 8, 16)


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    data = sets(quick=quick)
    name, (images, texts) = next(iter(data.items()))
    exported = exports(images, texts, quick=quick)
    served = serving(images, texts, quick=quick)
    drifted = drift(images, texts, quick=quick)
    others = other_rows(images, texts, quick=quick)
    longer = (
        longer_queries(images, texts, quick=quick)
        if importlib.util.find_spec("qdrant_edge")
        else {}
    )
    return {
        "setting": {**setting({name: (images, texts)}), "other": "made" if quick else OTHER},
        "rows": [*_bars(exported, served, drifted, others)],
        "details": {
            "set": name,
            "exports": exported,
            "serving": served,
            "drift": drifted,
            "other": others,
            "longer": longer,
        },
    }


def exports(images: np.ndarray, texts: np.ndarray, *, quick: bool) -> dict[str, Any]:
    """Return the largest difference of each export from the Python map, on texts it was not fitted to."""
    known, unseen = halves(texts)
    closure = closers.fit("balanced", known, images)
    rows = np.ascontiguousarray(unseen[:EXPORTED])
    mapped = np.asarray(closure.apply_queries(rows))
    exact = np.asarray(closure.apply_queries(rows.astype(np.float64)))
    runtimes = _runtimes()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for to, runtime in runtimes.RUNTIMES.items():
            suffix = ".safetensors" if to == "torch" else f".{to}"
            path, *_ = modgap.export(
                closure, Path(folder) / f"closure{suffix}", to=to, side="queries"
            )
            found[to] = _largest(runtime(path, rows, "queries"), mapped)
        if not quick:  # a server that has to be started
            (path,) = modgap.export(closure, Path(folder) / "closure.sql", to="sql", side="queries")
            found["sql"] = _in_postgres(runtimes, path, rows, mapped)
    return {
        "rows": len(rows),
        "dimension": rows.shape[1],
        "coordinate": float(np.abs(mapped).max()),
        "difference": found,
        "python": _largest(mapped, exact),
    }


def _runtimes() -> ModuleType:
    """Return the runtimes that the tests of the exports use, none of which knows modgap."""
    path = HERE.parent / "tests" / "unit" / "exports" / "runtimes.py"
    spec = importlib.util.spec_from_file_location("runtimes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _in_postgres(runtimes: ModuleType, path: Path, rows: np.ndarray, mapped: np.ndarray) -> float:
    import psycopg

    from modgap.index._postgres import Server

    server = Server()
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            return _largest(runtimes.postgres(path, rows, "queries", connection), mapped)
    finally:
        server.stop()


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(np.asarray(a, np.float64) - b).max())


def serving(images: np.ndarray, texts: np.ndarray, *, quick: bool) -> dict[str, Any]:
    """Return what indexes read by plain FAISS find of the exact ten, bare and behind `balanced`."""
    known, unseen = halves(texts)
    closure = closers.fit("balanced", known, images)
    truth = truth_of(unseen, images, DEPTH)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for word, lists in INDEXES.items():
            word = word.replace("64", "4") if quick else word
            shares = {}
            bare, behind = (_index(word, images) for _ in range(2))
            bare.train(images)
            bare.add(images)
            faiss.write_index(bare, f"{folder}/bare.faiss")
            closed = FaissIndex(closure, behind)
            closed.add(images).write(f"{folder}/closed.faiss")
            for kind in ("bare", "closed"):
                index = faiss.read_index(f"{folder}/{kind}.faiss")
                if lists is not None:
                    faiss.extract_index_ivf(index).nprobe = lists
                shares[kind] = share_found(truth, index.search(unseen, DEPTH)[1])
            found[word] = {
                "lists": lists,
                "bare": figure(shares["bare"]),
                "closed": figure(shares["closed"], bare=shares["bare"]),
            }
    return {"queries": len(unseen), "found": found}


def _index(word: str, rows: np.ndarray) -> Any:
    return faiss.index_factory(rows.shape[1], word, faiss.METRIC_INNER_PRODUCT)


def drift(images: np.ndarray, texts: np.ndarray, *, quick: bool) -> list[dict[str, Any]]:
    """Return for each closer what a check says of the other half of the same data, split by split."""
    lines = []
    photos = min(PHOTOS, len(images) // 2)
    for method in METHODS[:1] if quick else METHODS:
        checks = []
        for split in range(1 if quick else SPLITS):
            known, unseen = halves(texts, SEED + split)
            drawn = np.random.default_rng(SEED + split).permutation(len(images))
            then, now = images[drawn[:photos]], images[drawn[photos : 2 * photos]]
            checks.append(modgap.drift(closers.fit(method, known, then), unseen, now))
        lines.append({"method": method, "photos": photos, **_summary(checks)})
    return lines


def other_rows(images: np.ndarray, texts: np.ndarray, *, quick: bool) -> list[dict[str, Any]]:
    """Return what a check says where the queries, and then the gallery too, are another model's."""
    known, unseen = halves(texts)
    if quick:
        asked, stored = -texts, -images
    else:
        asked, stored = load(OTHER, "texts"), load(OTHER, "images")
    closure = closers.fit("balanced", known, images)
    return [
        {"rows": what, **_summary([modgap.drift(closure, queries, gallery)])}
        for what, queries, gallery in (
            ("other half of the texts", unseen, images),
            ("texts of another model", asked, images),
            ("texts and images of another model", asked, stored),
        )
    ]


def longer_queries(images: np.ndarray, texts: np.ndarray, *, quick: bool) -> dict[str, Any]:
    """Return what Qdrant's two bits find by the length of the queries, which no inner product minds."""
    known, unseen = halves(texts)
    closure = closers.fit("balanced", known, images)
    truth = truth_of(unseen, images, DEPTH)
    found: dict[str, Any] = {}
    for name, stored, asked in (
        ("none", images, unseen),
        ("balanced", closure.apply_gallery(images), closure.apply_queries(unseen)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            index = Qdrant().build(stored, "binary:2", seed=SEED, folder=Path(folder))
            try:
                found[name] = {
                    str(times): figure(share_found(truth, index.search(times * asked, DEPTH).rows))
                    for times in (LENGTHS[:2] if quick else LENGTHS)
                }
            finally:
                index.close()
    return found


def _summary(checks: list[Any]) -> dict[str, Any]:
    """Return the largest figures of some checks, over both sides."""
    sides = [side for check in checks for side in (check.queries, check.gallery)]
    bits = [check.bits for check in checks if check.bits is not None and check.bits.win is not None]
    best = max(bits, key=lambda each: each.win, default=None)
    return {
        "checks": len(checks),
        "drifted": sum(bool(check.drifted) for check in checks),
        "mean": max(side.mean for side in sides),
        "mean_in_errors": max(side.mean_in_errors for side in sides),
        "spread_over_chance": max(side.spread / side.spread_by_chance for side in sides),
        "win": None if best is None else best.win,
        "win_stderr": None if best is None else best.win_stderr,
    }


def _bars(
    exported: dict[str, Any],
    served: dict[str, Any],
    drifted: list[dict[str, Any]],
    others: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    lines = [
        row(f"export to {to}: largest difference from the Python map", value, f"<= {ROUNDING}")
        for to, value in exported["difference"].items()
    ]
    for word, found in served["found"].items():
        gain = found["closed"]["over_bare"]
        lines.append(row(f"{word} behind `balanced`: recall@10 over bare rows", gain["difference"],
                         ">= 0", stderr=gain["stderr"]))  # fmt: skip
    for line in drifted:
        lines.append(row(f"drift of `{line['method']}` where there is none: false alarms",
                         line["drifted"], "<= 0"))  # fmt: skip
    seen = sum(line["drifted"] for line in others[1:])
    lines.append(row("drift to another model: checks that see it, of 2", seen, ">= 2"))
    return lines
