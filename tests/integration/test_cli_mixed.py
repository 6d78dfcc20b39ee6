"""Mixed collections on the command line: evaluated, advised, closed, applied, from files to files."""

from __future__ import annotations

import csv
import io
import json
import shlex

import numpy as np
import pytest

import modgap as library
from modgap import closers

RNG = np.random.default_rng(6)
#: Texts have a style of their own beside the topic, which queries share: it lifts them over the images.
TOPICS = np.concatenate([RNG.normal(size=(60, 8)), np.zeros((60, 1))], axis=1)
STYLE = np.zeros((80, 9))
STYLE[:, 8] = 4 * RNG.normal(size=80)
IMAGES = (TOPICS[:40] + 0.3 * RNG.normal(size=(40, 9)) - 2).astype(np.float32)
TEXTS = (TOPICS[20:] + STYLE[:40] + 2).astype(np.float32)
ASKED = (TOPICS[:20] + STYLE[40:60] + 2).astype(np.float32)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A collection in one file with a modality per row, and the same in two files."""
    np.save(tmp_path / "asked.npy", ASKED)
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "texts.npy", TEXTS)
    np.save(tmp_path / "all.npy", np.concatenate([IMAGES, TEXTS]))
    np.save(tmp_path / "both.npy", np.concatenate([ASKED, IMAGES[:20] + np.float32(0.1)]))
    (tmp_path / "kinds.txt").write_text("\n".join(["image"] * 40 + ["text"] * 40))
    (tmp_path / "asking.txt").write_text("\n".join(["text"] * 20 + ["image"] * 20))
    np.save(tmp_path / "partners.npy", np.arange(20))
    np.save(tmp_path / "topics.npy", np.arange(20))
    np.save(tmp_path / "topics_of_items.npy", np.concatenate([np.arange(40), np.arange(20, 60)]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COLLECTION = ("--queries", "asked.npy", "--gallery", "all.npy", "--modalities", "kinds.txt")
COMPANIONS = ("--queries", "asked.npy", "--gallery", "images.npy", "--companions", "texts.npy")


def test_one_compact_table(files, modgap):
    printed = modgap("evaluate", *COLLECTION, "--partners", "partners.npy")
    assert all(
        len(line) <= 80 for line in printed.splitlines() if "closer" in line or "none" in line
    )
    header = next(line for line in printed.splitlines() if "closer" in line and "kept" in line)
    assert header.split() == ["closer", "@1", "@10", "@50", "@10", "@10", "@10", "kept"]
    for label in ("none", "center", "standardize", "calibrate:means", "calibrate"):
        assert any(line.split()[:1] == [label] for line in printed.splitlines())
    assert "noise" not in printed.lower().split("judged on")[0]
    assert "Judged on queries they were not fitted to, in 5 folds" in printed


def test_json_and_csv_hold_what_the_library_says(files, modgap):
    document = json.loads(modgap("evaluate", *COLLECTION, "--partners", "partners.npy", "--json"))
    kinds = ["image"] * 40 + ["text"] * 40
    task = library.MixedRetrieval(ASKED, np.load("all.npy"), kinds, np.arange(20))
    expected = library.evaluate(task, ["none", "calibrate"], noises=[])
    rows = {row["label"]: row for row in document["closers"]}
    for label in ("none", "calibrate"):
        assert rows[label]["shares"] == expected[label].shares
        assert rows[label]["ndcg"] == expected[label].ndcg
        assert rows[label]["recall"] == expected[label].recall
        assert rows[label]["lists"] == {"image": 1.0, "text": 1.0}
    table = list(csv.DictReader(io.StringIO(modgap("evaluate", *COLLECTION, "--csv"))))
    by_label = {row["label"]: row for row in table}
    assert (
        float(by_label["calibrate"]["share_10_image"])
        == expected["calibrate"].shares["10"]["image"]
    )


def test_companions_and_labels_are_the_same_collection(files, modgap):
    words = ("--methods", "calibrate", "--json")
    one = json.loads(modgap("evaluate", *COLLECTION, "--partners", "partners.npy", *words))
    two = json.loads(modgap("evaluate", *COMPANIONS, "--partners", "partners.npy", *words))
    first, second = (document["closers"][0] for document in (one, two))
    assert first["ndcg"] == second["ndcg"]
    assert list(first["shares"]["10"].values()) == list(second["shares"]["10"].values())
    labels = ("--labels", "topics.npy", "--item-labels", "topics_of_items.npy")
    same = json.loads(modgap("evaluate", *COLLECTION, *labels, *words))["closers"][0]
    assert same["ndcg"] == first["ndcg"]  # no text is about what is asked for


def test_queries_of_two_kinds_make_two_tables(files, modgap):
    words = ("--queries", "both.npy", "--gallery", "all.npy", "--modalities", "kinds.txt")
    document = json.loads(
        modgap(
            "evaluate",
            *words,
            "--query-modalities",
            "asking.txt",
            "--methods",
            "calibrate",
            "--json",
        )
    )
    assert [row["problem"] for row in document["closers"]] == ["text -> all", "image -> all"]
    named = modgap("evaluate", *words, "--query-modalities", "text", "--methods", "mean-shift")
    assert "mean-shift" in named


def test_advice_leads_to_a_closure_that_shards_are_mapped_with(files, modgap):
    advice = json.loads(modgap("advise", *COMPANIONS, "--partners", "partners.npy", "--json"))
    figures = {row["label"]: row for row in advice["evidence"]["closers"]}
    assert advice["evidence"]["judged_by"] == "ndcg"
    assert figures[advice["method"]]["ndcg"] > figures["none"]["ndcg"] + 0.2
    assert figures["calibrate"]["lists"] == 1
    assert "--companions texts.npy" in advice["command"]
    # What wins among 20 queries made up is chance; what every list is kept by is the closer to follow.
    command = advice["command"].replace(f"--method {advice['method']}", "--method calibrate")
    printed = modgap(*shlex.split(command)[1:])
    assert "no ranking within a modality changes" in printed
    for line in printed.splitlines():
        if line.strip().startswith("modgap apply"):
            modgap(*shlex.split(line)[1:])
    closure = library.load("closure.safetensors")
    for name, rows in (("gallery", IMAGES), ("companions", TEXTS)):
        source = {"gallery": "images.npy", "companions": "texts.npy"}[name]
        found = np.load(files / f"closed-{name}" / source)
        np.testing.assert_array_equal(found, closure.apply_gallery(rows, name))
    expected = closers.calibrate(ASKED, {"gallery": IMAGES, "companions": TEXTS})
    assert closure.scales == pytest.approx(expected.scales, rel=1e-6)


@pytest.mark.parametrize("method", ["calibrate", "calibrate:top", "calibrate+balanced", "center"])
def test_a_modality_per_row_closes_as_the_library_does(files, modgap, method):
    found = json.loads(
        modgap("close", *COLLECTION, "--method", method, "--out", "c.safetensors", "--json")
    )
    expected = closers.fit_mixed(method, ASKED, {"image": IMAGES, "text": TEXTS})
    assert (found["method"], found["modalities"]) == (method, ["image", "text"])
    closure = library.load("c.safetensors")
    for name, rows in (("image", IMAGES), ("text", TEXTS)):
        np.testing.assert_allclose(
            closure.apply_queries(ASKED) @ closure.apply_gallery(rows, name).T,
            expected.apply_queries(ASKED) @ expected.apply_gallery(rows, name).T,
            atol=1e-4,  # float32 rows, scores of size one
        )


def test_without_answers_the_advice_says_what_it_cannot_know(files, modgap):
    text = modgap("advise", *COLLECTION)
    assert "Use calibrate" in text
    assert "cannot be told without answers" in " ".join(text.split())
    assert "--modalities kinds.txt" in text
