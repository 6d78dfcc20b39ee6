"""Shards as streams: tasks of a sensible size, and rows that are checked and counted from the start."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from modgap._core.checks import check_cloud
from modgap.errors import DataError
from modgap.io._shard import Shard

__all__ = ["checked_blocks", "counting_rows", "grouped"]

Item = TypeVar("Item")

#: Rows per block: float64 copies of a block of 1,024 dimensions take 128 MiB.
_ROWS = 16384
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
    for shard in shards:
        for block in shard.blocks(_ROWS):
            if block.dtype == np.float16:  # once: every look at half floats costs a conversion
                block = block.astype(np.float32)
            with counting_rows(first, source):
                check_cloud(block, name, zero_rows=zero_rows)
            yield block
            first += len(block)


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
