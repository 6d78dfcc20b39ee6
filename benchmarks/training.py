"""Training without the gap: models whose loss counts the bits, beside models closed afterwards.

Dual encoders learn the captions of CIFAR-10 with and without the bits in their loss, seed by seed from the
same start on the same batches. Every picture is shown as its caption says, blurred or grey or small. Then
test pictures, unchanged, are stored in codes and searched with captions; and captions are stored in codes,
and the test pictures classified by the nearest of them. Closers are fitted to queries that do not search:
the other half of the captions, both ways, and pictures of the training set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _sets
import numpy as np
from _harness import HERE, row

import modgap
from modgap import closers

WEIGHTS = (0.0, 0.1, 1.0)
SEEDS = (0, 1, 2)
SETTING = {"steps": 400, "batch": 256, "dim": 64, "width": 8}
TINY = {"steps": 2, "batch": 32, "dim": 16, "width": 2}
MAPS = ("none", "recenter", "balanced")
CODES = {bits: (*_sets.FULL_RANGES[bits], *_sets.CLIPPED[bits]) for bits in _sets.CLIPPED}
SHORT = "a quarter of the dimensions"
#: Names a folder in which trained models' rows are kept, so that judging anew trains nothing.
KEEP = "MODGAP_TRAINING_ROWS"


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    weights, seeds = WEIGHTS, SEEDS[:1] if quick else SEEDS
    setting = TINY if quick else SETTING
    lesson = _Lesson(quick=quick)
    found = {str(w): [judge(lesson.rows(w, seed, setting)) for seed in seeds] for w in weights}
    plain = found["0.0"]
    return {
        "setting": {
            **setting,
            "weights": weights,
            "seeds": seeds,
            "cells": "the best form of code, for every model and map alike",
            "stderr": "over seeds; of differences seed by seed, from the same start and batches",
        },
        "rows": [
            row(
                f"recall@10 at {column}: weight {w}, nothing closed, less plain and balanced after",
                _mean([t["none"][column]["recall"] - p["balanced"][column]["recall"]
                       for t, p in zip(found[str(w)], plain, strict=True)])[0],
                ">= 0",
            )
            for w in weights[1:]
            for column in CODES
        ],
        "details": {"by_seed": found, "means": {w: _means(seeds) for w, seeds in found.items()}},
    }  # fmt: skip


class _Lesson:
    """The pictures and captions, and what models trained on them make of both."""

    def __init__(self, *, quick: bool) -> None:
        for folder in ("examples", "training"):
            sys.path.append(str(HERE.parent / folder))
        import dual_encoder
        import torch
        import train_dual_encoder as example

        self.example, self.effects, self.torch = example, dual_encoder, torch
        self.quick = quick
        if quick:
            rng = np.random.default_rng(0)
            self.captions = dual_encoder.Captions(
                ("cat", "dog"),
                tuple(f"{word} photo of {{}}" for word in ("a blurry", "a bad", "a")),
            )
            labels = np.arange(60) % 2
            pixels = torch.from_numpy(rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8))
            self.train = self.test = example.Pairs(pixels, self._texts(labels))
            self.labels = labels
            return
        folder = dual_encoder.data_folder()
        self.captions = dual_encoder.load_captions(folder)
        prompts = str(folder / "prompts.json")
        self.train, self.test = (
            example.read_pairs(str(folder / f"{split}.parquet"), prompts, 32)
            for split in ("train", "test")
        )
        first = {
            name: i for i, name in enumerate(self.captions.texts()[: len(self.captions.classes)])
        }
        self.labels = np.array([first[texts[0]] for texts in self.test.texts])

    def _texts(self, labels: np.ndarray) -> list[list[str]]:
        classes, templates = self.captions.classes, self.captions.templates
        return [[t.format(classes[label]) for t in templates] for label in labels]

    def rows(self, weight: float, seed: int, setting: dict[str, int]) -> dict[str, np.ndarray]:
        """Return unit rows of test pictures, some training pictures and captions, and the classes."""
        kept = None
        if os.environ.get(KEEP) and not self.quick:
            kept = Path(os.environ[KEEP]) / f"{weight}-{seed}-{setting['steps']}.npz"
            if kept.exists():
                return dict(np.load(kept))
        numbers = {
            text: i // len(self.captions.classes) for i, text in enumerate(self.captions.texts())
        }

        def view(pixels: Any, texts: list[str]) -> Any:
            templates = self.torch.tensor([numbers[text] for text in texts])
            return self.effects.shown_as(pixels, templates, self.captions)

        settings = self.example.Settings(balance=weight, seed=seed, **setting)
        model = self.example.train(self.train, settings, view=view, every=0 if self.quick else 200)
        found = self._embedded(model)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, **found)
        return found

    def _embedded(self, model: Any) -> dict[str, np.ndarray]:
        def of(pixels: Any) -> np.ndarray:
            parts = [model.embed_images(p.permute(0, 3, 1, 2) / 255) for p in pixels.split(500)]
            return np.asarray(self.torch.cat(parts).numpy())

        with self.torch.inference_mode():
            return {
                "images": of(self.test.pixels),
                "seen": of(self.train.pixels[:5000]),
                "texts": model.embed_texts(model.tokens(self.captions.texts())).numpy(),
                "labels": self.labels,
                "classes": np.arange(len(self.captions.texts())) % len(self.captions.classes),
            }


def judge(rows: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what one model's rows find, bare and closed, and the gap that is left."""
    images, texts = rows["images"], rows["texts"]
    first, second = _sets.halves(np.arange(len(texts)))
    searched = [
        _search(images, texts, rows["labels"], rows["classes"], *both)
        for both in ((first, second), (second, first))
    ]
    named = _classify(images, rows["seen"], texts, rows["labels"], rows["classes"])
    found: dict[str, Any] = {
        label: {
            column: {
                **{name: (searched[0][label][column][name] + searched[1][label][column][name]) / 2
                   for name in ("recall", "precision")},
                "accuracy": named[label][column],
            }
            for column in named[label]
        }
        for label in MAPS
    }  # fmt: skip
    ours, theirs = modgap.gap_in_bits(texts, images), modgap.gap_in_bits(images, texts)
    found["gap"] = {
        "centroids": float(np.linalg.norm(images.mean(0) - texts.mean(0))),
        **{
            f"search_{name}": getattr(ours, name) for name in ("cost", "means", "shapes", "reached")
        },
        **{
            f"naming_{name}": getattr(theirs, name)
            for name in ("cost", "means", "shapes", "reached")
        },
    }
    return found


def _search(
    images: np.ndarray, texts: np.ndarray, labels: np.ndarray, classes: np.ndarray,
    fit: np.ndarray, ask: np.ndarray,
) -> dict[str, dict[str, dict[str, float]]]:  # fmt: skip
    """Return recall@10 of the model's own exact ten nearest, and the share of ten that are of the class."""
    truth = _sets.truth_of(texts[ask], images)
    right = labels == classes[ask][:, None]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for label, column, scores in _scores(texts[fit], texts[ask], images):
        top = np.argpartition(-scores, _sets.DEPTH - 1, axis=1)[:, : _sets.DEPTH]
        cell = found.setdefault(label, {}).setdefault(column, {"recall": 0.0, "precision": 0.0})
        precision = float(np.take_along_axis(right, top, axis=1).mean())
        cell["recall"] = max(cell["recall"], float(_sets.share_found(truth, top).mean()))
        cell["precision"] = max(cell["precision"], precision)
    return found


def _classify(
    images: np.ndarray, seen: np.ndarray, texts: np.ndarray, labels: np.ndarray, classes: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return the share of pictures whose nearest caption, of all, names their class."""
    found: dict[str, dict[str, float]] = {}
    for label, column, scores in _scores(seen, images, texts):
        share = float((classes[scores.argmax(axis=1)] == labels).mean())
        found.setdefault(label, {})[column] = max(share, found.get(label, {}).get(column, 0.0))
    return found


def _scores(
    fit: np.ndarray, ask: np.ndarray, items: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield map, column and scores (m, n) of every form of every code."""
    for label in MAPS:
        closure = closers.fit(label, fit, items)
        queries, stored = closure.apply_queries(ask), closure.apply_gallery(items)
        yield label, "float", queries @ stored.T
        for column, words in CODES.items():
            for _, scores in _sets.scores_under(words, queries, stored):
                yield label, column, scores
    k = items.shape[1] // 4
    _, axes = np.linalg.eigh(items.T.astype(np.float64) @ items)
    axes = axes[:, ::-1][:, :k].astype(np.float32)
    yield "none", SHORT, (ask @ axes) @ (items @ axes).T
    for label, method in (("recenter", "affine"), ("balanced", "balanced")):
        closure = closers.fit(method, fit, items, n_components=k, reduce=True)
        yield label, SHORT, closure.apply_queries(ask) @ closure.apply_gallery(items).T


def _means(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and standard error over the seeds of every figure, nested as they are."""
    if isinstance(found[0], dict):
        return {name: _means([one[name] for one in found]) for name in found[0]}
    mean, error = _mean(found)
    return {"mean": mean, "stderr": error}


def _mean(values: list[float]) -> tuple[float, float]:
    """Return a mean and its standard error, 0 of a single value."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(np.mean(values)), float(error)
