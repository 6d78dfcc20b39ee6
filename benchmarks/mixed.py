"""Mixed collections: what merged lists find, by closer and by the way that calibrate chooses its scales.

Figures are of queries that no closer was fitted to. COCO: half of one side searches all of the other and
the rest of its own, its partner answers; five halves. Caltech-101 and the sample: items of a query's class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from _harness import clouds, row
from _sets import load, stored

from modgap import MixedRetrieval, evaluate, load_sample

CLOSERS = ("none", "center", "standardize", "calibrate:means", "calibrate", "calibrate:top",
           "calibrate:quantile", "calibrate:share")  # fmt: skip
#: Needs answers in every modality, which COCO's queries do not have.
PAIRS = "calibrate:pairs"
HALVES = 5


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, task in _made_up() if quick else _real():
        closers = CLOSERS if name.startswith(("COCO", "made-up")) else (*CLOSERS, PAIRS)
        for each in evaluate(task, closers, noises=[]):
            record = {key: each.to_dict()[key] for key in ("recall", "ndcg", "shares", "lists")}
            found.setdefault(name, {}).setdefault(each.label, []).append(record)
    rows = [
        row(f"NDCG of the first ten, calibrate over center: {name}", _ndcg(closers["calibrate"])
            - _ndcg(closers["center"]), ">= 0", unit="",
            **{label: _ndcg(closers[label]) for label in ("none", "center", "calibrate")})
        for name, closers in found.items()
    ]  # fmt: skip
    means = {
        name: {label: _ndcg(r) for label, r in closers.items()} for name, closers in found.items()
    }
    return {
        "setting": {"closers": CLOSERS, "halves": HALVES, "folds": 5},
        "rows": rows,
        "details": {"ndcg": means, "sets": found},
    }


def _ndcg(records: list[dict[str, Any]]) -> float:
    return float(np.mean([record["ndcg"]["10"] for record in records]))


def _made_up() -> Iterator[tuple[str, MixedRetrieval]]:
    texts, images, _ = clouds(40, 40, 16)
    yield "made-up clouds", _paired(texts, images, seed=0)


def _real() -> Iterator[tuple[str, MixedRetrieval]]:
    images, texts = (load("coco_clip_vitb16", side) for side in ("images", "texts"))
    for seed in range(HALVES):
        yield "COCO, texts ask", _paired(texts, images, seed)
        yield "COCO, images ask", _paired(images, texts, seed)
    parts = ("images", "texts", "labels")
    images, texts, labels = (stored("caltech101_clip_vitb32", part) for part in parts)
    order = np.random.default_rng(0).permutation(len(images))
    yield from _labelled("Caltech-101", images[order], labels[order], texts)
    sample = load_sample()
    yield from _labelled("sample", sample.images, sample.labels, sample.texts)


def _paired(asked: np.ndarray, other: np.ndarray, seed: int) -> MixedRetrieval:
    """Let half of one side search the whole other side and the rest of its own."""
    order = np.random.default_rng(seed).permutation(len(asked))
    rows, rest = order[: len(asked) // 2], order[len(asked) // 2 :]
    kinds = ["other"] * len(other) + ["own"] * len(rest)
    return MixedRetrieval(asked[rows], np.concatenate([other, asked[rest]]), kinds, rows)


def _labelled(
    name: str, images: np.ndarray, labels: np.ndarray, texts: np.ndarray
) -> Iterator[tuple[str, MixedRetrieval]]:
    """Let the first 300 images, or the class texts of the first template, search all else."""
    templates, classes, width = texts.shape
    items = np.concatenate([images[300:], texts[1:].reshape(-1, width)])
    given = np.concatenate([labels[300:], np.tile(np.arange(classes), templates - 1)])
    kinds = ["image"] * (len(images) - 300) + ["text"] * (classes * (templates - 1))
    yield (
        f"{name}, texts ask",
        MixedRetrieval(texts[0], items, kinds, labels=(np.arange(classes), given)),
    )
    yield (
        f"{name}, images ask",
        MixedRetrieval(images[:300], items, kinds, labels=(labels[:300], given)),
    )
