"""What engines share: folders that are gone at the end, checked input, one line for a failure."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from modgap._core.checks import check_choice, check_cloud, check_count
from modgap.errors import ArgumentError, EngineError, ModgapError, ShapeError
from modgap.io._guard import one_line, shown

__all__ = [
    "check_room",
    "chosen_codec",
    "chosen_effort",
    "native_failures",
    "places",
    "scratch_folder",
    "stored_rows",
    "usable_queries",
]

#: What native code calls a disk that is full: Rust by its number, PostgreSQL and libc by its words.
_FULL = ("No space left on device", "os error 28", "Disk quota exceeded")
#: What a Rust library raises where it gives up: no `Exception`, and each library has its own.
_PANIC = "PanicException"


def stored_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, d) as engines take them: float32, contiguous, finite."""
    return np.ascontiguousarray(check_cloud(rows, "rows"), dtype=np.float32)


def usable_queries(queries: np.ndarray, k: int, width: int) -> np.ndarray:
    """Return queries (m, d) as engines take them.

    Raises
    ------
    ArgumentError
        k is no positive integer.
    ShapeError
        The queries are of another width than the index.
    """
    check_count(k, "k")
    found = np.ascontiguousarray(check_cloud(queries, "queries"), dtype=np.float32)
    if found.shape[1] != width:
        raise ShapeError(
            f"`queries` must be as wide as the rows of the index; got {found.shape[1]} dimensions for "
            f"{width}: map them as the rows were mapped"
        )
    return found


def chosen_codec(codec: str, codecs: Sequence[str]) -> str:
    """Return the codec as the engine spells it, or raise an ArgumentError that names those there are."""
    spelled = {each.lower(): each for each in codecs}
    word = codec.strip().lower()
    if word not in spelled:
        check_choice(codec, "codec", tuple(codecs))
    return spelled[word]


def chosen_effort(effort: int | None, efforts: tuple[int, ...]) -> int:
    """Return the effort of a search: the most by default.

    Raises
    ------
    ArgumentError
        The index has no such setting, or the effort is no positive integer.
    """
    if not efforts:
        if effort is not None:
            raise ArgumentError("`effort` has no meaning here: this codec looks at every row")
        return 0
    return efforts[-1] if effort is None else check_count(effort, "effort")


def places(lists: Sequence[Sequence[int]], k: int) -> np.ndarray:
    """Return rows found (m, k), int64, from one list a query; -1 where a list is shorter than k."""
    found = np.full((len(lists), k), -1, dtype=np.int64)
    for row, each in zip(found, lists, strict=True):
        row[: len(each)] = each[:k]
    return found


def check_room(folder: Path, needed: int, engine: str) -> None:
    """Raise an EngineError where a folder's disk has less room than an engine is going to fill.

    Engines that map files into memory die of a full disk without a word, so it is asked before.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EngineError(
            f"{engine} needs about {needed / 2**20:,.0f} MiB in `{shown(folder)}`, whose disk has "
            f"{free / 2**20:,.0f} MiB left; free some space, or give another folder"
        )


@contextmanager
def scratch_folder(folder: Path, engine: str) -> Iterator[Path]:
    """Yield a new folder inside another, no two alike; it is removed if the body fails in any way."""
    with native_failures(engine, folder):
        made = Path(tempfile.mkdtemp(prefix=f"{engine}-", dir=folder))
    try:
        with native_failures(engine, folder):
            yield made
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


@contextmanager
def native_failures(engine: str, folder: Path) -> Iterator[None]:
    """Turn every failure of the body into one EngineError; an interruption passes.

    Raises
    ------
    EngineError
        The body raised anything but an error of modgap; the message holds the engine's first line.
    """
    try:
        yield
    except ModgapError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or any(words in str(error) for words in _FULL):
            raise EngineError(
                f"{engine} cannot write: the disk of `{shown(folder)}` is full; free some space, or "
                "give another folder"
            ) from None
        raise EngineError(f"{engine} failed: {one_line(error)}") from None
