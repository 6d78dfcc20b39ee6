"""Peers at equal bytes, side by side: projections, rotations, product and scalar quantizers, centring.

Each in its best form, and each quantizer on bare, recentred and balanced rows: most of what a peer does can
be done after balancing too. Queries stay floats but for RaBitQ. Time to fit is the processor's, over
that of `balanced` from the same rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import _peers
import _sets
import numpy as np
from _harness import row

from modgap import closers
from modgap.robustness.noise import parse

OURS = "balanced"
SCALAR = {2: "bits:2:dimension:clipped", 4: "bits:4:dimension:clipped"}
QUANTIZERS = {
    "RaBitQ": (64, 8), "RaBitQ rotated": (64, 8), "PQ64": (64, 0), "OPQ64": (64, 0),
    "SQ4": (256, 0), "SQ6": (384, 0),
}  # fmt: skip


class Bench:
    """One gallery, its unseen queries and truth, the maps, and the lines that are found."""

    def __init__(self, images: np.ndarray, texts: np.ndarray) -> None:
        self.images = images
        self.fit, self.unseen = _sets.halves(texts)
        self.truth = _sets.truth_of(self.unseen, images)
        self.lines: list[dict[str, Any]] = []
        self.shares: list[np.ndarray] = []
        self.sides, self.seconds = {}, {}
        for label in ("none", "recenter", OURS):
            closure, spent = _timed(lambda label=label: closers.fit(label, self.fit, images))
            self.sides[label] = (
                np.ascontiguousarray(closure.apply_gallery(images)),
                np.ascontiguousarray(closure.apply_queries(self.unseen)),
            )
            self.seconds[label] = spent

    def add(
        self, group: str, peer: str, rows: str, size: tuple[float, int], found: np.ndarray,
        seconds: float = 0.0, **more: Any,
    ) -> None:  # fmt: skip
        """Note what was found: `size` is bytes of the code, and of numbers kept beside it."""
        shares = _sets.share_found(self.truth, found)
        if rows == OURS:
            seconds += self.seconds[OURS]
        self.shares.append(shares)
        self.lines.append(
            {
                "group": group, "peer": peer, "rows": rows,
                "bytes": {"code": size[0], "beside": size[1]},
                **_sets.figure(shares), "fit_seconds": seconds,
                "fit_over_balanced": seconds / self.seconds[OURS], **more,
            }
        )  # fmt: skip

    def finish(self) -> list[dict[str, Any]]:
        """Return the lines, each with its paired difference to the best without balancing of its group."""
        for line, shares in zip(self.lines, self.shares, strict=True):
            rivals = [
                s
                for other, s in zip(self.lines, self.shares, strict=True)
                if other["group"] == line["group"] and other["rows"] != OURS
            ]
            gain = shares - max(rivals, key=lambda s: float(s.mean()))
            line["over_best_rival"] = {
                "difference": float(gain.mean()),
                "stderr": _sets.stderr(gain),
            }
        return self.lines


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    data = _sets.sets(quick=quick)
    lines = {name: compare(*clouds, quick=quick) for name, clouds in data.items()}
    rows = []
    for name, found in lines.items():
        for group in dict.fromkeys(line["group"] for line in found):
            ours = max(
                (line for line in found if line["group"] == group and line["rows"] == OURS),
                key=lambda line: line["recall"],
            )
            gain = ours["over_best_rival"]
            rows.append(
                row(
                    f"{name}, {group}: recall@10 of the best on balanced rows less the best peer without",
                    gain["difference"], ">= 0", stderr=gain["stderr"], best=ours["peer"],
                )
            )  # fmt: skip
    return {
        "setting": {
            **_sets.setting(data),
            "fit": "seconds of the processor, of `balanced` added where it is used",
            "LeanVec-OOD": "algorithm 1 as published; agrees with scalable-vs 0.5.0 to 1e-7",
            "OPQ": f"rotation learned from all rows in {_peers.OPQ_ROUNDS} rounds; not where rows are few",
            "RaBitQ": "queries in 8 bits",
            "PQ, OPQ": "not on recentred rows: a shift changes neither clusters nor rankings",
            "none": "rows of unit length; codes that keep no product are compared by cosine",
        },
        "rows": rows,
        "details": {"lines": lines},
    }


def compare(images: np.ndarray, texts: np.ndarray, *, quick: bool) -> list[dict[str, Any]]:
    """Return a line for each peer on each kind of rows."""
    bench = Bench(images, texts)
    d = images.shape[1]
    for label in bench.sides:
        signs(bench, label)
        for bits, word in SCALAR.items():
            scalar(bench, label, bits, word)
        if label != "none":
            rotated_signs(bench, label, 3 if quick else 15)
    for name, size in QUANTIZERS.items():
        few = (
            name.startswith("O") and len(images) < 2 * d
        )  # FAISS cannot learn a rotation from them
        if few or (quick and "PQ" in name):
            continue
        for label in bench.sides:
            if "PQ" not in name or label != "recenter":
                quantized(bench, label, name, size)
    centring(bench)
    for k in (d // 8, d // 4, d // 2):
        fewer(bench, k, steps=3 if quick else 100, long=k == d // 4)
    return bench.finish()


def signs(bench: Bench, label: str) -> None:
    """Note one bit a coordinate, with and without a number a row."""
    items, queries = bench.sides[label]
    for word, beside in (("sign", 0), ("sign:lengths", 4)):
        found = _sets.nearest_of(queries, parse(word).apply(items))
        bench.add("1 bit a dimension", word, label, (items.shape[1] / 8, beside), found)


def scalar(bench: Bench, label: str, bits: int, word: str) -> None:
    """Note several bits a coordinate in ranges of each dimension, with and without a number a row."""
    items, queries = bench.sides[label]
    for kept in ("", ":lengths"):
        stored = parse(word + kept).apply(items)
        if label == "none":  # unit rows are compared by cosine, which takes no number a row
            stored /= np.linalg.norm(stored, axis=1, keepdims=True)
            if kept:
                continue
        found = _sets.nearest_of(queries, stored)
        size = (items.shape[1] * bits / 8, 4 if kept else 0)
        bench.add(f"{bits} bits a dimension", word + kept, label, size, found)


def rotated_signs(bench: Bench, label: str, steps: int) -> None:
    """Note iterative quantization: one bit a coordinate after a rotation learned from the rows."""
    items, queries = bench.sides[label]
    turn, spent = _timed(lambda: _peers.itq(items, steps))
    for word, beside in (("sign", 0), ("sign:lengths", 4)):
        found = _sets.nearest_of(queries @ turn, parse(word).apply(items @ turn))
        size = (items.shape[1] / 8, beside)
        bench.add("1 bit a dimension", f"ITQ, {word}", label, size, found, spent)


def quantized(bench: Bench, label: str, name: str, size: tuple[int, int]) -> None:
    """Note a quantizer of FAISS; the bytes of its codes are those that FAISS reports."""
    items, queries = bench.sides[label]
    index = _peers.quantizer(name, items.shape[1])
    _, spent = _timed(lambda: index.train(items))
    index.add(items)
    found = index.search(queries, _sets.DEPTH)[1]
    group = {64: "1 bit a dimension", 256: "4 bits a dimension", 384: "6 bits a dimension"}[size[0]]
    bench.add(group, name, label, (float(size[0]), size[1]), found, spent)


def centring(bench: Bench) -> None:
    """Note GR-CLIP's centring of both sides, which changes answers: at full precision, and in codes."""
    closure, spent = _timed(lambda: closers.fit("center", bench.fit, bench.images))
    items, queries = closure.apply_gallery(bench.images), closure.apply_queries(bench.unseen)
    d = items.shape[1]
    for group, word, size in (
        ("32 bits a dimension", None, (4.0 * d, 0)),
        ("1 bit a dimension", "sign:lengths", (d / 8, 4)),
        ("2 bits a dimension", SCALAR[2] + ":lengths", (d / 4, 4)),
        ("4 bits a dimension", SCALAR[4] + ":lengths", (d / 2, 4)),
    ):
        stored = items if word is None else parse(word).apply(items)
        found = _sets.nearest_of(queries, stored)
        name = "centring" if word is None else f"centring, {word}"
        bench.add(group, name, "centred, both sides", size, found, spent)
        if word is None:
            ours = bench.sides[OURS]
            bench.add(group, OURS, OURS, size, _sets.nearest_of(ours[1], ours[0]))


def fewer(bench: Bench, k: int, *, steps: int, long: bool) -> None:
    """Note k coordinates as floats: principal axes, LeanVec-OOD, the strongest after balancing."""
    group, size = f"{k} dimensions, floats", (4.0 * k, 0)
    centred = bench.sides["recenter"][0]

    def note(peer: str, label: str, make: Callable[[], Any], **more: Any) -> None:
        (items, queries), spent = _timed(make)
        rows = bench.images if label == "none" else centred
        found = _sets.nearest_of(bench.unseen @ queries, rows @ items)
        bench.add(group, peer, label, size, found, spent, **more)

    note("PCA of the gallery", "none", lambda: [_peers.principal(bench.images, k)] * 2)
    note("PCA of the gallery", "recenter", lambda: [_peers.principal(centred, k)] * 2)
    note("PCA of the queries", "recenter", lambda: [_peers.principal(bench.fit, k)] * 2)
    settings = [("LeanVec-OOD, to a tolerance of .001", 1e-3)]
    settings += [(f"LeanVec-OOD, {steps} steps", 0.0)] if long else []
    for peer, tolerance in settings:
        for label, rows in (("none", bench.images), ("recenter", centred)):
            if tolerance or label == "recenter":
                note(
                    peer, label,
                    lambda rows=rows, tolerance=tolerance: _peers.leanvec_ood(
                        rows, bench.fit, k, steps=steps, tolerance=tolerance
                    )[:2],
                )  # fmt: skip
    closure = closers.fit("balanced", bench.fit, bench.images, n_components=k, reduce=True)
    found = _sets.nearest_of(
        closure.apply_queries(bench.unseen), closure.apply_gallery(bench.images)
    )
    bench.add(group, "the strongest", OURS, size, found)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what work returns and the processor time that it took, in seconds."""
    start = time.process_time()
    done = work()
    return done, time.process_time() - start
