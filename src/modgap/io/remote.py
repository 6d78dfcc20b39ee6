"""Files that fsspec reaches (S3, GCS, Azure, HTTP, SFTP, archives, memory), with the face of a path."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from modgap._core.extras import require
from modgap.errors import FormatError, MissingExtraError, ModgapError
from modgap.io._guard import one_line, shown

__all__ = ["AnyPath", "RemotePath", "is_url", "refuse_url"]

#: Two letters at least: one is a drive of Windows.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")
#: Bytes a request asks for where a file is read to its end, and where its beginning is looked at.
_READ_AHEAD = 16 * 1024 * 1024
_LOOK = 64 * 1024


@dataclass(frozen=True)
class RemoteStatus:
    """What is known of a remote file or folder, by the names of `os.stat_result`."""

    st_mode: int
    st_size: int


@dataclass(frozen=True, eq=False)
class RemotePath(os.PathLike[str]):
    """A URL of a file or a folder: as much of `pathlib.Path` as reading needs, and no writing.

    Attributes
    ----------
    url : str
        As fsspec takes it; links of a chain are separated by ``::`` (``zip://a.npy::s3://bucket/x.zip``).
    listed : mapping, optional
        What the listing of its folder says of it, which saves a request.
    """

    url: str
    listed: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """Return the URL."""
        return self.url

    def __fspath__(self) -> str:
        """Return the URL, which no local file is called: what cannot read it says that there is none."""
        return self.url

    def __eq__(self, other: object) -> bool:
        """Whether the other is the same URL."""
        return isinstance(other, RemotePath) and self.url == other.url

    def __hash__(self) -> int:
        """Return the hash of the URL."""
        return hash(self.url)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the connection, which the other process makes anew."""
        return RemotePath, (self.url, None if self.listed is None else dict(self.listed))

    @property
    def _parts(self) -> tuple[str, str, str]:
        """What stands before the path, the path without a slash at its end, and the chain behind it."""
        head, colons, tail = self.url.partition("::")
        scheme, slashes, path = head.partition("://")
        return scheme + slashes, path.rstrip("/"), colons + tail

    @property
    def name(self) -> str:
        """Last part of the path."""
        return posixpath.basename(self._parts[1])

    @property
    def suffix(self) -> str:
        """Suffix of the name, with its dot."""
        return posixpath.splitext(self.name)[1]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return posixpath.splitext(self.name)[0]

    @property
    def parent(self) -> RemotePath:
        """The folder that it lies in."""
        scheme, path, chain = self._parts
        return RemotePath(scheme + posixpath.dirname(path) + chain)

    def __truediv__(self, name: str) -> RemotePath:
        """Return a file of this folder."""
        scheme, path, chain = self._parts
        return RemotePath(scheme + posixpath.join(path, name) + chain)

    @cached_property
    def _located(self) -> tuple[Any, str]:
        """The file system, and the path in it.

        Raises
        ------
        MissingExtraError
            fsspec, or what it needs for this protocol, is not installed.
        """
        core = require("fsspec.core", "remote")
        try:
            found: tuple[Any, str] = core.url_to_fs(self.url)
        except ImportError as error:
            raise MissingExtraError(
                f"`{shown(self.url)}` needs a package that fsspec names: {one_line(error)}"
            ) from None
        except Exception as error:
            raise FormatError(
                f"`{shown(self.url)}` is no URL that fsspec can open ({one_line(error)}); check it"
            ) from None
        return found

    @cached_property
    def _info(self) -> Mapping[str, Any]:
        if self.listed is not None:
            return self.listed
        files, path = self._located
        found: Mapping[str, Any] = files.info(path)
        return found

    def stat(self) -> RemoteStatus:
        """Return mode and size.

        Raises
        ------
        OSError
            There is none, or it cannot be reached.
        """
        with _as_os_error():
            folder = self._info["type"] == "directory"
            size = self._info.get("size")
        return RemoteStatus(stat.S_IFDIR if folder else stat.S_IFREG, int(size or 0))

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        try:
            self.stat()
        except OSError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether it is a folder that is there."""
        return self.exists() and stat.S_ISDIR(self.stat().st_mode)

    def is_file(self) -> bool:
        """Whether it is a file that is there."""
        return self.exists() and stat.S_ISREG(self.stat().st_mode)

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield what lies in the folder, as one request lists it."""
        files, path = self._located
        with _as_os_error():
            entries = files.ls(path, detail=True)
        for entry in entries:
            name = posixpath.basename(str(entry["name"]).rstrip("/"))
            # Object stores may list the folder itself, an object without a byte.
            if name and str(entry["name"]).rstrip("/") != path.rstrip("/"):
                yield RemotePath((self / name).url, entry)

    def open(self, mode: str = "rb", buffering: int = -1) -> IO[bytes]:
        """Return the open file; unbuffered, as whole files are read, it asks for many bytes at a time."""
        files, path = self._located
        size = _READ_AHEAD if buffering == 0 else _LOOK
        with _as_os_error():
            return cast(IO[bytes], files.open(path, mode, block_size=size))

    def read_bytes(self) -> bytes:
        """Return the whole content."""
        files, path = self._located
        with _as_os_error():
            return cast(bytes, files.cat_file(path))

    def fingerprint(self) -> str:
        """Return what tells this content from another, as the file system knows it without reading."""
        files, path = self._located
        if self.listed is None:
            files.invalidate_cache()
        with _as_os_error():
            return str(files.ukey(path))


#: A path on this machine, or a URL.
AnyPath: TypeAlias = Path | RemotePath


def is_url(text: str) -> bool:
    """Whether a word is a URL (``s3://...``), and no path of this machine."""
    return _URL.match(text) is not None


def refuse_url(out: str | os.PathLike[str], option: str) -> None:
    """Raise a FormatError for an output that is a URL: a rename that is whole or not is for disks."""
    text = os.fspath(out)
    if is_url(text) and not os.path.lexists(text):
        raise FormatError(
            f"`{option}` must be on this machine's disks, where files appear whole or not at all; got "
            f"`{shown(text)}`; write here, and copy the files there"
        )


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Let what a client library raises be an OSError, as reading expects."""
    try:
        yield
    except (OSError, ModgapError):
        raise
    except Exception as error:
        raise OSError(one_line(error)) from error
