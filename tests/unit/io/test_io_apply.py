import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from io_files import SUFFIXES, save

from modgap.closers.maps import AffineMap
from modgap.errors import ArgumentError, DataError, FormatError, ShapeError
from modgap.io import apply, apply_to_source, open_source, read_array

CLOUD = np.random.default_rng(0).standard_normal((23, 5)).astype(np.float32)
SHIFT = AffineMap(width=5, shift=np.arange(5.0))


def shards(folder, count=3):
    folder.mkdir()
    for i in range(count):
        save(folder / f"emb_{i}.npy", emb=CLOUD[5 * i : 5 * i + 5])
    return CLOUD[: 5 * count]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(apply, "_BLOCK_BYTES", 4 * 20)
    monkeypatch.setattr(apply, "_ROW_GROUP_BYTES", 4 * 20)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_is_mapped(tmp_path, suffix):
    source = open_source(save(tmp_path / f"x{suffix}", emb=CLOUD))
    seen = []
    report = apply_to_source(SHIFT, source, tmp_path / "out", fingerprint="f", progress=seen.append)
    name = f"x{suffix}" if suffix in (".safetensors", ".parquet") else "x.npy"
    assert sorted(os.listdir(tmp_path / "out")) == sorted(["modgap.json", name])
    size = (tmp_path / "out" / name).stat().st_size
    assert report == {"shards": 1, "rows": 23, "skipped": 0, "bytes": size}
    assert sum(seen) == 23
    assert max(seen) == 4
    got = open_source(tmp_path / "out" / name)
    assert got.key == (None if name == "x.npy" else "emb")
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got.read(), SHIFT(CLOUD))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("stored", "asked", "wanted"),
    [
        ("float16", None, "float32"),
        ("float16", "input", "float16"),
        ("float32", None, "float32"),
        ("float64", None, "float64"),
        ("float64", "float16", "float16"),
        ("float32", "float64", "float64"),
    ],
)
def test_the_outputs_number_type(tmp_path, stored, asked, wanted):
    values = CLOUD.astype(stored)
    source = open_source(save(tmp_path / "x.npy", emb=values))
    seen = []

    def mapping(rows):
        seen.append(rows.dtype)
        return rows.astype(float) + 1e-4  # half floats near 1 lie 1e-3 apart

    apply_to_source(mapping, source, tmp_path / "out", fingerprint="f", dtype=asked)
    got = read_array(tmp_path / "out" / "x.npy")
    assert got.dtype == wanted
    assert {str(dtype) for dtype in seen} == {"float32" if stored == "float16" else stored}
    np.testing.assert_array_equal(got, (values.astype(float) + 1e-4).astype(wanted))


def test_another_number_type_is_another_output(tmp_path):
    source = open_source(save(tmp_path / "x.npy", emb=CLOUD.astype(np.float16)))
    for dtype, made in ((None, True), ("float32", False), ("float16", True), ("input", False)):
        report = apply_to_source(SHIFT, source, tmp_path / "out", fingerprint="f", dtype=dtype)
        assert report["skipped"] == (not made), dtype
    with pytest.raises(ArgumentError, match="`dtype` must be one of input, float16"):
        apply_to_source(SHIFT, source, tmp_path / "out", fingerprint="f", dtype="int8")


def test_what_the_output_cannot_hold_is_an_error(tmp_path):
    source = open_source(save(tmp_path / "x.npy", emb=CLOUD))
    far = np.where(np.arange(23)[:, None] == 7, 7e4, 0.0)
    with pytest.raises(DataError, match=r"x\.npy` row 7 is mapped to values that float16 cannot"):
        apply_to_source(lambda rows: rows + far, source, tmp_path / "o", fingerprint="f",
                        dtype="float16")  # fmt: skip
    assert os.listdir(tmp_path / "o") == ["modgap.json"]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("order", ["C", "F"])
def test_templates_are_mapped_one_by_one(tmp_path, order):
    array = np.asarray(CLOUD[:20].reshape(2, 10, 5), order=order)
    source = open_source(save(tmp_path / "x.npy", emb=array))
    apply_to_source(SHIFT, source, tmp_path / "out", fingerprint="f")
    np.testing.assert_array_equal(read_array(tmp_path / "out" / "x.npy"), SHIFT(array))


def test_fewer_columns_may_come_out(tmp_path):
    source = open_source(save(tmp_path / "x.npy", emb=CLOUD))
    apply_to_source(lambda rows: rows[:, 1:3], source, tmp_path / "out", fingerprint="f")
    np.testing.assert_array_equal(read_array(tmp_path / "out" / "x.npy"), CLOUD[:, 1:3])


def test_shards_keep_their_names_and_the_input_its_bytes(tmp_path):
    whole = shards(tmp_path / "in")
    before = {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    source = open_source(tmp_path / "in")
    report = apply_to_source(SHIFT, source, tmp_path / "out", fingerprint="f")
    assert (report["shards"], report["rows"], report["skipped"]) == (3, 15, 0)
    assert {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before
    np.testing.assert_array_equal(read_array(tmp_path / "out"), SHIFT(whole))


class Counting:
    """A mapping that counts its calls, and fails at one of them."""

    def __init__(self, fail_at=None, error=None):
        self.calls, self.fail_at, self.error = 0, fail_at, error

    def __call__(self, rows):
        self.calls += 1
        if self.calls == self.fail_at:
            raise self.error
        return rows + 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_an_interrupted_run_leaves_whole_files_and_resumes(tmp_path, error):
    whole = shards(tmp_path / "in")
    source, out = open_source(tmp_path / "in"), tmp_path / "out"
    with pytest.raises((KeyboardInterrupt, FormatError)):
        apply_to_source(Counting(2, error), source, out, fingerprint="f")
    assert sorted(os.listdir(out)) == ["emb_0.npy", "modgap.json"]
    again, seen = Counting(), []
    report = apply_to_source(again, source, out, fingerprint="f", progress=seen.append)
    assert (again.calls, report["skipped"], sum(seen)) == (2, 1, 15)
    np.testing.assert_array_equal(read_array(out), whole + 1)
    third = Counting()
    report = apply_to_source(third, source, out, fingerprint="f")
    assert (third.calls, report) == (0, {"shards": 3, "rows": 15, "skipped": 3, "bytes": 0})


@pytest.mark.parametrize("block", [1, 2, 3])
def test_a_disk_that_fills_up_under_any_block_leaves_no_file(tmp_path, monkeypatch, block):
    """Blocks are written by a thread of its own; the last one's failure is seen like the first's."""
    np.save(tmp_path / "emb.npy", np.ones((9, 4), dtype=np.float32))
    monkeypatch.setattr(apply, "_BLOCK_BYTES", 3 * 4 * 4)  # three blocks of three rows
    written = []

    @contextmanager
    def small_disk(path, shape, dtype, *, key, digest):
        def write(rows):
            written.append(len(rows))
            if len(written) == block:
                raise OSError(errno.ENOSPC, "No space left on device")

        yield write

    monkeypatch.setattr(apply, "array_writer", small_disk)
    out = tmp_path / "out"
    with pytest.raises(FormatError, match="No space left"):
        apply_to_source(lambda rows: rows, open_source(tmp_path / "emb.npy"), out, fingerprint="f")
    assert written == [3] * block
    assert [name for name in os.listdir(out) if name != "modgap.json"] == []


def test_a_kill_between_file_and_record_is_mended(tmp_path):
    shards(tmp_path / "in")
    source, out = open_source(tmp_path / "in"), tmp_path / "out"
    apply_to_source(Counting(), source, out, fingerprint="f")
    record = json.loads((out / "modgap.json").read_text())
    record["files"]["emb_1.npy"] = {"complete": False}
    (out / "modgap.json").write_text(json.dumps(record))
    again = Counting()
    assert apply_to_source(again, source, out, fingerprint="f")["skipped"] == 2
    assert again.calls == 1


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("sign", ["SIGINT", "SIGKILL"])
def test_a_signal_leaves_nothing_that_the_next_run_trips_over(tmp_path, sign):
    shards(tmp_path / "in")
    script = (
        "import signal, sys, time\n"
        "from modgap.io import apply_to_source, open_source\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait(rows):\n"
        "    print('mapping', flush=True)\n"
        "    time.sleep(60)\n"
        "apply_to_source(wait, open_source(sys.argv[1]), sys.argv[2], fingerprint='f')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "in"), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"mapping\n"
        process.send_signal(getattr(signal, sign))
        process.communicate()
    left = set(os.listdir(tmp_path / "out")) - {"modgap.json", ".modgap.lock"}
    assert len(left) == (0 if sign == "SIGINT" else 1)
    assert all(name.startswith(".emb_0.npy.") for name in left)
    source = open_source(tmp_path / "in")
    report = apply_to_source(Counting(), source, tmp_path / "out", fingerprint="f")
    assert report["skipped"] == 0
    names = ["emb_0.npy", "emb_1.npy", "emb_2.npy", "modgap.json"]
    assert sorted(os.listdir(tmp_path / "out")) == names


@pytest.mark.parametrize(
    "change", ["fingerprint", "input", "output", "short", "long", "gone", "width"]
)
def test_what_changed_is_done_again(tmp_path, change):
    whole = shards(tmp_path / "in").copy()
    source, out = open_source(tmp_path / "in"), tmp_path / "out"
    apply_to_source(Counting(), source, out, fingerprint="f")
    if change == "input":
        whole[5:10] = 0
        np.save(tmp_path / "in" / "emb_1.npy", whole[5:10])
        stamp = time.time_ns() + 10**9  # some file systems count in seconds
        os.utime(tmp_path / "in" / "emb_1.npy", ns=(stamp, stamp))
    elif change == "output":
        (out / "emb_1.npy").write_bytes(b"x" * (out / "emb_1.npy").stat().st_size)
    elif change == "short":
        os.truncate(out / "emb_1.npy", 150)
    elif change == "long":
        with (out / "emb_1.npy").open("ab") as handle:
            handle.write(b"more")
    elif change == "gone":
        (out / "emb_1.npy").unlink()
    elif change == "width":
        np.save(out / "emb_1.npy", np.zeros((25, 1), dtype=np.float32))
    again = Counting()
    fingerprint = "other" if change == "fingerprint" else "f"
    report = apply_to_source(again, source, out, fingerprint=fingerprint)
    assert report["skipped"] == (0 if change == "fingerprint" else 2)
    np.testing.assert_array_equal(read_array(out), whole + 1)


@pytest.mark.parametrize("where", ["same", "link", "dots", "parent"])
def test_the_input_folder_is_never_written_to(tmp_path, where):
    shards(tmp_path / "in")
    shutil.copytree(tmp_path / "in", tmp_path / "all" / "emb")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    source = open_source(f"{tmp_path}/all:emb" if where == "parent" else tmp_path / "in")
    out = {
        "same": tmp_path / "in",
        "link": tmp_path / "link",
        "dots": tmp_path / "all" / ".." / "in",
        "parent": tmp_path / "all",
    }[where]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FormatError, match=r"the output folder `.*` is the input's own"):
        apply_to_source(SHIFT, source, out, fingerprint="f")
    assert sorted(tmp_path.rglob("*")) == before


def test_foreign_files_in_the_output_folder_stay(tmp_path):
    shards(tmp_path / "in")
    (tmp_path / "out").mkdir()
    mine = save(tmp_path / "out" / "emb_1.npy", emb=CLOUD)
    before = mine.read_bytes()
    with pytest.raises(
        FormatError, match=r"emb_1\.npy` exists and was not written by this command"
    ):
        apply_to_source(SHIFT, open_source(tmp_path / "in"), tmp_path / "out", fingerprint="f")
    assert os.listdir(tmp_path / "out") == ["emb_1.npy"]
    assert mine.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[" * 99_999, '{"modgap_manifest": 9}', '{"modgap_manifest": 1, "files": [1]}'],
)
def test_a_damaged_record_is_refused(tmp_path, text):
    (tmp_path / "modgap.json").write_text(text)
    source = open_source(save(tmp_path / "x.npy", emb=CLOUD))
    (tmp_path / "out").mkdir()
    (tmp_path / "modgap.json").rename(tmp_path / "out" / "modgap.json")
    with pytest.raises(FormatError, match=r"modgap\.json` is (no|damaged|empty)"):
        apply_to_source(SHIFT, source, tmp_path / "out", fingerprint="f")


def test_what_cannot_be_mapped(tmp_path):
    labels = open_source(save(tmp_path / "labels.npy", emb=np.arange(3)))
    with pytest.raises(ShapeError, match=r"labels\.npy` has shape \(3,\), so it holds labels"):
        apply_to_source(SHIFT, labels, tmp_path / "out", fingerprint="f")
    codes = open_source(save(tmp_path / "codes.npy", emb=np.ones((3, 5), dtype=np.int8)))
    with pytest.raises(DataError, match=r"codes\.npy` holds int8; embeddings must be floats"):
        apply_to_source(SHIFT, codes, tmp_path / "out", fingerprint="f")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "mapping", [lambda rows: rows[1:], lambda rows: rows[:, 0], lambda rows: 3.0]
)
def test_a_mapping_must_keep_the_rows(tmp_path, mapping):
    source = open_source(save(tmp_path / "x.npy", emb=CLOUD))
    with pytest.raises(ShapeError, match=r"one row of the same width for every row; it made \("):
        apply_to_source(mapping, source, tmp_path / "out", fingerprint="f")
    assert os.listdir(tmp_path / "out") == ["modgap.json"]


def test_an_output_path_that_is_a_file(tmp_path):
    source = open_source(save(tmp_path / "x.npy", emb=CLOUD))
    (tmp_path / "out").touch()
    with pytest.raises(FormatError, match=r"cannot make the folder `.*out`: File exists"):
        apply_to_source(SHIFT, source, tmp_path / "out", fingerprint="f")


def test_input_that_breaks_half_way_leaves_no_file(tmp_path):
    shards(tmp_path / "in")
    source = open_source(tmp_path / "in")
    os.truncate(tmp_path / "in" / "emb_1.npy", 150)
    with pytest.raises(FormatError, match=r"emb_1\.npy` is cut short: .* needs 228 bytes"):
        apply_to_source(SHIFT, source, tmp_path / "out", fingerprint="f")
    assert sorted(os.listdir(tmp_path / "out")) == ["emb_0.npy", "modgap.json"]


def test_mapping_a_file_does_not_hold_it(tmp_path):
    import tracemalloc

    path = tmp_path / "x.npy"
    np.save(path, np.ones((40_000, 256), dtype=np.float32))
    source = open_source(path)
    tracemalloc.start()
    apply_to_source(lambda rows: rows + 1, source, tmp_path / "out", fingerprint="f")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    np.load(path)
    whole = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20
    assert whole > 39 * 2**20  # the measure sees an array that is held


def test_what_a_killed_run_left_of_the_record_is_swept(tmp_path):
    source = open_source(save(tmp_path / "x.npy", emb=CLOUD))
    stale = tmp_path / "out" / ".modgap.json.7bc584b5.tmp.json"
    apply_to_source(SHIFT, source, tmp_path / "out", fingerprint="f")
    stale.write_text("{")  # killed while the record was being written
    apply_to_source(SHIFT, source, tmp_path / "out", fingerprint="f")
    assert sorted(os.listdir(tmp_path / "out")) == ["modgap.json", "x.npy"]


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    import errno

    from modgap.io.lock import sole_writer

    def full(handle, content):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FormatError, match="the disk is full"), sole_writer(tmp_path):
        pass
    assert os.listdir(tmp_path) == []
