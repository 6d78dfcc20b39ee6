"""Files that appear whole or not at all: write beside the target, then rename."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modgap.errors import FormatError
from modgap.io._guard import shown
from modgap.io.remote import AnyPath, RemotePath

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it on success, remove it on any failure.

    Raises
    ------
    FormatError
        The folder is missing or cannot be written, the disk is full, or `target` exists and is no
        regular file.
    """
    temporary: Path | None = None
    try:
        with unpublished(target) as temporary:
            yield temporary
        with naming(target):
            temporary.replace(target)
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def unpublished(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`, which stays on success and is removed on any failure.

    Raises
    ------
    FormatError
        As `atomic_path`.
    """
    check_target(target)
    temporary = target.parent / _hidden(target)
    with _gone_on_failure(temporary), naming(target):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        yield temporary
        _give_usual_mode(temporary)


@contextmanager
def uploading(target: RemotePath) -> Iterator[RemotePath]:
    """Yield a temporary name beside `target` in its store; what has it is removed on any failure.

    Raises
    ------
    FormatError
        The store cannot be written.
    """
    temporary = target.parent / _hidden(target)
    with _gone_on_failure(temporary), naming(target):
        yield temporary


def _hidden(target: AnyPath) -> str:
    """Return a name for what is not complete yet, by which a later run knows it."""
    return f".{target.name}.{secrets.token_hex(4)}.tmp{target.suffix}"


@contextmanager
def _gone_on_failure(temporary: AnyPath) -> Iterator[None]:
    """Remove a file where anything goes wrong, an interruption too, from before it is made."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming(target: AnyPath) -> Iterator[None]:
    """Turn what the system says into one FormatError about `target`."""
    try:
        yield
    except OSError as error:
        raise FormatError(f"cannot write `{shown(target)}`: {_reason(error)}") from None


def check_target(target: Path) -> None:
    """Raise a FormatError if something lies there that a file must not take the place of."""
    try:
        folder, regular, there = target.is_dir(), target.is_file(), target.exists()
    except (OSError, ValueError):  # what cannot be looked at cannot be written: said there
        return
    if folder:
        raise FormatError(f"cannot write `{shown(target)}`: it is a folder; name a file in it")
    if there and not regular:
        raise FormatError(
            f"cannot write `{shown(target)}`: it is no regular file (a pipe or a device); "
            "name a file"
        )


def _reason(error: OSError) -> str:
    if error.errno in _FULL:
        return f"{error.strerror}: the disk is full, or a limit is reached; free some space"
    return str(error.strerror or error)


def _give_usual_mode(path: Path) -> None:
    """Temporary files are private; give the result the mode that a plain open() would."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
