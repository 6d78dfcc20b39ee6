"""The report: what the dictionary holds for every kind of task, and that the page is whole."""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import importlib
import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modgap
from modgap._core.extras import require as real_require
from modgap._core.json import SCHEMA
from modgap.charts.bits import codes_chart
from modgap.decisions import certified_radius
from modgap.errors import ArgumentError, FormatError, MissingExtraError
from modgap.evaluation._ground import Ground
from modgap.evaluation.advice import survey
from modgap.report import pictures, summarize, table, write_report
from modgap.report.answers import certificate
from modgap.report.way import way_of
from modgap.report.words import said
from modgap.robustness.noise import Bins, Codec, Gaussian, parse

SIDES = ("queries", "gallery")
SMALL: dict[str, Any] = {"alphas": (0, 1), "draws": 4, "noises": (Gaussian(0.05), Bins(16))}


def clouds(m: int = 40, n: int = 6, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(m, d)) + 1, rng.normal(size=(n, d))


def tasks() -> dict[str, modgap.evaluation.tasks.Task]:
    y, x = clouds()
    pairs = clouds(20, 20)
    labels = np.arange(40) % 6
    own = np.random.default_rng(4).normal(size=(40, 4, 12))
    both, kinds = np.concatenate([x, y[:5] + 0.1]), ["image"] * 6 + ["text"] * 5
    several = np.stack([x, x + 0.3 * clouds(6, 6)[0]])
    return {
        "zero-shot": modgap.ZeroShot(y, x, labels),
        "no labels": modgap.ZeroShot(y, x),
        "templates": modgap.ZeroShot(y, several, labels),
        "one template": modgap.ZeroShot(y, several, labels, template=1, templates=["p", "q"]),
        "ip": modgap.ZeroShot(y, x, labels, metric="ip"),
        "euclidean": modgap.ZeroShot(y, x, labels, metric="euclidean"),
        "pairs": modgap.PairedRetrieval(*pairs, names=("image", "text")),
        "captions": modgap.PairedRetrieval(x, y, owners=labels),
        "choice": modgap.MultipleChoice(y, own, np.zeros(40, dtype=int)),
        "choice, no answers": modgap.MultipleChoice(y, own),
        "mixed": modgap.MixedRetrieval(y, both, kinds, labels, query_modalities="text"),
        "mixed, no partners": modgap.MixedRetrieval(y, both, kinds),
        "one item": modgap.ZeroShot(y, x[:1]),
        "one query": modgap.ZeroShot(y[:1], x),
        "full rank": modgap.ZeroShot(*clouds(n=40)),
        "one dimension": modgap.ZeroShot(y[:, :1], x[:, :1]),
        "equal rows": modgap.ZeroShot(y, np.repeat(x[:1], 3, axis=0)),
        "no gap": modgap.ZeroShot(x, x.copy()),
        "a row of zeros": modgap.ZeroShot(np.vstack([y, np.zeros((1, 12))]), x, metric="euclidean"),
    }


KINDS = tuple(tasks())


@pytest.fixture(scope="module")
def sample_summary() -> dict[str, Any]:
    sample = modgap.load_sample()
    return summarize(
        sample.task(), title="A <b>title</b>", names=("image", "text"), classes=sample.classes
    )


@pytest.fixture(scope="module")
def schema() -> Any:
    """The published schema of a report, and what reads documents by it."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    text = (files("modgap.report") / "report.schema.json").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
    return jsonschema.Draft202012Validator(json.loads(text))


def faults(schema: Any, found: Any) -> list[str]:
    """Return where a document is not what the schema says, once it has been to JSON and back."""
    document = json.loads(json.dumps(found, allow_nan=False))
    return [f"{error.json_path}: {error.message[:200]}" for error in schema.iter_errors(document)]


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [n for item in value.values() for n in numbers(item)]
    if isinstance(value, list):
        return [n for item in value for n in numbers(item)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_gives_plain_json(kind: str, schema: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = summarize(tasks()[kind], title=kind, **SMALL)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert faults(schema, found) == []
    assert found["verdict"].endswith(".")
    assert len(found["when_not"]) in (2, 3)
    assert len(found["problems"]) == (2 if kind in ("pairs", "captions") else 1)
    assert np.isfinite(numbers(found)).all()


def test_the_schema_lets_nothing_pass_that_is_no_report(
    schema: Any, sample_summary: dict[str, Any]
) -> None:
    """Every object has its keys and no others; shares are shares; there is no NaN."""
    assert faults(schema, sample_summary) == []
    assert faults(schema, {**sample_summary, "inputs": [], "words": "modgap report"}) == []

    def broken(change: Callable[[dict[str, Any]], Any]) -> list[str]:
        other = copy.deepcopy(sample_summary)
        change(other)
        return [fault.split(":")[0] for fault in faults(schema, other)]

    assert broken(lambda found: found.pop("verdict")) == ["$"]
    assert broken(lambda found: found.update(more=1)) == ["$"]
    assert broken(lambda found: found["problems"][0].pop("way")) == ["$.problems[0]"]
    step = "$.problems[0].clouds.steps[0]"
    assert broken(lambda found: found["problems"][0]["clouds"]["steps"][0].pop("queries")) == [step]
    for value in (1.2, "0.5", True):
        where = "$.problems[0].closers[0].agreement"
        row = {"agreement": value}
        assert broken(lambda found, row=row: found["problems"][0]["closers"][0].update(row)) == [
            where
        ]
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken(lambda found: found["problems"][0].update(free_share=float("nan")))


def test_a_page_of_a_thousand_times_a_thousand_is_no_larger_than_two_megabytes(
    sample_summary: dict[str, Any], tmp_path: Path
) -> None:
    """With every point drawn, both directions, and a picture and a long name in every row."""
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    found, rng = copy.deepcopy(sample_summary), np.random.default_rng(0)
    problem = found["problems"][0]
    for step in problem["clouds"]["steps"]:
        step |= {side: rng.normal(size=(1000, 2)).round(4).tolist() for side in SIDES}
    picture = "data:image/jpeg;base64," + 2000 * "A"  # 1.5 kB: 96 pixels square
    for row in (*problem["flips"]["rows"], *problem["fragile"]):
        row |= dict.fromkeys(("query", "answer", "rival"), 200 * "W")
        row |= {f"{key}_picture": picture for key in ("query", "answer", "rival")}
    page = write_report({**found, "problems": [problem, problem]}, tmp_path / "large.html")
    assert 500_000 < page.stat().st_size < 2_000_000


def test_every_key_of_the_schema_is_described_in_a_line(schema: Any) -> None:
    def keys(part: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(part, dict):
            yield from part.get("properties", {}).items()
        for inner in part.values() if isinstance(part, dict) else part:
            if isinstance(inner, dict | list):
                yield from keys(inner)

    found = list(keys(schema.schema))
    assert len(found) > 200
    for name, part in found:
        assert part["description"].endswith("."), name
        assert "\n" not in part["description"], name
    assert schema.schema["properties"]["schema"]["const"] == SCHEMA


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


def test_all_sections_speak_of_the_closer_of_the_advice(sample_summary: dict[str, Any]) -> None:
    label, problem = sample_summary["closer"]["label"], sample_summary["problems"][0]
    assert sample_summary["closer"]["recommended"]
    assert label == sample_summary["advice"]["method"]
    assert f"with {label} " in sample_summary["verdict"]
    assert f"--method {label} " in sample_summary["advice"]["command"]
    rows = {row["label"]: row for row in problem["closers"]}
    for j, noise in enumerate(problem["noises"]):
        for key, name in (("before", "none"), ("compared", "none:ip"), ("after", label)):
            assert noise[key] == rows[name]["noises"][j]["retention"]
    for row in problem["flips"]["rows"]:
        assert row["after"] != row["before"]
    assert sample_summary["when_not"][0].count(label) == 1
    template = sample_summary["templates"]["rows"][0]
    assert template["reference"]
    assert template["after"] == rows[label]["noises"][0]["retention"]


def test_the_ends_of_the_way_are_the_rows_of_the_study(sample_summary: dict[str, Any]) -> None:
    problem, label = sample_summary["problems"][0], sample_summary["closer"]["label"]
    rows, way = {row["label"]: row for row in problem["closers"]}, problem["way"]
    assert way["alphas"] == problem["clouds"]["alphas"] == [0, 0.25, 0.5, 0.75, 1, 1.25]
    assert (way["method"], way["noise"], way["code"]) == (label, "gaussian:0.022", "bins:16")
    for alpha, name in ((0.0, "none"), (1.0, label)):
        at = way["alphas"].index(alpha)
        assert way["agreement"][at] == rows[name]["agreement"]
        assert way["retention"][at] == rows[name]["noises"][0]["retention"]
        assert way["code_retention"][at] == rows[name]["noises"][2]["retention"]
    assert way["agreement"] == [1.0] * 6  # every stop of an exact closer is exact


@pytest.mark.parametrize("method", ["recenter", "scaled", "affine", "orthogonal", "balanced"])
def test_stops_of_exact_closers_keep_every_ranking(method: str) -> None:
    y, x = clouds(60, 9)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = survey(modgap.ZeroShot(y, x), (Gaussian(0.05), Bins(16)), closers=(method,), draws=2)
    way = way_of(found, found.study[method], (0.3, 0.6))
    (ground,) = found.evaluator.grounds
    unit = y / np.linalg.norm(y, axis=1, keepdims=True)
    order = np.argsort(-unit @ x.T, axis=1)
    seen = []
    for closure in way.closures(ground.statistics, way.closed.closure)[1:]:
        assert closure is not None
        queries, items = closure.apply_queries(y), closure.apply_gallery(x)
        scores = queries @ items.T
        if closure.comparison == "euclidean":
            scores = scores - (items**2).sum(axis=1) / 2
        assert (np.argsort(-scores, axis=1) == order).all()
        seen.append(queries)
    assert (
        all(np.abs(a - b).max() > 1e-3 for a, b in itertools.pairwise(seen)) or method == "recenter"
    )
    assert way.figures(ground, found.study["none"], way.closed)["agreement"] == [1.0] * 4


def test_bits_won_are_those_of_codes_on_queries_that_were_held_out() -> None:
    sample = modgap.load_sample()
    found = survey(sample.search(), (parse("bits:6:global:rotated"),), draws=1, folds=2)
    balanced = found.study["balanced"]
    way = way_of(found, balanced, (0.5,))
    figures = way.figures(found.evaluator.grounds[0], found.study["none"], balanced)
    won = figures["bits_won"]
    assert won[0] == 0
    assert 0 < won[1] < won[2]
    # An independent count: the error of scores under a real code, before and after, at one range.
    y, x = sample.search().problems[0].queries, sample.search().problems[0].gallery
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (y, x)]
    order = np.random.default_rng(0).permutation(len(y))
    half, rest = order[::2], order[1::2]
    closure = modgap.fit("balanced", y[half], x)
    errors = []
    for queries, items in (
        (unit[0][rest], unit[1]),
        (closure.apply_queries(y[rest]), closure.apply_gallery(x)),
    ):
        noise = np.random.default_rng(1).normal(size=items.shape)
        noise *= np.sqrt(
            (items**2).sum(axis=1).mean() / noise.shape[1]
        )  # in proportion to what is stored
        errors.append(((queries @ noise.T) ** 2).mean())
    assert won[2] == pytest.approx(np.log2(errors[0] / errors[1]) / 2, abs=0.06)


def test_names_and_pictures_stand_beside_the_answers() -> None:
    y, x = clouds()
    pictures = [b"\xff\xd8" + bytes([i]) for i in range(40)]
    found = summarize(
        modgap.ZeroShot(y, x),
        query_names=[f"query {i} <b>" for i in range(40)],
        classes=[f"item {i}" for i in range(6)],
        pictures=(pictures, None),
        **SMALL,
    )
    for row in found["problems"][0]["fragile"]:
        assert row["query"] == f"query {row['query_row']} <b>"
        assert (
            base64.b64decode(row["query_picture"].partition(",")[2]) == pictures[row["query_row"]]
        )
        assert row["answer"].startswith("item ")
        assert row["answer_picture"] is None
    with pytest.raises(
        ArgumentError, match="`query_names` must name each of the 40 queries; got 2"
    ):
        summarize(modgap.ZeroShot(y, x), query_names=["a", "b"])


def test_rows_of_a_sample_are_called_by_their_place_among_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modgap.evaluation.advice.QUERIES", 15)
    monkeypatch.setattr("modgap.evaluation.advice.ITEMS", 9)
    y, x = clouds(40, 30)
    found = summarize(modgap.ZeroShot(y, x), names=("text", "photo"), **SMALL)
    for row in found["problems"][0]["fragile"]:
        unit = y[row["query_row"]] / np.linalg.norm(y[row["query_row"]])
        scores = x @ unit / np.linalg.norm(x, axis=1)
        answer, rival = (int(row[key].removeprefix("photo ")) for key in ("answer", "rival"))
        assert row["query"] == f"text {row['query_row']}"
        assert scores[answer] > scores[rival]


def test_where_closing_does_nothing_the_page_says_so_and_labels_the_picture(tmp_path: Path) -> None:
    found = summarize(tasks()["full rank"], **{**SMALL, "noises": (Codec("float16"),)})
    assert found["advice"]["method"] == "none"
    assert found["verdict"].startswith("Leave the embeddings as they are")
    assert not found["closer"]["recommended"]
    assert found["closer"]["label"] != "none"
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    text = write_report(found, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "not because it is recommended" in text
    assert "Command to run next" not in text


def test_closers_that_change_answers_are_held_out_and_their_spread_is_said() -> None:
    sample = modgap.load_sample()
    found = summarize(sample.task(), noises=(Gaussian(0.04),), draws=4, alphas=())
    rows = {row["label"]: row for row in found["problems"][0]["closers"]}
    assert rows["center"]["folds"] == 5
    assert rows["center"]["stored_spread"] > 1.5
    assert "times as spread out" in found["when_not"][2]


def test_a_large_gallery_is_sampled_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modgap.evaluation.advice.QUERIES", 15)
    monkeypatch.setattr("modgap.evaluation.advice.ITEMS", 9)
    summarizing = importlib.import_module("modgap.report.summarize")
    monkeypatch.setattr(summarizing, "_LOOKS", 500)  # less than a hundred times 135 pairs
    y, x = clouds(40, 30)
    found = summarize(modgap.ZeroShot(y, x, np.arange(40) % 5), **SMALL)
    assert found["task"]["sampled"]
    assert (found["task"]["queries"], found["task"]["gallery"]) == (15, 9)
    assert found["task"]["of"] == {"queries": 40, "gallery": 30}
    assert found["settings"]["folds"] == 2


def test_gallery_and_queries_are_decomposed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One decomposition per cloud, whatever stands on the page; templates are clouds of their own.

    `balanced` decomposes products of both, and is left out; so do the bits, within the items' span.
    """
    monkeypatch.setattr("modgap.evaluation.advice.FEW", 10**6)
    calls: list[tuple[int, ...]] = []
    real = np.linalg.eigh

    def counted(matrix: np.ndarray, *more: Any) -> Any:
        calls.append(matrix.shape)
        return real(matrix, *more)

    monkeypatch.setattr(np.linalg, "eigh", counted)
    summarize(tasks()["no labels"], noises=(Gaussian(0.05),), draws=2)
    # gallery, queries, and the root of a product in the Fréchet distance
    assert calls.count((12, 12)) <= 4, calls
    assert len(calls) <= 4 + 2 * 4, calls


def test_closing_brings_the_clouds_together(sample_summary: dict[str, Any]) -> None:
    clouds = sample_summary["problems"][0]["clouds"]
    at = [clouds["alphas"].index(alpha) for alpha in (0, 1)]
    away = [np.mean(clouds["steps"][i]["queries"], axis=0)[0] for i in at]
    assert away[0] > 0.4
    assert abs(away[1]) < 0.2
    assert clouds["shown"] == {"queries": 600, "gallery": 10}


def test_outlines_are_the_second_moments_of_all_rows_and_balanced_makes_them_one() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(300, 6)) * [3, 1, 1, 1, 1, 0.5]
    y = rng.normal(size=(3000, 6)) * [0.5, 1, 1, 1, 1, 2] + [0, 0, 0, 2, 0, 0]
    found = survey(modgap.ZeroShot(y, x, metric="ip"), (Bins(16),), draws=1, folds=2)
    way = way_of(found, found.study["balanced"], ())
    (ground,) = found.evaluator.grounds
    drawn = pictures.clouds(ground.statistics, way, way.closed.closure, most=3000, seed=0)
    for step in drawn["steps"]:
        for side in ("queries", "gallery"):
            points, (cx, cy, a, b, c) = np.array(step[side]), step["outlines"][side]
            root = np.array([[a, b], [b, c]])
            assert (cx, cy) == (0, 0)
            assert points.T @ points / len(points) == pytest.approx(root @ root, rel=2e-3, abs=1e-3)
    first, last = (step["outlines"] for step in drawn["steps"])
    assert first["queries"] != pytest.approx(first["gallery"], rel=0.3)
    # 2,000 queries and a hundredth of shrinkage leave a little between them
    assert last["queries"] == pytest.approx(last["gallery"], rel=0.12, abs=0.12)


def test_the_page_says_which_cloud_is_which_and_holds_every_stop(
    sample_summary: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("vl_convert", reason="the report extra is not installed")
    text = write_report(sample_summary, tmp_path / "r.html").read_text(encoding="utf-8")
    for words in ("image (queries)", "text (items)", "along the gap", "across it", ">before<"):
        assert words in text
    data = re.search(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    held = json.loads(data[1])
    way = sample_summary["problems"][0]["way"]
    assert len(held["frames"]) == len(held["stops"]) == len(way["alphas"])
    assert held["figures"][1] == [f"{value:.3f}" for value in way["retention"]]
    assert len(held["frames"][0]["queries"]) == 2 * 600
    (digest,) = re.findall(r"script-src 'sha256-([^']+)'", html.unescape(text))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == digest


def test_the_bits_are_those_of_the_task_s_metric_and_stand_on_the_page(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    made = tasks()
    for kind in ("zero-shot", "ip", "euclidean"):
        task = made[kind]
        found = summarize(task, title=kind, **SMALL)
        bits = found["problems"][0]["bits"]
        problem = task.problems[0]
        expected = modgap.gap_in_bits(
            problem.queries, problem.gallery, metric=task.metric, sample=1000
        )
        assert (bits["metric"], bits["sentence"]) == (task.metric, expected.sentence)
        assert bits["cost"] == pytest.approx(expected.cost, rel=1e-9)
    text = write_report(found, tmp_path / "r.html").read_text(encoding="utf-8")
    assert expected.sentence in text
    assert f"<b>{max(expected.reached, 0):.2f} bits</b>" in text
    for title in ("direction, the strongest first", "bits a coordinate"):
        assert f">{title}</text>" in text
    assert summarize(made["choice"], **SMALL)["problems"][0]["bits"] is None
    assert summarize(made["equal rows"], **SMALL)["problems"][0]["bits"] is None


def test_the_least_noise_stays_out_of_the_picture_where_it_is_decades_below() -> None:
    pytest.importorskip("altair", reason="the extra `report` is not installed")
    codes = [{"bits": b, "now": 2.0**-b, "balanced": 0.5 * 2.0**-b} for b in range(1, 9)]
    for least, lines in ((1e-9, 2), (1e-3, 3)):
        chart = codes_chart({"codes": [{**code, "least": least} for code in codes]}).to_dict()
        (rows,) = (part["data"]["values"] for part in (chart, *chart["layer"]) if "data" in part)
        assert len({row["line"] for row in rows}) == lines


def test_fragile_queries_are_named_and_certified(sample_summary: dict[str, Any]) -> None:
    problem = sample_summary["problems"][0]
    rows, classes = problem["fragile"], set(modgap.load_sample().classes)
    assert len(rows) == 10
    assert [row["before"] for row in rows] == sorted(row["before"] for row in rows)
    for row in rows:
        assert {row["answer"], row["rival"], *row["right_answers"]} <= classes
        assert row["answer"] != row["rival"]
        assert row["query"].startswith("image ")
    assert 0 < problem["certificate"]["tenth"] < problem["certificate"]["median"] < 0.5


def test_a_certificate_is_that_of_the_library() -> None:
    y, x = clouds()
    for metric in ("euclidean", "ip"):
        task = modgap.ZeroShot(y, x, metric=metric)
        radius = certified_radius(y, x, metric=metric)
        found = certificate(Ground(task.metric, task.problems[0]))
        assert found is not None
        assert found["median"] == pytest.approx(np.median(radius), rel=1e-9)


def test_directions_of_a_pair_are_called_by_their_names() -> None:
    pairs = modgap.PairedRetrieval(*clouds(20, 20), names=("queries", "gallery"))
    found = summarize(pairs, names=("image", "text"), **SMALL)
    assert [p["name"] for p in found["problems"]] == ["image → text", "text → image"]
    assert found["problems"][1]["sides"] == {"queries": "text", "gallery": "image"}


def test_a_closer_that_cannot_be_fitted_is_listed() -> None:
    found = summarize(tasks()["zero-shot"], methods=("center", "procrustes"), **SMALL)
    assert [entry["method"] for entry in found["skipped"]] == ["procrustes"]
    labels = [row["label"] for row in found["problems"][0]["closers"]]
    assert "center" in labels
    assert "procrustes" not in labels


def test_classes_must_fit() -> None:
    with pytest.raises(
        ArgumentError, match="`classes` must name each of the 6 gallery items; got 2"
    ):
        summarize(tasks()["zero-shot"], title="t", classes=["a", "b"])


def test_without_noises_agreement_remains() -> None:
    problem = summarize(tasks()["zero-shot"], title="t", noises=())["problems"][0]
    assert problem["fragile"] == []
    assert problem["noises"] == []
    assert {row["agreement"] for row in problem["closers"] if row["exact"]} == {1.0}


@pytest.mark.parametrize("kind", ["euclidean", "pairs", "no labels"])
def test_every_stage_comes_to_what_it_said(kind: str) -> None:
    stages: list[list[Any]] = []
    summarize(
        tasks()[kind],
        progress=lambda done: stages[-1].append(done),
        stage=lambda text, total=None: stages.append([text, total]),
        **SMALL,
    )
    assert [text.split(" to ")[0] for text, *_ in stages] == [
        "measuring closers", "other templates", "on the way",
    ]  # fmt: skip
    for _text, total, *done in stages:
        assert sum(done) == (total or 0)


def test_settings_reproduce_the_noises() -> None:
    noises = (Gaussian(0.05), Bins(16), Bins(8, range="dimension"))
    found = summarize(tasks()["zero-shot"], title="t", noises=noises, draws=3)
    assert tuple(parse(name) for name in found["settings"]["noises"]) == noises


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("gaussian:0.022", "Gaussian noise of 0.022"),
        ("gaussian:0.3:relative", "Gaussian noise of 0.3 times the stored rows' spread"),
        ("gaussian:0.04:before", "Gaussian noise of 0.04 (ahead of the closure's map)"),
        ("gaussian:0.1@queries", "Gaussian noise of 0.1 on the queries"),
        ("bins:16:dimension@both", "16-level storage (a range per dimension) on both sides"),
        ("sign:rotated:lengths", "1-bit storage (rotated, lengths kept)"),
        ("int8", "int8 storage"),
        ("faiss:OPQ16,PQ16", "OPQ16,PQ16 storage by FAISS"),
    ],
)
def test_noises_are_said_in_words(label: str, words: str) -> None:
    assert said(label) == words


def test_table_has_a_row_per_closer_and_noise(sample_summary: dict[str, Any]) -> None:
    rows = table(sample_summary)
    assert len(rows) == 3 * len(sample_summary["problems"][0]["closers"])
    assert {"label", "noise", "retention", "stored_spread"} <= set(rows[0])


def test_the_page_escapes_what_users_name(sample_summary: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    text = write_report(sample_summary, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "A &lt;b&gt;title&lt;/b&gt;" in text
    assert "<b>title" not in text
    assert text.count("<script") == 2  # the page's own, and its data
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

    monkeypatch.setattr("modgap.report.pages.require", absent)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "modgap[report]"')):
        write_report(sample_summary, tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_a_format_error(sample_summary: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    with pytest.raises(FormatError, match="cannot write"):
        write_report(sample_summary, tmp_path / "absent" / "r.html")


def test_a_search_in_codes_is_summed_up_by_the_recall_that_chose() -> None:
    found = summarize(modgap.load_sample().search(), noises=("sign:lengths",), alphas=(), draws=2)
    rows = {row["label"]: row for row in found["advice"]["evidence"]["closers"]}
    assert found["advice"]["evidence"]["judged_by"] == "recall"
    assert found["verdict"] == (
        "Closing the gap with balanced keeps every answer, and the recall of the exact ten nearest under "
        f"noise goes from {rows['none']['recall']:.3f} to {rows['balanced']['recall']:.3f}."
    )
