"""`modgap close` and `modgap apply`: the library's closures, streamed, saved, applied, resumed."""

import json
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from modgap import closers, load_sample
from modgap.cli import main
from modgap.closers.closure import Closure


@pytest.fixture
def files(tmp_path):
    sample = load_sample()
    np.save(tmp_path / "images.npy", 3 * sample.images)  # not of unit length: cosine must see to it
    np.save(tmp_path / "texts.npy", sample.texts[0])
    np.save(tmp_path / "templates.npy", sample.texts)
    shards = tmp_path / "shards"
    shards.mkdir()
    for i, rows in enumerate(np.array_split(3 * sample.images, 3)):
        np.save(shards / f"img_emb_{i}.npy", rows)
    return tmp_path


#: A stream has no pairs, and `balanced` chooses its shrinkage from pieces of it.
METHODS = sorted(set(closers.METHODS) - {"procrustes", "balanced"})


@pytest.mark.parametrize("metric", ["euclidean", "ip", "cosine"])
@pytest.mark.parametrize("method", METHODS)
def test_a_streamed_closure_is_the_fitted_one(files, modgap, method, metric):
    images, texts = np.load(files / "images.npy"), np.load(files / "texts.npy")
    images = images / 3 if method == "scaled" else images
    np.save(files / "q.npy", images)
    out = files / "closure.safetensors"
    modgap(
        "close", "--queries", files / "q.npy", "--gallery", files / "texts.npy",
        "--method", method, "--metric", metric, "--out", out,
    )  # fmt: skip
    expected, found = closers.fit(method, images, texts, metric=metric), Closure.load(out)
    assert (found.method, found.metric) == (method, metric)
    assert expected.exact or not found.exact  # a bound from moments alone is never tighter
    assert found.comparison == expected.comparison
    # float32 products of blocks and of the whole differ in their last digits
    np.testing.assert_allclose(
        found.apply_queries(images), expected.apply_queries(images), atol=2e-5
    )
    np.testing.assert_allclose(found.apply_gallery(texts), expected.apply_gallery(texts), atol=2e-5)


def test_shards_fit_as_one_file_does(files, modgap):
    one, other = files / "one.safetensors", files / "other.safetensors"
    for queries, out in ((files / "images.npy", one), (files / "shards", other)):
        modgap(
            "close", "--queries", queries, "--gallery", files / "templates.npy", "--template", 2,
            "--method", "orthogonal", "--metric", "cosine", "--out", out,
        )  # fmt: skip
    texts = np.load(files / "templates.npy")[2]
    np.testing.assert_allclose(
        Closure.load(one).apply_gallery(texts), Closure.load(other).apply_gallery(texts), atol=1e-6
    )


def test_options_reach_the_closer(files, modgap):
    out = files / "closure.safetensors"
    document = json.loads(
        modgap(
            "close", "--queries", files / "images.npy", "--gallery", files / "texts.npy",
            "--method", "orthogonal", "--alpha", 0.5, "--n-components", 4, "--side", "queries",
            "--out", out, "--json",
        )
    )  # fmt: skip
    assert document["alpha"] == 0.5
    assert document["n_components"] == 4
    assert not document["exact"]
    assert document["info"]["side"] == "queries"
    assert document["info"]["queries_source"] == str(files / "images.npy")
    share = json.loads(
        modgap(
            "close", "--queries", files / "images.npy", "--gallery", files / "texts.npy",
            "--n-components", "0.9", "--reduce", "--out", out, "--json",
        )
    )  # fmt: skip
    assert 1 < share["n_components"] < 9
    assert Closure.load(out).gallery.output_width == share["n_components"]


def test_pairs_and_pools(files, modgap):
    out = files / "closure.safetensors"
    modgap(
        "close", "--queries", files / "images.npy", "--gallery", files / "shards",
        "--method", "procrustes", "--out", out,
    )  # fmt: skip
    assert Closure.load(out).method == "procrustes"
    modgap(
        "close", "--queries", files / "images.npy", "--gallery", files / "templates.npy",
        "--pool", "--out", out,
    )  # fmt: skip
    assert Closure.load(out).info["gallery"] == 180


def test_closing_says_what_to_do_next_and_that_works(files, modgap, monkeypatch):
    monkeypatch.chdir(files)
    printed = modgap("close", "--queries", "images.npy", "--gallery", "texts.npy", "--out",
                     "c.safetensors")  # fmt: skip
    assert "exact: no noise-free answer changes" in printed
    assert "rank of the gallery  9 of 128" in printed
    commands = [line.split() for line in printed.splitlines() if "modgap apply" in line]
    assert len(commands) == 2
    for words in commands:
        assert "rows/s" in modgap(*words[1:])
    closure = Closure.load("c.safetensors")
    np.testing.assert_array_equal(
        np.load("closed-queries/images.npy"), closure.apply_queries(np.load("images.npy"))
    )
    np.testing.assert_array_equal(
        np.load("closed-gallery/texts.npy"), closure.apply_gallery(np.load("texts.npy"))
    )


def test_a_side_that_stays_is_named(files, modgap):
    printed = modgap("close", "--queries", files / "images.npy", "--gallery", files / "texts.npy",
                     "--method", "orthogonal", "--side", "queries", "--metric", "ip",
                     "--out", files / "c.safetensors")  # fmt: skip
    assert "the gallery stay" in printed


def test_apply_skips_what_is_complete(files, modgap):
    closure, out = files / "c.safetensors", files / "closed"
    modgap("close", "--queries", files / "shards", "--gallery", files / "texts.npy",
           "--out", closure)  # fmt: skip
    words = ("apply", closure, "--queries", files / "shards", "--out", out)
    first = json.loads(modgap(*words, "--json"))
    assert (first["shards"], first["skipped"], first["rows"]) == (3, 0, 1000)
    (out / "img_emb_1.npy").unlink()
    assert json.loads(modgap(*words, "--json"))["skipped"] == 2
    assert "nothing to do" in modgap(*words)
    modgap("close", "--queries", files / "shards", "--gallery", files / "texts.npy",
           "--method", "center", "--out", closure)  # fmt: skip
    assert json.loads(modgap(*words, "--json"))["skipped"] == 0


def test_a_gallery_of_templates_keeps_its_shape(files, modgap):
    closure = files / "c.safetensors"
    modgap("close", "--queries", files / "images.npy", "--gallery", files / "templates.npy",
           "--template", 1, "--method", "recenter", "--out", closure)  # fmt: skip
    modgap("apply", closure, "--gallery", files / "templates.npy", "--out", files / "g")
    assert np.load(files / "g" / "templates.npy").shape == (18, 10, 128)


def test_warnings_are_one_line_each(files, capsys, rng):
    np.save(files / "full.npy", rng.normal(size=(300, 128)))
    code = main(
        ["close", "--queries", str(files / "images.npy"), "--gallery", str(files / "full.npy"),
         "--out", str(files / "c.safetensors")]
    )  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0
    (line,) = printed.err.splitlines()
    assert line.startswith("modgap: warning: `affine`: the gallery spans all 128 dimensions")
    assert ".py" not in line


def test_an_interrupted_apply_resumes_to_the_same_bytes(tmp_path, rng, interruptible_modgap):
    """Compressed shards are slow to read, so that the interruption comes in the middle."""
    shards = tmp_path / "shards"
    shards.mkdir()
    for i in range(6):
        rows = rng.normal(size=(4000, 256)).astype(np.float32)
        np.savez_compressed(shards / f"img_emb_{i}.npz", emb=rows)
    np.save(tmp_path / "texts.npy", rng.normal(size=(9, 256)))
    closure = closers.fit("affine", rows, np.load(tmp_path / "texts.npy").astype(np.float32))
    closure.save(tmp_path / "c.safetensors")

    def command(out):
        words = ("apply", tmp_path / "c.safetensors", "--queries", shards, "--out", tmp_path / out)
        return [*interruptible_modgap, *map(str, words)]

    for _ in range(5):  # a busy machine may wake this process when all shards are done
        shutil.rmtree(tmp_path / "stopped", ignore_errors=True)
        running = subprocess.Popen(
            command("stopped"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 120
        second = tmp_path / "stopped" / "img_emb_1.npy"  # so that the first is recorded
        while running.poll() is None and not second.exists():
            assert time.monotonic() < deadline
            time.sleep(0.002)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)
        if running.returncode != 0:
            break
    assert running.returncode == 130
    (line,) = errors.splitlines()
    assert line.startswith("modgap: interrupted")
    done = {path.name for path in (tmp_path / "stopped").iterdir()}
    assert "img_emb_5.npy" not in done
    assert not [name for name in done if ".tmp" in name]

    resumed = subprocess.run([*command("stopped"), "--json"], capture_output=True, check=True)
    assert 1 <= json.loads(resumed.stdout)["skipped"] < 6
    subprocess.run(command("whole"), capture_output=True, check=True)
    for i in range(6):
        name = f"img_emb_{i}.npy"
        assert (tmp_path / "stopped" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes()
