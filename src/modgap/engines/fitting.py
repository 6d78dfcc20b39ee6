"""From shards to moments: read wherever the engine works, merged here in the order of the shards.

Every sum has one order, that of the rows: how many workers there are, which of them was first, and whether
the run was interrupted in between leave no trace in the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import dtype_eps
from modgap._core.moments import Moments, RunningMoments
from modgap._core.tasks import HERE, Engine, Tell
from modgap.decisions.metric import Metric
from modgap.engines.checkpoint import Checkpoint, Parts
from modgap.errors import ShapeError
from modgap.io._guard import shown
from modgap.io._shard import Shard
from modgap.io.source import Source
from modgap.io.streams import checked_parts, grouped

__all__ = ["ReadShards", "Reading", "moments_of", "pieces_of", "read_moments"]

#: Rows that wait for their products, in all clouds of a piece together: half of them while the others come.
_WAITING = 16384


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
        clouds = reading.folds if piece.names is None else len(set(piece.names.tolist()))
        block_rows = _WAITING // (2 * clouds)
        running: dict[str, RunningMoments] = {}
        parts = checked_parts(
            piece.shards,
            piece.first,
            self.source,
            reading.name,
            reading.metric.prepare,
            zero_rows=not reading.metric.needs_directions,
        )
        done = 0
        with closing(parts):
            for rows in parts:
                for name, own in self._divided(rows, piece, done):
                    if name not in running:
                        running[name] = RunningMoments(own, reading.precision, block_rows)
                    running[name].add(own)
                tell(len(rows))
                done += len(rows)
        eps = max(eps, dtype_eps(rows))
        return {name: cloud.moments(eps) for name, cloud in running.items()}

    def _divided(
        self, rows: np.ndarray, piece: Piece, done: int
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the rows of each name, or of each fold, in what follows `done` rows of a piece."""
        if piece.names is not None:
            names = piece.names[done : done + len(rows)]
            for name in dict.fromkeys(names.tolist()):
                yield str(name), rows[names == name]
            return
        folds = self.reading.folds
        for fold in range(folds):
            own = rows[(fold - piece.first - done) % folds :: folds]
            if len(own):
                yield str(fold), own


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
