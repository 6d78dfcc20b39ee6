"""The report on the sample, number by number: the dictionary is compared, never the page."""

from __future__ import annotations

from typing import Any

import pytest

import modgap
from modgap.report import summarize


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    sample = modgap.load_sample()
    return summarize(sample.task(), title="sample", classes=sample.classes)


def test_keys(found: dict[str, Any]) -> None:
    assert set(found) == {
        "title", "headline", "task", "problems", "templates", "skipped", "advice", "settings",
    }  # fmt: skip
    assert set(found["problems"][0]) == {
        "name", "queries", "items", "rank", "gap", "clouds", "closers", "query_noise", "sweep",
        "fragile",
    }  # fmt: skip


def test_task(found: dict[str, Any]) -> None:
    assert found["task"] == {
        "kind": "zero-shot", "queries": 1000, "gallery": 10, "dimension": 128, "rank": 9,
        "metric": "euclidean", "problems": ["a photo of a {}."], "labels": True, "templates": 18,
    }  # fmt: skip


def test_gap(found: dict[str, Any]) -> None:
    figures = {entry["name"]: entry["value"] for entry in found["problems"][0]["gap"]}
    # from the sample's card
    assert figures["centroid_gap"] == pytest.approx(0.4582, abs=5e-5)
    assert figures["centroid_cosine"] == pytest.approx(0.8490, abs=5e-5)
    assert figures["free_share"] == pytest.approx(0.9906, abs=5e-5)


def test_closers(found: dict[str, Any]) -> None:
    rows = {row["method"]: row for row in found["problems"][0]["closers"]}
    exact = {name: row["exact"] for name, row in rows.items()}
    assert exact == {
        "none": True, "recenter": True, "orthogonal": True, "affine": True, "scaled": True,
        "mean-shift": False, "center": False,
    }  # fmt: skip
    assert {name: row["agreement"] for name, row in rows.items()} == pytest.approx(
        {
            "none": 1,
            "recenter": 1,
            "orthogonal": 1,
            "affine": 1,
            "scaled": 1,
            "mean-shift": 0.966,
            "center": 0.948,
        },
        abs=2.1e-3,  # two of 1,000 answers, for other processors' rounding
    )
    # the integral's accuracy
    stability = {name: row["noises"][0]["stability"] for name, row in rows.items()}
    assert stability["none"] == pytest.approx(0.95383, abs=1e-4)
    assert stability["orthogonal"] == pytest.approx(0.96377, abs=1e-4)
    assert stability["affine"] == pytest.approx(0.96903, abs=1e-4)


def test_headline(found: dict[str, Any]) -> None:
    gap, exact, approximate, helpless = found["headline"]
    assert "0.458" in gap
    assert "99.1%" in gap
    assert "from 0.954 to 0.970 under Gaussian noise of 0.022" in exact
    assert "mean-shift changes 3" in approximate
    assert "cannot help" in helpless
    assert "up to 12.9% of the answers" in helpless


def test_advice(found: dict[str, Any]) -> None:
    assert found["advice"]["method"] == "affine"
    assert found["advice"]["command"].startswith("modgap close ")
