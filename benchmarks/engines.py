"""Engines inside the process on real rows: what each codec finds by map, and for which work."""

from __future__ import annotations

from typing import Any

from _engines import Case, document

CODECS = ("SQ8", "SQ6", "SQ4", "PQ64", "RaBitQ", "1bit", "HNSW16", "HNSW16,SQ8", "IVF", "IVF,SQ8")
ALL: dict[str, Any] = {
    "engines": ["faiss", "usearch", "hnswlib"],
    "codecs": [f"faiss:{codec}" for codec in ("fp16", *CODECS)],
    "sample": 400,
}
QUICK = {"codecs": ["faiss:SQ4", "faiss:HNSW16", "usearch:b1"], "maps": ["none", "balanced"]}


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    case = Case(quick=quick)
    return document(case, [case.study(**(QUICK if quick else ALL))])
