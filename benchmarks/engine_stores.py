"""Vector stores on real rows, inside the process or on a private server: what each codec finds by map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from _engines import Case, document, say

from modgap import closers, index
from modgap.index import CodecRow, IndexStudy, Served
from modgap.index.records import Effort

QUICK = ["qdrant-binary", "qdrant-scalar"]
#: Beside what each engine tries unasked: two bits a dimension, which Qdrant offers for few dimensions.
CODECS = [
    *(f"lancedb:{code}" for code in ("IVF_PQ", "IVF_SQ", "IVF_RQ", "HNSW_SQ")),
    *(f"qdrant:{code}" for code in ("scalar", "binary", "binary:2", "product", "turbo:1", "turbo:4",
                                    "HNSW,float", "HNSW,binary")),
    *(f"pgvector:{code}" for code in ("halfvec", "bit", "HNSW,vector", "HNSW,halfvec", "HNSW,bit",
                                      "IVF,vector")),
]  # fmt: skip
#: Photos that are held out to ask in their own kind.
REFERENCE = 60


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    case = Case(quick=quick)
    return document(case, [crossed(case, QUICK if quick else CODECS)])


def crossed(case: Case, codecs: list[str]) -> IndexStudy:
    """Return a study that every text judges: `balanced` is fitted to each half, and the other one asks it.

    Nothing closed and `recenter`, which look at no query, are searched with all texts at once.
    """
    texts = np.concatenate([case.known, case.unseen])
    fits = [closers.fit("balanced", half, case.images) for half in (case.known, case.unseen)]
    kept = [
        Served(fit).with_lengths(half, case.images)
        for fit, half in zip(fits, (case.known, case.unseen), strict=True)
    ]
    study = index.study(
        texts, case.images, codecs=codecs, maps=["none", "recenter", *fits, *kept],
        sample=len(texts), reference=REFERENCE, on_row=say,
    )  # fmt: skip
    first = np.arange(len(texts)) < len(case.known)
    maps = ("none", "recenter", "balanced", "balanced+lengths")
    setting = {
        **study.setting,
        "maps": list(maps),
        "fit": "each half judges what the other one fits",
    }
    return IndexStudy(tuple(_merged(study, maps, first)), setting)


def _merged(study: IndexStudy, maps: Iterable[str], first: np.ndarray) -> Iterable[CodecRow]:
    """Yield a row a codec and map, of two fits the figures of those texts that each has not seen."""
    rows = {(row.label, row.map): row for row in study}
    for label in dict.fromkeys(row.label for row in study):
        for name in maps:
            mine, other = rows.get((label, name)), rows.get((label, f"{name} #2"))
            if mine is not None:
                yield (
                    mine
                    if other is None or mine.failed or other.failed
                    else _of_unseen(mine, other, first)
                )


def _of_unseen(mine: CodecRow, other: CodecRow, first: np.ndarray) -> CodecRow:
    """Return one row: `mine` was fitted to the `first` texts, so that `other` is asked those."""
    found = {
        factor: {k: np.where(first, other.found[factor][k], each) for k, each in shares.items()}
        for factor, shares in mine.found.items()
    }
    return replace(mine, found=found, sweep=tuple(map(_effort_of(first), mine.sweep, other.sweep)))


def _effort_of(first: np.ndarray) -> Any:
    def merged(mine: Effort, other: Effort) -> Effort:
        counts = (mine.computations, other.computations)
        mean = None if None in counts else float(np.mean(counts))
        shares = np.where(first, other.shares, mine.shares)
        return Effort(mine.effort, shares, (mine.seconds + other.seconds) / 2, mean)

    return merged
