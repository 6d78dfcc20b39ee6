"""From shards to shards: map every block, keep the names, resume where the last run stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.arrays import is_array, to_numpy
from modgap.errors import ArgumentError, DataError, FormatError, ShapeError
from modgap.io._guard import file_status, shown
from modgap.io._shard import Shard
from modgap.io.atomic import atomic_path
from modgap.io.manifest import MANIFEST, Manifest, combine
from modgap.io.source import Source
from modgap.io.writers import (
    DEFAULT_KEY,
    WRITABLE,
    Write,
    array_writer,
    check_values,
    check_writable,
    write_array,
)

#: Bytes per block: small enough to stay in the processor's cache between map and write.
_BLOCK_BYTES = 2 * 1024 * 1024
#: Parquet makes one row group of each block, and readers want large ones.
_ROW_GROUP_BYTES = 64 * 1024 * 1024

Rows = Callable[[np.ndarray], np.ndarray]
Progress = Callable[[int], None]


def apply_to_source(
    mapping: Rows,
    source: Source,
    out: str | Path,
    *,
    fingerprint: str,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Map every shard of a source into a shard of the same name in the folder `out`.

    Parameters
    ----------
    mapping : callable
        Takes rows (b, d) and returns as many rows (b, e), which stay as they are from then on. Rows
        may be cut into blocks anywhere.
    source : Source
        Embeddings with 2 or 3 axes; three are mapped template by template.
    out : str or Path
        Folder of the output, made if need be. .safetensors and .parquet stay what they are, every
        other format becomes .npy. Files hold the mapped array alone; other columns stay behind.
    fingerprint : str
        Identifies the mapping, for example a hash of the closure file. Shards that an earlier run
        with the same fingerprint completed from the same input are skipped.
    progress : callable, optional
        Called with the number of rows that were finished since the last call.

    Returns
    -------
    dict
        ``shards`` and ``rows`` in total, ``skipped`` shards, and ``bytes`` written by this run.

    Raises
    ------
    DataError
        The source holds integers.
    FormatError
        `out` is the folder of the input or holds files from elsewhere, or reading or writing fails.
    ShapeError
        The source has one axis, or the mapping returns another number of rows.

    Notes
    -----
    The values keep the input's dtype. Files appear when they are complete: whatever stops the run
    leaves none half written. At any time a few blocks are in memory, 2 MiB each (64 MiB for
    Parquet).
    """
    folder = Path(out)
    _check_source(source)
    _check_apart(source, folder)
    names = [_output_name(shard) for shard in source.shards]
    manifest = Manifest.open(folder)
    manifest.claim(names)
    report = {"shards": len(names), "rows": source.rows, "skipped": 0, "bytes": 0}
    tell = progress or (lambda rows: None)
    for shard, name in zip(source.shards, names, strict=True):
        identity = combine(fingerprint, *_identity(shard))
        if manifest.is_complete(name, identity):
            report["skipped"] += 1
            tell(shard.rows)
            continue
        manifest.sweep(name)
        shape = _map_shard(mapping, shard, folder / name, tell)
        report["bytes"] += manifest.add(name, identity, shape, shard.dtype, _key(shard, name))
    return report


def write_shards(
    out_dir: str | Path,
    kind: str,
    blocks: Iterable[np.ndarray | Callable[[], np.ndarray]],
    shard_names: Sequence[str] | None = None,
    *,
    fingerprint: str,
) -> dict[str, int]:
    """Write one shard per block into the folder ``out_dir/kind``, as clip-retrieval lays them out.

    Parameters
    ----------
    out_dir : str or Path
    kind : str
        What the shards hold, for example ``img_emb``.
    blocks : iterable of arrays (b, d), or of functions that return one
        A function is called only if its shard is not complete yet, so resuming costs nothing.
    shard_names : sequence of str, optional
        File names; by default ``KIND_0.npy``, ``KIND_1.npy`` and so on.
    fingerprint : str
        Identifies where the blocks come from; shards of an earlier run with the same are skipped.

    Returns
    -------
    dict
        ``shards`` and ``rows`` in total, ``skipped`` shards, and ``bytes`` written by this run.

    Raises
    ------
    ArgumentError
        `kind` or a name is no plain file name, or names and blocks differ in number.
    DataError, FormatError, ShapeError
        A block cannot be written, or differs from the others in width.
    """
    for name in (kind, *(shard_names or ())):
        _check_name(name)
    manifest = Manifest.open(Path(out_dir) / kind)
    if shard_names is not None:
        manifest.claim(list(shard_names))
    report = {"shards": 0, "rows": 0, "skipped": 0, "bytes": 0}
    width: int | None = None
    for name, block in _with_names(kind, blocks, shard_names):
        identity = combine(fingerprint, name)
        report["shards"] += 1
        if manifest.is_complete(name, identity):
            report["skipped"] += 1
        else:
            values = _host(block() if callable(block) else block)
            _check_block(values, name, width)
            manifest.claim([name])
            manifest.sweep(name)
            write_array(manifest.folder / name, values)
            key = None if name.lower().endswith(".npy") else DEFAULT_KEY
            report["bytes"] += manifest.add(name, identity, values.shape, values.dtype, key)
        shape = manifest.files[name]["shape"]
        report["rows"] += shape[0]
        width = shape[-1]
    return report


def _check_source(source: Source) -> None:
    if len(source.shape) == 1:
        raise ShapeError(
            f"`{shown(source.path)}` has shape {source.shape}, so it holds labels; embeddings have "
            "shape (rows, d)"
        )
    for shard in source.shards:
        if shard.dtype.kind != "f":
            raise DataError(
                f"`{shown(shard.path)}` holds {shard.dtype}; embeddings must be floats, convert "
                "them with their scale"
            )


def _check_apart(source: Source, folder: Path) -> None:
    """Raise a FormatError if output would land among the input."""
    inputs = {shard.path.parent.resolve() for shard in source.shards}
    if source.path.is_dir():
        inputs.add(source.path.resolve())
    if folder.resolve() in inputs:
        raise FormatError(
            f"the output folder `{shown(folder)}` is the input's own; modgap changes no data in "
            "place, choose another folder"
        )


def _output_name(shard: Shard) -> str:
    suffix = shard.path.suffix.lower()
    return shard.name if suffix in WRITABLE else f"{shard.path.stem}.npy"


def _key(shard: Shard, name: str) -> str | None:
    return None if name.lower().endswith(".npy") else shard.key


def _identity(shard: Shard) -> tuple[object, ...]:
    """Return what tells this input from another, without reading it."""
    status = file_status(shard.path)
    stamp = (shard.name, status.st_size, status.st_mtime_ns)
    return (*stamp, shard.key, shard.shape, shard.dtype)


def _map_shard(mapping: Rows, shard: Shard, target: Path, tell: Progress) -> tuple[int, ...]:
    """Map one shard into one file and return the output's shape."""
    size = _ROW_GROUP_BYTES if target.suffix.lower() == ".parquet" else _BLOCK_BYTES
    rows = max(1, size // (shard.width * shard.dtype.itemsize))
    with atomic_path(target) as temporary:
        mapped = _mapped(mapping, shard, rows)
        first = next(mapped)
        shape = (*shard.shape[:-1], first.shape[-1])
        check_values(shape, shard.dtype, target)
        writer = array_writer(temporary, shape, shard.dtype, key=shard.key or DEFAULT_KEY)
        with writer as write, _alongside(write) as hand_over:
            for block in chain([first], mapped):
                hand_over(block)
                tell(len(block))
    return shape


@contextmanager
def _alongside(write: Write) -> Iterator[Write]:
    """Yield a function that has a block written by a thread of its own, while the next is mapped."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending: Future[None] | None = None

        def hand_over(block: np.ndarray) -> None:
            nonlocal pending
            if pending is not None:
                pending.result()
            pending = pool.submit(write, block)

        yield hand_over
        if pending is not None:
            pending.result()


def _mapped(mapping: Rows, shard: Shard, rows: int) -> Iterator[np.ndarray]:
    width: int | None = None
    for block in shard.blocks(rows):
        out = _host(mapping(block))
        if out.ndim != 2 or len(out) != len(block) or width not in (None, out.shape[1]):
            raise ShapeError(
                f"the mapping must return one row of the same width for every row; it made "
                f"{out.shape} of {block.shape}"
            )
        width = out.shape[1]
        yield out


def _host(values: Any) -> np.ndarray:
    return to_numpy(values) if is_array(values) else np.asarray(values)


def _check_name(name: str) -> None:
    if not name or name in (".", "..", MANIFEST) or Path(name).name != name or "\0" in name:
        raise ArgumentError(
            f"a shard's kind and name must be plain file names; got `{shown(name)}`"
        )


def _check_block(values: np.ndarray, name: str, width: int | None) -> None:
    check_writable(Path(name))
    if values.ndim != 2 or width not in (None, values.shape[1]):
        raise ShapeError(
            f"shard `{shown(name)}` must have shape (rows, {width or 'd'}); got {values.shape}"
        )


def _with_names(
    kind: str,
    blocks: Iterable[np.ndarray | Callable[[], np.ndarray]],
    names: Sequence[str] | None,
) -> Iterator[tuple[str, np.ndarray | Callable[[], np.ndarray]]]:
    """Pair the blocks with their names, in step."""
    count = 0
    for block in blocks:
        if names is not None and count == len(names):
            raise ArgumentError(f"`shard_names` has {len(names)} names, and there are more blocks")
        yield (names[count] if names is not None else f"{kind}_{count}.npy"), block
        count += 1
    if names is not None and count < len(names):
        raise ArgumentError(f"`shard_names` has {len(names)} names for {count} blocks")
