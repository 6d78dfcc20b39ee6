"""FAISS: any factory string as a codec, and index files that stand already."""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.errors import ArgumentError, CodeError, CodeWarning, FormatError, ShapeError
from modgap.index.engine import Found
from modgap.robustness.faiss_codec import native_warnings, reason, wanted

__all__ = ["Faiss", "FaissIndex"]

#: Short words, and the factory strings that they stand for.
_WORDS = {"flat": "Flat", "fp16": "SQfp16", "bf16": "SQbf16", "1bit": "LSH"}
#: What `efSearch` of a graph is tried at; a list index probes powers of two of its lists.
_EFS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_SUFFIXES = (".faiss", ".index", ".faissindex", ".ivf")
#: A product quantizer learns each codebook from so many rows a centre, in so many rounds. FAISS' own
#: 256 and 25 take six times as long.
_ROWS_A_CENTRE, _ROUNDS = 64, 16
#: Rows that the rotation of OPQ is learnt from; FAISS' own 65,536 and 50 rounds take ten times as long.
_ROTATION_ROWS = 8192


class Faiss:
    """FAISS, through the package faiss-cpu (or faiss-gpu).

    Codecs are factory strings, `OPQ64,IVF256,PQ64`, and short words for some: `flat`, `fp16`, `1bit`
    (signs of both sides, compared by Hamming distance). `IVF` without a number has the power of two
    lists nearest to the root of the number of rows, of 39 rows at least. Product quantizers learn from
    at most 16,384 rows in 16 rounds, the rotation of OPQ from 8,192 in 16. A codec that is the path of
    a file is an index that stands: see `open`.
    """

    name = "faiss"
    codecs: Mapping[str, str] = MappingProxyType(
        {
            "fp16": "half floats",
            "SQ8": "8 bits a dimension, a range each",
            "SQ6": "6 bits a dimension",
            "SQ4": "4 bits a dimension",
            "PQ64": "product quantization, 64 codebooks of 256 centres",
            "RaBitQ": "one bit a dimension and two numbers a row; queries stay floats",
            "1bit": "the sign of each dimension, of queries too",
            "HNSW16": "a graph over floats, 16 links a node",
            "IVF,SQ8": "inverted lists of 8 bits a dimension",
        }
    )

    def check(self) -> None:
        """Raise a MissingExtraError where FAISS is not installed."""
        require("faiss", "faiss")

    def build(self, rows: np.ndarray, codec: str, *, seed: int, folder: Path) -> FaissIndex:
        """Return an index of rows (n, d) float32 that compares by inner product, trained on them.

        Raises
        ------
        ArgumentError
            FAISS knows no such factory string.
        CodeError
            FAISS cannot train it on these rows.
        MissingExtraError
            FAISS is not installed.

        Warns
        -----
        CodeWarning
            FAISS wants more rows to train on.
        """
        faiss = require("faiss", "faiss")
        index = _made(faiss, codec, *rows.shape)
        _settle(faiss, index, seed)
        with native_warnings() as said:
            try:
                index.train(rows)
                index.add(rows)
            except (RuntimeError, AttributeError) as error:
                raise CodeError(
                    f"FAISS cannot store {rows.shape[0]} rows of dimension {rows.shape[1]} "
                    f"as {codec!r}: {reason(error)}"
                ) from None
        if said:
            warnings.warn(
                f"FAISS trains {codec} on {rows.shape[0]} rows and wants {wanted(said)}",
                CodeWarning,
                stacklevel=2,
            )
        return FaissIndex(faiss, index)

    def opens(self, codec: str) -> bool:
        """Whether a codec is the path of an index file rather than a factory string."""
        return codec.lower().endswith(_SUFFIXES) or Path(codec).is_file()

    def open(self, codec: str, *, count: int, width: int) -> FaissIndex:
        """Return the index in a file that FAISS wrote, as it is.

        Raises
        ------
        FormatError
            There is no such file, or it holds no index.
        ShapeError
            The index does not hold `count` rows of `width` dimensions.
        """
        faiss = require("faiss", "faiss")
        path = Path(codec)
        if not path.is_file():
            raise FormatError(f"no file at `{codec}`; name an index that faiss.write_index wrote")
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise FormatError(f"`{codec}` holds no index of FAISS: {reason(error)}") from None
        if (index.ntotal, index.d) != (count, width):
            raise ShapeError(
                f"`{codec}` holds {index.ntotal} rows of dimension {index.d}, but the gallery has "
                f"{count} of dimension {width}; give the gallery that the index was made from"
            )
        return FaissIndex(faiss, index)


class FaissIndex:
    """An index of FAISS, with its one setting of work: beam of a graph, or lists probed."""

    def __init__(self, faiss: Any, index: Any) -> None:
        self._faiss, self._index = faiss, index
        self._core = _core(faiss, index)
        self._graph = getattr(self._core, "hnsw", None)
        self._lists = int(self._core.nlist) if hasattr(self._core, "nlist") else 0
        if self._graph is not None:
            self.efforts: tuple[int, ...] = _EFS
        elif self._lists:
            powers = {2**i for i in range(int(math.log2(self._lists)) + 1)}
            self.efforts = tuple(sorted(powers | {self._lists}))
        else:
            self.efforts = ()
        self.bytes_per_vector = _code_bytes(self._core)

    def search(self, queries: np.ndarray, k: int, effort: int | None = None) -> Found:
        """Return the k nearest rows of queries (m, d) float32, at an effort (the default: the most)."""
        if self.efforts:
            effort = self.efforts[-1] if effort is None else effort
        counted = self._reset(effort)
        start = time.perf_counter()
        rows = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k)[1]
        seconds = (time.perf_counter() - start) / len(queries)
        if counted is None:
            looked: float | None = float(self._index.ntotal) if not self.efforts else None
        else:
            looked = counted.ndis / len(queries) + self._lists
        return Found(rows.astype(np.int64, copy=False), seconds, looked or None)

    def close(self) -> None:
        """Let go of the index."""
        self._index = self._core = self._graph = None

    def _reset(self, effort: int | None) -> Any:
        """Set the effort; return FAISS' counter of distance computations, where there is one, at zero."""
        if self._graph is not None:
            self._graph.efSearch = effort
            counter = self._faiss.cvar.hnsw_stats
        elif self._lists:
            self._core.nprobe = effort
            counter = self._faiss.cvar.indexIVF_stats
        else:
            return None
        counter.reset()
        return counter


def _made(faiss: Any, codec: str, count: int, width: int) -> Any:
    """Return the untrained index of a codec, by inner product; of signs, by Hamming distance."""
    word = _WORDS.get(codec.strip().lower(), codec.strip())
    lists = _lists(count)
    word = re.sub(r"(^|,)IVF(?=[,_]|$)", rf"\g<1>IVF{lists}", word)
    word = re.sub(r"IVF\d+$", r"\g<0>,Flat", word)
    hamming = re.search(r"(^|,)LSH[rt]*$", word) is not None
    metric = faiss.METRIC_L2 if hamming else faiss.METRIC_INNER_PRODUCT
    try:
        return faiss.index_factory(width, word, metric)
    except (RuntimeError, AttributeError) as error:
        said = reason(error)
        if "could not parse" in said:
            raise ArgumentError(
                f"`codec` {codec!r} is no factory string that FAISS knows; for example SQ8, PQ64, HNSW16, "
                "or OPQ64,IVF256,PQ64"
            ) from None
        raise CodeError(f"FAISS makes no index {codec!r} of dimension {width}: {said}") from None


def _lists(count: int) -> int:
    """Return the power of two nearest to the root of the count; FAISS wants 39 rows a list."""
    most = int(math.log2(max(count // 39, 1)))
    return int(2 ** min(round(math.log2(max(count, 1)) / 2), most))


def _settle(faiss: Any, index: Any, seed: int) -> None:
    """Give everything that is learnt its seed, and codebooks less to learn from."""
    core = _core(faiss, index)
    if hasattr(core, "nlist"):
        core.cp.seed = seed + 1
    if hasattr(
        core, "do_polysemous_training"
    ):  # an order of the codes that inner products never use
        core.do_polysemous_training = False
    for place in range(index.chain.size() if isinstance(index, faiss.IndexPreTransform) else 0):
        turn = faiss.downcast_VectorTransform(index.chain.at(place))
        if isinstance(turn, faiss.OPQMatrix):
            turn.niter, turn.niter_pq_0, turn.max_train_points = _ROUNDS, _ROUNDS, _ROTATION_ROWS
    storage = faiss.downcast_index(core.storage) if hasattr(core, "storage") else core
    if hasattr(storage, "do_polysemous_training"):
        storage.do_polysemous_training = False
    codebooks = getattr(storage, "pq", None)
    if codebooks is not None:
        codebooks.cp.seed = seed + 1
        codebooks.cp.niter = _ROUNDS
        codebooks.cp.max_points_per_centroid = _ROWS_A_CENTRE


def _core(faiss: Any, index: Any) -> Any:
    """Return what lies inside of rotations and refinements, as its own class."""
    index = faiss.downcast_index(index)
    while True:
        inner = getattr(index, "base_index", None) or (
            index.index if isinstance(index, faiss.IndexPreTransform | faiss.IndexIDMap) else None
        )
        if inner is None:
            return index
        index = faiss.downcast_index(inner)


def _code_bytes(core: Any) -> float:
    """Return the bytes of a stored vector's code, the links of a graph left out."""
    holder = core.storage if hasattr(core, "storage") else core
    if hasattr(core, "nlist"):
        return float(core.code_size)
    return float(holder.sa_code_size())
