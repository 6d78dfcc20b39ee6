"""An open file of fsspec, whose every failure is one that reading and writing here expect."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modgap.errors import FormatError, ModgapError
from modgap.io._guard import one_line, shown

__all__ = ["RemoteFile", "as_os_error"]

#: Answers of a web server that say "not you"; fsspec makes each of them a missing file.
_REFUSED = (401, 403, 407)
_GONE = (404, 410)


class RemoteFile(io.RawIOBase):
    """What fsspec opened, read or written from here; the client libraries' own errors become OSError.

    Parameters
    ----------
    file : file object
        Of fsspec.
    url : str
        For messages.
    """

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def readable(self) -> bool:
        """Whether it was opened to be read."""
        return bool(self._file.readable())

    def writable(self) -> bool:
        """Whether it was opened to be written."""
        return bool(self._file.writable())

    def seekable(self) -> bool:
        """Whether any byte can be gone to."""
        return bool(self._file.seekable())

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer at the end; all that are left without a number."""
        with self._told():
            found: bytes = self._file.read(size)
        return found

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, and return how many bytes there were."""
        with self._told():
            return int(self._file.readinto(buffer))

    def write(self, data: Any) -> int:
        """Hand bytes over; they are in the store once the file is closed."""
        with self._told():
            return int(self._file.write(data))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a byte."""
        with self._told():
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the byte that comes next."""
        with self._told():
            return int(self._file.tell())

    def close(self) -> None:
        """Close it; what was written appears in the store."""
        if not self.closed:
            try:
                with self._told():
                    self._file.close()
            finally:
                super().close()

    def __del__(self) -> None:
        """Do not send what nobody closed: fsspec's own file is left to itself."""
        with contextlib.suppress(Exception):
            super().close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with as_os_error():
                yield
        except OSError as error:
            if "range requests" not in str(error):
                raise
            raise FormatError(
                f"`{shown(self._url)}` lies on a server that hands out whole files alone and answers no "
                "byte ranges, which modgap reads; copy it here, or use another server"
            ) from None


@contextmanager
def as_os_error() -> Iterator[None]:
    """Let what a client library raises be an OSError, as reading expects."""
    try:
        yield
    except ModgapError:
        raise
    except FileNotFoundError as error:
        # fsspec says so of every answer of a web server that it did not like, and of none at all.
        cause = error.__cause__
        status = getattr(cause, "status", None)
        if status in _REFUSED:
            raise PermissionError(one_line(error)) from error
        if status not in (None, *_GONE):
            raise OSError(f"the server answers {status}") from error
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            raise OSError(one_line(cause)) from error
        raise
    except OSError:
        raise
    except Exception as error:
        raise OSError(one_line(error)) from error
