"""A digest of a collection: every part with its length, so that no two collections read alike."""

from __future__ import annotations

import hashlib
from pathlib import Path

from modgap.datasets._files import is_regular
from modgap.io._guard import reading

__all__ = ["Digest"]


class Digest:
    """A SHA-256 over parts, each of which begins with what it is and how long it is."""

    def __init__(self, kind: str) -> None:
        self._hash = hashlib.sha256()
        self.add(kind)

    def add(self, *parts: str | bytes | int | None) -> None:
        """Add strings, bytes, numbers or None."""
        for part in parts:
            if isinstance(part, bytes):
                mark, raw = b"b", part
            elif isinstance(part, str):
                mark, raw = b"s", part.encode()
            else:
                mark, raw = b"n", b"" if part is None else str(int(part)).encode()
            self._hash.update(mark + len(raw).to_bytes(8, "little"))
            self._hash.update(raw)

    def add_file(self, path: Path) -> None:
        """Add the bytes of a file, read in pieces; one that is not there counts as such.

        Raises
        ------
        FormatError
            It cannot be read.
        """
        if not is_regular(path):
            self.add(None)
            return
        with reading(path, path.suffix[1:].lower() or "picture"), path.open("rb") as handle:
            self.add(hashlib.file_digest(handle, "sha256").digest())

    def hexdigest(self) -> str:
        """Return the digest as hexadecimal digits."""
        return self._hash.hexdigest()
