"""What runs in the process of an engine that stands apart: see `modgap.index.apart`."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from modgap.errors import ModgapError
from modgap.index._scratch import native_failures
from modgap.index.engine import Index
from modgap.index.registry import engine

__all__ = ["ASKED", "FOUND", "main"]

#: Files in an index's folder: queries, and the rows found for them.
ASKED, FOUND = "asked.npy", "found.npy"


def main(name: str) -> None:
    """Answer each line of standard input, a request to the engine of a name, with a line.

    It ends when its input does: with the process that holds the other end, however that ends, and in
    the middle of whatever it does.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what native code prints is no answer
    warnings.simplefilter("ignore")  # packages' own, which a study drops too
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    served = _Served(name)
    while True:
        request = json.loads(requests.get())
        try:
            folder = Path(request.pop("folder"))
            with native_failures(name, folder):
                answer = getattr(served, request.pop("do"))(folder, **request)
        except ModgapError as error:
            answer = {"error": type(error).__name__, "says": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _listen(requests: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(1)


class _Served:
    """One engine, and the index of it that stands."""

    def __init__(self, name: str) -> None:
        self._engine = engine(name)
        self._index: Index | None = None

    def build(self, folder: Path, *, rows: str, codec: str, seed: int) -> dict[str, Any]:
        """Return what there is to know of the index of a file's rows."""
        self._engine.check()
        stored = np.load(rows, mmap_mode="r", allow_pickle=False)
        start = time.perf_counter()
        self._index = self._engine.build(stored, codec, seed=seed, folder=folder)
        return {
            "seconds": time.perf_counter() - start,
            "bytes_per_vector": self._index.bytes_per_vector,
            "efforts": list(self._index.efforts),
        }

    def search(self, folder: Path, *, k: int, effort: int | None) -> dict[str, Any]:
        """Write the rows found for the queries in a folder, and return their price."""
        assert self._index is not None
        asked = np.load(folder / ASKED, allow_pickle=False)
        found = self._index.search(asked, k, effort)
        np.save(folder / FOUND, found.rows, allow_pickle=False)
        return {"seconds": found.seconds, "computations": found.computations}

    def close(self, folder: Path) -> dict[str, Any]:
        """Let go of the index; the other process removes its folder."""
        if self._index is not None:
            self._index.close()
            self._index = None
        return {}
