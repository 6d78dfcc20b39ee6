"""Engines by name, each imported when it is first asked for, and codecs by the words people use."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module

from modgap.errors import ArgumentError
from modgap.index.engine import Engine
from modgap.index.presets import PRESETS

__all__ = ["APART", "ENGINES", "codec_of", "engine", "near"]

#: Where each engine lives: a module of this package, and the class in it.
ENGINES: dict[str, tuple[str, str]] = {
    "faiss": ("faiss_engine", "Faiss"),
    "usearch": ("usearch_engine", "Usearch"),
    "hnswlib": ("hnswlib_engine", "Hnswlib"),
    "lancedb": ("lancedb_engine", "LanceDB"),
    "qdrant": ("qdrant_engine", "Qdrant"),
    "pgvector": ("pgvector_engine", "PgVector"),
}
#: Engines whose runtimes keep memory and threads when an index is closed.
APART = ("lancedb", "qdrant")


def engine(name: str) -> Engine:
    """Return the engine of a name. Its package need not be there: `check` says whether it is.

    Raises
    ------
    ArgumentError
        There is no such engine; the message holds the nearest name, and all of them.
    """
    word = name.strip().lower()
    if word not in ENGINES:
        raise ArgumentError(
            f"`engine` must be one of {', '.join(ENGINES)}; got {name!r}{near(word, ENGINES)}"
        )
    module, kind = ENGINES[word]
    made: Engine = getattr(import_module(f"modgap.index.{module}"), kind)()
    return made


def codec_of(word: str) -> tuple[str, str]:
    """Return the engine and the codec that a word names: a preset, or ENGINE:CODEC.

    Raises
    ------
    ArgumentError
        It is neither; the message holds the nearest preset, and all of them.

    Examples
    --------
    >>> codec_of("faiss:OPQ64,IVF256,PQ64"), codec_of("faiss-1bit")
    (('faiss', 'OPQ64,IVF256,PQ64'), ('faiss', '1bit'))
    """
    given = word.strip()
    name, colon, codec = given.partition(":")
    if colon and name.lower() in ENGINES and codec:
        return name.lower(), codec
    if given.lower() in PRESETS:
        return PRESETS[given.lower()]
    if colon and name.lower() in ENGINES:
        raise ArgumentError(f"`codec` {word!r} names no codec after the engine; say {name}:CODEC")
    if colon:
        raise ArgumentError(
            f"`codec` {word!r} must begin with an engine, one of {', '.join(ENGINES)}"
            f"{near(name.lower(), ENGINES)}"
        )
    raise ArgumentError(
        f"`codec` must be ENGINE:CODEC or one of {', '.join(PRESETS)}; got {word!r}"
        f"{near(given.lower(), PRESETS)}"
    )


def near(word: str, names: Iterable[str]) -> str:
    """Return the nearest name as a question to end a message with; nothing where none is near."""
    found = get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
