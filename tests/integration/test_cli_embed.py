"""From pictures and a model to embeddings, figures and a page, by the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
PIL = pytest.importorskip("PIL.Image")
pytest.importorskip("pyarrow")

from modgap import cli, encode  # noqa: E402
from modgap.io import read_array  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "encode"))
from tiny_onnx import save_onnx  # noqa: E402


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, pictures of three classes, one of them broken, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODGAP_CACHE", str(tmp_path / "cache"))
    save_onnx(tmp_path / "model")
    rng = np.random.default_rng(0)
    for name in ("bird", "cat", "dog"):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (9, 14, 3), dtype=np.uint8)
            PIL.fromarray(pixels).save(tmp_path / "pics" / name / f"{i}.png")
    (tmp_path / "pics" / "cat" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


def run(capsys, *words):
    """Return the exit code, stdout and stderr of a command line."""
    code = cli.main(list(words))
    found = capsys.readouterr()
    return code, found.out, found.err


def test_embed_then_evaluate(here, capsys):
    code, out, err = run(
        capsys,
        "embed",
        "--model",
        "model",
        "--images",
        "pics",
        "--classes",
        "own",
        "--out",
        "out",
        "--json",
    )
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert (document["images"], document["skipped"]) == (18, 1)
    assert document["model"]["backend"] == "onnx"
    texts = np.load(here / "out" / document["files"]["class_texts"])
    assert texts.shape == (1, 3, 6)
    encoder = encode.load("model")
    np.testing.assert_allclose(
        texts[0, 2], encoder.encode_texts(["a photo of a dog."])[0], atol=1e-6
    )
    assert np.load(here / "out" / "labels.npy").tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert json.loads((here / "out" / "classes.json").read_text()) == ["bird", "cat", "dog"]
    again = run(capsys, "embed", "--model", "model", "--images", "pics", "--out", "out")
    assert "1 of the shards were complete already." in again[1]
    files = ["--queries", "out/img_emb", "--gallery", "out/texts.npy", "--labels", "out/labels.npy"]
    straight = run(capsys, "evaluate", *files, "--json", "--noise", "none")
    pictures = ["--images", "pics", "--model", "model"]
    at_once = run(capsys, "evaluate", *pictures, "--json", "--noise", "none")
    assert straight[0] == at_once[0] == 0
    figures = [
        [
            (row["label"], row["clean_accuracy"], row["gap_after"])
            for row in json.loads(text)["closers"]
        ]
        for text in (straight[1], at_once[1])
    ]
    assert figures[0] == figures[1]


def test_several_templates_have_an_ensemble_too(here, capsys):
    (here / "words.txt").write_text("a photo of a {}.\na {} outside.\n")
    words = ["--templates", "words.txt", "--classes", "own", "--images", "pics", "--model", "model"]
    assert run(capsys, "embed", *words, "--out", "several")[0] == 0
    texts, mean = (np.load(here / "several" / name) for name in ("texts.npy", "ensemble.npy"))
    assert texts.shape[:2] == (2, 3)
    for row, own in zip(mean, texts.transpose(1, 0, 2), strict=True):
        expected = sum(one / np.linalg.norm(one) for one in own)
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-6)


def test_advice_on_pictures_is_that_on_their_embeddings(here, capsys):
    words = ["--images", "pics", "--model", "model"]
    assert run(capsys, "embed", *words, "--classes", "own", "--out", "out")[0] == 0
    assert not (here / "out" / "ensemble.npy").exists()  # of one template
    pictures = run(capsys, "advise", *words, "--json")
    files = ["--queries", "out/img_emb", "--gallery", "out/texts.npy", "--labels", "out/labels.npy"]
    straight = run(capsys, "advise", *files, "--json")
    assert pictures[0] == straight[0] == 0
    found = [json.loads(text)["evidence"]["closers"] for text in (pictures[1], straight[1])]
    assert found[0] == found[1]
    assert "give `--queries` and `--gallery`, or `--images`" in run(capsys, "advise")[2]


def test_a_report_of_pictures_is_encoded_once(here, capsys, monkeypatch):
    pytest.importorskip("altair")
    words = ["report", "--images", "pics", "--model", "model", "--noise", "sign", "--out", "r.html"]
    assert run(capsys, *words)[0] == 0
    seen = []
    kept = encode.Encoder.stream
    monkeypatch.setattr(
        encode.Encoder, "stream", lambda self, *a, **k: seen.append(a) or kept(self, *a, **k)
    )
    assert run(capsys, *words)[0] == 0
    assert seen == []
    (here / "pics" / "dog" / "0.png").write_bytes((here / "pics" / "cat" / "0.png").read_bytes())
    assert run(capsys, *words)[0] == 0
    assert seen  # a picture has changed
    page = (here / "r.html").read_text()
    assert "0.png</" in page  # answers by file name and thumbnail
    assert page.count('src="data:image/jpeg;base64,') >= 5
    assert "Modality gap · model · " in page


def test_captions_are_embedded_alone(here, capsys):
    (here / "captions.txt").write_text("a red cat\nthe dog\n")
    code, out, _ = run(
        capsys, "embed", "--model", "model", "--texts", "captions.txt", "--out", "texts"
    )
    assert code == 0
    assert "2 texts in 1 shard," in out
    assert read_array("texts/text_emb").shape == (2, 6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("embed --model model --out o", "give `--images`, `--texts` or `--classes`"),
        ("embed --model model --images pics --texts x.txt --out o", "folders of their own"),
        (
            "embed --model model --images pics --templates cifar --out o",
            "`--templates` need `--classes`",
        ),
        ("embed --model model --images absent --out o", "no file or folder at `absent`"),
        ("embed --model absent/model --offline --images pics --out o", "not at hand"),
        ("embed --model model --images pics --strict --out o", "`cat/broken.jpg` cannot be read"),
        ("embed --model model --images pics --out model", "is one of the inputs"),
        ("embed --model model --device toaster --images pics --out o", "`device` 'toaster'"),
        ("report --model model", "`--images` and `--model` go together"),
        ("report a.npy b.npy --images pics --model model", "go together, in the place of"),
        ("evaluate --images pics", "`--images` needs `--model`"),
        ("evaluate", "give `--queries` and `--gallery`, or `--images` and `--model`"),
    ],
)
def test_mistakes_are_one_line(here, capsys, words, message):
    code, out, err = run(capsys, *words.split())
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
