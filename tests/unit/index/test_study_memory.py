"""What a study lets go of: mapped rows before the next are made, and processes with their indexes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from modgap import index, load_sample
from modgap.errors import ArgumentError, CodeError, EngineError
from modgap.index import apart, running, storing
from modgap.index.apart import Apart
from modgap.index.qdrant_engine import Qdrant

pytest.importorskip("faiss", reason="FAISS is not installed")
pytest.importorskip("qdrant_edge", reason="qdrant-edge is not installed")

KILLED = "qdrant failed: its process ended (killed, as the system does where memory runs out)"


@pytest.fixture(scope="module")
def sides():
    sample = load_sample()
    return sample.texts.reshape(-1, 128)[:90], sample.images[:400]


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder that all scratch folders lie in; a test leaves it empty."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert not list(tmp_path.iterdir())


@pytest.fixture
def started(monkeypatch):
    """The processes that were started, each with how many of those before it were still there."""
    found = []

    class Noted(subprocess.Popen):
        def __init__(self, *words, **settings):
            self.beside = sum(one.poll() is None for one in found)
            super().__init__(*words, **settings)
            found.append(self)

    monkeypatch.setattr(apart.subprocess, "Popen", Noted)
    yield found
    assert all(one.poll() is not None for one in found)


@pytest.mark.parametrize("codecs", [("faiss:SQ4", "faiss:HNSW16"), ("faiss:SQ4", "qdrant:binary")])
def test_mapped_rows_are_gone_before_the_next_are_made(codecs, sides, scratch, monkeypatch):
    """Without a collection of garbage: a reference from a frame or an engine would show."""
    kept, before = [], []

    def alive():
        return [one() for one in kept if one() is not None]

    def mapped(closure, rows, side):
        if side == "gallery":
            before.append(len(alive()))
        made = of_ground(closure, rows, side)
        if side == "gallery":
            kept.append(weakref.ref(made))
        return made

    @contextlib.contextmanager
    def on_disk(rows, folder):
        with apart.on_disk(rows, folder) as there:
            kept.append(weakref.ref(there))
            del rows
            yield there

    def on_row(row):
        seen.append(row.label)
        (rows,) = alive()  # in memory, or on the disk for those apart, and not both
        assert isinstance(rows, np.memmap) == ("qdrant:binary" in codecs)

    of_ground, seen = storing.mapped, []
    monkeypatch.setattr(storing, "mapped", mapped)
    monkeypatch.setattr(running, "on_disk", on_disk)
    maps = ["recenter", "balanced"]
    index.study(*sides, codecs=codecs, maps=maps, reference=0, on_row=on_row)
    assert seen == [*codecs, *codecs]
    assert before == [0, 0]
    assert not alive()


@pytest.mark.parametrize(("small", "processes"), [(2**24, 1), (0, 2)])
def test_a_process_ends_with_its_index_or_where_rows_are_few_with_the_study(
    small, processes, sides, scratch, started, monkeypatch
):
    monkeypatch.setattr(apart, "_SMALL", small)
    words = {"maps": ["none", "recenter"], "reference": 20, "rescore": [1, 2]}
    there = index.study(*sides, codecs=["qdrant:binary"], **words)
    assert len(started) == processes
    assert [one.beside for one in started] == [0] * processes
    here = index.study(*sides, engines=[Qdrant()], codecs=["qdrant:binary"], **words)
    assert len(started) == processes  # an engine that is handed over is used as it is
    for ours, its in zip(there, here, strict=True):
        found, same = ours.to_dict(), its.to_dict()
        for name in ("codec", "map", "recall", "rescored", "own_kind", "bytes_per_vector"):
            assert found[name] == same[name]
        assert 0 < ours.build_seconds < 60
        assert ours.seconds > 0


@pytest.mark.skipif(find_spec("lancedb") is None, reason="LanceDB is not installed")
def test_lancedb_is_loaded_in_its_own_process_alone():
    program = (
        "import sys, modgap\n"
        "sample = modgap.load_sample()\n"
        "sides = sample.texts[0], sample.images[:300]\n"
        "(row,) = modgap.index.study(*sides, codecs=['lancedb:flat'], maps=['none'])\n"
        "print(row.failed, row.recall['10'], 'lancedb' in sys.modules)\n"
    )  # no guard on __name__: the other process runs none of this
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["None", "1.0", "False"]


class TestFailures:
    def test_a_process_that_is_killed_is_one_row(self, sides, scratch, started, monkeypatch):
        ask = apart._Process.ask

        def killed(self, folder, **request):
            if request["do"] == "search" and len(started) == 1:
                started[0].kill()
            return ask(self, folder, **request)

        monkeypatch.setattr(apart._Process, "ask", killed)
        found = index.study(*sides, codecs=["qdrant:binary", "qdrant:scalar"], maps=["none"])
        assert [row.failed for row in found] == [KILLED, None]
        assert len(started) == 2

    def test_what_the_engine_raises_comes_back_as_it_is(self, scratch, started):
        rows = load_sample().images[:40]
        with Apart(Qdrant()) as engine:
            with pytest.raises(CodeError, match="left 1 rows of dimension 128 as floats: they are"):
                engine.build(rows[:1], "binary", seed=0, folder=scratch)
            with pytest.raises(ArgumentError, match=r"`codec` must be one of .*; got 'tiny'"):
                engine.build(rows, "tiny", seed=0, folder=scratch)
            made = engine.build(rows, "float", seed=0, folder=scratch)
            with pytest.raises(ArgumentError, match="`effort` has no meaning here"):
                made.search(rows[:2], 3, 10)
            assert made.search(rows[:2], 1).rows.tolist() == [[0], [1]]
            made.close()
            made.close()
            assert len(started) == 1

    def test_an_interruption_ends_everything(self, sides, scratch, started):
        def on_row(row):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            index.study(*sides, codecs=["qdrant:binary", "qdrant:scalar"], on_row=on_row)
        assert len(started) == 1

    def test_a_disk_without_room_for_the_rows_fails_those_that_need_it(
        self, sides, scratch, started, monkeypatch
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**10))
        found = index.study(*sides, codecs=["faiss:SQ4", "qdrant:binary"], maps=["none"])
        assert found["faiss:SQ4", "none"].failed is None
        assert "qdrant needs about" in found["qdrant:binary", "none"].failed
        assert not started
        with (
            pytest.raises(EngineError, match="the study needs about"),
            apart.on_disk(sides[1], scratch),
        ):
            pass


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("sign", "code"), [("SIGINT", 130), ("SIGKILL", -9)])
def test_a_signal_ends_the_other_process_too(sign, code, tmp_path, interruptible_modgap):
    """In the middle of a build, which no Python code of that process could end."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "q.npy", rng.normal(size=(50, 64)).astype(np.float32))
    np.save(tmp_path / "g.npy", rng.normal(size=(40_000, 64)).astype(np.float32))
    (tmp_path / "scratch").mkdir()
    words = ["index", "study", "--queries", "q.npy", "--gallery", "g.npy"]
    run = subprocess.Popen(
        [*interruptible_modgap, *words, "--codec", "qdrant:HNSW,float", "--maps", "none"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "scratch")},
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not list(tmp_path.glob("scratch/*/qdrant-*/qdrant-*/segments")):
            assert run.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        (other,) = below(run.pid)
        run.send_signal(signal.Signals[sign])
        _, said = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == code
    while running_still(other):
        assert time.monotonic() < until
        time.sleep(0.01)
    if sign == "SIGINT":
        assert len(said.splitlines()) == 1
        assert not list((tmp_path / "scratch").iterdir())


def below(process):
    """Return the processes that a process has started."""
    return [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/stat") if state(p)[1] == process]


def running_still(process):
    return state(Path(f"/proc/{process}/stat"))[0] not in ("", "Z", "X")


def state(stat):
    """Return the state of a process and who started it."""
    try:
        words = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", 0
    return words[0], int(words[1])
