"""The report on the sample, number by number: the dictionary is compared, never the page."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import modgap
from modgap.report import summarize


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    sample = modgap.load_sample()
    return summarize(sample.task(), names=("image", "text"), classes=sample.classes)


def test_keys(found: dict[str, Any]) -> None:
    assert set(found) == {
        "schema", "modgap", "title", "model", "task", "remarks", "verdict", "due", "when_not", "advice",
        "closer", "problems", "templates", "skipped", "settings",
    }  # fmt: skip
    assert set(found["problems"][0]) == {
        "name", "sides", "queries", "items", "rank", "free_share", "gap", "bits", "clouds", "noises",
        "moves", "flips", "fragile", "certificate", "closers", "way",
    }  # fmt: skip


def test_task(found: dict[str, Any]) -> None:
    assert found["title"] == "Zero-shot classification"
    assert found["task"] == {
        "kind": "zero-shot", "queries": 1000, "gallery": 10, "dimension": 128, "rank": 9,
        "metric": "cosine", "problems": ["a photo of a {}."], "labels": True, "templates": 18,
        "sampled": False, "of": {"queries": 1000, "gallery": 10},
    }  # fmt: skip


def test_gap(found: dict[str, Any]) -> None:
    figures = {entry["name"]: entry["value"] for entry in found["problems"][0]["gap"]}
    # from the sample's card
    assert figures["centroid_gap"] == pytest.approx(0.4582, abs=5e-5)
    assert figures["centroid_cosine"] == pytest.approx(0.8490, abs=5e-5)
    assert figures["free_share"] == pytest.approx(0.9906, abs=5e-5)


def test_bits(found: dict[str, Any]) -> None:
    bits = found["problems"][0]["bits"]
    sample = modgap.load_sample()
    images, texts = sample.images.astype(float), sample.texts[0].astype(float)
    x, y = (rows / (rows**2).sum(axis=1, keepdims=True) ** 0.5 for rows in (texts, images))
    means = math.log2(1 / (1 - (x.mean(axis=0) ** 2).sum())) / 2  # rows of length 1
    assert bits["means"] == pytest.approx(means, rel=1e-6)
    c, s = np.cov(x.T, bias=True), y.T @ y / len(y)
    fidelity = np.sqrt(np.maximum(np.linalg.eigvals(c @ s).real, 0)).sum()
    assert bits["cost"] == pytest.approx(-math.log2(fidelity), rel=1e-5)
    assert 0 < bits["cost"] - bits["reached"] < 0.05
    assert bits["sentence"].startswith(f"The gap costs {bits['reached']:.2f} ± ")


def test_closers(found: dict[str, Any]) -> None:
    rows = {row["label"]: row for row in found["problems"][0]["closers"]}
    exact = {"none", "none:ip", "recenter", "orthogonal", "affine", "scaled", "balanced"}
    assert {name for name, row in rows.items() if row["exact"]} == exact
    loose = {name: (row["folds"], row["agreement"]) for name, row in rows.items() if row["folds"]}
    assert {name: folds for name, (folds, _) in loose.items()} == {
        "balanced": 5, "mean-shift": 5, "center": 5, "standardize": 5,
    }  # fmt: skip
    # two of 1,000 answers, for other processors' rounding
    for name, agreement in {"mean-shift": 0.965, "center": 0.948, "standardize": 0.960}.items():
        assert loose[name][1] == pytest.approx(agreement, abs=2.1e-3)
    # the integral's accuracy; what is compared by cosine is sampled
    kept = {
        name: rows[name]["noises"][0]["retention"] for name in ("none:ip", "orthogonal", "affine")
    }
    assert kept == pytest.approx(
        {"none:ip": 0.93865, "orthogonal": 0.93190, "affine": 0.96579}, abs=1e-4
    )
    assert rows["center"]["stored_spread"] == pytest.approx(1.9987, abs=5e-4)


def test_words(found: dict[str, Any]) -> None:
    label = found["advice"]["method"]
    assert found["closer"] == {
        "label": label, "recommended": True, "exact": True, "comparison": "euclidean",
        "recipe": found["closer"]["recipe"],
    }  # fmt: skip
    assert "served.queries(images)" in found["closer"]["recipe"]["code"]
    assert found["verdict"].startswith(f"Closing the gap with {label} keeps every answer")
    assert "By inner product, nothing closed: 0.932" in found["due"]
    queries, items, others = found["when_not"]
    assert "noise on the queries" in queries
    assert "up to 12.9% of the answers" in items
    assert "center 5.2%" in others
