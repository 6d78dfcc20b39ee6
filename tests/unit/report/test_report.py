"""The report: what the dictionary holds for every kind of task, and that the page is whole."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modgap
from modgap._core.extras import require as real_require
from modgap.errors import ArgumentError, FormatError, MissingExtraError
from modgap.report import charts, summarize, write_report
from modgap.robustness.noise import Bins, Gaussian, parse

SMALL: dict[str, Any] = {"alphas": (0, 1), "draws": 4, "noises": (Gaussian(0.05), Bins(16))}


def clouds(m: int = 40, n: int = 6, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(m, d)) + 1, rng.normal(size=(n, d))


def tasks() -> dict[str, modgap.evaluation.tasks.Task]:
    y, x = clouds()
    pairs = clouds(20, 20)
    labels = np.arange(40) % 6
    own = np.random.default_rng(4).normal(size=(40, 4, 12))
    several = np.stack([x, x + 0.3 * clouds(6, 6)[0]])
    return {
        "zero-shot": modgap.ZeroShot(y, x, labels),
        "no labels": modgap.ZeroShot(y, x),
        "templates": modgap.ZeroShot(y, several, labels),
        "one template": modgap.ZeroShot(y, several, labels, template=1, templates=["p", "q"]),
        "ip": modgap.ZeroShot(y, x, labels, metric="ip"),
        "cosine": modgap.ZeroShot(y, x, labels, metric="cosine"),
        "pairs": modgap.PairedRetrieval(*pairs, names=("image", "text")),
        "captions": modgap.PairedRetrieval(x, y, owners=labels),
        "choice": modgap.MultipleChoice(y, own, np.zeros(40, dtype=int)),
        "choice, no answers": modgap.MultipleChoice(y, own),
        "mixed": modgap.MixedRetrieval(y, x, y[:5] + 0.1, labels),
        "mixed, no partners": modgap.MixedRetrieval(y, x, y[:5] + 0.1),
        "one item": modgap.ZeroShot(y, x[:1]),
        "one query": modgap.ZeroShot(y[:1], x),
        "full rank": modgap.ZeroShot(*clouds(n=40)),
        "one dimension": modgap.ZeroShot(y[:, :1], x[:, :1]),
        "equal rows": modgap.ZeroShot(y, np.repeat(x[:1], 3, axis=0)),
        "no gap": modgap.ZeroShot(x, x.copy()),
        "a row of zeros": modgap.ZeroShot(np.vstack([y, np.zeros((1, 12))]), x),
    }


KINDS = tuple(tasks())


@pytest.fixture(scope="module")
def sample_summary() -> dict[str, Any]:
    sample = modgap.load_sample()
    return summarize(sample.task(), title="A <b>title</b>", classes=sample.classes, alphas=(0, 1))


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for item in value.values() for n in numbers(item)]
    if isinstance(value, list):
        return [n for item in value for n in numbers(item)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_gives_plain_json(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = summarize(tasks()[kind], title=kind, **SMALL)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert 2 <= len(found["headline"]) <= 4
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in found["headline"])
    assert len(found["problems"]) == (2 if kind in ("pairs", "captions") else 1)
    assert np.isfinite(numbers(found)).all()


@pytest.mark.parametrize(
    "kind", ["no labels", "templates", "captions", "choice", "mixed", "one item"]
)
def test_every_kind_of_task_gives_a_page(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    page = write_report(summarize(tasks()[kind], title=kind, **SMALL), tmp_path / "r.html")
    text = page.read_text(encoding="utf-8")
    assert "</html>" in text
    assert not re.search(r"\bnan\b|\bNone\b|\bUndefined\b", re.sub(r"<pre.*?</pre>", "", text))


def test_the_same_seed_gives_the_same_report() -> None:
    task = tasks()["templates"]
    first, second = (summarize(task, title="t", **SMALL) for _ in range(2))
    assert first == second


def test_sections_agree_with_each_other(sample_summary: dict[str, Any]) -> None:
    problem = sample_summary["problems"][0]
    rows = {row["method"]: row for row in problem["closers"]}
    for j, line in enumerate(problem["sweep"]["lines"]):
        assert line["stability"][0] == pytest.approx(
            rows["none"]["noises"][j]["stability"], abs=1e-5
        )
        moved = rows["orthogonal"]["noises"][j]["stability"]
        assert line["stability"][1] == pytest.approx(moved, abs=1e-9)
        assert line["affine"] == rows["affine"]["noises"][j]["stability"]


def test_noise_on_queries_is_no_matter_of_the_gap(sample_summary: dict[str, Any]) -> None:
    rows = sample_summary["problems"][0]["query_noise"]
    exact = [row["stability"] for row in rows if row["exact"]]
    assert len(exact) >= 4
    # the same draws, so only ties up to rounding may differ
    assert max(exact) - min(exact) <= 1e-3


def test_closing_brings_the_clouds_together(sample_summary: dict[str, Any]) -> None:
    clouds = sample_summary["problems"][0]["clouds"]
    away = [np.mean(clouds[key]["queries"], axis=0)[0] for key in ("before", "after")]
    assert away[0] > 0.4
    assert abs(away[1]) < 0.05
    assert clouds["shown"] == {"queries": 600, "gallery": 10}


def test_both_panels_say_which_cloud_is_which(sample_summary: dict[str, Any]) -> None:
    pytest.importorskip("vl_convert", reason="the report extra is not installed")
    panels = charts.cloud_panels(sample_summary["problems"][0]["clouds"])
    assert len(panels) == 2
    for panel in panels:
        assert {"queries", "gallery"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", panel["svg"]))


def test_fragile_queries_are_named_and_certified(sample_summary: dict[str, Any]) -> None:
    rows = sample_summary["problems"][0]["fragile"]
    classes = set(modgap.load_sample().classes)
    assert len(rows) == 10
    assert [row["stability"] for row in rows] == sorted(row["stability"] for row in rows)
    for row in rows:
        assert {row["answer"], row["runner_up"], *row["right_answers"]} <= classes
        assert row["answer"] != row["runner_up"]
        assert 0 <= row["radius"] < 0.05


def test_templates_hold_for_one_and_for_all() -> None:
    sample = modgap.load_sample()
    one, every = (
        summarize(sample.task(template=t), title="t", alphas=(1,))["templates"] for t in (0, None)
    )
    assert one == every
    flips = {row["template"]: row["flips"] for row in one["rows"]}
    assert flips["a photo of a {}."] == 0
    assert flips["a blurry photo of a {}."] == pytest.approx(0.128, abs=1e-9)


def test_a_closer_that_cannot_be_fitted_is_listed() -> None:
    found = summarize(tasks()["zero-shot"], title="t", methods=("affine", "procrustes"), **SMALL)
    assert [entry["method"] for entry in found["skipped"]] == ["procrustes"]
    assert [row["method"] for row in found["problems"][0]["closers"]] == ["none", "affine"]


def test_classes_must_fit() -> None:
    with pytest.raises(
        ArgumentError, match="`classes` must name each of the 6 gallery items; got 2"
    ):
        summarize(tasks()["zero-shot"], title="t", classes=["a", "b"])


def test_without_noises_agreement_remains() -> None:
    found = summarize(tasks()["zero-shot"], title="t", noises=())
    assert found["problems"][0]["fragile"] == []
    assert "keeps 100%" in " ".join(found["headline"])


def test_progress_is_called_with_ones() -> None:
    calls: list[int] = []
    summarize(tasks()["cosine"], title="t", progress=calls.append, **SMALL)
    assert calls
    assert set(calls) == {1}


def test_settings_reproduce_the_noises() -> None:
    noises = (Gaussian(0.05, side="queries"), Bins(16, side="both"), Bins(8, range="dimension"))
    found = summarize(tasks()["zero-shot"], title="t", noises=noises, draws=3)
    assert tuple(parse(name) for name in found["settings"]["noises"]) == noises


def test_the_page_escapes_what_users_name(sample_summary: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    text = write_report(sample_summary, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "A &lt;b&gt;title&lt;/b&gt;" in text
    assert "<b>title" not in text
    assert "<script" not in text
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_without_the_extra_the_page_names_the_command(
    sample_summary: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(module: str, extra: str) -> Any:
        if module == "vl_convert":
            return real_require("vl_convert_that_is_absent", extra)
        return real_require(module, extra)

    monkeypatch.setattr("modgap.report.render.require", absent)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "modgap[report]"')):
        write_report(sample_summary, tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_a_format_error(sample_summary: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    with pytest.raises(FormatError, match="cannot write"):
        write_report(sample_summary, tmp_path / "absent" / "r.html")
