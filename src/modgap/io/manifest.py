"""What was written into an output folder, so that work resumes and foreign files stay untouched."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from modgap.errors import FormatError, ModgapError
from modgap.io._guard import check_file, reading, shown
from modgap.io.atomic import atomic_path
from modgap.io.source import open_source

#: Name of the manifest in its folder.
MANIFEST = "modgap.json"
_VERSION = 1

Shape: TypeAlias = tuple[int, ...]
#: Shape, dtype and key of an array that was written.
Written: TypeAlias = tuple[Shape, np.dtype, str | None]
#: What a run did: ``shards`` and ``rows`` in total, ``skipped`` shards, ``bytes`` written.
Report: TypeAlias = dict[str, int]


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
        For each file name: `fingerprint`, `shape`, `dtype`, `bytes`, and whether it is `complete`.
    """

    folder: Path
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Manifest:
        """Return the record of a folder, which is made if need be.

        Raises
        ------
        FormatError
            The folder cannot be made, or the record is damaged.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise FormatError(f"cannot make the folder `{shown(folder)}`: {reason}") from None
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
        self.sweep(MANIFEST)
        self.save()

    def sweep(self, name: str) -> None:
        """Remove what killed runs left of this file; no other end of a run leaves anything."""
        target = self.folder / name
        for stale in self.folder.glob(f".{glob.escape(name)}.*.tmp{glob.escape(target.suffix)}"):
            stale.unlink(missing_ok=True)

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

    def make(
        self, name: str, fingerprint: str, write: Callable[[Path], Written], report: Report
    ) -> bool:
        """Make one file unless it is complete, and return whether it was made.

        Parameters
        ----------
        name : str
            File name within the folder; claimed already.
        fingerprint : str
            Identifies everything that the file is made from.
        write : callable
            Takes the path, writes the file whole or not at all, and returns the shape, dtype and key
            of the array in it.
        report : dict
            Counts of the whole run, which this file is added to.
        """
        made = not self.is_complete(name, fingerprint)
        if made:
            self.sweep(name)
            report["bytes"] += self.add(name, fingerprint, *write(self.folder / name))
        report["shards"] += 1
        report["skipped"] += not made
        report["rows"] += math.prod(self.files[name]["shape"][:-1])
        return made

    @property
    def complete(self) -> int:
        """Number of files that earlier runs and this one have completed."""
        return sum(bool(entry.get("complete")) for entry in self.files.values())

    def add(
        self, name: str, fingerprint: str, shape: Shape, dtype: np.dtype, key: str | None
    ) -> int:
        """Record a file that is now complete and return its size in bytes."""
        size = (self.folder / name).stat().st_size
        self.files[name] = {
            "complete": True,
            "fingerprint": fingerprint,
            "shape": list(shape),
            "dtype": str(dtype),
            "bytes": size,
            "key": key,
        }
        self.save()
        return size

    def save(self) -> None:
        """Write the record in one step."""
        document = {"modgap_manifest": _VERSION, "files": self.files}
        with atomic_path(self.folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")


def combine(*parts: object) -> str:
    """Return one fingerprint of several values, in hexadecimal."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()
