"""Files that appear whole or not at all: write beside the target, then rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=f".tmp{target.suffix}", dir=target.parent
        )
    except OSError as error:
        raise FormatError(f"cannot write `{target}`: {error.strerror or error}") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _give_usual_mode(temporary)
        temporary.replace(target)
    except OSError as error:
        raise FormatError(f"cannot write `{target}`: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _give_usual_mode(path: Path) -> None:
    """Temporary files are private; give the result the mode that a plain open() would."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
