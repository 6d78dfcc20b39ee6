"""Models times data sets: cells as files, kept and compared; what cannot be had is one line."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
PIL = pytest.importorskip("PIL.Image")
pytest.importorskip("altair")

from modgap import bench, cli, encode  # noqa: E402
from modgap.errors import ArgumentError, FormatError  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "encode"))
from tiny_onnx import save_onnx  # noqa: E402


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, a set with classes and one with captions, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "cache"))
    save_onnx(tmp_path / "model")
    rng = np.random.default_rng(0)
    annotations = {"images": [], "annotations": []}
    for i in range(18):
        for folder in (("bird", "cat", "dog")[i % 3], "."):
            target = tmp_path / ("pics" if folder != "." else "coco/images") / folder
            target.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (9, 14, 3), dtype=np.uint8)
            PIL.fromarray(pixels).save(target / f"{i}.png")
        annotations["images"].append({"id": i, "file_name": f"{i}.png"})
    words = rng.choice(["a", "photo", "of", "cat", "dog", "red", "blue", "picture"], (18, 5))
    for i, caption in enumerate(words):
        text = " ".join(caption)
        annotations["annotations"].append({"id": i, "image_id": i, "caption": text})
    (tmp_path / "coco" / "captions.json").write_text(json.dumps(annotations))
    return tmp_path


def run(capsys, *words):
    """Return the exit code, stdout and stderr of a command line."""
    code = cli.main(list(words))
    found = capsys.readouterr()
    return code, found.out, found.err


def test_cells_are_made_once_and_compared(here, capsys, monkeypatch):
    sets = "classes=pics,coco/captions.json"
    words = f"bench --models model,absent/model --datasets {sets} --offline --out results --json".split()
    words += ["--noise", "sign"]
    code, out, err = run(capsys, *words)
    assert (code, err) == (0, "")
    cells = json.loads(out)["cells"]
    assert [(c["model"], c["dataset"], c["error"] is None) for c in cells] == [
        ("model", "classes", True),
        ("model", "captions.json", True),
        ("absent/model", "classes", False),
        ("absent/model", "captions.json", False),
    ]
    assert "not at hand" in cells[2]["error"]
    cell = json.loads((here / cells[0]["file"]).read_text())
    assert cell["model"]["backend"] == "onnx"
    assert cell["report"]["task"]["kind"] == "zero-shot"
    other = json.loads((here / cells[1]["file"]).read_text())
    assert other["report"]["task"]["kind"] == "paired-retrieval"
    with (here / "results" / "compare.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["name"] for row in rows] == ["model / classes"] + ["model / captions.json"] * 2
    best = next(
        row
        for row in cell["report"]["problems"][0]["closers"]
        if row["label"] == cell["report"]["closer"]["label"]
    )
    assert float(rows[0]["sign after"]) == best["noises"][0]["retention"]
    assert "toprule" in (here / "results" / "compare.tex").read_text()
    monkeypatch.setattr(encode.Encoder, "stream", None)  # nothing is encoded again
    again = json.loads(run(capsys, *words)[1])["cells"]
    assert [c["kept"] for c in again] == [True, True, False, False]
    # A file is no cell without the data that it was made from.
    (here / "pics").rename(here / "gone")
    assert json.loads(run(capsys, *words)[1])["cells"][0]["error"].startswith("no file or folder")


def test_the_papers_suite_names_its_models_and_data():
    suite = bench.read_suite("paper", data="there")
    assert len(suite.models) == 4
    assert suite.datasets[0].path == f"cifar10:{Path('there') / 'cifar-10-batches-bin'}"
    assert {entry.name for entry in suite.datasets} >= {
        "CIFAR-10",
        "CIFAR-100",
        "ImageNet",
        "A-OKVQA",
    }
    assert {"gaussian:0.022", "bins:64"} <= set(suite.noises)


@pytest.mark.parametrize(
    "text",
    [
        "models = 3",
        "models = []\nother = 1",
        "[[datasets]]\nname = 'x'",
        "[[datasets]]\nname = 'x'\npath = 3",
        "datasets = 'x'",
        "no toml",
    ],
)
def test_a_damaged_suite_is_one_line(tmp_path, text):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(FormatError) as caught:
        bench.read_suite(str(tmp_path / "s.toml"))
    assert "\n" not in str(caught.value)
    with pytest.raises(ArgumentError, match="a suite is one of paper"):
        bench.read_suite("nobody")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give `--models` and `--datasets`"),
        ("--suite paper --models model", "`--suite` names models and data sets itself"),
        ("--models model --datasets pics --data x", "`--data` is where"),
        ("--models model --datasets pics,pics", "two data sets have one name"),
        ("--models model --datasets pics --noise loud", "loud"),
        (
            "--models absent/model --datasets pics --offline",
            "the first: cannot load",
        ),
        ("--models model --datasets pics --out model/config.json/x", "cannot make the folder"),
        ("--models model --datasets absent", "no cell could be made; the first: no file"),
    ],
)
def test_mistakes_are_one_line(here, capsys, words, message):
    code, _, err = run(capsys, "bench", "--out", "results", *words.split())
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
