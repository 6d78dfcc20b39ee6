"""`modgap doctor CLOSURE`: exit codes for cron, and the same figures in words and in JSON."""

import json
import sys

import numpy as np
import pytest

from modgap import closers, load_sample
from modgap.cli import main
from modgap.measures import drift


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = load_sample()
    images, texts = sample.images, sample.texts
    np.save("first.npy", images[:500])
    np.save("second.npy", images[500:])
    np.save("other.npy", images[500:] + np.float32(0.2))
    np.save("templates.npy", texts)
    np.save("texts.npy", texts[0])
    closers.fit("affine", images[:500], texts[0]).save("closure.safetensors")
    closers.fit("center", images[:500], texts[0]).save("center.safetensors")
    return sample


def run(capsys, *words):
    code = main(["doctor", *words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_closure_that_still_fits(files, capsys):
    words = ("closure.safetensors", "--queries", "second.npy", "--gallery")
    code, out, _ = run(capsys, *words, "texts.npy")
    assert code == 0
    assert "This closure still fits." in out
    assert "queries" in out
    code, out, _ = run(capsys, *words, "texts.npy", "--json")
    document = json.loads(out)
    assert (code, document["drifted"]) == (0, False)
    again = drift(closers.load("closure.safetensors"), files.images[500:], files.texts[0])
    assert document["bits"] == pytest.approx(again.to_dict()["bits"])
    assert document["queries"]["count_at_fit"] == 500
    code, out, _ = run(capsys, *words, "templates.npy", "--template", "0", "--json")
    assert json.loads(out)["gallery"] == pytest.approx(document["gallery"])


def test_what_modgap_close_writes_can_be_checked(files, capsys):
    words = ("--queries", "second.npy", "--gallery", "texts.npy")
    assert main(["close", *words, "--method", "balanced", "--out", "streamed.safetensors"]) == 0
    capsys.readouterr()
    document = json.loads(run(capsys, "streamed.safetensors", *words, "--json")[1])
    assert document["queries"]["count_at_fit"] == 500
    assert document["bits"]["at_fit"] == pytest.approx(document["bits"]["now"], abs=1e-6)
    assert document["missing"] == []


def test_one_modality_of_a_mixed_collection(files, capsys):
    words = ("--queries", "texts.npy", "--gallery", "first.npy", "--companions", "second.npy")
    assert main(["close", *words, "--method", "calibrate", "--out", "mixed.safetensors"]) == 0
    capsys.readouterr()
    words = ("mixed.safetensors", "--queries", "texts.npy", "--gallery", "second.npy")
    code, out, _ = run(capsys, *words, "--modality", "companions", "--json")
    document = json.loads(out)
    assert (code, document["gallery"]["mean"]) == (0, pytest.approx(0.0, abs=1e-6))
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "(gallery, companions); say which one" in err


def test_a_closure_that_has_drifted(files, capsys):
    words = ("center.safetensors", "--queries", "other.npy", "--gallery", "texts.npy")
    code, out, _ = run(capsys, *words)
    assert code == 1
    assert "moved: spreads" in out
    assert "the mean of the queries has moved by" in out
    assert run(capsys, *words, "--threshold", "mean=9", "--threshold", "spread=9")[0] == 0
    still = run(capsys, "closure.safetensors", *words[1:])
    assert still[0] == 0
    assert "fitting again would win 0.00 bits, though the mean of the queries has moved" in still[1]
    code, out, _ = run(
        capsys,
        "closure.safetensors",
        "--queries",
        "second.npy",
        "--gallery",
        "second.npy",
        "--json",
    )
    document = json.loads(out)
    assert (code, document["exactness"]["drifted"]) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("closure.safetensors",), "give CLOSURE, `--queries` and `--gallery`"),
        (("--queries", "second.npy", "--gallery", "texts.npy"), "give CLOSURE, `--queries`"),
        (("closure.safetensors", "--queries", "second.npy", "--gallery", "texts.npy", "--threshold",
          "size=1"), "`--threshold` must be NAME=VALUE with a name of bits, mean, spread"),
        (("closure.safetensors", "--queries", "second.npy", "--gallery", "texts.npy", "--threshold",
          "bits=low"), "--threshold bits"),
        (("closure.safetensors", "--queries", "second.npy", "--gallery", "templates.npy"),
         "choose it with --template I"),
        (("second.npy", "--queries", "second.npy", "--gallery", "texts.npy"), "`second.npy`"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(files, capsys, words, said):
    code, _, err = run(capsys, *words)
    (line,) = err.splitlines()
    assert code == 2
    assert said in line


def test_many_queries_are_looked_at_evenly(files, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["modgap.measures.drift"], "SAMPLE", 100)
    monkeypatch.setattr("modgap.io.streams._ROWS", 64)
    words = ("closure.safetensors", "--queries", "second.npy", "--gallery", "texts.npy", "--json")
    document = json.loads(run(capsys, *words)[1])
    again = drift(closers.load("closure.safetensors"), files.images[500:], files.texts[0])
    assert document["queries"] == pytest.approx(again.to_dict()["queries"])
    assert document["queries"]["count"] == 500
