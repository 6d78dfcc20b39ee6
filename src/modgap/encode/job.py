"""A collection into shards of embeddings: resumed after any end of a run, nothing lost or doubled."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.checks import check_count
from modgap._core.extras import require
from modgap.datasets.collection import Collection, Item
from modgap.encode.encoder import Encoder
from modgap.encode.pictures import as_rgb, thumbnail
from modgap.encode.record import Record
from modgap.errors import DataError
from modgap.io._guard import shown
from modgap.io.atomic import atomic_path
from modgap.io.lock import sole_writer
from modgap.io.manifest import combine, make_folder
from modgap.io.writers import write_array

__all__ = ["Embedded", "embed"]

#: Items a shard, unless asked otherwise.
SHARD = 10_000

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Embedded:
    """What a folder of embeddings holds.

    Attributes
    ----------
    folder : Path
    images, texts, skipped : int
        Rows, and items that could not be read.
    shards, resumed : int
        In total, and those that an earlier run had completed.
    files : dict
        Of each kind, the word that reads it: `img_emb`, `text_emb`, `owners`, `labels`.
    """

    folder: Path
    images: int
    texts: int
    skipped: int
    shards: int
    resumed: int
    files: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and files as a plain dict."""
        return {
            "folder": str(self.folder),
            "images": self.images,
            "texts": self.texts,
            "skipped": self.skipped,
            "shards": self.shards,
            "resumed": self.resumed,
            "files": dict(self.files),
        }


def embed(
    encoder: Encoder,
    collection: Collection,
    out: str | os.PathLike[str],
    *,
    texts: bool = True,
    shard_rows: int = SHARD,
    strict: bool = False,
    thumbnails: bool = False,
    progress: Progress | None = None,
) -> Embedded:
    """Encode a collection into a folder of shards, in the layout of clip-retrieval.

    Parameters
    ----------
    encoder : Encoder
    collection : Collection
    out : path
        Folder, made if need be: `img_emb/img_emb_0.npy`, `metadata/metadata_0.parquet` (key, caption and
        label of each row, and its thumbnail), `text_emb/text_emb_0.npy` and `owners/owners_0.npy` where
        items have texts (the row of the image that a text belongs to), `labels.npy` where they have
        labels, `skipped.csv`, and the record `embed.json`.
    texts : bool
        Whether to encode the items' texts too.
    shard_rows : int
        Items a shard: what a run that is killed has to do again at most.
    strict : bool
        A picture that cannot be read is an error, not an entry of `skipped.csv`.
    thumbnails : bool
        Keep a small JPEG of each picture for pages that show it.
    progress : callable, optional
        Called with the number of items done since the last call; shards of earlier runs at once.

    Raises
    ------
    ArgumentError
        The folder holds embeddings of something else.
    DataError
        `strict`, and an item cannot be read; or none of them can.
    FormatError
        The folder cannot be written, or another run writes into it.

    Notes
    -----
    Every file appears whole, and a shard counts once it stands in the record, so a run that is killed at
    any moment leaves whole shards and temporary files, which the next run sweeps. Batches are the same
    whoever makes them, so the bytes are too. A few batches of pictures are held at a time, and of a shard
    its rows and what is known of them: memory grows neither with the number of pictures nor their size.
    """
    folder = Path(out)
    rows = check_count(shard_rows, "shard_rows")
    if len(collection) == 0:
        raise DataError(f"the collection ({collection.kind}) is empty; there is nothing to embed")
    make_folder(folder)
    with sole_writer(folder):
        job = _Job(encoder, collection, folder, texts, strict, thumbnails)
        record = Record.open(folder, _settings(encoder, collection, rows, texts, thumbnails))
        return job.run(record, rows, progress or (lambda done: None))


def _settings(
    encoder: Encoder, collection: Collection, rows: int, texts: bool, thumbnails: bool
) -> dict[str, Any]:
    """Return what a job is: two with the same settings may go on with one another's shards."""
    return {
        "model": encoder.card.to_dict(),
        "source": {"kind": collection.kind, "items": len(collection)},
        "batch": encoder.batch,
        "shard_rows": rows,
        "texts": texts,
        "thumbnails": thumbnails,
    }


@dataclass(frozen=True)
class _Job:
    """One collection through one encoder into one folder."""

    encoder: Encoder
    collection: Collection
    folder: Path
    texts: bool
    strict: bool
    thumbnails: bool

    def run(self, record: Record, rows: int, tell: Progress) -> Embedded:
        count, resumed, number = len(self.collection), 0, 0
        for number, start in enumerate(range(0, count, rows)):
            stop = min(start + rows, count)
            if number < len(record.shards) and record.done(number, self._keys(start, stop)):
                resumed += 1
                tell(stop - start)
                continue
            record.shards[number:] = []
            record.add(self._shard(record, start, stop, tell))
        return self._finish(record, number + 1, resumed)

    def _keys(self, start: int, stop: int) -> str:
        found = _Rows()
        deque(found.passing(self.collection.items(start, stop)), maxlen=0)
        return found.keys()

    def _shard(self, record: Record, start: int, stop: int, tell: Progress) -> dict[str, Any]:
        """Encode one shard, write its files, and return its entry of the record."""
        found, items = _Rows(), self.collection.items(start, stop)
        digest = hashlib.sha256()
        if any(item.image is not None for item in self.collection.items(start, stop)):
            self._images(found, items, digest, tell)
        else:
            found.kept = [i for i, _ in enumerate(found.passing(items))]
        kept = [found.items[i] for i in found.kept]
        files: dict[str, Any] = {}
        if found.rows is not None and len(found.rows):
            self._write(files, record.next_name("img_emb", ".npy"), found.rows)
        texts = [text for item in kept for text in item.texts] if self.texts else []
        if texts:
            blocks = []
            for part in self.encoder.stream("text", texts):
                blocks.append(part.rows)
                if found.rows is None:
                    tell(round(len(part.rows) * (stop - start) / len(texts)))
            self._write(files, record.next_name("text_emb", ".npy"), np.concatenate(blocks))
            if found.rows is not None:
                first = sum(shard["images"] for shard in record.shards)
                owners = np.repeat(np.arange(len(kept)) + first, [len(item.texts) for item in kept])
                self._write(files, record.next_name("owners", ".npy"), owners.astype(np.int64))
        if kept:
            table = self._table(kept, found.thumbnails)
            self._write_table(files, record.next_name("metadata", ".parquet"), table)
        return {
            "first": found.items[0].key,
            "items": found.keys(),
            "images": 0 if found.rows is None else len(found.rows),
            "texts": len(texts),
            "labels": [item.label for item in kept if item.label is not None],
            "skipped": [[found.items[i].key, reason] for i, reason in found.failures],
            "input_sha256": digest.hexdigest(),
            "files": files,
        }

    def _images(self, found: _Rows, items: Iterable[Item], digest: Any, tell: Progress) -> None:
        blocks = [np.zeros((0, self.encoder.dimension), dtype=np.float32)]
        for part in self.encoder.stream("image", found.passing(items), read=self._read):
            for position, reason in part.failures:
                if self.strict:
                    raise DataError(
                        f"`{shown(found.items[position].key)}` cannot be read: {reason}"
                    )
                found.failures.append((position, reason))
            blocks.append(part.rows)
            found.kept += part.positions.tolist()
            for small, own in part.extras:
                digest.update(own)
                found.thumbnails.append(small)
            tell(len(part.positions) + len(part.failures))
        found.rows = np.concatenate(blocks)

    def _read(self, item: Item) -> tuple[Any, tuple[bytes | None, bytes]]:
        """Return the picture of an item, and beside it its thumbnail and the digest of its bytes."""
        if item.image is None:
            raise DataError("no picture")
        data = item.image
        if not isinstance(data, bytes):
            try:
                data = data.read_bytes()
            except OSError as error:
                raise DataError(error.strerror or "cannot be read") from None
        picture = as_rgb(data)
        small = thumbnail(picture) if self.thumbnails else None
        return picture, (small, hashlib.sha256(data).digest())

    def _write(self, files: dict[str, Any], name: str, array: np.ndarray) -> None:
        target = self.folder / name
        make_folder(target.parent)
        write_array(target, array)
        files[name] = _entry(target)

    def _table(self, kept: Sequence[Item], thumbnails: list[Any]) -> dict[str, Any]:
        """Return columns of what is known of each row, as clip-retrieval names them."""
        classes = self.collection.classes
        columns: dict[str, Any] = {"image_path": [item.key for item in kept]}
        if any(item.texts for item in kept):
            columns["caption"] = [item.texts[0] if item.texts else None for item in kept]
            columns["captions"] = [list(item.texts) for item in kept]
        if any(item.label is not None for item in kept):
            columns["label"] = [item.label for item in kept]
            if classes is not None:
                names = [None if item.label is None else classes[item.label] for item in kept]
                columns["class"] = names
        if any(thumbnails):
            columns["thumbnail"] = thumbnails
        return columns

    def _write_table(self, files: dict[str, Any], name: str, columns: dict[str, Any]) -> None:
        arrow, parquet = require("pyarrow", "data"), require("pyarrow.parquet", "data")
        make_folder((self.folder / name).parent)
        with atomic_path(self.folder / name) as temporary:
            parquet.write_table(arrow.table(columns), temporary)
        files[name] = _entry(self.folder / name)

    def _finish(self, record: Record, shards: int, resumed: int) -> Embedded:
        record.shards[shards:] = []
        images = sum(shard["images"] for shard in record.shards)
        texts = sum(shard["texts"] for shard in record.shards)
        skipped = [pair for shard in record.shards for pair in shard["skipped"]]
        if images + texts == 0:
            raise DataError(
                f"none of the {len(skipped):,} pictures can be read; the first, `{shown(skipped[0][0])}`: "
                f"{skipped[0][1]}"
            )
        with (
            atomic_path(self.folder / "skipped.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as handle,
        ):
            csv.writer(handle).writerows([("key", "reason"), *skipped])
        labels = [label for shard in record.shards for label in shard["labels"]]
        kinds = {
            name: name for name in ("img_emb", "text_emb", "owners") if self._has(record, name)
        }
        if labels and len(labels) == images:
            write_array(self.folder / "labels.npy", np.asarray(labels, dtype=np.int64))
            kinds["labels"] = "labels.npy"
        if self.collection.classes is not None:
            with atomic_path(self.folder / "classes.json") as temporary:
                temporary.write_text(json.dumps(list(self.collection.classes)), encoding="utf-8")
            kinds["classes"] = "classes.json"
        record.complete = True
        record.save()
        return Embedded(self.folder, images, texts, len(skipped), shards, resumed, kinds)

    @staticmethod
    def _has(record: Record, kind: str) -> bool:
        return any(
            name.startswith(f"{kind}/") for shard in record.shards for name in shard["files"]
        )


class _Rows:
    """What comes of the items of one shard, and what is known of them: all but their pictures."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.rows: np.ndarray | None = None
        self.kept: list[int] = []
        self.thumbnails: list[bytes | None] = []
        self.failures: list[tuple[int, str]] = []

    def passing(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items, and remember them without their pictures, which may be large."""
        for item in items:
            self.items.append(replace(item, image=None))
            yield item

    def keys(self) -> str:
        """Return a digest of all that was remembered."""
        return combine(
            *(part for item in self.items for part in (item.key, item.label, *item.texts))
        )


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}
