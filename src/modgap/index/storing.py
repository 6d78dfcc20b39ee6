"""What is stored under which maps, in which codecs, and what is asked of it: one set of rows at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from modgap.closers import Closure
from modgap.errors import ArgumentError, ClosureError
from modgap.index.choosing import Pair, is_file, of_signs
from modgap.index.existing import map_for_existing
from modgap.index.ground import Ground, Maps, leaves_gallery, mapped
from modgap.index.served import Served

__all__ = ["Asked", "Make", "work"]


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries of both kinds under one map."""

    map: str
    queries: np.ndarray
    own: np.ndarray


#: Makes rows to store, and what is asked of them: not before the last are gone.
Make: TypeAlias = "Callable[[], tuple[np.ndarray, list[Asked]]]"


def work(ready: Sequence[Pair], found: Maps, ground: Ground) -> Iterator[tuple[Make, list[Pair]]]:
    """Yield what makes rows to store, and codecs for them: one set of rows at a time."""
    files = [pair for pair in ready if is_file(pair)]
    built = [pair for pair in ready if pair not in files]
    if files:
        yield partial(_for_file, found, ground), files
    for names in _alike(found, ground) if built else ():
        first = found[names[0]]
        lengths = isinstance(first, Served) and first.lengths is not None
        codecs = [pair for pair in built if of_signs(pair[1])] if lengths else built
        if codecs:
            yield partial(_mapped, found, ground, names), codecs


def _alike(found: Maps, ground: Ground) -> list[list[str]]:
    """Return the maps by what they store: those that leave the gallery alone together."""
    bare = [name for name, one in found.items() if leaves_gallery(one, ground.metric)]
    return ([bare] if bare else []) + [[name] for name in found if name not in bare]


def _mapped(found: Maps, ground: Ground, names: Sequence[str]) -> tuple[np.ndarray, list[Asked]]:
    """Return what maps that store the same store, and what is asked under each."""
    first = found[names[0]]
    bare = leaves_gallery(first, ground.metric)
    stored = ground.gallery if bare else mapped(first, ground.gallery, "gallery")
    return stored, [
        Asked(
            name, *(mapped(found[name], rows, "queries") for rows in (ground.queries, ground.own))
        )
        for name in names
    ]


def _for_file(found: Maps, ground: Ground) -> tuple[np.ndarray, list[Asked]]:
    """Return the bare rows that an index file holds, and what can be asked of it.

    Raises
    ------
    ArgumentError
        Every map wants the rows stored anew.
    """
    asked = []
    for name, closure in found.items():
        if closure is None:
            asked.append(Asked(name, ground.queries, ground.own))
        if not isinstance(closure, Closure):
            continue
        with contextlib.suppress(ClosureError):
            move = map_for_existing(closure)
            pair = (
                np.asarray(move(rows), dtype=np.float32) for rows in (ground.queries, ground.own)
            )
            asked.append(Asked(name, *pair))
    if not asked:
        raise ArgumentError(
            "`maps` must name one that leaves the gallery alone, such as none: an index file stands as "
            "it is"
        )
    return ground.gallery, asked
