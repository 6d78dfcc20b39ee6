"""Whatever FAISS can store: a code by its factory string, trained on the rows that it stores."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np

from modgap._core.arrays import Array, Float, asarray_like, to_numpy
from modgap._core.extras import require
from modgap.errors import ArgumentError, CodeError, CodeWarning
from modgap.robustness.kinds import Code

__all__ = ["FaissCodec", "native_warnings", "reason", "wanted"]


@dataclass(frozen=True, repr=False)
class FaissCodec(Code):
    """Any FAISS codec by its factory string: "SQ8", "SQ4", "PQ8", "OPQ16,PQ16", "ITQ64,LSH" ...

    The codec is trained on the cloud that it stores. Needs the extra `faiss`.
    """

    word = "faiss"

    factory: str
    _: KW_ONLY
    side: str = "gallery"

    def __post_init__(self) -> None:
        self._check_side()
        if not re.fullmatch(r"[^\s@]+", self.factory):
            raise ArgumentError(
                "`factory` must name a FAISS codec, for example SQ8 or PQ8, without spaces; "
                f"got {self.factory!r}"
            )

    def check_ready(self) -> None:
        """Raise a MissingExtraError where FAISS is not installed."""
        require("faiss", "faiss")

    def apply(self, cloud: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Return the cloud encoded and decoded by FAISS.

        Raises
        ------
        CodeError
            FAISS knows no such codec, or cannot train it on these rows.
        MissingExtraError
            FAISS is not installed.

        Warns
        -----
        CodeWarning
            FAISS wants more rows to train on; once, however often it says so.
        """
        faiss = require("faiss", "faiss")
        rows = np.ascontiguousarray(to_numpy(cloud), dtype=np.float32).reshape(-1, cloud.shape[-1])
        with native_warnings() as said:
            try:
                index = faiss.index_factory(rows.shape[1], self.factory)
                index.train(rows)
                back = index.sa_decode(index.sa_encode(rows))
            except (RuntimeError, AttributeError) as error:
                raise CodeError(
                    f"FAISS cannot store {rows.shape[0]} rows of dimension {rows.shape[1]} "
                    f"as {self.factory!r}: {reason(error)}"
                ) from None
        if said:
            warnings.warn(
                f"FAISS trains {self.factory} on {rows.shape[0]} rows and wants {wanted(said)}",
                CodeWarning,
                stacklevel=2,
            )
        return asarray_like(back.reshape(cloud.shape), cloud, dtype=cloud.dtype)


def reason(error: Exception) -> str:
    """Return what FAISS says is wrong, without the place in its sources."""
    line = str(error).splitlines()[-1] if str(error) else repr(error)
    line = re.sub(r"^Error in .* at \S+:\d+: ", "", line)
    return re.sub(r"^Error: '.*' failed:? *(?=.)", "", line).strip().rstrip(".")


def wanted(said: list[str]) -> str:
    """Return how many rows FAISS asks for, or its own words where they name no number."""
    counts = [int(n) for line in said for n in re.findall(r"at least (\d+) training points", line)]
    return f"at least {max(counts)} training points" if counts else f"more: {said[0]}"


@contextlib.contextmanager
def native_warnings() -> Iterator[list[str]]:
    """Collect the WARNING lines that native code writes to the process's standard error.

    FAISS prints one per clustering, past Python's own streams, hundreds for one codec. What else is
    written meanwhile comes out afterwards, as it was.
    """
    said: list[str] = []
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no standard error to keep clean
        yield said
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield said
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            for line in caught:
                if line.startswith(b"WARNING "):
                    said.append(line[len(b"WARNING ") :].decode("utf-8", "replace").strip())
                else:
                    os.write(2, line)
