"""From blocks to a folder of numbered shards, resumed where the last run stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from modgap.errors import ArgumentError, ShapeError
from modgap.io._guard import shown
from modgap.io.manifest import MANIFEST, Manifest, Report, Written, combine, new_report
from modgap.io.writers import DEFAULT_KEY, check_writable, host_array, write_array


def write_shards(
    out_dir: str | Path,
    kind: str,
    blocks: Iterable[np.ndarray | Callable[[], np.ndarray]],
    shard_names: Sequence[str] | None = None,
    *,
    fingerprint: str,
) -> Report:
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
    report = new_report()
    width: int | None = None
    for name, block in _with_names(kind, blocks, shard_names):
        write = partial(_write_block, block, width)
        if name not in manifest.files:
            manifest.claim([name])
        manifest.make(name, combine(fingerprint, name), write, report)
        width = manifest.files[name]["shape"][-1]
    return report


def _write_block(
    block: np.ndarray | Callable[[], np.ndarray], width: int | None, target: Path
) -> Written:
    values = host_array(block() if callable(block) else block)
    _check_block(values, target.name, width)
    write_array(target, values)
    key = None if target.suffix.lower() == ".npy" else DEFAULT_KEY
    return values.shape, values.dtype, key


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
