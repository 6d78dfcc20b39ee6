"""The record of a folder of embeddings: what each shard was made from, and which files it is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import modgap
from modgap.encode.class_texts import CLASS_FILES
from modgap.errors import ArgumentError, FormatError
from modgap.io._guard import check_file, reading, shown
from modgap.io.atomic import atomic_path
from modgap.io.manifest import STALE

__all__ = ["KINDS", "RECORD", "Record"]

#: Folders of numbered files.
KINDS = ("img_emb", "text_emb", "owners", "metadata")
#: Name of the record in the output folder.
RECORD = "embed.json"
_VERSION = 1


@dataclass
class Record:
    """The record of an output folder; every change is saved at once."""

    folder: Path
    settings: dict[str, Any]
    shards: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False

    @classmethod
    def open(cls, folder: Path, settings: dict[str, Any]) -> Record:
        """Return the record of a folder, a new one where there is none; leftovers of killed runs go.

        Raises
        ------
        ArgumentError
            The folder holds embeddings that were made otherwise.
        FormatError
            It holds something else, or the record is damaged.
        """
        path = folder / RECORD
        if not os.path.lexists(path):
            names = {p.name for p in folder.iterdir() if not p.name.startswith(".")}
            foreign = names - set(CLASS_FILES)
            if foreign:
                raise FormatError(
                    f"`{shown(folder)}` holds `{shown(sorted(foreign)[0])}`, which no run of embed wrote; "
                    "choose an empty output folder"
                )
            _sweep(folder)
            record = cls(folder, settings)
            record.save()  # before the first file: a run killed in between then knows its own
            return record
        check_file(path)
        with reading(path, "json"):
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["modgap_embed"] != _VERSION:
                raise ValueError("another version")
            record = cls(folder, dict(found["settings"]), list(found["shards"]))
        if record.settings != json.loads(json.dumps(settings, default=str)):
            raise ArgumentError(
                f"`{shown(folder)}` holds embeddings made otherwise: "
                f"{_differences(record.settings, settings)}; choose another output folder"
            )
        _sweep(folder)
        return record

    def done(self, number: int, keys: str) -> bool:
        """Whether a shard stands in the record, was made from these items, and its files lie there."""
        if number >= len(self.shards) or self.shards[number]["items"] != keys:
            return False
        files = self.shards[number]["files"]
        return all(
            (self.folder / name).is_file() and (self.folder / name).stat().st_size == entry["bytes"]
            for name, entry in files.items()
        )

    def add(self, shard: dict[str, Any]) -> None:
        """Put the next shard into the record."""
        self.shards.append(shard)
        self.save()

    def next_name(self, kind: str, suffix: str) -> str:
        """Return the name of the next file of a kind; a shard in which nothing can be read has none."""
        number = sum(
            name.startswith(f"{kind}/") for shard in self.shards for name in shard["files"]
        )
        return f"{kind}/{kind}_{number}{suffix}"

    def save(self) -> None:
        """Write the record in one step."""
        document = {
            "modgap_embed": _VERSION,
            "modgap": modgap.__version__,
            "complete": self.complete,
            "counts": {
                name: sum(shard[name] for shard in self.shards) for name in ("images", "texts")
            }
            | {"skipped": sum(len(shard["skipped"]) for shard in self.shards)},
            "settings": self.settings,
            "shards": self.shards,
        }
        with atomic_path(self.folder / RECORD) as temporary:
            temporary.write_text(json.dumps(document, indent=1, default=str), encoding="utf-8")


def _sweep(folder: Path) -> None:
    """Remove what killed runs left of files of ours."""
    for place in (folder, *(folder / kind for kind in KINDS)):
        for path in place.glob(".*.tmp*"):
            if STALE.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return in words which settings are not the same."""
    now = json.loads(json.dumps(now, default=str))
    found = []
    for name in before:
        if before[name] == now.get(name):
            continue
        if isinstance(before[name], dict):
            inner = [k for k in before[name] if before[name][k] != now[name].get(k)]
            found.append(
                f"{name} {inner[0]} {shown(before[name][inner[0]])}, now {shown(now[name].get(inner[0]))}"
                if inner
                else name
            )
        else:
            found.append(f"{name} {shown(before[name])}, now {shown(now.get(name))}")
    return "; ".join(found[:3])
