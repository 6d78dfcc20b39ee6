"""Files that appear whole or not at all: write beside the target, then rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modgap.errors import FormatError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it on success, remove it on any failure.

    Raises
    ------
    FormatError
        The folder is missing or cannot be written, or the disk is full.
    """
    name = f".{target.name}.{secrets.token_hex(4)}.tmp{target.suffix}"
    temporary = target.parent / name
    try:  # made in here, so that an interruption at any point finds it removed
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        yield temporary
        _give_usual_mode(temporary)
        temporary.replace(target)
    except OSError as error:
        raise FormatError(f"cannot write `{target}`: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _give_usual_mode(path: Path) -> None:
    """Temporary files are private; give the result the mode that a plain open() would."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
