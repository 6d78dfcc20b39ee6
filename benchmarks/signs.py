"""Codes of signs in stores that drop lengths: what `balanced` finds in them, without lengths and with.

Half of the queries fit the map and the lengths, the other half search; five halves. Queries are signs
too (Hamming distance: pgvector's bit, Qdrant's binary, b1), or numbers (Qdrant's binary with queries in
eight bits).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _harness import row
from _sets import DEPTH, halves, load, others, sets

import modgap
from modgap.index import LengthBits, Served

HALVES = 5
FORMS = ("none", "balanced", "with lengths as signs", "with lengths in floats")
SIDES = ("both sides signs", "queries in numbers")


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    every = {**sets(quick=quick), **({} if quick else others())}
    found = {name: _of_halves(images, texts) for name, (images, texts) in every.items()}
    wrong = {} if quick else _other_queries()
    gain = FORMS[2]
    rows = [
        row(f"recall@10 of codes of signs, {gain} over `none`: {name}, {side}",
            each[side][gain]["recall"] - each[side]["none"]["recall"], ">= 0", unit="")
        for name, each in found.items() for side in SIDES
    ]  # fmt: skip
    return {
        "setting": {"halves": HALVES, "depth": DEPTH, "bits of length": 32},
        "rows": rows,
        "details": {"sets": found, "wrong": wrong},
    }


def _of_halves(images: np.ndarray, texts: np.ndarray) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean recall, and its standard deviation over halves, by what queries are and by form."""
    all_halves = [_recalls(images, *halves(texts, seed)) for seed in range(HALVES)]
    return {
        side: {
            form: {
                "recall": float(np.mean([one[side][form] for one in all_halves])),
                "spread": float(np.std([one[side][form] for one in all_halves], ddof=1)),
            }
            for form in FORMS
        }
        for side in SIDES
    }


def _recalls(
    images: np.ndarray, known: np.ndarray, unseen: np.ndarray, **options: Any
) -> dict[str, dict[str, float]]:
    truth = modgap.nearest(unseen, images, k=DEPTH, metric="ip").indices
    served = Served(modgap.fit("balanced", known, images, **options))
    asked, stored = served.queries(unseen), served.gallery(images)
    lengths = LengthBits.of(served.queries(known), stored)
    longer = lengths.queries(asked), lengths.gallery(stored)
    norms = np.linalg.norm(stored, axis=1)
    found: dict[str, dict[str, float]] = {}
    for side, form in zip(SIDES, (_signs, np.asarray), strict=True):
        plain = form(asked) @ _signs(stored).T
        scores = (form(unseen) @ _signs(images).T, plain, form(longer[0]) @ _signs(longer[1]).T,
                  plain * norms)  # fmt: skip
        found[side] = {name: _recall(each, truth) for name, each in zip(FORMS, scores, strict=True)}
    return found


def _other_queries() -> dict[str, Any]:
    """Return what maps find that are fitted to the wrong queries: other classes; images."""
    sample = modgap.load_sample()
    texts = sample.texts.reshape(-1, sample.texts.shape[-1])
    photos, names = (load("photos_clip_vitb32", side) for side in ("images", "texts"))
    return {
        "the sample, fitted to five classes, searched with the others": {
            str(shrinkage): _recalls(sample.images, texts[::2], texts[1::2], shrinkage=shrinkage)
            for shrinkage in (None, 0.6)
        },
        "15,692 photos, fitted to photos, searched with texts": {
            str(shrinkage): _recalls(photos, photos[::30], names[1::2], shrinkage=shrinkage)
            for shrinkage in (None, 0.6)
        },
    }


def _signs(rows: np.ndarray) -> np.ndarray:
    return np.where(rows > 0, 1, -1).astype(np.float32)


def _recall(scores: np.ndarray, truth: np.ndarray) -> float:
    found = np.argsort(-scores, axis=1, kind="stable")[:, : truth.shape[1]]
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]))
