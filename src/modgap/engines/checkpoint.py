"""Moments of the shards that are read already, kept beside the closure until it is there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from modgap._core.arrays import to_numpy
from modgap._core.moments import Moments
from modgap.errors import ModgapError
from modgap.io._shard import Shard
from modgap.io.apply import identity_of
from modgap.io.atomic import atomic_path
from modgap.io.source import Source

__all__ = ["Checkpoint", "Parts"]

#: Moments by name.
Parts: TypeAlias = dict[str, Moments]

_VERSION = 1
#: Seconds between two savings, so that short fits leave none; saving takes a twentieth of the time at most.
_SAVE_S = 5.0
_SAVE_SHARE = 20
_ARRAYS = ("mean", "scatter")


@dataclass
class Checkpoint:
    """What a fit has read, in one hidden file beside its closure: of constant size, and always whole.

    The file holds the merged moments of the first pieces of each source, and a hash of what these pieces
    are: name, size and time of every shard, and how it is read. A run goes on behind the pieces whose hash
    is still the same; where any of them changed, the source is read anew.

    Attributes
    ----------
    path : Path
    """

    path: Path
    _saved: float = field(default_factory=time.monotonic)
    _cost: float = 0.0
    _sides: dict[str, tuple[str, int, Parts]] = field(default_factory=dict)
    _chain: list[str] = field(default_factory=list)
    _side: str = ""

    @classmethod
    def beside(cls, target: Path) -> Checkpoint:
        """Return the checkpoint of a closure, with what an earlier run has left in it."""
        made = cls(target.with_name(f".{target.name}.progress"))
        made._sides = _load(made.path)
        return made

    def resume(
        self,
        reading: Any,
        source: Source,
        pieces: Sequence[Sequence[Shard]],
        names: np.ndarray | None,
    ) -> tuple[int, Parts]:
        """Return how many pieces of a source are read already, and their moments.

        Parameters
        ----------
        reading : Reading
            How it is read.
        source : Source
        pieces : sequence of sequences of Shard
        names : ndarray, optional
            Whose moments each row counts to.
        """
        self._side = reading.name
        self._chain = _chain(reading, source, pieces, names)
        chain, done, found = self._sides.get(self._side, ("", 0, {}))
        if not 0 < done <= len(pieces) or self._chain[done - 1] != chain:
            return 0, {}
        return done, dict(found)

    def advance(self, done: int, found: Parts) -> None:
        """Keep the moments of the first pieces; write them if the last time is long ago."""
        self._sides[self._side] = (self._chain[done - 1], done, dict(found))
        now = time.monotonic()
        if now - self._saved < max(_SAVE_S, _SAVE_SHARE * self._cost):
            return
        with contextlib.suppress(
            ModgapError
        ):  # a full disk ends the fit only when it has a closure
            _save(self.path, self._sides)
        self._saved = time.monotonic()
        self._cost = self._saved - now

    def remove(self) -> None:
        """Forget everything: the closure is there."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _chain(
    reading: Any, source: Source, pieces: Sequence[Sequence[Shard]], names: np.ndarray | None
) -> list[str]:
    """Return, for each number of first pieces, a hash of what they are and how they are read."""
    import modgap

    digest = hashlib.sha256(f"{modgap.__version__} {reading!r} {source.path}".encode())
    if names is not None:
        digest.update("\0".join(map(str, names.tolist())).encode())
    chain = []
    for shards in pieces:
        for shard in shards:
            digest.update(repr(identity_of(shard)).encode())
        chain.append(digest.hexdigest())
    return chain


def _save(path: Path, sides: dict[str, tuple[str, int, Parts]]) -> None:
    """Write all moments, in one step."""
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    header: dict[str, Any] = {"version": _VERSION, "sides": {}}
    for side, (chain, done, found) in sides.items():
        records = []
        for place, (name, moments) in enumerate(found.items()):
            for array in _ARRAYS:
                values = np.ascontiguousarray(to_numpy(getattr(moments, array)))
                tensors[f"{side}.{place}.{array}"] = values
            numbers = {f.name: getattr(moments, f.name) for f in fields(Moments)}
            records.append({"name": name, **{k: numbers[k] for k in numbers if k not in _ARRAYS}})
        header["sides"][side] = {"chain": chain, "done": done, "parts": records}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"modgap_progress": json.dumps(header)})


def _load(path: Path) -> dict[str, tuple[str, int, Parts]]:
    """Return what is in a file; nothing where it is missing, damaged or of another version."""
    from safetensors import safe_open

    found: dict[str, tuple[str, int, Parts]] = {}
    try:
        with safe_open(path, "numpy") as file:
            header = json.loads(file.metadata()["modgap_progress"])
            if header["version"] != _VERSION:
                return {}
            for side, record in header["sides"].items():
                parts = {}
                for place, numbers in enumerate(record["parts"]):
                    name = numbers.pop("name")
                    arrays = {a: file.get_tensor(f"{side}.{place}.{a}") for a in _ARRAYS}
                    parts[name] = Moments(**arrays, **numbers)
                found[side] = (record["chain"], int(record["done"]), parts)
    except Exception:  # whatever is wrong with it: the fit then reads everything
        return {}
    return found
