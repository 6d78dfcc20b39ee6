"""From Vega-Lite to pictures, in a process of its own.

vl-convert runs V8, which ends the whole process with a native backtrace where it does not get the
address space it reserves (``ulimit -v``). In a child that is an error with one line. The child starts
V8 once and serves every chart; starting it costs what starting Python does.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO, Any

from modgap._core.extras import require
from modgap.errors import MissingExtraError
from modgap.io._guard import shown

__all__ = ["draw"]


def draw(spec: dict[str, Any], *, form: str, version: str, scale: float = 1.0) -> bytes:
    """Return a picture of a Vega-Lite specification; no network is used.

    Parameters
    ----------
    spec : dict
    form : {"svg", "png", "pdf"}
    version : str
        Version of Vega-Lite that the specification is written in, such as ``6.1``.
    scale : float
        Pixels of a PNG per unit of the specification.

    Raises
    ------
    MissingExtraError
        vl-convert is not installed, or its process ends where memory is limited.
    RuntimeError
        vl-convert refuses the specification.
    """
    require("vl_convert", "report")
    request = {"format": form, "spec": spec, "version": version, "scale": scale}
    with _LOCK:
        return _child().ask(request)


class _Child:
    """The process, and what it says on stderr."""

    def __init__(self) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the child)
        self._process = subprocess.Popen(
            # -P: no module of the working folder takes the place of the library's.
            [sys.executable, "-P", str(Path(__file__).with_name("_painter.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    def ask(self, request: dict[str, Any]) -> bytes:
        """Return the answer to one request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it has died: seen in the next line
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            head, _, size = self._process.stdout.readline().partition(b" ")
            answer = self._process.stdout.read(int(size)) if size else b""
        except BaseException:  # an interruption leaves half an answer in the pipe
            self.end()
            raise
        if not size or len(answer) < int(size):
            raise MissingExtraError(self._obituary())
        if head != b"ok":
            raise RuntimeError(f"vl-convert: {answer.decode(errors='replace')}")
        return answer

    def _obituary(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        said = self._stderr.read(20_000).decode(errors="replace").splitlines()
        words = [line.strip("# \t") for line in said if line.strip("# \t")]
        reason = next(
            (word for word in words if "memory" in word.lower()), (words or ["silent"])[0]
        )
        self.end()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return (
            f"`vl_convert`, which draws the charts, ended ({how}: {shown(reason)}); it reserves "
            "64 GiB of address space: lift the limit, if there is one (ulimit -v unlimited)"
        )

    def end(self) -> None:
        """End the process; it holds nothing that could be lost."""
        global _running
        _running = None
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            with suppress(OSError):
                if stream is not None:
                    stream.close()


_LOCK = Lock()
_running: _Child | None = None


def _child() -> _Child:
    global _running
    if _running is None:
        _running = _Child()
    return _running


@atexit.register
def _end() -> None:
    if _running is not None:
        _running.end()
