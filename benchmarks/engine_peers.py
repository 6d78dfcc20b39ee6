"""LeanVec as scalable-vs fits it, and plain OPQ, beside `balanced` in the same run."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from _engines import Case, document
from _svs import Svs, leanvec

from modgap import closers

KEPT = 128


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    """Study LeanVec's matrices, our strongest coordinates (as many), and all, on one graph and in codes."""
    case = Case(quick=quick)
    kept = 8 if quick else KEPT
    ours = closers.fit("balanced", case.known, case.images, reduce=True, n_components=kept)
    maps: list[Any] = ["none", replace(ours, method=f"balanced {kept}"), "balanced"]
    engines: list[Any] = []
    if find_spec("svs"):
        maps.insert(1, leanvec(case.known, case.images, kept))
        engines = [Svs()]
    codecs = ["faiss:SQ8"] if quick else ["faiss:flat", "faiss:SQ8", "faiss:SQ4"]
    found = [case.study(engines=engines, codecs=codecs, maps=maps, sample=400)]
    if not quick:  # the rotations take minutes to learn
        codecs = ["faiss:PQ32", "faiss:OPQ32,PQ32", "faiss:PQ64", "faiss:OPQ64,PQ64"]
        found.append(case.study(codecs=codecs, maps=["none", "balanced"], sample=400))
    return document(case, found)
