"""Rows from files to statistics, block by block, with errors that name the row in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from modgap._core.moments import Moments
    from modgap.cli._console import Job
    from modgap.decisions.metric import Metric
    from modgap.io import Source

#: Rows per block: float64 copies of a block of 1,024 dimensions take 128 MiB.
_ROWS = 16384
_ROW = re.compile(r"row (\d+) \(of \d+ such rows\)")


def checked_blocks(source: Source, name: str, *, zero_rows: bool) -> Iterator[np.ndarray]:
    """Yield the rows of a source block by block, each checked.

    Raises
    ------
    DataError, ShapeError
        A row holds NaN or infinity, or has no direction and needs one; the message counts rows
        from the start of the source.
    """
    from modgap._core.checks import check_cloud
    from modgap.errors import DataError

    start = 0
    for block in source.blocks(_ROWS):
        try:
            check_cloud(block, name, zero_rows=zero_rows)
        except DataError as error:
            raise DataError(_counted(str(error), start, name, source)) from None
        yield block
        start += len(block)


def _counted(message: str, start: int, name: str, source: Source) -> str:
    """Return a message about a block's row with the row's place in the whole source."""
    text = _ROW.sub(lambda found: f"row {start + int(found[1])}", message)
    return text.replace(f"`{name}`", f"`{name}` ({source.path})", 1)


def moments_of(
    source: Source, name: str, *, metric: Metric, precision: str, advance: Job
) -> Moments:
    """Return the moments of a source, of its rows at unit length under cosine."""
    from modgap._core.moments import Moments

    def blocks() -> Iterator[np.ndarray]:
        for block in checked_blocks(source, name, zero_rows=not metric.needs_directions):
            yield metric.prepare(block)
            advance(len(block))

    return Moments.from_blocks(blocks(), precision=precision)
