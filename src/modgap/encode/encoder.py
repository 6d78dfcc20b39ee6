"""One encoder for every model: what is prepared in threads, what runs in batches, what comes out."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from modgap._core.checks import check_count
from modgap.errors import ArgumentError, DataError, ModelError

__all__ = ["MODALITIES", "Card", "Encoded", "Encoder", "Tower"]

MODALITIES = ("image", "text", "audio")
#: Items a batch, unless asked otherwise; half as many where memory does not suffice.
BATCH = 64
#: From an item to what a tower prepares, and what is kept beside its row.
Read: TypeAlias = Callable[[Any], tuple[Any, Any]]
#: Batches that are prepared ahead of the one that runs.
_AHEAD = 2
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")


@dataclass(frozen=True)
class Card:
    """What an encoder is: all that its embeddings depend on.

    Attributes
    ----------
    backend, model : str
        The library that runs it, and the name under which it was asked for.
    revision : str or None
        Commit of the hub, or a digest of a local folder's files; None where neither is known.
    dimension : int
        Width d of the embeddings.
    modalities : tuple of str
        Of `image`, `text`, `audio`.
    unit : bool
        Whether rows come out at unit length, as a model compared by cosine wants them.
    logit_scale, logit_bias : float or None
        What the model multiplies cosines by, and adds, before its softmax or sigmoid.
    sigmoid : bool
        Whether its loss is a sigmoid of every pair, not a softmax over each row.
    preprocessing : dict
        For each modality, what is done to an item before the model sees it.
    dtype : str
        In which the model computes; embeddings come out as float32.
    """

    backend: str
    model: str
    dimension: int
    modalities: tuple[str, ...]
    revision: str | None = None
    unit: bool = True
    logit_scale: float | None = None
    logit_bias: float | None = None
    sigmoid: bool = False
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """Return the card as a plain dict, fit for JSON."""
        return {**asdict(self), "modalities": list(self.modalities)}

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of the card: two equal ones give equal embeddings of equal items."""
        text = json.dumps(self.to_dict(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


class Tower(Protocol):
    """The encoder of one modality."""

    def prepare(self, item: Any) -> Any:
        """Return one item as `run` takes it; called from several threads at once.

        Raises
        ------
        DataError
            The item cannot be read; the message says why.
        """
        ...

    def run(self, prepared: Sequence[Any]) -> np.ndarray:
        """Return the embeddings (n, d) of prepared items, as the model makes them."""
        ...


@dataclass(frozen=True, eq=False)
class Encoded:
    """A batch of a stream.

    Attributes
    ----------
    positions : ndarray (n,), int64
        Of the rows among the items.
    rows : ndarray (n, d), float32
    extras : list
        For each row, what `read` gave beside the item; empty without `read`.
    failures : list of (int, str)
        Position and reason of every item of the batch that could not be read.
    """

    positions: np.ndarray
    rows: np.ndarray
    extras: list[Any]
    failures: list[tuple[int, str]]


class Encoder:
    """A model that turns pictures, texts or sounds into rows of one space.

    Parameters
    ----------
    card : Card
    towers : mapping of str to Tower
        One for each modality of the card.
    batch : int, optional
        Items that run at once, 64 by default. Where memory does not suffice the batch is halved.
    workers : int, optional
        Threads that read and prepare items while the model runs; by default as many as there are cores,
        at most 8.
    """

    def __init__(
        self,
        card: Card,
        towers: Mapping[str, Tower],
        *,
        batch: int | None = None,
        workers: int | None = None,
    ) -> None:
        self.card = card
        self._towers = dict(towers)
        self.batch = check_count(BATCH if batch is None else batch, "batch")
        most = min(os.cpu_count() or 1, 8)
        self.workers = check_count(most if workers is None else workers, "workers")

    def __repr__(self) -> str:
        modalities = ", ".join(self.card.modalities)
        return (
            f"Encoder({self.card.backend}:{self.card.model}, {modalities}, d={self.card.dimension})"
        )

    @property
    def dimension(self) -> int:
        """Width d of the embeddings."""
        return self.card.dimension

    def encode_images(self, images: Iterable[Any]) -> np.ndarray:
        """Return float32 rows (n, d) of images: paths, bytes of files, PIL images, or arrays of bytes.

        Raises
        ------
        DataError
            One cannot be read; the message names it by its position.
        """
        return self.encode("image", images)

    def encode_texts(self, texts: Iterable[str]) -> np.ndarray:
        """Return float32 rows (n, d) of texts."""
        return self.encode("text", texts)

    def encode_audio(self, clips: Iterable[Any]) -> np.ndarray:
        """Return float32 rows (n, d) of mono clips: arrays of samples at the model's rate, or WAV files."""
        return self.encode("audio", clips)

    def encode(self, modality: str, items: Iterable[Any]) -> np.ndarray:
        """Return float32 rows (n, d) of all items; one that cannot be read is an error."""
        blocks = []
        for part in self.stream(modality, items):
            if part.failures:
                position, reason = part.failures[0]
                raise DataError(f"{modality} {position} cannot be read: {reason}")
            blocks.append(part.rows)
        if not blocks:
            return np.zeros((0, self.dimension), dtype=np.float32)
        return np.concatenate(blocks)

    def stream(
        self, modality: str, items: Iterable[Any], *, read: Read | None = None
    ) -> Iterator[Encoded]:
        """Yield the embeddings of items batch by batch; what cannot be read is named beside them.

        Batches hold the same items whatever the number of workers. A few are prepared ahead, so memory
        does not grow with the number of items.

        Parameters
        ----------
        modality : {"image", "text", "audio"}
        items : iterable
        read : callable, optional
            Called with each item, in a thread: returns what the tower prepares, and something to keep
            beside the row. It may raise DataError, as the tower may.

        Raises
        ------
        ArgumentError
            The model has no encoder of this modality.
        ModelError
            A single item needs more memory than there is.
        """
        tower = self.tower(modality)
        if isinstance(items, str | bytes):
            raise ArgumentError(f"`items` must be several; put the one {modality} into a list")
        with ThreadPoolExecutor(max_workers=self.workers) as pool:
            start = 0
            prepare = tower.prepare if read is None else _after(read, tower)
            for futures in _ahead(pool, prepare, iter(items), self.batch):
                yield self._encoded(tower, futures, start, beside=read is not None)
                start += len(futures)

    def tower(self, modality: str) -> Tower:
        """Return the encoder of one modality, or raise an ArgumentError that names those at hand."""
        if modality not in self._towers:
            raise ArgumentError(
                f"`{self.card.model}` encodes {' and '.join(self.card.modalities)}, not {modality}"
            )
        return self._towers[modality]

    def _encoded(
        self, tower: Tower, futures: Sequence[Future[Any]], start: int, *, beside: bool
    ) -> Encoded:
        prepared, positions, failures = [], [], []
        for position, future in enumerate(futures, start):
            try:
                prepared.append(future.result())
                positions.append(position)
            except DataError as error:
                failures.append((position, str(error)))
        extras = []
        if beside:
            extras = [extra for _, extra in prepared]
            prepared = [item for item, _ in prepared]
        rows = np.zeros((0, self.dimension), dtype=np.float32)
        if prepared:
            rows = self._rows(tower, prepared)
        return Encoded(np.asarray(positions, dtype=np.int64), rows, extras, failures)

    def _rows(self, tower: Tower, prepared: Sequence[Any]) -> np.ndarray:
        rows = np.concatenate(
            [
                self._run(tower, prepared[start : start + self.batch])
                for start in range(0, len(prepared), self.batch)
            ]
        ).astype(np.float32, copy=False)
        if rows.shape != (len(prepared), self.dimension):
            raise ModelError(
                f"`{self.card.model}` made rows of shape {rows.shape} of {len(prepared)} items; "
                f"expected ({len(prepared)}, {self.dimension})"
            )
        if not np.isfinite(rows).all():
            raise ModelError(
                f"`{self.card.model}` made NaN or infinity in {self.card.dtype}; run it in float32"
            )
        if self.card.unit:
            lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
            rows = (rows / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
        return rows

    def _run(self, tower: Tower, prepared: Sequence[Any]) -> np.ndarray:
        """Run a batch; where memory does not suffice, its halves, and halves from then on."""
        try:
            return tower.run(prepared)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
        if len(prepared) == 1:
            raise ModelError(
                f"one item needs more memory than there is for `{self.card.model}`; "
                "take a smaller model, another device, or a shorter number type (--dtype)"
            )
        half = -(-len(prepared) // 2)
        self.batch = min(self.batch, half)
        return np.concatenate(
            [self._run(tower, prepared[:half]), self._run(tower, prepared[half:])]
        )


def _after(read: Read, tower: Tower) -> Callable[[Any], tuple[Any, Any]]:
    """Return a function that reads an item, prepares what was read, and keeps what stands beside it."""

    def prepare(item: Any) -> tuple[Any, Any]:
        found, extra = read(item)
        return tower.prepare(found), extra

    return prepare


def _ahead(
    pool: ThreadPoolExecutor, prepare: Callable[[Any], Any], items: Iterator[Any], batch: int
) -> Iterator[list[Future[Any]]]:
    """Yield batches of items that are being prepared, the next ones on their way already."""
    waiting: deque[list[Future[Any]]] = deque()
    while True:
        while len(waiting) <= _AHEAD:
            futures = [pool.submit(prepare, item) for item in itertools.islice(items, batch)]
            if not futures:
                break
            waiting.append(futures)
        if not waiting:
            return
        yield waiting.popleft()


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    return any(word in str(error).lower() for word in _OUT_OF_MEMORY)
