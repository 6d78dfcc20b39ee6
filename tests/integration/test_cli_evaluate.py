"""`modgap evaluate` and `modgap advise`: known figures on real data, and the task from the inputs."""

import csv
import json
import shlex

import numpy as np
import pytest

from modgap import PairedRetrieval, ZeroShot, load_sample
from modgap.closers import METHODS
from modgap.evaluation.study import evaluate
from modgap.robustness import noise


@pytest.fixture
def files(tmp_path, rng):
    """A folder with small inputs of every kind."""
    sample = load_sample()
    np.save(tmp_path / "images.npy", sample.images[:60])
    np.save(tmp_path / "texts.npy", sample.texts[:3])
    np.save(tmp_path / "labels.npy", sample.labels[:60])
    names = [sample.classes[label] for label in sample.labels[:60]]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    (tmp_path / "classes.json").write_text(json.dumps(sample.classes))
    (tmp_path / "templates.txt").write_text("\n".join(sample.templates[:3]))
    captions = rng.normal(size=(50, 6)).astype(np.float32)
    np.save(tmp_path / "captions.npy", captions)
    np.save(tmp_path / "pictures.npy", captions[:25] + rng.normal(size=(25, 6)) + 1)
    np.save(tmp_path / "owners.npy", np.arange(50) % 25)
    np.save(tmp_path / "choices.npy", rng.normal(size=(25, 4, 6)))
    np.save(tmp_path / "answers.npy", rng.integers(0, 4, 25))
    np.save(tmp_path / "partners.npy", np.arange(25))
    return tmp_path


def stabilities(document, name):
    """Return the stability of each row under one noise."""
    return [
        entry["stability"]
        for row in document["closers"]
        for entry in row["noises"]
        if entry["noise"] == name
    ]


def test_caltech_has_the_figures_of_an_independent_computation(real_data, modgap):
    folder = real_data.path("caltech101_clip_vitb32")
    printed = modgap(
        "evaluate", "--queries", folder / "images.npy", "--gallery", folder / "texts.npy",
        "--labels", folder / "labels.npy", "--template", 3,
        "--methods", "none,orthogonal,affine", "--metric", "euclidean",
        "--noise", "gaussian:0.022", "--noise", "bins:8", "--noise", "bins:16", "--json",
    )  # fmt: skip
    document = json.loads(printed)
    assert document["task"] == {
        "kind": "zero-shot",
        "queries": 968,
        "gallery": 38,
        "dimension": 512,
        "metric": "euclidean",
        "rank": 37,
    }
    exact = stabilities(document, "gaussian:0.022")
    assert exact == pytest.approx([0.7362, 0.8865, 0.9479], abs=1e-3)
    assert [round(s, 3) for s in stabilities(document, "bins:8")] == [0.323, 0.568, 0.992]
    assert [round(s, 3) for s in stabilities(document, "bins:16")] == [0.907, 0.919, 0.998]
    for row in document["closers"]:
        assert row["exact"]
        assert row["agreement"] == 1
        assert row["clean_accuracy"] == pytest.approx(0.979, abs=1e-3)
    assert document["closers"][0]["noises"][0]["estimator"] == "exact"


def test_coco_has_the_known_recall_in_both_directions(real_data, modgap):
    folder = real_data.path("coco_clip_vitb16")
    words = ("evaluate", "--queries", folder / "images.npy", "--gallery", folder / "texts.npy",
             "--paired", "--metric", "cosine", "--methods", "none,center")  # fmt: skip
    document = json.loads(modgap(*words, "--noise", "none", "--json"))
    forth, forth_centered, back, _ = document["closers"]
    assert forth["clean_accuracy"] == pytest.approx(0.552)
    assert back["clean_accuracy"] == pytest.approx(0.506)
    assert [forth["recall"]["1"], back["recall"]["1"]] == pytest.approx([0.552, 0.506])
    assert 0 < forth_centered["agreement"] < 1
    assert not forth_centered["exact"]
    assert [gap["problem"] for gap in document["gaps"]] == [
        "queries -> gallery",
        "gallery -> queries",
    ]
    gap = document["gap"]
    assert gap["centroid_gap"] == pytest.approx(0.851, abs=1e-3)
    assert gap["relative_modality_gap"] == pytest.approx(0.591, abs=1e-3)
    table = modgap(*words, "--draws", 5)
    for figure in ("0.552", "0.506", "RMG 0.591", "monte carlo (5 draws)", "in 5 folds: center"):
        assert figure in table


def test_json_is_the_study_and_nothing_else(files, modgap):
    sample = load_sample()
    task = ZeroShot(sample.images[:60], sample.texts[:3], sample.labels[:60], template=1)
    study = evaluate(task, ["none", "orthogonal"], [0.0, 1.5], [noise.Bins(16)], draws=7, seed=3)
    printed = modgap(
        "evaluate", "--queries", files / "images.npy", "--gallery", files / "texts.npy",
        "--labels", files / "labels.npy", "--template", 1, "--methods", "none",
        "--methods", "orthogonal", "--alphas", "0,1.5", "--noise", "bins:16", "--draws", 7,
        "--seed", 3, "--json",
    )  # fmt: skip
    document = json.loads(printed)
    inputs = {"queries": str(files / "images.npy"), "gallery": str(files / "texts.npy")}
    assert document.pop("inputs") == inputs
    assert document.pop("sample") is None
    assert document == json.loads(study.to_json())


def test_labels_by_name_and_names_of_templates(files, modgap):
    shared = ("evaluate", "--queries", files / "images.npy", "--gallery", files / "texts.npy",
              "--noise", "int8", "--json")  # fmt: skip
    numbers = modgap(
        *shared, "--labels", files / "labels.npy", "--templates", files / "templates.txt"
    )
    names = modgap(
        *shared, "--labels", files / "labels.txt", "--classes", files / "classes.json",
        "--templates", files / "templates.txt",
    )  # fmt: skip
    assert numbers == names
    problems = {row["problem"] for row in json.loads(names)["closers"]}
    assert problems == set(load_sample().templates[:3])


def test_without_labels_accuracies_are_null(files, modgap):
    document = json.loads(
        modgap("evaluate", "--queries", files / "images.npy", "--gallery", files / "texts.npy",
               "--template", 0, "--paraphrase", "--json")
    )  # fmt: skip
    row = document["closers"][0]
    assert row["clean_accuracy"] is None
    assert row["noises"][0]["noisy_accuracy"] is None
    assert [n["noise"] for n in row["noises"][1:]] == [
        "paraphrase:template 1",
        "paraphrase:template 2",
    ]


@pytest.mark.parametrize(
    ("words", "kind", "problems"),
    [
        ("--queries captions.npy:K --gallery pictures.npy --owners owners.npy", "paired", "g q"),
        ("--queries pictures.npy --gallery captions.npy --owners owners.npy", "paired", "q g"),
        ("--queries pictures.npy --gallery choices.npy --answers answers.npy", "multiple", ""),
        ("--queries pictures.npy --gallery pictures.npy --companions captions.npy", "mixed", ""),
        (
            "--queries pictures.npy --gallery pictures.npy --companions captions.npy "
            "--partners partners.npy",
            "mixed",
            "",
        ),
    ],
)
def test_the_inputs_say_what_kind_of_task_it_is(files, modgap, words, kind, problems):
    words = words.replace(":K", "")
    given = [str(files / word) if word.endswith(".npy") else word for word in words.split()]
    document = json.loads(modgap("evaluate", *given, "--methods", "none,recenter", "--json"))
    assert document["task"]["kind"].startswith(kind)
    if problems:
        first = {"q": "queries", "g": "gallery"}[problems[0]]
        assert document["closers"][0]["problem"].startswith(first)
    if "--answers" in words or "--owners" in words or "--partners" in words:
        assert all(row["clean_accuracy"] is not None for row in document["closers"])
    assert modgap("evaluate", *given, "--methods", "none,recenter")


def test_owners_of_either_side_are_the_same_task(files, modgap):
    pictures, captions = files / "pictures.npy", files / "captions.npy"
    shared = ("--owners", files / "owners.npy", "--methods", "none,recenter", "--json")
    one = modgap("evaluate", "--queries", pictures, "--gallery", captions, *shared)
    other = modgap("evaluate", "--queries", captions, "--gallery", pictures, *shared)
    task = PairedRetrieval(np.load(pictures), np.load(captions), owners=np.arange(50) % 25)
    expected = [row["noises"] for row in evaluate(task, ["none", "recenter"]).to_dict()["closers"]]
    assert [row["noises"] for row in json.loads(one)["closers"]] == expected
    assert [row["noises"] for row in json.loads(other)["closers"]] == expected


def test_saved_closures_stand_among_methods(files, modgap):
    closure = files / "closure.safetensors"
    inputs = ("--queries", files / "images.npy", "--gallery", files / "texts.npy", "--template", 2)
    modgap("close", *inputs, "--out", closure)
    document = json.loads(
        modgap("evaluate", *inputs, "--methods", f"none,affine,{closure}", "--json")
    )
    _, fitted, loaded = document["closers"]
    assert fitted["noises"][0]["stability"] == pytest.approx(
        loaded["noises"][0]["stability"], abs=1e-9
    )


def test_a_closure_of_another_gallery_is_not_called_exact(files, modgap):
    sample = load_sample()
    np.save(files / "images.npy", sample.images)
    inputs = ("--queries", files / "images.npy", "--gallery", files / "texts.npy")
    closure = files / "closure.safetensors"
    modgap("close", *inputs, "--template", 0, "--out", closure)
    words = ("evaluate", *inputs, "--methods", closure, "--noise", "none", "--json")
    own, other, _ = json.loads(modgap(*words))["closers"]
    assert own["exact"]
    assert own["agreement"] == 1
    assert not other["exact"]
    assert other["agreement"] < 1


def test_the_table_fits_80_columns_and_cuts_no_figure(files, modgap, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    methods = [name for name in METHODS if name != "procrustes"]
    table = modgap(
        "evaluate", "--queries", files / "images.npy", "--gallery", files / "texts.npy",
        "--labels", files / "labels.npy", "--template", 0, "--methods", ",".join(methods),
        "--alphas", "0.25,1", "--metric", "cosine", "--draws", 3,
        "--noise", "gaussian:0.022", "--noise", "bins:16:dimension@both",
        "--fragile", 4, "--classes", files / "classes.json",
    )  # fmt: skip
    rows = [line for line in table.splitlines() if line.startswith(tuple(methods))]
    labels = [*methods, *(f"{name} 0.25" for name in methods if "alpha" in METHODS[name].takes)]
    # Two tables name every closer, a third those whose own stability is another figure.
    assert 2 * len(labels) <= len(rows) <= 3 * len(labels)
    assert all(any(line.startswith(label) for line in rows) for label in labels)
    assert max(map(len, rows)) <= 80
    assert "…" not in table
    assert "least stable of none under gaussian:0.022" in table


def test_the_tables_say_what_they_hold_and_how_it_was_obtained(files, modgap):
    table = modgap(
        "evaluate", "--queries", files / "images.npy", "--gallery", files / "texts.npy",
        "--template", 0, "--methods", "none,affine,center", "--metric", "ip",
    )  # fmt: skip
    for word in ("agree-", "stability: of a closer's own", "retention: answers", "Estimator: exact",
                 "not fitted to, in 5 folds: center"):  # fmt: skip
        assert word in table


def test_csv_is_the_flat_table(files, modgap):
    printed = modgap(
        "evaluate", "--queries", files / "images.npy", "--gallery", files / "texts.npy",
        "--template", 0, "--noise", "bins:16", "--noise", "int8", "--csv",
    )  # fmt: skip
    rows = list(csv.DictReader(printed.splitlines()))
    assert [(row["label"], row["noise"]) for row in rows][:3] == [
        ("none", "bins:16"),
        ("none", "int8"),
        ("orthogonal", "bins:16"),
    ]
    assert all(0 <= float(row["retention"]) <= 1 and row["clean_accuracy"] == "" for row in rows)


def test_a_comparison_may_follow_a_method(files, modgap):
    inputs = ("--queries", files / "images.npy", "--gallery", files / "texts.npy", "--template", 0)
    words = ("--methods", "none,none:ip,affine:euclidean", "--noise", "none", "--json")
    rows = json.loads(modgap("evaluate", *inputs, *words))["closers"]
    assert [row["label"] for row in rows] == ["none", "none:ip", "affine:euclidean"]
    assert [row["comparison"] for row in rows] == ["cosine", "ip", "euclidean"]
    assert all(row["exact"] and row["agreement"] == 1 for row in rows)


def test_fragile_queries_join_the_document_where_asked(files, modgap):
    document = json.loads(
        modgap("evaluate", "--queries", files / "images.npy", "--gallery", files / "texts.npy",
               "--template", 0, "--fragile", 3, "--json")
    )  # fmt: skip
    assert len(document["fragile"]) == 3
    assert document["fragile"][0]["stability"] <= document["fragile"][2]["stability"]


@pytest.mark.parametrize("extra", [(), ("--answers-may-change",), ("--noise", "int8@queries")])
def test_the_command_of_an_advice_runs(files, modgap, monkeypatch, extra):
    monkeypatch.chdir(files)
    inputs = ("--queries", "images.npy", "--gallery", "texts.npy")
    extra = (*extra, "--draws", 5)
    advice = json.loads(modgap("advise", *inputs, *extra, "--json"))
    printed = modgap("advise", *inputs, *extra)
    assert advice["command"] in printed
    assert "QUERIES" not in advice["command"]
    words = shlex.split(advice["command"])
    assert words[0] == "modgap"
    if words[1] == "close":
        assert words[-2:] == ["--template", "0"]
        modgap(*words[1:])
        assert (files / "closure.safetensors").exists()


@pytest.mark.parametrize(
    "words",
    [
        "--queries pictures.npy --gallery choices.npy --answers answers.npy",
        "--queries captions.npy --gallery pictures.npy --owners owners.npy",
        "--queries pictures.npy --gallery pictures.npy --companions captions.npy",
    ],
)
def test_advice_for_other_kinds_runs_too(files, modgap, monkeypatch, words):
    monkeypatch.chdir(files)
    advice = json.loads(modgap("advise", *words.split(), "--draws", 5, "--json"))
    assert all(word in advice["command"] for word in words.split() if word.endswith("s.npy"))
    modgap(*shlex.split(advice["command"])[1:])


@pytest.mark.parametrize("metric", ["ip", "euclidean"])
def test_advice_under_other_metrics(files, modgap, monkeypatch, metric):
    monkeypatch.chdir(files)
    words = ("--queries", "images.npy", "--gallery", "texts.npy", "--metric", metric)
    advice = json.loads(modgap("advise", *words, "--answers-may-change", "--draws", 5, "--json"))
    assert f"--metric {metric}" in advice["command"]
    modgap(*shlex.split(advice["command"])[1:])


def test_names_from_files_reach_the_terminal_without_control_characters(files, modgap):
    names = [f"\x1b[31m{i}\n" for i in range(10)]
    (files / "odd.json").write_text(json.dumps(names))
    (files / "rank.json").write_text(json.dumps(["rank", "\x1b[31m", "gap"]))
    inputs = ("--queries", files / "images.npy", "--gallery", files / "texts.npy")
    words = ("--fragile", 2, "--classes", files / "odd.json", "--templates", files / "rank.json")
    printed = modgap("evaluate", *inputs, *words)
    assert "\x1b" not in printed
    assert "rank: gap" in printed
    assert "rank: gap" in modgap("evaluate", *inputs, *words, "--template", 0)


def test_an_advice_quotes_paths(files, modgap, monkeypatch):
    monkeypatch.chdir(files)
    (files / "my images.npy").write_bytes((files / "images.npy").read_bytes())
    advice = json.loads(
        modgap("advise", "--queries", "my images.npy", "--gallery", "texts.npy", "--json")
    )
    assert "'my images.npy'" in advice["command"]
