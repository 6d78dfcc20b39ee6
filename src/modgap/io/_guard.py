"""One line for everything that can go wrong with a file, whatever library it goes wrong in."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, overload

from modgap.errors import ArgumentError, FormatError, ModgapError

if TYPE_CHECKING:
    from modgap.io.remote import AnyPath, RemoteStatus

#: How files of each kind begin; more than one kind may share a beginning.
_MAGIC = {
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz or .pt",
    b"PAR1": ".parquet",
    b"ARROW1": ".arrow",
    b"\x80\x02\x8a\x0a": ".pt",
    b"\x89HDF": "HDF5",
    b"\x1f\x8b": "gzip",
}

#: Environment variable with the most bytes that a file may open to.
OPEN_LIMIT = "MODGAP_MAX_OPEN_BYTES"
#: Without it: a gibibyte, or this many times the file's own size.
_OPEN_BYTES = 2**30
_OPEN_TIMES = 64


def shown(value: object) -> str:
    """Return a path or key as it may stand in a message: one line, printable, at most 300 long."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))
    return text if len(text) <= 300 else f"{text[:140]}...{text[-140:]}"


def one_line(error: BaseException) -> str:
    """Return what an error says on its first line, at most 200 characters, never empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = shown(lines[0]).rstrip(".:") if lines else type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."


def looks_like(path: AnyPath) -> str:
    """Return a clause that says which other kind of file this begins like, or nothing."""
    try:
        with path.open("rb") as handle:
            start = handle.read(8)
    except (OSError, ValueError):
        return ""
    kinds = [kind for magic, kind in _MAGIC.items() if start.startswith(magic)]
    if not kinds or path.suffix.lower() in kinds[0].split():
        return ""
    return f"; it begins like a {kinds[0]} file, so rename or convert it"


@contextmanager
def reading(path: AnyPath, kind: str) -> Iterator[None]:
    """Turn every failure of the body into one FormatError about `path`.

    Parsers of hostile bytes raise whatever their own tools raise, so the net is wide on purpose;
    a keyboard interrupt passes.

    Raises
    ------
    FormatError
        The body raised anything but an error of modgap.
    """
    try:
        yield
    except ModgapError:
        raise
    except FileNotFoundError:
        raise FormatError(f"no file at `{shown(path)}`; check the path") from None
    except PermissionError:
        raise FormatError(_denied(path)) from None
    except OSError as error:
        if isinstance(path, Path):
            raise FormatError(_unreadable(path, kind, error)) from None
        raise FormatError(
            f"`{shown(path)}` cannot be read: {one_line(error)}; look at the network and the store, then "
            "run it again"
        ) from None
    except MemoryError:
        raise FormatError(
            f"`{shown(path)}` asks for more memory than there is; it is damaged, or has to be cut "
            "into shards"
        ) from None
    except Exception as error:
        raise FormatError(_unreadable(path, kind, error)) from None


def _unreadable(path: AnyPath, kind: str, error: Exception) -> str:
    return (
        f"`{shown(path)}` is no readable .{kind} file ({one_line(error)}){looks_like(path)}; write or "
        "download it again"
    )


def _denied(path: AnyPath) -> str:
    fix = "change its mode or owner" if isinstance(path, Path) else "check the credentials"
    return f"`{shown(path)}` cannot be read: permission denied; {fix}"


@overload
def file_status(path: Path) -> os.stat_result: ...


@overload
def file_status(path: AnyPath) -> os.stat_result | RemoteStatus: ...


def file_status(path: AnyPath) -> os.stat_result | RemoteStatus:
    """Return the status of an existing file or folder.

    Raises
    ------
    FormatError
        There is none, or it cannot be reached.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError(f"no file or folder at `{shown(path)}`; check the path") from None
    except PermissionError:
        raise FormatError(_denied(path)) from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error)
        if not isinstance(path, Path):
            raise FormatError(
                f"`{shown(path)}` cannot be reached: {reason}; check the address, the credentials and the "
                "network"
            ) from None
        raise FormatError(f"`{shown(path)}` is no usable path: {reason}; check it") from None


def check_file(path: AnyPath) -> int:
    """Return the size of a regular file in bytes, at least 1.

    Raises
    ------
    FormatError
        It is missing, empty, a folder, or something else that cannot be read twice.
    """
    status = file_status(path)
    if stat.S_ISDIR(status.st_mode):
        raise FormatError(
            f"`{shown(path)}` is a folder, and a file is expected here; name the file"
        )
    if not stat.S_ISREG(status.st_mode):
        raise FormatError(
            f"`{shown(path)}` is no regular file (a pipe or a device); save it to a file first"
        )
    if isinstance(path, Path) and not os.access(
        path, os.R_OK
    ):  # said here, because some libraries call it missing
        raise FormatError(_denied(path))
    if status.st_size == 0:
        raise FormatError(f"`{shown(path)}` is empty (0 bytes); write or download it again")
    return status.st_size


def check_expansion(path: AnyPath, needed: int) -> None:
    """Raise a FormatError if a file opens to far more bytes than it has.

    Archives, encoded columns and tensors whose rows are one row repeated can be made to hold any
    number of rows in a few kilobytes; embeddings hardly compress at all.
    """
    size = file_status(path).st_size
    limit = max(_OPEN_BYTES, _OPEN_TIMES * size)
    word = os.environ.get(OPEN_LIMIT)
    if word is not None:
        try:
            limit = int(float(word))
        except (ValueError, OverflowError):
            raise ArgumentError(
                f"the environment variable {OPEN_LIMIT} must be a number of bytes; "
                f"got `{shown(word)}`"
            ) from None
    if needed > limit:
        raise FormatError(
            f"`{shown(path)}` has {size:,} bytes and opens to {needed:,}, more than the {limit:,} "
            f"that are allowed; if it is what you want, set {OPEN_LIMIT}={needed}"
        )
