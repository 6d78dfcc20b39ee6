"""What was written into an output folder, so that work resumes and foreign files stay untouched."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from modgap.errors import FormatError, ModgapError
from modgap.io._guard import check_file, reading, shown
from modgap.io.atomic import atomic_path, naming
from modgap.io.source import open_source

#: Name of the manifest in its folder.
MANIFEST = "modgap.json"
_VERSION = 1
#: The record is saved when this many times as long has passed as saving it took.
_SAVE_SHARE = 20
#: How `atomic` calls what has not its name yet.
STALE = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp(\..+)?", re.DOTALL)

Shape: TypeAlias = tuple[int, ...]
#: What a run did: ``shards`` and ``rows`` in total, ``skipped`` shards, ``bytes`` written.
Report: TypeAlias = dict[str, int]


@dataclass(frozen=True)
class Written:
    """A file that is written whole and has not its name yet.

    Attributes
    ----------
    temporary : str
        Name that it has meanwhile, in the folder of its target.
    shape : tuple of int
    dtype : str
    key : str or None
        Name of the array in the file, where the format has names.
    sha256 : str or None
        Of all bytes of the file, where it was asked for.
    """

    temporary: str
    shape: Shape
    dtype: str
    key: str | None
    sha256: str | None


def new_report() -> Report:
    """Return the report of a run that has done nothing yet."""
    return {"shards": 0, "rows": 0, "skipped": 0, "bytes": 0}


@dataclass
class Manifest:
    """The record of one output folder; every change is saved at once.

    Attributes
    ----------
    folder : Path
    files : dict
        For each file name: `fingerprint`, `shape`, `dtype`, `bytes`, `key`, `sha256`, and whether it is
        `complete`.
    """

    folder: Path
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    _saved: float = 0.0
    _cost: float = 0.0

    @classmethod
    def open(cls, folder: Path) -> Manifest:
        """Return the record of a folder; an empty one where it has none.

        Raises
        ------
        FormatError
            The record is damaged.
        """
        path = folder / MANIFEST
        if not os.path.lexists(path):
            return cls(folder)
        check_file(path)
        with reading(path, "json"):
            loaded = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(loaded, dict) or loaded.get("modgap_manifest") != _VERSION:
            raise FormatError(
                f"`{shown(path)}` is no manifest of version {_VERSION}; choose another output "
                "folder"
            )
        files = loaded.get("files")
        if not isinstance(files, dict) or not all(isinstance(v, dict) for v in files.values()):
            raise FormatError(f"`{shown(path)}` is damaged; choose another output folder")
        return cls(folder, files)

    def claim(self, names: list[str]) -> None:
        """Announce the files that are about to be written.

        Raises
        ------
        FormatError
            One exists already and is not from here.
        """
        for name in names:
            target = self.folder / name
            if name not in self.files and target.exists():
                raise FormatError(
                    f"`{shown(target)}` exists and was not written by this command; "
                    "choose another output folder"
                )
        for name in names:
            self.files.setdefault(name, {"complete": False})
        self.save()

    def sweep(self) -> None:
        """Remove what killed runs left of the claimed files and the record; no other end leaves any."""
        names = {*self.files, MANIFEST}
        for path in list(self.folder.iterdir()):
            stale = STALE.fullmatch(path.name)
            if stale and stale[1] in names and Path(stale[1]).suffix == stale[2]:
                path.unlink(missing_ok=True)

    def is_complete(self, name: str, fingerprint: str) -> bool:
        """Whether the file is there, whole, and made from the same inputs in the same way."""
        entry = self.files.get(name, {})
        if not entry.get("complete") or entry.get("fingerprint") != fingerprint:
            return False
        target = self.folder / name
        try:
            if target.stat().st_size != entry.get("bytes"):
                return False
            found = open_source(target, key=entry.get("key"))
        except (OSError, ModgapError, TypeError):  # somebody may have edited the record
            return False
        return list(found.shape) == entry.get("shape") and str(found.dtype) == entry.get("dtype")

    @property
    def complete(self) -> int:
        """Number of files that earlier runs and this one have completed."""
        return sum(bool(entry.get("complete")) for entry in self.files.values())

    def count(self, name: str, report: Report, *, made: bool) -> None:
        """Add one complete file to the counts of a run."""
        entry = self.files[name]
        report["shards"] += 1
        report["skipped"] += not made
        report["rows"] += math.prod(entry["shape"][:-1])
        report["bytes"] += entry["bytes"] if made else 0

    def publish(self, name: str, fingerprint: str, written: Written) -> None:
        """Put a file that is written whole in its place, and record it.

        Parameters
        ----------
        name : str
            File name within the folder; claimed already.
        fingerprint : str
            Identifies everything that the file is made from.
        written : Written
        """
        target = self.folder / name
        with naming(target):
            os.replace(self.folder / written.temporary, target)
            size = target.stat().st_size
        self.files[name] = {
            "complete": True,
            "fingerprint": fingerprint,
            "shape": list(written.shape),
            "dtype": written.dtype,
            "bytes": size,
            "key": written.key,
            "sha256": written.sha256,
        }
        # With ten thousand files the record is megabytes: it may take a twentieth of the time. What a
        # kill leaves unrecorded is made again.
        if time.monotonic() - self._saved >= _SAVE_SHARE * self._cost:
            self.save()

    def save(self) -> None:
        """Write the record in one step."""
        document = {"modgap_manifest": _VERSION, "files": self.files}
        start = time.monotonic()
        with atomic_path(self.folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
        self._saved = time.monotonic()
        self._cost = self._saved - start


def make_folder(folder: Path) -> None:
    """Make a folder of the output if need be.

    Raises
    ------
    FormatError
        It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FormatError(f"cannot make the folder `{shown(folder)}`: {reason}") from None


def combine(*parts: object) -> str:
    """Return one fingerprint of several values, in hexadecimal."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()
