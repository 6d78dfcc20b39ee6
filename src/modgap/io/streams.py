"""Shards as streams: tasks of a sensible size, and rows that are checked and counted from the start."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypeVar

import numpy as np

from modgap._core.arrays import block_slices, cache_elements, namespace, scale_range
from modgap._core.checks import check_cloud
from modgap._core.halves import BEYOND_HALVES, move_bits, widen_halves
from modgap.errors import DataError
from modgap.io._shard import Shard

__all__ = ["checked_blocks", "checked_parts", "counting_rows", "grouped"]

Item = TypeVar("Item")

#: Rows per block: float64 copies of a block of 1,024 dimensions take 128 MiB.
_ROWS = 16384
#: Rows that are read at a time where they are looked at in small parts.
_READ_ROWS = 4096
#: Small parts that are made ahead, 1 MiB of float32 each at most: about as many as are multiplied together.
_AHEAD = 8
#: Small shards are read together until a task has so many bytes: what it costs to hand one over, a few
#: MiB of moments or of a map, is then little beside it.
_TASK_BYTES = 32 * 1024 * 1024
_ROW = re.compile(r"row (\d+) \(of \d+ such rows\)")
_NAME = re.compile(r"`[^`]*`")


def grouped(items: Iterable[Item], shard_of: Callable[[Item], Shard]) -> Iterator[list[Item]]:
    """Yield consecutive items together until their shards have the bytes of a task.

    The groups follow from the shards alone, so that sums over them are the same for every number of
    workers, and the groups of the first shards do not change when others follow.
    """
    group: list[Item] = []
    size = 0
    for item in items:
        shard = shard_of(item)
        group.append(item)
        size += math.prod(shard.shape) * shard.dtype.itemsize
        if size >= _TASK_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def checked_blocks(
    shards: Sequence[Shard], first: int, source: str, name: str, *, zero_rows: bool
) -> Iterator[np.ndarray]:
    """Yield the rows of shards block by block, each checked; half floats widened to float32.

    Parameters
    ----------
    shards : sequence of Shard
    first : int
        The row of the source that the shards begin with.
    source, name : str
        Where the rows come from and what they are, for messages.
    zero_rows : bool
        Whether rows of zeros are fine.

    Raises
    ------
    DataError, ShapeError
        A row holds NaN or infinity, or has no direction and needs one; the message counts rows
        from the start of the source.
    """
    for block in _stored(shards, _ROWS):
        if block.dtype == np.float16:  # once: every look at half floats costs a conversion
            block = widen_halves(block)
        with counting_rows(first, source):
            check_cloud(block, name, zero_rows=zero_rows)
        yield block
        first += len(block)


def checked_parts(
    shards: Sequence[Shard],
    first: int,
    source: str,
    name: str,
    prepare: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    *,
    zero_rows: bool,
) -> Generator[np.ndarray, None, None]:
    """Yield what `checked_blocks` yields, prepared, in parts that stay in a core's cache.

    A thread reads, checks and prepares the next parts while the last one is worked on: a disk is waited
    for only where it is slower than that work.

    Parameters
    ----------
    prepare : callable
        Gets the rows (b, d) of a part and their squared lengths (b,), and returns rows. The lengths are
        None where the check has not come by them: they may then leave the range of the dtype.
    """
    parts = _checked_parts(shards, first, source, name, zero_rows)
    with closing(_ahead(prepare(rows, squares) for rows, squares in parts)) as prepared:
        yield from prepared


def _checked_parts(
    shards: Sequence[Shard], first: int, source: str, name: str, zero_rows: bool
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    for block in _stored(shards, _READ_ROWS):
        for rows in block_slices(*block.shape, elements=cache_elements(block)):
            stored = block[rows]
            halves = stored.dtype == np.float16
            part = move_bits(stored, np.empty(stored.shape, np.float32)) if halves else stored
            squares = _sound_squares(part, halves, zero_rows)
            if squares is None:
                part = widen_halves(stored) if halves else stored
                with counting_rows(first + rows.start, source):
                    check_cloud(part, name, zero_rows=zero_rows)
            yield part, squares
        first += len(block)


def _sound_squares(rows: np.ndarray, halves: bool, zero_rows: bool) -> np.ndarray | None:
    """Return the squared length of each row if they show at first sight that `check_cloud` would pass.

    No value is larger than the length of its row, and what is not finite makes a length that is not.
    """
    if rows.dtype.kind != "f":
        return None
    low, high = scale_range(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = namespace(rows).vecdot(rows, rows)
    least, most = squares.min(), squares.max()
    # NaN and infinity of half floats were widened to numbers beyond all others.
    if not most < BEYOND_HALVES**2 if halves else not most <= high**2:
        return None
    return squares if (most if zero_rows else least) >= rows.shape[1] * low**2 else None


def _stored(shards: Sequence[Shard], rows: int) -> Iterator[np.ndarray]:
    """Yield the rows of shards as they are stored."""
    for shard in shards:
        yield from shard.blocks(rows)


def _ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield items, the next of which are made meanwhile by a thread."""
    with ThreadPoolExecutor(1) as maker:
        coming = deque(maker.submit(next, items, None) for _ in range(_AHEAD))
        try:
            while (item := coming.popleft().result()) is not None:
                coming.append(maker.submit(next, items, None))
                yield item
        finally:
            maker.shutdown(cancel_futures=True)


@contextmanager
def counting_rows(first: int, source: str) -> Iterator[None]:
    """Let errors about a row of a block name the row's place in the whole source.

    Raises
    ------
    DataError
        The body did; the message names the source too.
    """
    try:
        yield
    except DataError as error:
        text, found = _ROW.subn(lambda row: f"row {first + int(row[1])}", str(error))
        if found:
            text = _NAME.sub(lambda name: f"{name[0]} ({source})", text, count=1)
        raise DataError(text) from None
