"""From shards to shards: map every block, keep the names, resume where the last run stopped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from modgap._core.checks import check_choice
from modgap._core.halves import widen_halves
from modgap._core.tasks import HERE, Engine
from modgap.errors import DataError, FormatError, ModgapError, ShapeError
from modgap.io._guard import file_status, shown
from modgap.io._shard import Shard
from modgap.io.atomic import unpublished, uploading
from modgap.io.lock import check_writer, is_writer, sole_writer
from modgap.io.manifest import Manifest, Report, Written, combine, make_folder, new_report
from modgap.io.remote import AnyPath, RemotePath, output_folder
from modgap.io.source import Source
from modgap.io.streams import counting_rows, grouped
from modgap.io.writers import (
    DEFAULT_KEY,
    WRITABLE,
    Write,
    array_writer,
    check_values,
    host_array,
)

#: Bytes per block: small enough to stay in the processor's cache between map and write.
_BLOCK_BYTES = 2 * 1024 * 1024
#: Parquet makes one row group of each block, and readers want large ones.
_ROW_GROUP_BYTES = 64 * 1024 * 1024

#: What the output's number type may be.
DTYPES = ("input", "float16", "float32", "float64")

Rows = Callable[[np.ndarray], np.ndarray]
Progress = Callable[[int], None]


def apply_to_source(
    mapping: Rows,
    source: Source,
    out: str | AnyPath,
    *,
    fingerprint: str,
    dtype: str | None = None,
    hashes: bool = True,
    engine: Engine = HERE,
    progress: Progress | None = None,
) -> Report:
    """Map every shard of a source into a shard of the same name in the folder `out`.

    Parameters
    ----------
    mapping : callable
        Takes rows (b, d), half floats widened to float32, and returns as many rows (b, e), which
        stay as they are from then on. Rows may be cut into blocks anywhere.
    source : Source
        Embeddings with 2 or 3 axes; three are mapped template by template.
    out : str, Path or RemotePath
        Folder of the output, made if need be; on this machine, or in a store as a URL of fsspec
        (``s3://bucket/folder``). .safetensors and .parquet stay what they are, every
        other format becomes .npy. Files hold the mapped array alone; other columns stay behind.
    fingerprint : str
        Identifies the mapping, for example a hash of the closure file. Shards that an earlier run
        with the same fingerprint completed from the same input are skipped.
    dtype : {"input", "float16", "float32", "float64"}, optional
        Of the output. By default the input's own, but float32 for half floats: a map moves rows by
        less than a half float can tell apart.
    hashes : bool
        Whether the record of the folder, ``modgap.json``, gets the SHA-256 of every file: a gibibyte a
        second on one core, beside the mapping.
    engine : Engine
        Where the shards are mapped: in this process by default, or see `modgap.engines`. The mapping
        travels there, so it can be pickled.
    progress : callable, optional
        Called with the number of rows that were finished since the last call.

    Returns
    -------
    dict
        ``shards`` and ``rows`` in total, ``skipped`` shards, and ``bytes`` written by this run.

    Raises
    ------
    ArgumentError
        Another `dtype`.
    DataError
        The source holds integers, or a mapped value is too large for the output's dtype.
    FormatError
        `out` is the folder of the input, holds files from elsewhere or is being written by another run,
        or reading or writing fails.
    ShapeError
        The source has one axis, or the mapping returns another number of rows.

    Notes
    -----
    Files appear when they are complete: whatever stops the run leaves none half written. At any
    time a few blocks are in memory, 2 MiB each (64 MiB for Parquet). Only the process that holds the
    folder's lock gives files their names, whoever writes them. In a store a name is given by copying, which
    it does whole or not at all; parts of 16 MiB are held to be sent; and two runs are told apart later:
    the one that came first stops at its next file.
    """
    folder = output_folder(out, "out")
    _check_source(source)
    _check_apart(source, folder)
    if dtype is not None:
        check_choice(dtype, "dtype", DTYPES)
    jobs = list(_jobs(source, dtype))
    tell = progress or (lambda rows: None)
    if isinstance(folder, Path):
        make_folder(folder)
    with sole_writer(folder) as token:
        work = MapShards(mapping, folder, shown(source.path), hashes, token)
        return _run(work, jobs, Manifest.open(folder), fingerprint, engine, tell)


@dataclass(frozen=True)
class Job:
    """One shard that becomes one file.

    Attributes
    ----------
    shard : Shard
    first : int
        The row of the source that the shard begins with.
    name : str
        Of the file that it becomes.
    dtype : numpy.dtype
        Of that file.
    """

    shard: Shard
    first: int
    name: str
    dtype: np.dtype


def _jobs(source: Source, dtype: str | None) -> Iterator[Job]:
    first = 0
    for shard in source.shards:
        yield Job(shard, first, _output_name(shard), _output_dtype(shard, dtype))
        first += shard.rows


def _run(
    work: MapShards,
    jobs: list[Job],
    manifest: Manifest,
    fingerprint: str,
    engine: Engine,
    tell: Progress,
) -> Report:
    """Map what is not complete, put every file in its place when it is, and keep the record."""
    manifest.claim([job.name for job in jobs])
    manifest.sweep()
    report = new_report()
    missing: list[tuple[Job, str]] = []
    for job in jobs:
        identity = combine(fingerprint, *identity_of(job.shard), job.dtype)
        if manifest.is_complete(job.name, identity):
            manifest.count(job.name, report, made=False)
            tell(job.shard.rows)
        else:
            missing.append((job, identity))
    groups = [[pair] for pair in missing]
    if engine.is_apart:
        groups = list(grouped(missing, lambda pair: pair[0].shard))
    tasks = ([job for job, _ in group] for group in groups)
    try:
        with closing(engine.each(work, tasks, tell, in_order=False)) as results:
            for place, files in results:
                work.check_still(files)
                for (job, identity), written in zip(groups[place], files, strict=True):
                    manifest.publish(job.name, identity, written)
                    manifest.count(job.name, report, made=True)
    finally:
        # A worker that was killed, or had finished a file that nobody took, has left it. Another run's
        # files are left to it.
        if is_writer(work.folder, work.token):
            manifest.sweep()
            manifest.save()
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


def _check_apart(source: Source, folder: AnyPath) -> None:
    """Raise a FormatError if output would land among the input."""
    if isinstance(folder, RemotePath):
        there = [shard.path.parent for shard in source.shards if isinstance(shard.path, RemotePath)]
        there += [source.path] if isinstance(source.path, RemotePath) else []
        if folder.place in [path.place for path in set(there)]:
            raise FormatError(_among_input(folder))
        return
    # Not Path.resolve, which fails in a loop of links: that is said where the folder is made.
    here = [shard.path for shard in source.shards if isinstance(shard.path, Path)]
    inputs = {os.path.realpath(path.parent) for path in here}
    if here and source.path.is_dir():
        inputs.add(os.path.realpath(source.path))
    if os.path.realpath(folder) in inputs:
        raise FormatError(_among_input(folder))


def _among_input(folder: AnyPath) -> str:
    return (
        f"the output folder `{shown(folder)}` is the input's own; modgap changes no data in place, choose "
        "another folder"
    )


def _output_name(shard: Shard) -> str:
    suffix = shard.path.suffix.lower()
    return shard.name if suffix in WRITABLE else f"{shard.path.stem}.npy"


def _output_dtype(shard: Shard, dtype: str | None) -> np.dtype:
    if dtype is None:
        return np.dtype(np.float32) if shard.dtype == np.float16 else shard.dtype
    return shard.dtype if dtype == "input" else np.dtype(dtype)


def identity_of(shard: Shard) -> tuple[object, ...]:
    """Return what tells this input from another, without reading it."""
    if isinstance(shard.path, RemotePath):
        return (shard.path.url, shard.path.fingerprint(), shard.key, shard.shape, shard.dtype)
    status = file_status(shard.path)
    stamp = (shard.name, status.st_size, status.st_mtime_ns)
    return (*stamp, shard.key, shard.shape, shard.dtype)


@dataclass(frozen=True)
class MapShards:
    """What is done to shards, in whichever process: each becomes a whole file without its name yet.

    Attributes
    ----------
    mapping : callable
    folder : Path or RemotePath
        Of the output.
    source : str
        What messages call the rows, where their place counts from the start of the source.
    hashes : bool
        Whether the files are hashed.
    token : str
        Of the run that asks for it, without which nothing is written.
    """

    mapping: Rows
    folder: AnyPath
    source: str
    hashes: bool
    token: str

    def __call__(self, jobs: list[Job], tell: Progress) -> list[Written]:
        """Return what was written of each shard."""
        done: list[Written] = []
        try:
            for job in jobs:
                done.append(self._map(job, tell))
        except BaseException:
            self._drop(done)
            raise
        return done

    def check_still(self, files: list[Written]) -> None:
        """Raise a WorkerError, without leaving the files there, if another run has taken the folder."""
        try:
            check_writer(self.folder, self.token)
        except ModgapError:
            self._drop(files)
            raise

    def _drop(self, files: list[Written]) -> None:
        for written in files:
            with suppress(OSError):
                (self.folder / written.temporary).unlink(missing_ok=True)

    def _map(self, job: Job, tell: Progress) -> Written:
        check_writer(self.folder, self.token)
        shard, target = job.shard, self.folder / job.name
        size = _ROW_GROUP_BYTES if target.suffix.lower() == ".parquet" else _BLOCK_BYTES
        rows = max(1, size // (shard.width * shard.dtype.itemsize))
        digest = hashlib.sha256() if self.hashes else None
        key = shard.key or DEFAULT_KEY
        with _without_name(target) as temporary:
            mapped = self._mapped(job, rows)
            first = next(mapped)
            shape = (*shard.shape[:-1], first.shape[-1])
            check_values(shape, job.dtype, Path(job.name))
            writer = array_writer(temporary, shape, job.dtype, key=key, digest=digest)
            with writer as write, _alongside(write) as hand_over:
                for block in chain([first], mapped):
                    hand_over(block)
                    tell(len(block))
        return Written(
            temporary.name,
            shape,
            str(job.dtype),
            None if target.suffix.lower() == ".npy" else shard.key,
            digest.hexdigest() if digest else None,
        )

    def _mapped(self, job: Job, rows: int) -> Iterator[np.ndarray]:
        width: int | None = None
        done = 0
        for block in job.shard.blocks(rows):
            wide = widen_halves(block) if block.dtype == np.float16 else block
            with counting_rows(job.first + done, self.source):
                out = host_array(self.mapping(wide))
            if out.ndim != 2 or len(out) != len(block) or width not in (None, out.shape[1]):
                raise ShapeError(
                    f"the mapping must return one row of the same width for every row; it made "
                    f"{out.shape} of {block.shape}"
                )
            width = out.shape[1]
            yield _as_stored(out, job, done)
            done += len(out)


def _without_name(target: AnyPath) -> AbstractContextManager[AnyPath]:
    return uploading(target) if isinstance(target, RemotePath) else unpublished(target)


def _as_stored(out: np.ndarray, job: Job, done: int) -> np.ndarray:
    """Return mapped rows in the output's dtype.

    Raises
    ------
    DataError
        A value does not fit into it.
    """
    dtype = job.dtype
    with np.errstate(over="ignore", invalid="ignore"):  # looked at in the next line
        out = out.astype(dtype, copy=False)
        whole = np.isfinite(out.sum(dtype=np.float32 if dtype == np.float16 else None))
    if not whole and not np.isfinite(out).all():
        row = done + int(np.argmin(np.isfinite(out).all(axis=1)))
        raise DataError(
            f"`{shown(job.shard.path)}` row {row} is mapped to values that {dtype} cannot hold "
            f"(at most {np.finfo(dtype).max:g}); ask for a wider dtype"
        )
    return out


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
