"""`modgap stats` and `modgap close --stats`: published moments in the place of rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from modgap import closers, load_sample
from modgap.cli import main
from modgap.closers import Closure, ModelStatistics


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample = load_sample()
    np.save("images.npy", sample.images)
    np.save("templates.npy", sample.texts)
    (tmp_path / "shards").mkdir()
    for i, rows in enumerate(np.array_split(sample.images, 3)):
        np.save(tmp_path / "shards" / f"img_emb_{i}.npy", rows)
    np.save("texts.npy", sample.texts.reshape(-1, 128))
    (tmp_path / "card.md").write_text("# Card\n\nMade of the sample.", encoding="utf-8")
    return sample


@pytest.fixture
def published(files, modgap):
    modgap("stats", "write", "--queries", "texts.npy", "--gallery", "shards", "--model", "tiny",
           "--card", "card.md", "--out", "stats.safetensors")  # fmt: skip
    return ModelStatistics.load("stats.safetensors")


def test_what_is_written_is_shown(published, modgap):
    document = json.loads(modgap("stats", "show", "stats.safetensors", "--json"))
    assert document["model"] == "tiny"
    assert (document["queries"], document["gallery"], document["dimension"]) == (180, 1000, 128)
    assert document["card"] == "# Card\n\nMade of the sample."
    assert document["bits"] > 0
    printed = modgap("stats", "show", "stats.safetensors")
    assert "Made of the sample." in printed
    assert "tiny; rows at unit length" in printed


def test_several_processes_write_the_same_file(published, modgap):
    modgap("stats", "write", "--queries", "texts.npy", "--gallery", "shards", "--model", "tiny",
           "--card", "card.md", "--workers", "2", "--out", "again.safetensors")  # fmt: skip
    assert Path("again.safetensors").read_bytes() == Path("stats.safetensors").read_bytes()


def test_closing_from_statistics_is_closing_from_rows(published, files, modgap):
    texts, images = np.load("texts.npy"), files.images
    modgap(
        "close", "--stats", "stats.safetensors", "--method", "balanced", "--out", "c.safetensors"
    )
    found, expected = Closure.load("c.safetensors"), closers.fit("balanced", texts, images)
    assert found.info["model"] == "tiny"
    # Read block by block, a near tie of two axes may turn them: scores are what counts.
    scores = [each.queries(texts.astype(float)) @ each.gallery(images.astype(float)).T
              for each in (found, expected)]  # fmt: skip
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-10)
    assert found.info["shrinkage"] == pytest.approx(expected.info["shrinkage"])


def test_own_rows_take_the_place_of_one_side(published, files, modgap):
    modgap("close", "--stats", "stats.safetensors", "--gallery", "shards", "--method", "recenter",
           "--out", "c.safetensors")  # fmt: skip
    expected = closers.fit("recenter", np.load("texts.npy"), files.images)
    found = Closure.load("c.safetensors")
    rows = files.images.astype(float)
    np.testing.assert_allclose(found.gallery(rows), expected.gallery(rows), atol=1e-10)
    assert found.info["gallery_source"] == "shards"
    document = json.loads(
        modgap("close", "--stats", "stats.safetensors", "--queries", "images.npy", "--method", "center",
               "--out", "c.safetensors", "--json")
    )  # fmt: skip
    assert document["info"]["queries"] == 1000


def test_statistics_merge(files, modgap):
    for name, rows in (("a", files.images[:400]), ("b", files.images[400:])):
        np.save(f"{name}.npy", rows)
        modgap("stats", "write", "--queries", f"{name}.npy", "--gallery", "templates.npy", "--template",
               "1", "--model", "tiny", "--metric", "ip", "--out", f"{name}.safetensors")  # fmt: skip
    printed = modgap("stats", "merge", "a.safetensors", "b.safetensors", "--out", "ab.safetensors")
    assert "Note: the gallery items are 20 rows in 128 dimensions" in printed
    found = ModelStatistics.load("ab.safetensors")
    assert found.counts == (1000, 20)
    expected = np.mean(files.images.astype(float), axis=0)
    np.testing.assert_allclose(
        sum(part.count * part.mean for part in found.queries) / 1000, expected, atol=1e-12
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("close --out c.safetensors --queries texts.npy", "give `--gallery`, or `--stats`"),
        ("close --out c.safetensors", "give `--queries`, or `--stats`"),
        ("close --out c.safetensors --stats stats.safetensors --queries texts.npy --gallery images.npy",
         "stands in for the side that is not given"),
        ("close --out c.safetensors --stats stats.safetensors --metric ip", "rows at unit length"),
        ("close --out c.safetensors --stats stats.safetensors --method procrustes", "is fitted from rows"),
        ("close --out c.safetensors --stats stats.safetensors --template 1", "`--template` has no meaning"),
        ("close --out c.safetensors --stats stats.safetensors --workers 2", "no rows are read at all"),
        ("close --out c.safetensors --stats images.npy", "images.npy"),
        ("stats show images.npy", "images.npy"),
        ("stats merge stats.safetensors --out x.safetensors", "takes two files or more"),
        ("stats merge stats.safetensors stats.safetensors --out stats.safetensors", "one of the inputs"),
        ("stats write --queries texts.npy --gallery images.npy --model m --out s.npz", "must end in"),
        ("stats write --queries texts.npy --gallery images.npy --model m --card none --out s.safetensors",
         "no file or folder at `none`"),
        ("stats write --queries texts.npy --gallery images.npy --model m --card images.npy --out "
         "s.safetensors", "`images.npy` is no text in UTF-8"),
        ("stats write --queries texts.npy --gallery templates.npy --model m --out s.safetensors",
         "choose it with --template I"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(published, capsys, line, said):
    assert main(line.split()) == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1
    assert said in printed[0]


def test_a_file_of_another_kind_is_not_written_over(published, files, capsys):
    closers.fit("recenter", files.images, files.texts[0]).save("c.safetensors")
    words = "stats write --queries texts.npy --gallery images.npy --model m --out c.safetensors"
    assert main(words.split()) == 2
    assert "is no file of statistics; choose another name" in capsys.readouterr().err
    assert Closure.load("c.safetensors").method == "recenter"
