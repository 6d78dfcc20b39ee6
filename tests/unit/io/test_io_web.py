"""Real web servers on this machine: which folders of theirs are read, and what they refuse."""

import os

import numpy as np
import pytest
from io_files import save
from io_servers import Quiet, Ranges, Refusing, refused, serving

from modgap.cli import main
from modgap.closers.maps import AffineMap
from modgap.errors import FormatError
from modgap.io import apply_to_source, open_source, read_array, read_labels

pytest.importorskip("aiohttp", reason="aiohttp is not installed")

CLOUD = np.random.default_rng(0).standard_normal((24, 5)).astype(np.float32)
SHIFT = AffineMap(width=5, shift=np.arange(5.0))


@pytest.fixture
def pages(tmp_path):
    """A folder to be served, with shards in two formats."""
    folder = tmp_path / "www"
    for i in range(3):
        for kind, suffix in (("img_emb", "npy"), ("text_emb", "parquet")):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            save(folder / kind / f"{kind}_{i}.{suffix}", emb=CLOUD[8 * i : 8 * i + 8])
    (folder / "img_emb" / "read me.txt").write_text("no shard")
    (folder / "labels.txt").write_text("3\n1\n")
    return folder


def test_folders_of_a_web_server_are_read(pages, tmp_path):
    with serving(Ranges, pages) as address:
        np.testing.assert_array_equal(read_array(f"{address}/img_emb"), CLOUD)
        np.testing.assert_array_equal(read_array(f"{address}/text_emb/"), CLOUD)
        np.testing.assert_array_equal(read_array(f"{address}:img_emb"), CLOUD)
        np.testing.assert_array_equal(read_array(f"{address}/img_emb/img_emb_2.npy"), CLOUD[16:])
        assert read_labels(f"{address}/labels.txt").labels.tolist() == [3, 1]
        out = tmp_path / "out"

        def run():
            source = open_source(f"{address}/img_emb")
            return apply_to_source(SHIFT, source, out, fingerprint="f")["skipped"]

        assert (run(), run()) == (0, 3)
        target = save(pages / "img_emb" / "img_emb_1.npy", emb=CLOUD[16:])
        os.utime(target, (1, 1))  # the server tells seconds
        assert run() == 2
        np.testing.assert_array_equal(read_array(out)[8:16], SHIFT(CLOUD[16:]))
        source = open_source(f"{address}/img_emb")
    with pytest.raises(FormatError, match=r"img_emb_0.npy` cannot be read: .* run it again"):
        source.read()


def test_what_a_web_server_refuses_is_one_line(pages, tmp_path, capsys):
    closure = str(tmp_path / "c.safetensors")
    with serving(Quiet, pages) as address:
        line = refused(capsys, "measure", f"{address}/img_emb", f"{address}/img_emb")
        assert "hands out whole files alone and answers no byte ranges" in line
        line = refused(capsys, "measure", f"{address}/absent.npy", f"{address}/img_emb")
        assert f"no file or folder at `{address}/absent.npy`" in line
        words = ["--queries", f"{address}/text_emb", "--gallery", f"{address}/text_emb"]
        assert main(["close", *words, "--out", closure]) == 0  # small enough for one answer
        line = refused(capsys, "apply", closure, *words[:2], "--out", f"{address}/out")
        assert "`--out` must be a folder on this machine or in a store" in line
        assert f"`{address}/out` can only be read" in line
    line = refused(capsys, "measure", f"{address}/img_emb", f"{address}/img_emb")
    assert f"`{address}/img_emb` cannot be reached: Cannot connect" in line
    with serving(Refusing) as address:
        line = refused(capsys, "measure", f"{address}/img_emb", f"{address}/img_emb")
        assert f"`{address}/img_emb` cannot be read: permission denied; check the cred" in line
