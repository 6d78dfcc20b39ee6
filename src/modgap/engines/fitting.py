"""From shards to moments: read wherever the engine works, merged here in the order of the shards.

Every sum has one order, that of the rows: how many workers there are, which of them was first, and whether
the run was interrupted in between leave no trace in the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from modgap._core.moments import Moments
from modgap._core.tasks import HERE, Engine, Tell
from modgap.decisions.metric import Metric
from modgap.engines.checkpoint import Checkpoint, Parts
from modgap.errors import ShapeError
from modgap.io._guard import shown
from modgap.io._shard import Shard
from modgap.io.source import Source
from modgap.io.streams import checked_blocks, grouped

__all__ = ["ReadShards", "Reading", "moments_of", "pieces_of", "read_moments"]


@dataclass(frozen=True)
class Piece:
    """Consecutive shards of a source, read as one task.

    Attributes
    ----------
    shards : tuple of Shard
    first : int
        The row of the source that they begin with.
    names : ndarray (rows,), optional
        Whose moments each row counts to.
    """

    shards: tuple[Shard, ...]
    first: int
    names: np.ndarray | None = None


@dataclass(frozen=True)
class Reading:
    """What is read of a source, and how.

    Attributes
    ----------
    name : str
        What the rows are, for messages.
    metric : Metric
        Rows are taken as it sees them: at unit length under cosine.
    precision : {"input", "float64"}
        Of the products, see `Moments.from_rows`.
    folds : int
        Moments of so many parts, to which the rows of each block go in turn.
    """

    name: str
    metric: Metric
    precision: str = "float64"
    folds: int = 1


@dataclass(frozen=True)
class ReadShards:
    """What is done to a piece, in whichever process: its moments, by name."""

    reading: Reading
    source: str

    def __call__(self, piece: Piece, tell: Tell) -> Parts:
        """Return the moments of each name (or fold) in the piece."""
        reading = self.reading
        # Rows were rounded when they were stored, whatever they are widened to.
        eps = max(float(np.finfo(shard.dtype).eps) for shard in piece.shards)
        found: Parts = {}
        blocks = checked_blocks(
            piece.shards,
            piece.first,
            self.source,
            reading.name,
            zero_rows=not reading.metric.needs_directions,
        )
        done = 0
        for block in blocks:
            rows = reading.metric.prepare(block)
            own = None if piece.names is None else piece.names[done : done + len(block)]
            for name, part in _parts(rows, own, reading.folds):
                moments = Moments.from_rows(part, precision=reading.precision)
                add(found, name, replace(moments, eps=max(moments.eps, eps)))
            tell(len(block))
            done += len(block)
        return found


def read_moments(
    source: Source,
    reading: Reading,
    *,
    engine: Engine = HERE,
    tell: Tell = lambda rows: None,
    names: np.ndarray | None = None,
    checkpoint: Checkpoint | None = None,
) -> dict[str, Moments]:
    """Return the moments of a source, by fold ("0", "1", ...) or by the rows' names.

    Parameters
    ----------
    source : Source
        Embeddings (rows, d).
    reading : Reading
    engine : Engine
        Where the shards are read. A shard is never cut: one file is one task.
    tell : callable
        Is told of the rows that are done.
    names : ndarray (rows,), optional
        Whose moments each row counts to.
    checkpoint : Checkpoint, optional
        What an earlier run has left is taken up, and what is done is kept for the next.

    Returns
    -------
    dict of str to Moments
        In the order in which the names come.

    Raises
    ------
    DataError, ShapeError
        A row cannot be used; the message counts it from the start of the source.
    """
    pieces = pieces_of(source, names)
    found: Parts = {}
    done = 0
    if checkpoint is not None:
        done, found = checkpoint.resume(reading, source, [piece.shards for piece in pieces], names)
        tell(sum(shard.rows for piece in pieces[:done] for shard in piece.shards))
    work = ReadShards(reading, shown(source.path))
    with closing(engine.each(work, pieces[done:], tell, in_order=True)) as results:
        for place, parts in results:
            for name, part in parts.items():
                add(found, name, part)
            if checkpoint is not None:
                checkpoint.advance(done + place + 1, found)
    return found


def moments_of(
    source: Source,
    reading: Reading,
    *,
    engine: Engine = HERE,
    tell: Tell = lambda rows: None,
    checkpoint: Checkpoint | None = None,
) -> list[Moments]:
    """Return the moments of a source, a record for each fold that has rows; see `read_moments`."""
    found = read_moments(source, reading, engine=engine, tell=tell, checkpoint=checkpoint)
    return [found[name] for name in sorted(found)]


def add(found: Parts, name: str, part: Moments) -> None:
    """Merge moments into those of a name."""
    found[name] = found[name].merge(part) if name in found else part


def pieces_of(source: Source, names: np.ndarray | None = None) -> list[Piece]:
    """Return the tasks that a source is read in, whoever reads it."""
    return list(_pieces(source, names))


def _pieces(source: Source, names: np.ndarray | None) -> Iterator[Piece]:
    if names is not None and len(names) != source.rows:
        raise ShapeError(
            f"`names` must have one entry a row, {source.rows}; got {len(names)} of them"
        )
    first = 0
    for shards in grouped(source.shards, lambda shard: shard):
        rows = sum(shard.rows for shard in shards)
        own = None if names is None else names[first : first + rows]
        yield Piece(tuple(shards), first, own)
        first += rows


def _parts(
    rows: np.ndarray, names: np.ndarray | None, folds: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the rows of each name, or of each fold, in a block."""
    if names is None:
        for fold in range(min(folds, len(rows))):
            yield str(fold), rows[fold::folds]
        return
    for name in dict.fromkeys(names.tolist()):
        yield str(name), rows[names == name]
