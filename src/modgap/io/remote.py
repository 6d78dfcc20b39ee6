"""Files that fsspec reaches (S3, GCS, Azure, HTTP, SFTP, archives, memory), with the face of a path."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from modgap._core.extras import require
from modgap.errors import FormatError, MissingExtraError
from modgap.io._guard import one_line, shown
from modgap.io._remote_file import RemoteFile, as_os_error

__all__ = ["LOCAL", "AnyPath", "RemotePath", "is_url", "output_folder", "refuse_url"]

#: Two letters at least: one is a drive of Windows.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")
#: Bytes a request asks for where a file is read to its end, and where its beginning is looked at.
_READ_AHEAD = 16 * 1024 * 1024
_LOOK = 64 * 1024
#: What stores call the mark of a content. (fsspec's own holds a listing and a request for two things.)
_TAGS = ("ETag", "etag", "generation", "md5Hash", "Last-Modified")
_WEB = ("http://", "https://")
#: Stores of objects by name, where a folder is what names have in common.
_BUCKETS = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "tos"))
#: What is a page of text, and not of links.
_PAGES = (".html", ".htm", ".txt", ".csv", ".json")
#: Links of an index that only sort it.
_QUERY = re.compile(r"[?#]")


@dataclass(frozen=True)
class RemoteStatus:
    """What is known of a remote file or folder, by the names of `os.stat_result`."""

    st_mode: int
    st_size: int


@dataclass(frozen=True, eq=False)
class RemotePath(os.PathLike[str]):
    """A URL of a file or a folder: as much of `pathlib.Path` as reading and a folder of output need.

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
        """What the store says of it now, and not what it said before."""
        if self.listed is not None:
            return self.listed
        files, path = self._located
        with as_os_error():
            files.invalidate_cache(path)
            found: Mapping[str, Any] = files.info(path)
        return {**found, "type": "directory"} if self._is_index(found) else found

    @property
    def _is_web(self) -> bool:
        return self.url.partition("::")[0].startswith(_WEB)

    def _is_index(self, found: Mapping[str, Any]) -> bool:
        """Whether a web server answers with a page, as for a folder: it knows no folders."""
        page = str(found.get("mimetype") or "").startswith("text/html")
        return self._is_web and page and self.suffix.lower() not in _PAGES

    def stat(self) -> RemoteStatus:
        """Return mode and size.

        Raises
        ------
        OSError
            There is none, or it cannot be reached.
        """
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
        with as_os_error():
            files.invalidate_cache(path)
            entries = files.ls(path, detail=True)
        for entry in entries:
            found = str(entry["name"]).rstrip("/")
            name = posixpath.basename(found)
            # Object stores may list the folder itself, an object without a byte.
            if not name or found == path.rstrip("/"):
                continue
            if not self._is_web:
                yield RemotePath((self / name).url, entry)
            elif found == f"{path.rstrip('/')}/{name}" and not _QUERY.search(name):
                # Its page has links alone: what is behind one is asked where it matters.
                folder = entry["type"] == "directory"
                yield RemotePath((self / name).url, entry if folder else None)

    def open(self, mode: str = "rb", buffering: int = -1) -> IO[bytes]:
        """Return the open file; unbuffered, as whole files are read, it asks for many bytes at a time.

        Opened to be written ("wb"), it is sent as it grows, and is there once it is closed.
        """
        files, path = self._located
        size = _READ_AHEAD if buffering == 0 or mode == "wb" else _LOOK
        with as_os_error():
            return cast(IO[bytes], RemoteFile(files.open(path, mode, block_size=size), self.url))

    def read_bytes(self) -> bytes:
        """Return the whole content."""
        files, path = self._located
        with as_os_error():
            return cast(bytes, files.cat_file(path))

    def write_bytes(self, data: bytes) -> None:
        """Put a whole content there; an object store shows it whole or not at all."""
        files, path = self._located
        with as_os_error():
            files.pipe_file(path, data)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        files, path = self._located
        with as_os_error():
            try:
                files.rm_file(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def replace(self, target: RemotePath) -> None:
        """Give the file another name of the same store.

        Where the store knows no renaming (S3, GCS, Azure) it copies, which it does whole or not at all,
        and then removes: what is stopped in between leaves both.
        """
        files, path = self._located
        new = target._located[1]
        with as_os_error():
            files.invalidate_cache(
                path
            )  # another process may have made it since the folder was listed
            if type(files).mv is not require("fsspec", "remote").AbstractFileSystem.mv:
                files.mv(path, new)
            else:
                files.cp_file(path, new)
                files.rm_file(path)

    def make_folder(self) -> None:
        """Make the folder where the store has folders; buckets have none, and no bucket is made."""
        files, path = self._located
        protocols = files.protocol if isinstance(files.protocol, tuple) else (files.protocol,)
        if not _BUCKETS.intersection(protocols):
            with as_os_error():
                files.makedirs(path, exist_ok=True)

    @property
    def place(self) -> tuple[Any, str]:
        """What is equal for two URLs of one place: the file system, and the path in it."""
        files, path = self._located
        return files, path.rstrip("/")

    def fingerprint(self) -> str:
        """Return what tells this content from another, as the file system knows it without reading."""
        files, path = self._located
        info = self._info
        tag = next((info[name] for name in _TAGS if info.get(name)), None)
        if tag is not None:
            return f"{tag} {info.get('size')}"
        with as_os_error():
            return str(files.ukey(path))


#: How a URL of this machine's own files begins.
LOCAL = "file://"

#: A path on this machine, or a URL.
AnyPath: TypeAlias = Path | RemotePath


def is_url(text: str) -> bool:
    """Whether a word is a URL (``s3://...``), and no path of this machine."""
    return _URL.match(text) is not None


def refuse_url(out: str | os.PathLike[str], option: str) -> None:
    """Raise a FormatError for an output that is a URL: one file is put together on a disk."""
    text = os.fspath(out)
    if is_url(text) and not os.path.lexists(text):
        raise FormatError(
            f"`{option}` must be on this machine's disks, where files appear whole or not at all; got "
            f"`{shown(text)}`; write here, and copy the files there"
        )


def output_folder(out: str | os.PathLike[str], option: str) -> AnyPath:
    """Return the folder of an output, on this machine or in a store.

    Raises
    ------
    FormatError
        A URL that cannot be written to: of a web server, or a chain (an archive).
    """
    if isinstance(out, RemotePath):
        return out
    text = os.fspath(out)
    if text.startswith(LOCAL) and "::" not in text:
        return Path(text.removeprefix(LOCAL))
    if not is_url(text) or os.path.lexists(text):
        return Path(text)
    if text.startswith(_WEB) or "::" in text:
        raise FormatError(
            f"`{option}` must be a folder on this machine or in a store (s3://bucket/folder); "
            f"`{shown(text)}` can only be read"
        )
    return RemotePath(text)
