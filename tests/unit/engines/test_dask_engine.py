"""Shards on a Dask cluster: what one process makes, also where workers die in the middle."""

import json
import os
import signal
import sys

import numpy as np
import pytest
from engine_files import a_map, hashes, recorded, save_shards

import modgap
from modgap.cli import main
from modgap.closers.closure import Closure
from modgap.decisions.metric import as_metric
from modgap.engines import Reading, moments_of
from modgap.engines import dask as dask_engine
from modgap.errors import DataError, MissingExtraError, WorkerError
from modgap.io import apply_to_source, open_source, streams

distributed = pytest.importorskip("distributed", reason="dask is not installed")
# Sockets and threads of a cluster go away when they are collected, and say so.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def address():
    """A cluster of two processes, which start again when they are killed."""
    import dask

    settings = {"distributed.scheduler.allowed-failures": 1, "distributed.nanny.pre-spawn-environ":
                {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}}  # fmt: skip
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture(autouse=True)
def single_shards(monkeypatch):
    """Every shard is a task."""
    monkeypatch.setattr(streams, "_TASK_BYTES", 1)


def test_the_commands_make_what_one_process_makes(tmp_path, address, capsys):
    save_shards(tmp_path / "q", 5)
    save_shards(tmp_path / "g", 4, seed=1)
    words = [
        "--queries",
        str(tmp_path / "q"),
        "--gallery",
        str(tmp_path / "g"),
        "--method",
        "balanced",
    ]
    dask = ["--engine", "dask", "--scheduler", address]
    made = {}
    for name, engine in (("here", []), ("dask", dask)):
        closure, out = tmp_path / f"{name}.safetensors", tmp_path / name
        assert main(["close", *words, "--out", str(closure), *engine]) == 0
        start = ["apply", str(tmp_path / "here.safetensors"), "--gallery", str(tmp_path / "g")]
        assert main([*start, "--out", str(out), "--json", *engine]) == 0
        made[name] = Closure.load(closure)
    assert json.loads(capsys.readouterr().out.rpartition("\n{")[2].join("{ "))["rows"] == 2000
    rows = np.load(tmp_path / "q" / "img_emb_0.npy").astype(float)
    for side in ("apply_queries", "apply_gallery"):
        found, wanted = (getattr(made[name], side)(rows) for name in ("dask", "here"))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)
    assert hashes(tmp_path / "dask") == hashes(tmp_path / "here") == recorded(tmp_path / "dask")


class Deadly:
    """A map that kills the process it first runs in, as long as its marker can be made."""

    def __init__(self, marker):
        self.marker, self.mapping = marker, a_map()

    def __call__(self, rows):
        if self.marker is None:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return self.mapping(rows)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_workers_that_die_in_the_middle_leave_the_job_right(tmp_path, address):
    save_shards(tmp_path / "in", 5)
    source = open_source(tmp_path / "in")
    apply_to_source(a_map(), source, tmp_path / "whole", fingerprint="f")
    with dask_engine.DaskCluster.opened(scheduler=address) as cluster:
        out = tmp_path / "out"
        apply_to_source(Deadly(tmp_path / "died"), source, out, fingerprint="f", engine=cluster)
        assert (tmp_path / "died").exists()
        assert hashes(out) == hashes(tmp_path / "whole") == recorded(out)
        # One that kills whoever takes it up is given up.
        with pytest.raises(
            WorkerError, match="one task has cost several workers of the Dask cluster"
        ):
            apply_to_source(Deadly(None), source, tmp_path / "no", fingerprint="f", engine=cluster)
        assert os.listdir(tmp_path / "no") == ["modgap.json"]


def test_an_error_of_a_worker_is_the_one_line(tmp_path, address):
    whole = save_shards(tmp_path / "in", 2)
    whole[700] = 0
    np.save(tmp_path / "in" / "img_emb_1.npy", whole[500:])
    reading = Reading("gallery", as_metric("cosine"))
    with (
        dask_engine.DaskCluster.opened(scheduler=address) as cluster,
        pytest.raises(
            DataError, match=r"`gallery` \(.*\) row 700 is all zeros and has no direction"
        ),
    ):
        moments_of(open_source(tmp_path / "in"), reading, engine=cluster)


def test_clusters_that_cannot_do_the_work_are_one_line(monkeypatch, address):
    monkeypatch.setattr(dask_engine, "_ANSWER_S", 0.3)
    with (
        pytest.raises(WorkerError, match=r"no Dask scheduler answers at `tcp://127\.0\.0\.1:1`"),
        dask_engine.DaskCluster.opened(scheduler="tcp://127.0.0.1:1"),
    ):
        pass
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0", silence_logs=50
        ) as empty,
        pytest.raises(WorkerError, match=r"the Dask cluster has no workers after 0\.3 s"),
        dask_engine.DaskCluster.opened(scheduler=empty.scheduler_address),
    ):
        pass
    monkeypatch.setattr(dask_engine, "_ANSWER_S", 15)
    monkeypatch.setattr(modgap, "__version__", "99.0")
    with (
        pytest.raises(
            WorkerError, match=r"the workers of the Dask cluster run modgap .*, this is 99\.0"
        ),
        dask_engine.DaskCluster.opened(scheduler=address),
    ):
        pass


def test_options_of_engines(tmp_path, capsys, monkeypatch):
    save_shards(tmp_path / "q", 1)
    start = ["close", "--queries", str(tmp_path / "q"), "--gallery", str(tmp_path / "q"), "--out",
             str(tmp_path / "c.safetensors")]  # fmt: skip
    for words, message in (
        (["--workers", "0"], "`--workers` must be at least 1; got 0"),
        (["--engine", "spark"], "`--engine` must be one of local, dask; got 'spark'"),
        (["--scheduler", "tcp://here:1"], "`--scheduler` belongs to --engine dask"),
        (["--engine", "dask", "--workers", "2", "--scheduler", "x"], "give one"),
        (
            ["--workers", "2", "--method", "realign"],
            "realign here needs all rows at once, in this process",
        ),
    ):
        assert main([*start, *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(MissingExtraError, match=r'pip install "modgap\[dask\]"'),
        dask_engine.DaskCluster.opened(),
    ):
        pass
