"""Words for classes, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dataset_files as files
import numpy as np
import pytest

from modgap import ZeroShot, evaluate
from modgap.cli import main
from modgap.datasets import (
    class_texts,
    open_collection,
    prompts,
    read_classes,
    read_paraphrases,
    read_templates,
)
from modgap.encode import Card, Encoder, as_rgb, embed, encode_classes, encode_ensemble, ensemble
from modgap.errors import ArgumentError, DataError, FormatError

ROOT = Path(__file__).parents[3]


class Letters:
    """A tower whose row of a text is that of its letters: no model, and every text another row."""

    def prepare(self, item: Any) -> str:
        return str(item)

    def run(self, prepared: Sequence[str]) -> np.ndarray:
        seeds = [[ord(c) for c in text] for text in prepared]
        return np.stack([np.random.default_rng(seed).normal(size=8) for seed in seeds])


def letters() -> Encoder:
    card = Card(backend="test", model="letters", dimension=8, modalities=("text",))
    return Encoder(card, {"text": Letters()}, workers=1)


def test_published_templates_are_those_of_their_sources(real_data: Any) -> None:
    found = prompts.published_templates()
    assert list(found["cifar"]) == real_data.json("cifar10_images", "prompts.json")["templates"]
    assert found["imagenet"][0] == "a bad photo of a {}."
    assert set(found["imagenet-7"]) <= set(found["imagenet"])


def test_every_published_list_says_where_it_is_from() -> None:
    known = (ROOT / "docs/references.bib").read_text()
    for kind in ("templates", "classes"):
        for name, entry in prompts._published(kind).items():
            assert entry["from"], name
            assert entry["source"] is None or f"{{{entry['source']}," in known
            assert entry["licence"]
    assert len(read_classes("imagenet")) == 1000
    assert read_classes("imagenet")[:2] == ["tench", "goldfish"]


def test_templates_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a {}\nthe {}, again {}\n")
    (tmp_path / "t.json").write_text(json.dumps(["a {}"]))
    assert class_texts(["x"], read_templates(tmp_path / "t.txt")) == ["a x", "the x, again x"]
    assert read_templates(tmp_path / "t.json") == ["a {}"]
    for text, words in (("a {}\na cat\n", "template 1 of"), ("a {}\na {}\n", "twice")):
        (tmp_path / "t.txt").write_text(text)
        with pytest.raises(DataError, match=words):
            read_templates(tmp_path / "t.txt")
    with pytest.raises(
        ArgumentError, match="one of imagenet, imagenet-7, cifar, photo, name, or a"
    ):
        read_templates("coco")


def test_texts_of_classes_keep_what_looks_like_a_format() -> None:
    assert class_texts(["{0} & {x}"], ["a {}"]) == ["a {0} & {x}"]
    for classes, templates in (([], ["{}"]), (["a"], []), ("cat", ["{}"]), (["a"], ["b"])):
        with pytest.raises(ArgumentError):
            class_texts(classes, templates)


def test_paraphrases_come_from_either_file(tmp_path: Path) -> None:
    wanted = {"cat": ("a cat", 'a "feline", small'), "dog": ("hound",)}
    as_json, as_csv = tmp_path / "p.json", tmp_path / "p.csv"
    as_json.write_text(json.dumps({name: list(texts) for name, texts in wanted.items()}))
    as_csv.write_text('class,text\ncat,a cat\ndog,hound\ncat,"a ""feline"", small"\n')
    assert read_paraphrases(as_json) == read_paraphrases(as_csv) == wanted
    assert list(read_paraphrases(as_csv, classes=["dog", "cat"])) == ["dog", "cat"]
    with pytest.raises(DataError, match="has no text for `bird`"):
        read_paraphrases(as_csv, classes=["dog", "cat", "bird"])
    with pytest.raises(DataError, match="unknown class, `cat`"):
        read_paraphrases(as_csv, classes=["dog"])
    with pytest.raises(ArgumentError, match="`dog` has 1, another 2"):
        prompts.paraphrase_galleries(wanted)


@pytest.mark.parametrize(
    ("name", "text", "kind", "words"),
    [
        ("p.json", "[]", DataError, "must hold an object"),
        ("p.json", "{}", DataError, "holds no text"),
        ("p.json", '{"a": "b"}', DataError, "must have a list"),
        ("p.json", '{"a": [3]}', DataError, "must be a text"),
        ("p.csv", "a,b,c\n", FormatError, "row 1 must hold a class and a text"),
        ("p.csv", "a, \n", DataError, "must be a text"),
        ("p.txt", "a", FormatError, "must be a .json object"),
    ],
)
def test_damaged_paraphrases_are_one_line(
    name: str, text: str, kind: type[Exception], words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(kind, match=words):
        read_paraphrases(tmp_path / name)


def test_an_ensemble_is_the_mean_of_unit_rows_at_unit_length(xp: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 4, 5))
    expected = np.zeros((4, 5))
    for c in range(4):
        for t in range(3):
            expected[c] += rows[t, c] / np.sqrt((rows[t, c] ** 2).sum())
        expected[c] /= np.sqrt((expected[c] ** 2).sum())
    np.testing.assert_allclose(np.asarray(ensemble(xp.asarray(rows))), expected, rtol=1e-12)


def test_rows_that_cancel_out_have_no_ensemble() -> None:
    rows = np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [-1.0, 0.0]]])
    with pytest.raises(DataError, match="class 1 cancel out"):
        ensemble(rows)


def test_encoded_classes_are_galleries_of_a_task() -> None:
    encoder, classes, templates = letters(), ["cat", "dog", "ant"], ["a {}", "the {}", "{}"]
    rows = encode_classes(encoder, classes, templates)
    assert rows.shape == (3, 3, 8)
    np.testing.assert_array_equal(rows[1, 2], encoder.encode_texts(["the ant"])[0])
    as_one = encode_ensemble(encoder, [[t.replace("{}", c) for t in templates] for c in classes])
    np.testing.assert_allclose(as_one, ensemble(rows), atol=1e-6)  # float32
    ragged = encode_ensemble(encoder, [["cat"], ["dog", "hound"]])
    np.testing.assert_allclose(ragged[0], encoder.encode_texts(["cat"])[0], atol=1e-6)
    with pytest.raises(ArgumentError, match="at least one text"):
        encode_ensemble(encoder, [["cat"], []])
    task = ZeroShot(rows[0], rows, np.arange(3), templates=templates)
    assert evaluate(task, "none", noises=()).rows[0].clean_accuracy == 1.0


class Pixels:
    """A tower whose row of a picture is made of its pixels."""

    def prepare(self, item: Any) -> np.ndarray:
        return np.asarray(as_rgb(item), dtype=np.float64).reshape(-1)[:8] + 1

    def run(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(list(prepared))


def test_embedded_questions_become_multiple_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the published file to the answer: the files of an embedding are inputs of a task as they are."""
    card = Card(backend="test", model="both", dimension=8, modalities=("image", "text"))
    encoder = Encoder(card, {"image": Pixels(), "text": Letters()}, workers=1)
    questions = open_collection(files.aokvqa(tmp_path / "in"))
    done = embed(encoder, questions, tmp_path / "out")
    names = {kind: str(tmp_path / "out" / file) for kind, file in done.files.items()}
    words = ["--queries", names["img_emb"], "--gallery", names["text_emb"], "--json"]
    words += ["--owners", names["owners"], "--answers", names["labels"], "--methods", "none"]
    assert main(["evaluate", *words, "--noise", "bins:64"]) == 0
    found = json.loads(capsys.readouterr().out)
    task = found["task"]
    assert (task["kind"], task["queries"], task["gallery"]) == ("multiple-choice", 2, 4)
    items = list(questions.items(0, 2))
    images = encoder.encode_images([item.image for item in items])
    right = []
    for image, item in zip(images, items, strict=True):
        right.append(int(np.argmax(encoder.encode_texts(item.texts) @ image)) == item.label)
    assert found["closers"][0]["clean_accuracy"] == np.mean(right)
