"""Inputs that fsspec reaches: memory and archives stand for the stores of the world."""

import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from io_files import save

from modgap.cli import main
from modgap.closers.maps import AffineMap
from modgap.engines import Processes
from modgap.errors import FormatError, MissingExtraError, ShapeError
from modgap.io import apply_to_source, open_source, parse_spec, read_array, read_labels, streams
from modgap.io.remote import RemotePath

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")

CLOUD = np.random.default_rng(0).standard_normal((23, 5)).astype(np.float32)
SHIFT = AffineMap(width=5, shift=np.arange(5.0))


@pytest.fixture
def memory(tmp_path):
    """A function that puts local files into fsspec's memory, and the URL of the folder there."""
    files = fsspec.filesystem("memory")

    def put(**arrays):
        for name, array in arrays.items():
            path = name.replace("__", "/").replace("_DOT_", ".")
            local = tmp_path / os.path.basename(path)
            save(local, emb=array)
            files.pipe(f"/store/{path}", local.read_bytes())
            local.unlink()
        return "memory://store"

    yield put
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def archive(tmp_path):
    """The URL of a folder of three shards in a zip archive."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for i in range(3):
            save(tmp_path / f"img_emb_{i}.npy", emb=CLOUD[5 * i : 5 * i + 5])
            file.write(tmp_path / f"img_emb_{i}.npy", f"img_emb/img_emb_{i}.npy")
            (tmp_path / f"img_emb_{i}.npy").unlink()
    return f"zip://img_emb::file://{tmp_path}/all.zip"


@pytest.mark.parametrize(
    ("text", "url", "key"),
    [
        ("s3://bucket/folder", "s3://bucket/folder", None),
        ("s3://bucket/folder:img_emb", "s3://bucket/folder", "img_emb"),
        ("s3://bucket/folder:metadata:emb", "s3://bucket/folder", "metadata:emb"),
        ("http://host:8080/x.npy", "http://host:8080/x.npy", None),
        ("zip://emb::s3://bucket/x.zip", "zip://emb::s3://bucket/x.zip", None),
        ("zip://emb::x.zip", "zip://emb::x.zip", None),
        ("zip://a::/data/x.zip:emb", "zip://a::/data/x.zip", "emb"),
    ],
)
def test_urls_and_their_keys(text, url, key):
    assert parse_spec(text) == (RemotePath(url), key)


def test_a_file_url_is_a_path(tmp_path):
    path = save(tmp_path / "x.npz", a=CLOUD, b=CLOUD + 1)
    assert parse_spec(f"file://{path}:b") == (path, "b")
    np.testing.assert_array_equal(read_array(f"file://{path}:b"), CLOUD + 1)
    with pytest.raises(FormatError, match="the input's own"):
        apply_to_source(SHIFT, open_source(f"file://{path}", key="a"), tmp_path, fingerprint="f")


def test_the_parts_of_a_url():
    path = RemotePath("zip://img_emb/img_emb_0.npy::s3://bucket/x.zip")
    assert (path.name, path.stem, path.suffix) == ("img_emb_0.npy", "img_emb_0", ".npy")
    assert path.parent == RemotePath("zip://img_emb::s3://bucket/x.zip")
    assert path.parent / "img_emb_0.npy" == path
    assert RemotePath("memory://") / "x.npy" == RemotePath("memory://x.npy")


@pytest.mark.parametrize("suffix", ["npy", "safetensors", "parquet"])
@pytest.mark.parametrize("blocks", [4, 100])
def test_every_format_is_read_where_it_lies(memory, suffix, blocks):
    url = memory(**{f"x_DOT_{suffix}": CLOUD})
    source = open_source(f"{url}/x.{suffix}")
    assert (source.shape, source.dtype, source.format) == ((23, 5), np.float32, suffix)
    np.testing.assert_array_equal(source.read(), CLOUD)
    np.testing.assert_array_equal(np.concatenate(list(source.blocks(blocks))), CLOUD)


def test_a_folder_as_clip_retrieval_writes_it(memory):
    parts = {f"{kind}_emb__{kind}_emb_{i}_DOT_npy": CLOUD[6 * i : 6 * i + 6] + len(kind)
             for kind in ("img", "text") for i in range(3)}  # fmt: skip
    url = memory(
        **parts, **{f"metadata__metadata_{i}_DOT_parquet": CLOUD[i : i + 2] for i in range(3)}
    )
    np.testing.assert_array_equal(read_array(f"{url}:img_emb"), CLOUD[:18] + 3)
    np.testing.assert_array_equal(read_array(f"{url}/text_emb"), CLOUD[:18] + 4)
    assert open_source(f"{url}:metadata:emb").shape == (6, 5)
    with pytest.raises(
        FormatError, match="holds shards of 3 kinds: `img_emb`, `metadata`, `text_emb`"
    ):
        open_source(url)
    fsspec.filesystem("memory").rm("/store/img_emb/img_emb_1.npy")
    with pytest.raises(FormatError, match="lacks shard 1"):
        open_source(f"{url}:img_emb")


def test_labels_too(memory):
    url = memory(x_DOT_npy=CLOUD)
    fsspec.filesystem("memory").pipe("/store/labels.txt", b"3\n1\n")
    assert read_labels(f"{url}/labels.txt").labels.tolist() == [3, 1]


def test_mapping_resumes_and_sees_what_changed(memory, tmp_path):
    url = memory(**{f"emb_{i}_DOT_npy": CLOUD[5 * i : 5 * i + 5] for i in range(3)})
    out = tmp_path / "out"
    assert apply_to_source(SHIFT, open_source(url), out, fingerprint="f")["skipped"] == 0
    np.testing.assert_array_equal(read_array(out), SHIFT(CLOUD[:15]))
    assert apply_to_source(SHIFT, open_source(url), out, fingerprint="f")["skipped"] == 3
    memory(emb_1_DOT_npy=CLOUD[10:15])
    assert apply_to_source(SHIFT, open_source(url), out, fingerprint="f")["skipped"] == 2
    np.testing.assert_array_equal(read_array(out)[5:10], SHIFT(CLOUD[10:15]))


def test_other_processes_open_the_url_for_themselves(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_TASK_BYTES", 1)
    source = open_source(archive)
    again = pickle.loads(pickle.dumps(source)).shards[2].path
    assert again.url == f"zip://img_emb/img_emb_2.npy::file://{tmp_path}/all.zip"
    apply_to_source(SHIFT, source, tmp_path / "out", fingerprint="f", engine=Processes(2))
    np.testing.assert_array_equal(read_array(tmp_path / "out"), SHIFT(CLOUD[:15]))


def test_the_commands_take_urls(memory, archive, tmp_path, capsys):
    texts = memory(texts_DOT_npy=CLOUD[:3] + 1)
    closure = str(tmp_path / "c.safetensors")
    words = ["--queries", archive, "--gallery", f"{texts}/texts.npy"]
    assert main(["close", *words, "--out", closure]) == 0
    assert main(["apply", closure, "--queries", archive, "--out", str(tmp_path / "out")]) == 0
    assert read_array(tmp_path / "out").shape == (15, 5)
    assert main(["measure", archive, f"{texts}/texts.npy", "--json"]) == 0
    capsys.readouterr()
    apply = ["apply", closure, "--queries", archive]
    for command, out, reason in (
        (["close", *words], "s3://bucket/c.safetensors", "must be on this machine's disks"),
        (apply, "https://host/out", "must be a folder on this machine or in a store"),
        (apply, f"zip://out::file://{tmp_path}/x.zip", "can only be read"),
    ):
        assert main([*command, "--out", out]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "`--out`" in line
        assert reason in line
    assert main([*apply, "--out", f"file://{tmp_path}/file-out"]) == 0
    assert main([*apply, "--out", f"{texts}/out"]) == 0
    for out in (f"{tmp_path}/file-out", f"{texts}/out"):
        np.testing.assert_array_equal(read_array(out), read_array(tmp_path / "out"))


def test_what_cannot_be_read_is_one_line(memory, tmp_path, monkeypatch):
    url = memory(x_DOT_npz=CLOUD, f_DOT_npy=np.asfortranarray(CLOUD), t_DOT_npy=CLOUD)
    store = fsspec.filesystem("memory")
    store.pipe("/store/cut.npy", store.cat("/store/t.npy")[:-8])
    store.pipe("/store/empty.npy", b"")
    store.mkdir("/store/none")
    for name, error, message in (
        (
            "absent.npy",
            FormatError,
            "no file or folder at `memory://store/absent.npy`; check the path",
        ),
        ("x.npz", FormatError, "is a .npz file, which is read from local disks only; copy it here"),
        ("cut.npy", FormatError, r"`memory://store/cut.npy` is cut short: shape \(23, 5\)"),
        ("empty.npy", FormatError, "is empty"),
        ("none", FormatError, "the folder `memory://store/none` is empty"),
        ("t.npy:emb", FormatError, "is one array without keys"),
    ):
        with pytest.raises(error, match=message):
            open_source(f"{url}/{name}")
    with pytest.raises(FormatError, match=r"stored column by column .* copy it here"):
        open_source(f"{url}/f.npy").read()
    with pytest.raises(FormatError, match=r"`bogus://x.npy` is no URL that fsspec can open"):
        open_source("bogus://x.npy")
    with pytest.raises(FormatError, match=r"`bogus://x/y` is no URL that fsspec"):
        apply_to_source(SHIFT, open_source(f"{url}/t.npy"), "bogus://x/y", fingerprint="f")
    memory(t_1_DOT_npy=CLOUD[:, :3], t_0_DOT_npy=CLOUD)
    with pytest.raises(ShapeError, match="all shards must have the same width"):
        open_source(f"{url}:t")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtraError, match=r'pip install "modgap\[remote\]"'):
        open_source("s3://bucket/x.npy")


def test_a_remote_file_is_never_held_as_a_whole(tmp_path):
    import tracemalloc

    rows = np.ones((40_000, 256), dtype=np.float32)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file, file.open("x.npy", "w") as inner:
        np.save(inner, rows)
    del rows
    source = open_source(f"zip://x.npy::{tmp_path}/x.zip")
    tracemalloc.start()
    apply_to_source(lambda rows: rows + 1, source, tmp_path / "out", fingerprint="f")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20  # blocks of 2 MiB, as for a local file; the whole has 39
    assert Path(tmp_path / "out" / "x.npy").exists()
