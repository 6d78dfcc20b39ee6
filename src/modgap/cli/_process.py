"""What the shell and the system do to a process: signals, closed streams, readers that go away."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

#: Signals that end a run as an interruption does, and the word for each.
_ENDINGS = {"SIGTERM": "terminated", "SIGHUP": "hung up"}


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; what is half done is cleared away on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number
        self.word = _ENDINGS[signal.Signals(number).name]


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Let the signals that end a process raise `Stopped` while the body runs.

    A signal that somebody handles or ignores already (``nohup``) stays as it is; outside the main
    thread, where Python takes no signals, nothing changes.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in _ENDINGS:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)


def open_missing_streams() -> None:
    """Open the standard streams that the caller has closed, to nowhere.

    Python leaves them None, on which printing fails, and the next file that is opened would get
    the number of stdout, into which libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free: this one
        stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)


def settle() -> None:
    """Flush the standard streams; let what cannot be written go nowhere.

    The interpreter flushes once more when it ends, and would complain and change the exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
