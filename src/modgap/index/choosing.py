"""Which engines and codecs a study tries: those named, opened for as long as it runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TypeAlias

from modgap.errors import ModgapError
from modgap.index import registry
from modgap.index.apart import Apart
from modgap.index.engine import Engine
from modgap.index.records import CodecRow

__all__ = ["LENGTHS", "Pair", "chosen_codecs", "is_file", "of_signs", "opened", "row_count"]

#: An engine and one of its codecs.
Pair: TypeAlias = "tuple[Engine, str]"
_DEFAULT = "faiss"
#: After a closer's name: the lengths of its rows are stored too, as signs.
LENGTHS = "+lengths"
#: Codecs that keep the sign of each dimension and nothing else, by their words after a graph's.
_SIGNS = re.compile(r"(1bit|b1|bit|binary(:asymmetric)?|(.*,)?LSH[rt]*)$")


def chosen_codecs(engines: Sequence[str | Engine], codecs: Sequence[str]) -> list[Pair]:
    """Return engines and codecs to try, each once: those named, and all of engines named without any.

    Raises
    ------
    ArgumentError
        A word names no engine, or no codec.
    """
    made = {one.name: one for one in engines if not isinstance(one, str)}
    wanted = [registry.engine(one).name if isinstance(one, str) else one.name for one in engines]
    named = [_codec_of(word, made) for word in codecs]
    if not named and not wanted:
        wanted = [_DEFAULT]
    pairs: list[tuple[str, str]] = []
    for name in dict.fromkeys([*wanted, *(name for name, _ in named)]):
        if name not in made:
            one = registry.engine(name)
            made[name] = Apart(one) if name in registry.APART else one
        own = [codec for engine, codec in named if engine == name]
        pairs += [(name, codec) for codec in own or made[name].codecs]
    return [(made[name], codec) for name, codec in dict.fromkeys(pairs)]


def _codec_of(word: str, own: Iterable[str]) -> tuple[str, str]:
    """Return the engine and the codec that a word names, of engines that were handed over too."""
    name, _, codec = word.partition(":")
    return (name, codec) if name in own and codec else registry.codec_of(word)


def is_file(pair: Pair) -> bool:
    """Whether the codec is the path of an index that stands."""
    opens = getattr(pair[0], "opens", None)
    return opens is not None and bool(opens(pair[1]))


def of_signs(codec: str) -> bool:
    """Whether a codec keeps signs alone, so that rows lose their lengths in it."""
    return _SIGNS.match(codec.strip().removeprefix("HNSW,")) is not None


def row_count(pairs: Sequence[Pair], maps: Sequence[object]) -> int:
    """Return how many rows a study has at most: maps with lengths are for codecs of signs."""
    kept = [one for one in maps if isinstance(one, str) and one.endswith(LENGTHS)]
    return sum(len(maps) - (0 if of_signs(codec) else len(kept)) for _, codec in pairs)


def opened(pairs: Sequence[Pair], stack: ExitStack) -> tuple[list[Pair], list[CodecRow]]:
    """Return the pairs whose engines are there, and a row for each engine that is not.

    Engines that can be entered, as those with a server, are kept so until the stack is closed.
    """
    absent: dict[str, CodecRow] = {}
    for engine in dict.fromkeys(engine for engine, _ in pairs):
        try:
            engine.check()
            if isinstance(engine, AbstractContextManager):
                stack.enter_context(engine)
        except ModgapError as error:  # not installed, or a server that does not start
            absent[engine.name] = CodecRow(engine.name, "", "", failed=" ".join(str(error).split()))
    return [pair for pair in pairs if pair[0].name not in absent], list(absent.values())
