"""`modgap index study`: words first, then the table; JSON, CSV, a page; what fails is one line."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest

from modgap import closers, index, load_sample

pytest.importorskip("faiss", reason="FAISS is not installed")

CODECS = ("--codec", "faiss:SQ4", "--codec", "faiss-1bit", "--codec", "faiss:HNSW16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sample = load_sample()
    made = tmp_path_factory.mktemp("index")
    np.save(made / "images.npy", sample.images)
    np.save(made / "texts.npy", sample.texts.reshape(-1, 128))
    return made


@pytest.fixture
def study(modgap, folder):
    def run(*words):
        sides = ("--queries", folder / "texts.npy", "--gallery", folder / "images.npy")
        return modgap("index", "study", *sides, *words)

    return run


@pytest.fixture
def texts():
    return load_sample().texts.reshape(-1, 128)


def test_the_answer_stands_first_and_every_row_after_it(study, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = study(*CODECS, "--codec", "faiss:PQ13").splitlines()
    assert lines[0].startswith("The gap costs faiss:1bit most: it finds ")
    # On this sample signs lose: what was a common sign goes with the mean. It has to be said.
    assert any(
        re.match(r"`balanced` loses in \d of 3 codecs: faiss:1bit finds", line) for line in lines
    )
    table = [line.split() for line in lines if line.startswith("faiss:") and " none " in line]
    assert [row[:2] for row in table] == [["faiss:SQ4", "none"], ["faiss:1bit", "none"],
                                          ["faiss:HNSW16", "none"]]  # fmt: skip
    assert all(len(row) == 10 for row in table)
    assert "…" not in "".join(lines)
    assert sum("faiss:PQ13 failed: FAISS makes no index 'PQ13'" in line for line in lines) == 2


def test_json_is_the_librarys_document(study, folder, texts):
    document = json.loads(study(*CODECS, "--json", "--sample", 60, "--rescore", "1,2", "--seed", 3))
    assert document.pop("inputs") == {
        side: str(folder / f"{name}.npy") for side, name in (("queries", "texts"), ("gallery", "images"))
    }  # fmt: skip
    found = index.study(
        texts, load_sample().images, codecs=["faiss:SQ4", "faiss:1bit", "faiss:HNSW16"],
        sample=60, rescore=[1, 2], seed=3,
    ).to_dict()  # fmt: skip
    assert list(document) == list(found)
    for ours, theirs in zip(document["rows"], found["rows"], strict=True):
        for name in (
            "engine",
            "codec",
            "map",
            "bytes_per_vector",
            "recall",
            "rescored",
            "own_kind",
        ):
            assert ours[name] == theirs[name]
    assert document["setting"] == found["setting"]


def test_csv_has_a_line_a_codec_and_map(study):
    rows = list(csv.DictReader(io.StringIO(study(*CODECS[:4], "--csv"))))
    assert [(row["codec"], row["map"]) for row in rows] == [
        (codec, name) for codec in ("SQ4", "1bit") for name in ("none", "recenter", "balanced")
    ] + [("1bit", "balanced+lengths")]
    assert all(0 < float(row["recall_10_rescored_4"]) <= 1 for row in rows)


def test_a_saved_closure_and_labels(study, folder, texts):
    sample = load_sample()
    closers.fit("balanced", texts, sample.images).save(folder / "mine.safetensors")
    np.save(folder / "labels.npy", np.arange(180) % 10)
    np.save(folder / "kinds.npy", sample.labels)
    document = json.loads(
        study("--codec", "faiss-1bit", "--maps", "none", "--closure", folder / "mine.safetensors",
              "--labels", folder / "labels.npy", "--item-labels", folder / "kinds.npy", "--json")
    )  # fmt: skip
    assert [row["map"] for row in document["rows"]] == ["none", "balanced"]
    assert document["setting"]["judged"] == 180  # nothing was fitted
    assert all(0 <= row["right"]["1"] <= 1 for row in document["rows"])


def test_the_page_holds_words_pictures_and_figures(study, tmp_path):
    pytest.importorskip("altair", reason="the report extra draws")
    said = study(*CODECS, "--out", tmp_path / "study.html")
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert said.splitlines()[-1] == f"Page: {tmp_path / 'study.html'}"
    assert said.splitlines()[0].split(":")[0] in page
    assert page.count("<svg ") == 2  # recall against bytes, and the graph's against work
    assert page.count("<tr>") == 11
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "<script" not in page


def test_the_group_alone_shows_its_help(modgap):
    assert "study" in modgap("index")
    assert modgap("index") == modgap("index", "--help")
    assert "\n    modgap index study" in modgap("index", "study", "--help")
