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
from modgap.io.atomic import atomic_path, naming, uploading
from modgap.io.remote import AnyPath, RemotePath
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
    folder : Path or RemotePath
    files : dict
        For each file name: `fingerprint`, `shape`, `dtype`, `bytes`, `key`, `sha256`, and whether it is
        `complete`; in a store `mark` too, which is the store's own for the content.
    """

    folder: AnyPath
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What a store holds there, as one request lists it when the record is opened.
    _listed: dict[str, RemotePath] = field(default_factory=dict)
    _saved: float = 0.0
    _cost: float = 0.0

    @classmethod
    def open(cls, folder: AnyPath) -> Manifest:
        """Return the record of a folder; an empty one where it has none.

        Raises
        ------
        FormatError
            The record is damaged, or the store cannot be reached.
        """
        path = folder / MANIFEST
        there: dict[str, RemotePath] = {}
        if isinstance(folder, RemotePath):
            with naming(folder):
                there = _listing(folder)
        if path.name not in there if isinstance(path, RemotePath) else not os.path.lexists(path):
            return cls(folder, _listed=there)
        check_file(path)
        with reading(path, "json"):
            loaded = json.loads(path.read_bytes())
        if not isinstance(loaded, dict) or loaded.get("modgap_manifest") != _VERSION:
            raise FormatError(
                f"`{shown(path)}` is no manifest of version {_VERSION}; choose another output "
                "folder"
            )
        files = loaded.get("files")
        if not isinstance(files, dict) or not all(isinstance(v, dict) for v in files.values()):
            raise FormatError(f"`{shown(path)}` is damaged; choose another output folder")
        return cls(folder, files, there)

    def claim(self, names: list[str]) -> None:
        """Announce the files that are about to be written.

        Raises
        ------
        FormatError
            One exists already and is not from here.
        """
        for name in names:
            target = self.folder / name
            known = isinstance(target, RemotePath)
            if name not in self.files and (name in self._listed if known else target.exists()):
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
        paths: list[AnyPath] = list(self.folder.iterdir())
        for path in paths:
            stale = STALE.fullmatch(path.name)
            if stale and stale[1] in names and Path(stale[1]).suffix == stale[2]:
                path.unlink(missing_ok=True)

    def is_complete(self, name: str, fingerprint: str) -> bool:
        """Whether the file is there, whole, and made from the same inputs in the same way."""
        entry = self.files.get(name, {})
        if not entry.get("complete") or entry.get("fingerprint") != fingerprint:
            return False
        target = self.folder / name
        if isinstance(target, RemotePath):
            listed = self._listed.get(name)
            return listed is not None and listed.fingerprint() == entry.get("mark")
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
        temporary = self.folder / written.temporary
        with naming(target):
            if isinstance(target, RemotePath) and isinstance(temporary, RemotePath):
                temporary.replace(target)
                mark = {"mark": target.fingerprint()}
            else:
                os.replace(temporary, target)
                mark = {}
            size = target.stat().st_size
        self.files[name] = {
            "complete": True,
            "fingerprint": fingerprint,
            "shape": list(written.shape),
            "dtype": written.dtype,
            "bytes": size,
            "key": written.key,
            "sha256": written.sha256,
            **mark,
        }
        # With ten thousand files the record is megabytes: it may take a twentieth of the time. What a
        # kill leaves unrecorded is made again.
        if time.monotonic() - self._saved >= _SAVE_SHARE * self._cost:
            self.save()

    def save(self) -> None:
        """Write the record in one step."""
        document = {"modgap_manifest": _VERSION, "files": self.files}
        start = time.monotonic()
        data = json.dumps(document, indent=1).encode()
        path = self.folder / MANIFEST
        if isinstance(path, RemotePath):
            with uploading(path) as sent:
                sent.write_bytes(data)
                sent.replace(path)
        else:
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        self._saved = time.monotonic()
        self._cost = self._saved - start


def _listing(folder: RemotePath) -> dict[str, RemotePath]:
    """Return what lies in a folder of a store by name; a folder without anything is none there."""
    try:
        return {path.name: path for path in folder.iterdir()}
    except FileNotFoundError:
        return {}


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
