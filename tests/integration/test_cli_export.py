"""`modgap export`: files that other runtimes read, and one line where that cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest

from modgap import closers, load_sample
from modgap.cli import main
from modgap.cli.export import TARGET_NAMES
from modgap.exports import TARGETS


@pytest.fixture
def closure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = load_sample()
    fitted = closers.fit("affine", sample.images, sample.texts[0])
    fitted.save("closure.safetensors")
    return fitted


def test_help_names_the_targets():
    assert TARGET_NAMES.split("|") == list(TARGETS)


def test_both_maps_in_one_file(closure, modgap):
    document = json.loads(
        modgap("export", "closure.safetensors", "--to", "npz", "--out", "c.npz", "--json")
    )
    assert document == {"out": ["c.npz"], "to": "npz", "side": "both", "comparison": "ip"}
    with np.load("c.npz") as found:
        assert {"queries.left", "gallery.offset", "about"} <= set(found)


def test_a_file_for_each_map(closure, modgap):
    pytest.importorskip("onnx")
    printed = modgap("export", "closure.safetensors", "--to", "onnx", "--out", "c.onnx")
    assert "Wrote c.queries.onnx, c.gallery.onnx. Compare mapped rows by inner product" in printed
    one = modgap("export", "closure.safetensors", "--to", "onnx", "--out", "q.onnx",
                 "--side", "queries")  # fmt: skip
    assert "Wrote q.onnx." in one


def test_one_modality_of_a_mixed_collection(closure, modgap):
    sample = load_sample()
    items = {"image": sample.images, "text": sample.texts[0]}
    closers.calibrate(sample.texts[1], items).save("mixed.safetensors")
    words = ("export", "mixed.safetensors", "--to", "json", "--out", "m.json")
    modgap(*words)
    assert list(json.loads(Path("m.json").read_text())["sides"]) == [
        "queries",
        "gallery_image",
        "gallery_text",
    ]
    modgap(*words, "--side", "gallery", "--modality", "text")
    assert list(json.loads(Path("m.json").read_text())["sides"]) == ["gallery_text"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "tflite", "--out", "c.tflite"), "`--to` must be one of onnx"),
        (("--to", "onnx", "--out", "c.sql"), "`--out` must end in .onnx; got `c.sql`"),
        (("--to", "npz", "--out", "c.npz", "--side", "items"), "`side` must be one of"),
        (("--to", "npz", "--out", "c.npz", "--modality", "image"), "leave it out"),
        (("--to", "torch", "--out", "closure.safetensors"), "is one of the inputs (`closure`)"),
        (("--to", "npz", "--out", "absent/c.npz"), "a folder that does not exist"),
    ],
)
def test_a_mistake_is_one_line(closure, capsys, words, said):
    assert main(["export", "closure.safetensors", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
