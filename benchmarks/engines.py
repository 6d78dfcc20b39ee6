"""Real engines on real rows: what each codec finds as it is, recentred and balanced, and for which work.

Half of the texts fit the maps, the other half search; rows of the gallery held out of it search too.
LeanVec as scalable-vs fits it, and plain OPQ, stand beside `balanced` in the same run.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from _harness import row
from _sets import halves, sets
from _svs import Svs, leanvec

from modgap import closers, index

#: Engines and codecs, the maps that they are tried under, and most queries: stores ask one by one.
PARTS: dict[str, dict[str, Any]] = {
    "faiss": {
        "engines": ("faiss",),
        "codecs": ("faiss:HNSW16,SQ8", "faiss:IVF", *(f"faiss:{c}" for c in (
            "fp16", "SQ8", "SQ6", "SQ4", "PQ64", "RaBitQ", "1bit", "HNSW16", "IVF,SQ8"))),
        "maps": ("none", "recenter", "balanced", "balanced+lengths"),
    },
    "usearch": {
        "engines": ("usearch", "hnswlib"),
        "maps": ("none", "recenter", "balanced", "balanced+lengths"),
    },
    "lancedb": {"engines": ("lancedb",), "maps": ("none", "balanced"), "sample": 200},
    "qdrant": {"engines": ("qdrant",), "maps": ("none", "balanced", "balanced+lengths"), "sample": 200},
    "pgvector": {"engines": ("pgvector",), "maps": ("none", "balanced", "balanced+lengths"), "sample": 200},
}  # fmt: skip
QUICK = {"codecs": ("faiss:SQ4", "faiss:HNSW16", "usearch:b1"), "maps": ("none", "balanced")}
KEPT = 128


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    name, (images, texts) = next(iter(sets(quick=quick).items()))
    known, unseen = halves(texts)
    parts = {"quick": QUICK} if quick else PARTS
    found = {part: _study(known, unseen, images, **options) for part, options in parts.items()}
    found["peers"] = _peers(known, unseen, images, quick=quick)
    rows = [line for study in found.values() for line in _rows(study)]
    return {
        "setting": {
            "set": name,
            "gallery": len(images),
            "fit": len(known),
            "parts": {part: study.setting for part, study in found.items()},
        },
        "rows": rows,
        "details": {
            "text": {part: list(study.text) for part, study in found.items()},
            "rows": [each.to_dict() for study in found.values() for each in study],
        },
    }


def _study(
    known: np.ndarray,
    unseen: np.ndarray,
    images: np.ndarray,
    *,
    maps: tuple[str, ...],
    **options: Any,
) -> index.IndexStudy:
    return index.study(unseen, images, fit_queries=known, maps=maps, on_row=_say, **options)


def _peers(
    known: np.ndarray, unseen: np.ndarray, images: np.ndarray, *, quick: bool
) -> index.IndexStudy:
    """Return LeanVec's matrices and our strongest coordinates, as many, and all of them, on one graph."""
    kept = 8 if quick else KEPT
    ours = closers.fit("balanced", known, images, reduce=True, n_components=kept)
    maps: list[Any] = ["none", replace(ours, method=f"balanced {kept}"), "balanced"]
    engines: list[Any] = []
    if find_spec("svs"):
        maps.insert(1, leanvec(known, images, kept))
        engines = [Svs()]
    codecs = ["faiss:flat", "faiss:SQ8", *([] if quick else ["faiss:OPQ64,PQ64"])]
    return index.study(
        unseen, images, fit_queries=known, engines=engines, codecs=codecs, maps=maps, on_row=_say
    )


def _rows(study: index.IndexStudy) -> list[dict[str, Any]]:
    """Return for each codec what `balanced` gains: never less, at the same bytes, is the bar."""
    lines = []
    bare = {one.label: one for one in study.done if one.map == "none"}
    for one in study.done:
        if one.map in ("balanced", "balanced+lengths") and one.label in bare:
            gain = one.found["1"]["10"] - bare[one.label].found["1"]["10"]
            lines.append(
                row(f"{one.label}: recall@10 of `{one.map}` over nothing closed", float(gain.mean()),
                    ">= 0", unit="", stderr=float(gain.std(ddof=1) / np.sqrt(len(gain))))
            )  # fmt: skip
    return lines


def _say(one: index.CodecRow) -> None:
    import sys

    print(f"  {one.label} {one.map} {one.failed or one.recall}", file=sys.stderr, flush=True)
