"""Shards over processes: the same bytes for every number of them, and after any end of a run."""

import json
import os
import resource
import signal
import sys
import time
from contextlib import closing

import numpy as np
import pytest
from engine_files import WIDTH, a_map, hashes, killed_when, recorded, run, save_shards

from modgap import closers
from modgap._core.moments import Moments
from modgap._core.tasks import flow
from modgap.cli import main
from modgap.closers.closure import Closure
from modgap.decisions.metric import INNER_PRODUCT, as_metric
from modgap.engines import HERE, Processes, Reading, moments_of
from modgap.errors import DataError, FormatError, WorkerError
from modgap.io import apply_to_source, open_source, streams
from modgap.io.lock import LOCK, sole_writer

COSINE = as_metric("cosine")


@pytest.fixture
def single_shards(monkeypatch):
    """Every shard is a task."""
    monkeypatch.setattr(streams, "_TASK_BYTES", 1)


def test_rows_go_to_the_folds_in_turn_from_the_first_of_the_source(tmp_path, monkeypatch):
    """Whatever is read together: the folds are those of the rows at once."""
    monkeypatch.setattr(streams, "cache_elements", lambda x: 11 * x.shape[1])
    for size in (1, 2**30):
        monkeypatch.setattr(streams, "_TASK_BYTES", size)
        folder = tmp_path / str(size)
        whole = save_shards(folder, 3, 100) + np.arange(300, dtype=np.float32)[:, None]
        np.save(folder / "img_emb_0.npy", whole[:100])
        np.save(folder / "img_emb_1.npy", whole[100:200])
        np.save(folder / "img_emb_2.npy", whole[200:])
        found = moments_of(open_source(folder), Reading("queries", INNER_PRODUCT, "float64", 3))
        for fold, moments in enumerate(found):
            own = whole[fold::3].astype(np.float64)
            assert moments.count == len(own)
            np.testing.assert_allclose(moments.mean, own.mean(axis=0), rtol=1e-12)
            np.testing.assert_allclose(
                moments.covariance, np.cov(own.T, bias=True), rtol=1e-10, atol=1e-10
            )


class Pending:
    """A task that somebody else finishes."""

    def __init__(self, task):
        self.task, self.cancelled = task, False

    def result(self):
        return self.task

    def cancel(self):
        self.cancelled = True


@pytest.mark.parametrize("in_order", [True, False])
def test_a_flow_never_runs_further_ahead_than_its_window(in_order):
    """The last one submitted finishes first: results wait, and hold the next tasks up."""
    held, taken, most = [], 0, 0

    def submit(task):
        nonlocal most
        held.append(Pending(task))
        most = max(most, task + 1 - taken)
        return held[-1]

    found = []
    for pair in flow(submit, lambda futures: futures[-1:], range(20), lambda: 4, in_order=in_order):
        taken += 1
        found.append(pair)
    assert sorted(found) == [(i, i) for i in range(20)]
    assert (found == sorted(found)) == in_order
    assert most == 4


def test_a_flow_that_is_closed_cancels_what_is_under_way():
    held = []

    def submit(task):
        held.append(Pending(task))
        return held[-1]

    with closing(
        flow(submit, lambda futures: futures[:1], range(9), lambda: 3, in_order=True)
    ) as f:
        next(f)
    assert [pending.cancelled for pending in held] == [False, True, True]


@pytest.mark.usefixtures("single_shards")
def test_every_number_of_workers_gives_the_same_bytes(tmp_path):
    whole = save_shards(tmp_path / "in", 7)
    source, reading = open_source(tmp_path / "in"), Reading("queries", COSINE, "input", 3)
    told, moments = [], {}
    for name, engine in (("here", HERE), ("one", Processes(1)), ("two", Processes(2))):
        if name != "one":
            moments[name] = moments_of(source, reading, engine=engine, tell=told.append)
        report = apply_to_source(
            a_map(), source, tmp_path / name, fingerprint="f", engine=engine, progress=told.append
        )
        assert (report["shards"], report["rows"], report["skipped"]) == (7, 3500, 0)
        assert recorded(tmp_path / name) == hashes(tmp_path / name)
    assert sum(told) == 5 * 3500
    assert hashes(tmp_path / "here") == hashes(tmp_path / "one") == hashes(tmp_path / "two")
    for found, wanted in zip(moments["two"], moments["here"], strict=True):
        np.testing.assert_array_equal(found.scatter, wanted.scatter)
        np.testing.assert_array_equal(found.mean, wanted.mean)
        assert found.radius == wanted.radius
    # Against the rows at once, in float64: what is summed is right, not only always the same.
    unit = whole / np.linalg.norm(whole.astype(float), axis=1, keepdims=True)
    merged = moments["two"][0].merge(moments["two"][1]).merge(moments["two"][2])
    expected = Moments.from_rows(unit, precision="float64")
    assert merged.count == 3500
    np.testing.assert_allclose(merged.mean, expected.mean, atol=1e-8)
    # Float32 products of unit rows: seven digits of each, and 3,500 of them add up.
    np.testing.assert_allclose(merged.scatter, expected.scatter, atol=1e-3)


def test_small_shards_go_together_and_the_groups_follow_from_the_shards_alone(
    tmp_path, monkeypatch
):
    save_shards(tmp_path / "in", 7, rows=10)
    shards = open_source(tmp_path / "in").shards
    size = 10 * shards[0].width * 4
    monkeypatch.setattr(streams, "_TASK_BYTES", 2 * size + 1)
    groups = [len(group) for group in streams.grouped(shards, lambda shard: shard)]
    assert groups == [3, 3, 1]
    first = [len(group) for group in streams.grouped(shards[:5], lambda shard: shard)]
    assert first == [3, 2]


@pytest.mark.usefixtures("single_shards")
def test_an_error_in_a_worker_is_the_one_line_with_the_row_of_the_source(tmp_path):
    whole = save_shards(tmp_path / "in", 3)
    whole[1207, 3] = np.nan
    np.save(tmp_path / "in" / "img_emb_2.npy", whole[1000:])
    source = open_source(tmp_path / "in")
    message = r"`queries` \(.*in\) row 1207 holds NaN"
    with pytest.raises(DataError, match=message):
        moments_of(source, Reading("queries", COSINE), engine=Processes(1))


def die(rows):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("single_shards")
def test_a_worker_that_is_killed_is_one_line_and_the_next_run_goes_on(tmp_path):
    save_shards(tmp_path / "in", 2)
    source, out = open_source(tmp_path / "in"), tmp_path / "out"
    with pytest.raises(
        WorkerError, match="a worker process ended before its work was done, as where memory"
    ):
        apply_to_source(die, source, out, fingerprint="f", engine=Processes(2))
    assert os.listdir(out) == ["modgap.json"]
    assert apply_to_source(a_map(), source, out, fingerprint="f")["skipped"] == 0


def sleep_over_finite_rows(rows):
    if np.isfinite(rows).all():
        time.sleep(60)
    return rows


@pytest.mark.usefixtures("single_shards")
def test_an_error_ends_the_other_workers_at_once(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i, value in enumerate((1e9, np.inf)):
        np.save(folder / f"emb_{i}.npy", np.full((5, 4), value, np.float32))
    start = time.monotonic()
    with pytest.raises(DataError, match="row 0 is mapped to values that float32 cannot hold"):
        apply_to_source(
            sleep_over_finite_rows, open_source(folder), tmp_path / "out", fingerprint="f",
            engine=Processes(2),
        )  # fmt: skip
    assert time.monotonic() - start < 30  # the sleeper sleeps a minute
    assert os.listdir(tmp_path / "out") == ["modgap.json"]


def test_two_writers_into_one_folder_are_one_line(tmp_path):
    save_shards(tmp_path / "in", 1)
    out = tmp_path / "out"
    out.mkdir()
    source = open_source(tmp_path / "in")
    message = (
        rf"out` is being written by another run of modgap \(process {os.getpid()}\); wait for it"
    )
    with sole_writer(out), pytest.raises(FormatError, match=message):
        apply_to_source(a_map(), source, out, fingerprint="f")
    assert os.listdir(out) == []
    (out / LOCK).write_text("99 of a run that was killed")
    apply_to_source(a_map(), source, out, fingerprint="f")
    assert sorted(os.listdir(out)) == ["img_emb_0.npy", "modgap.json"]


@pytest.fixture
def slow_shards(tmp_path):
    """Compressed shards, which are slow to read, so that a kill comes in the middle; and their texts."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        rows = rng.standard_normal((3000, 128)).astype(np.float32)
        np.savez_compressed(folder / f"img_emb_{i}.npz", emb=rows)
    np.save(tmp_path / "texts.npy", rng.standard_normal((9, 128)).astype(np.float32))
    closers.fit("affine", rows, np.load(tmp_path / "texts.npy")).save(tmp_path / "c.safetensors")
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_apply_killed_again_and_again_ends_in_the_same_bytes(slow_shards):
    out = slow_shards / "out"

    def words(folder):
        start = ("apply", slow_shards / "c.safetensors", "--queries", slow_shards / "in")
        return (*start, "--out", folder)

    def one_is_recorded():
        record = out / "modgap.json"
        return record.exists() and '"complete": true' in record.read_text()

    # Amid the first files, and when one is there and recorded.
    assert killed_when(lambda: any(out.glob(".*.tmp.npy")), *words(out), "--workers", 2)
    assert killed_when(one_is_recorded, *words(out), "--workers", 2)
    assert 0 < len(list(out.glob("[!.]*.npy"))) < 5
    done = run(*words(out), "--workers", 2, "--json")
    assert json.loads(done.stdout)["skipped"] > 0
    assert main([str(word) for word in words(slow_shards / "whole")]) == 0
    assert hashes(out) == hashes(slow_shards / "whole") == recorded(out)
    assert len(hashes(out)) == 5


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.usefixtures("single_shards")  # as in the runs that are killed
def test_close_that_is_killed_ends_in_the_same_bytes(slow_shards):
    target = slow_shards / "fit.safetensors"
    kept = slow_shards / f".{target.name}.progress"

    def words(out):
        start = ("close", "--queries", slow_shards / "in", "--gallery", slow_shards / "in")
        return (*start, "--method", "balanced", "--out", out)

    assert killed_when(kept.exists, *words(target), "--workers", 2)
    assert kept.exists()
    assert not target.exists()
    done = run(*words(target), "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert not kept.exists()
    whole = slow_shards / "whole.safetensors"
    assert main([str(word) for word in words(whole)]) == 0
    assert target.read_bytes() == whole.read_bytes()
    assert Closure.load(target).method == "balanced"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.filterwarnings(
    "ignore:os.fork:RuntimeWarning"
)  # JAX's, where another test has loaded it
def test_a_full_disk_in_a_worker_is_one_line_and_leaves_nothing(slow_shards):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = run(
        "apply", slow_shards / "c.safetensors", "--queries", slow_shards / "in", "--workers", 2,
        "--out", slow_shards / "out", preexec_fn=small_files,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "File too large: the disk is full, or a limit is reached; free some space" in line
    assert not (slow_shards / "out").exists()


def test_four_times_the_shards_take_no_more_memory(tmp_path):
    import tracemalloc

    peaks = {}
    for count in (2, 8):
        save_shards(tmp_path / str(count), count, rows=20_000)
        source = open_source(tmp_path / str(count))
        tracemalloc.start()
        moments_of(source, Reading("gallery", COSINE))
        apply_to_source(a_map(), source, tmp_path / f"out {count}", fingerprint="f")
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # A tenth for the records of six more shards, and the parts that a thread may have made ahead or not;
    # the rows of six more shards would take three times as much as these.
    ahead = streams._AHEAD * streams._READ_ROWS * WIDTH * 4
    assert peaks[8] < 1.1 * peaks[2] + ahead
    assert peaks[2] > 16_384 * WIDTH * 8  # the measure sees a block in float64


@pytest.mark.parametrize("metric", ["cosine", "ip"])
def test_half_floats_that_are_streamed_invent_no_directions(tmp_path, metric):
    """Rounded to halves, a gallery of rank 5 has noise in every direction, which its dtype explains."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4000, 5)) @ rng.standard_normal((5, WIDTH)) + 1
    np.save(
        tmp_path / "g.npy", (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    )
    reading = Reading("gallery", as_metric(metric))
    (moments,) = moments_of(open_source(tmp_path / "g.npy"), reading)
    fitted = closers.fit("recenter", rows[:9], np.load(tmp_path / "g.npy"), metric=metric)
    assert moments.eps == np.finfo(np.float16).eps
    assert moments.full_axes.rank == fitted.rank
