"""Engines in processes of their own: what their runtimes keep of an index goes with the process."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modgap import errors
from modgap.errors import EngineError, ModgapError
from modgap.index._child import ASKED, FOUND
from modgap.index._scratch import check_room, native_failures, scratch_folder
from modgap.index.engine import Engine, Found

__all__ = ["Apart", "on_disk"]

#: Bytes of rows up to which one process serves an engine's codecs one after the other: starting one
#: takes up to three seconds, and what is left of so small an index is small.
_SMALL = 2**24
#: Runs `_child.main` on what this process can import, whatever lies in the working folder.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from modgap.index._child import main; main(sys.argv[2])"
)


@contextlib.contextmanager
def on_disk(rows: np.ndarray, folder: Path) -> Iterator[np.memmap]:
    """Yield rows (n, d) as a memory map of a file in a folder, which other processes can map too.

    Raises
    ------
    EngineError
        There is no room for the file.
    """
    check_room(folder, rows.nbytes, "the study")
    file = folder / "rows.npy"
    try:
        with native_failures("the study", folder):
            np.save(file, rows, allow_pickle=False)
        del rows  # the caller's name may be for the map from now on
        yield np.load(file, mmap_mode="r", allow_pickle=False)
    finally:
        file.unlink(missing_ok=True)


class Apart:
    """An engine by name, whose indexes stand in a process of their own, one at a time.

    For embedded databases: the threads, buffers and caches of LanceDB and Qdrant stay when an index is
    closed, some hundred MiB after 100,000 rows of 512, and grow with the next. The process ends with its
    index, at once and whatever it does, or with the process that started it; past 16 MiB of rows each
    index has a new one. What native code breaks there, or what the system kills, is one index. Requests
    are lines of JSON, rows and answers files of NumPy.
    """

    def __init__(self, engine: Engine) -> None:
        self.name, self.codecs = engine.name, engine.codecs
        self._engine = engine
        self._process: _Process | None = None

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def check(self) -> None:
        """Raise what the engine itself raises where its package is absent."""
        self._engine.check()

    def build(self, rows: np.ndarray, codec: str, *, seed: int, folder: Path) -> ApartIndex:
        """Return an index of rows (n, d) float32, in a new folder inside `folder`.

        The rows are written to a file, unless they are a memory map of one, as of `on_disk`.

        Raises
        ------
        EngineError
            The process ended before it answered, and whatever the engine raises.
        """
        small = rows.nbytes <= _SMALL
        try:
            with scratch_folder(folder, self.name) as made:
                if isinstance(rows, np.memmap):
                    file = Path(str(rows.filename))
                else:
                    check_room(folder, rows.nbytes, self.name)
                    np.save(file := made / "rows.npy", rows, allow_pickle=False)
                process = self._ready()
                said = process.ask(made, do="build", rows=str(file), codec=codec, seed=seed)
                return ApartIndex(process, said, made, keep=small)
        except BaseException:
            if not small:
                self._end()
            raise

    def _ready(self) -> _Process:
        """Return the process, a new one where there is none or it has ended."""
        if self._process is None or not self._process.alive:
            self._process = _Process(self.name)
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()


class ApartIndex:
    """An index that stands in another process."""

    def __init__(
        self, process: _Process, said: Mapping[str, Any], folder: Path, *, keep: bool
    ) -> None:
        self._process, self._folder = process, folder
        self.bytes_per_vector = float(said["bytes_per_vector"])
        self.efforts: tuple[int, ...] = tuple(said["efforts"])
        #: Of the build alone, without the start of the process.
        self.build_seconds = float(said["seconds"])
        self._end = weakref.finalize(self, _close, process, folder, keep)

    def search(self, queries: np.ndarray, k: int, effort: int | None = None) -> Found:
        """Return the k nearest rows of queries (m, d); see `Index.search`."""
        with native_failures("the study", self._folder):
            np.save(self._folder / ASKED, queries, allow_pickle=False)
        said = self._process.ask(self._folder, do="search", k=int(k), effort=effort)
        rows = np.load(self._folder / FOUND, allow_pickle=False)
        return Found(rows, said["seconds"], said["computations"])

    def close(self) -> None:
        """End the process, or make it ready for the next index, and remove the folder."""
        self._end()


def _close(process: _Process, folder: Path, keep: bool) -> None:
    if keep and process.alive:
        with contextlib.suppress(ModgapError):  # then it has ended
            process.ask(folder, do="close")
    else:
        process.end()
    shutil.rmtree(folder, ignore_errors=True)


class _Process:
    """A process that answers requests, one at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        paths = json.dumps([path for path in sys.path if isinstance(path, str)])
        self._running = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, paths, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interruption of the terminal is ours to pass on
        )

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._running.poll() is None

    def ask(self, folder: Path, **request: Any) -> dict[str, Any]:
        """Return the answer to a request about the index in a folder.

        Raises
        ------
        EngineError
            The process has ended.
        ModgapError
            What it raised, as it raised it.
        """
        try:
            answer = self._answer({**request, "folder": str(folder)})
        except (
            BaseException
        ):  # an interruption too: what it answers later would be taken for another's
            self.end()
            raise
        if "error" in answer:
            raise getattr(errors, answer["error"], EngineError)(answer["says"])
        return answer

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        running = self._running
        assert running.stdin is not None
        assert running.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            running.stdin.write(json.dumps(request).encode() + b"\n")
            running.stdin.flush()
        line = running.stdout.readline()
        if not line.endswith(b"\n"):
            raise EngineError(f"{self._name} failed: its process ended ({_how(running.wait())})")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """End it at once; the second time nothing is left to do."""
        running = self._running
        running.kill()
        running.wait()
        for pipe in (running.stdin, running.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # a request that nobody read
                pipe.close()


def _how(code: int) -> str:
    """Return how a process ended, from its exit code."""
    if code == -9:
        return "killed, as the system does where memory runs out"
    return f"signal {-code}" if code < 0 else f"code {code}"
