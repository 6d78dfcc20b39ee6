"""One writer to a folder at a time."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modgap.errors import FormatError, WorkerError
from modgap.io._guard import shown
from modgap.io.atomic import naming
from modgap.io.remote import AnyPath, RemotePath

#: Name of the file whose lock the writer holds. The system takes the lock back however a process ends.
LOCK = ".modgap.lock"


@contextmanager
def sole_writer(folder: AnyPath) -> Iterator[str]:
    """Hold a folder's lock while the body writes into it; yield a token that tells this run from others.

    Stores have no locks that go with a process: there the last run that comes takes the folder over, and
    `check_writer` ends the one before it.

    Raises
    ------
    FormatError
        Another process holds it, or the folder cannot be written.
    """
    if isinstance(folder, RemotePath):
        with _last_writer(folder) as token:
            yield token
        return
    path = folder / LOCK
    token = secrets.token_hex(8)
    handle = _locked(path, f"{os.getpid()} {token}")
    try:
        yield token
    finally:
        # Removed before it is let go: who waits for this file then finds it gone, and makes another.
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(handle)


@contextmanager
def _last_writer(folder: RemotePath) -> Iterator[str]:
    path = folder / LOCK
    token = secrets.token_hex(8)
    with naming(folder):
        folder.make_folder()
        path.write_bytes(f"{os.getpid()} {token}".encode())
    try:
        yield token
    finally:
        if is_writer(folder, token):
            with contextlib.suppress(OSError):
                path.unlink()


def is_writer(folder: AnyPath, token: str) -> bool:
    """Whether the folder is that of the run with this token, and of no later one."""
    try:
        return _token(folder) == token
    except OSError:
        return False


def check_writer(folder: AnyPath, token: str) -> None:
    """Raise a WorkerError if the run with this token has ended: its tasks may live on in a cluster.

    Killed runs leave their token in the folder, and the next one replaces it.

    Raises
    ------
    FormatError
        The store cannot be reached.
    """
    with naming(folder):
        found = _token(folder)
    if found != token:
        raise WorkerError(
            f"the run that writes into `{shown(folder)}` is over, or another run has taken the folder; "
            "this one stops"
        )


def _token(folder: AnyPath) -> str | None:
    """Return the token of the run that has the folder, or None."""
    try:
        _, token = (folder / LOCK).read_bytes().decode("ascii", "replace").split()
    except (FileNotFoundError, ValueError):
        return None
    return token


def _locked(path: Path, content: str) -> int:
    """Return a file that is open and locked, and still the one that its name leads to."""
    while True:
        with naming(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if not _try_lock(handle):
            holder = os.read(handle, 64).decode("ascii", "replace").split()
            os.close(handle)
            who = f" (process {shown(holder[0])})" if holder else ""
            raise FormatError(
                f"`{shown(path.parent)}` is being written by another run of modgap{who}; wait for it, or "
                "choose another output folder"
            )
        if not _leads_to(path, handle):  # removed by the run that had it: another one is made
            os.close(handle)
            continue
        try:
            with naming(path):
                os.truncate(handle, 0)
                os.write(handle, content.encode())
        except FormatError:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(handle)
            raise
        return handle


def _leads_to(path: Path, handle: int) -> bool:
    """Return whether a name still leads to the file that is open."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def _try_lock(handle: int) -> bool:
    """Return whether this process now holds the lock; a file system without locks gives it to all."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # Far behind the bytes of the file, which another process may then read.
            os.lseek(handle, 1 << 30, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True
