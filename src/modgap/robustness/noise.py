"""Every noise by its word: the notation of the command line, and of every label.

    gaussian:0.022                normal noise, standard deviation per coordinate
    gaussian:0.3:relative         times the root mean square of the stored rows about their mean
    gaussian:0.04:before          on the gallery before the closure's map
    gaussian-variance:0.005       by its square
    uniform:0.05                  uniform in [-0.05, 0.05]
    bins:16                       16 evenly spaced levels over the range of all values
    bins:16:dimension             over the range of each coordinate; or LOW,HIGH
    bits:4                        2^4 cells over a range, read back as their middles; ranges as for bins
    bits:4:dimension:clipped      the range narrowed to the least squared error
    bits:4:rotated                after a random rotation (seed=N for another one); bins and sign too
    bits:4:lengths                rows at unit length, and one number a row kept
    sign                          one bit a coordinate
    sign:rotated:lengths          after a rotation, and one number a row kept
    dims:128                      the first 128 coordinates alone
    int8, uint8, int8:global      bytes over the range of each coordinate, or of all
    float16, bfloat16, float8_e4m3, float8_e5m2
    faiss:OPQ16,PQ16              any codec of FAISS, by its factory string

Each acts on the gallery as it is stored, or, with @queries or @both after the word, on another side. A
noise's `label` is such a word and loses nothing: ``parse(noise.label) == noise``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from modgap.errors import ArgumentError
from modgap.robustness.additive import Gaussian, Uniform
from modgap.robustness.codes import Bins, Bits, Dims, Sign
from modgap.robustness.faiss_codec import FaissCodec
from modgap.robustness.formats import Codec, round_to_float
from modgap.robustness.kinds import Code, Noise, RandomNoise

__all__ = [
    "Bins",
    "Bits",
    "Code",
    "Codec",
    "Dims",
    "FaissCodec",
    "Gaussian",
    "Noise",
    "RandomNoise",
    "Sign",
    "Uniform",
    "as_noises",
    "parse",
    "round_to_float",
]


@dataclass(frozen=True)
class _Word:
    """What a name stands for: the record, what follows the name, and what the name itself settles."""

    kind: type[Noise]
    first: tuple[str, type] | None = None
    settled: dict[str, str] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """Settings that may follow in any order, by field, with their defaults."""
        own = {f.name: f.default for f in fields(self.kind) if f.init}  # type: ignore[arg-type]
        taken = {"side", "sigma", *self.settled, *((self.first[0],) if self.first else ())}
        return {name: default for name, default in own.items() if name not in taken}


#: The whole notation. What may follow a name are the fields of its record.
_WORDS: dict[str, _Word] = {
    "gaussian": _Word(Gaussian, ("sigma", float)),
    "gaussian-variance": _Word(Gaussian, ("variance", float)),
    "uniform": _Word(Uniform, ("half_width", float)),
    "bins": _Word(Bins, ("bins", int)),
    "bits": _Word(Bits, ("bits", int)),
    "sign": _Word(Sign),
    "dims": _Word(Dims, ("dims", int)),
    "faiss": _Word(FaissCodec, ("factory", str)),
    **{name: _Word(Codec, settled={"name": name}) for name in Codec.names},
}
#: What else people type for them.
_ALIASES = {
    "gauss": "gaussian",
    "normal": "gaussian",
    "levels": "bins",
    "binary": "sign",
    "bit": "sign",
    "1bit": "sign",
    "bq": "sign",
    "sq8": "int8",
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "fp8": "float8_e4m3",
    "float8": "float8_e4m3",
    "e4m3": "float8_e4m3",
    "e5m2": "float8_e5m2",
    "truncate": "dims",
    "mrl": "dims",
    "matryoshka": "dims",
}
_HOW = (
    "write gaussian:SIGMA, uniform:W, bins:N, bits:B, sign, dims:K, "
    + ", ".join(Codec.names)
    + ", or faiss:FACTORY, each with @queries or @both where the side is not the gallery"
)


def parse(text: str) -> Noise:
    """Return the noise that a word of the notation names (see the module's docstring).

    Names are read in any case, and by what other tools call them: binary, sq8, fp16, bf16, pq64.

    Raises
    ------
    ArgumentError
        The word is not of the notation, or a value is out of its range.

    Examples
    --------
    >>> parse("gaussian:0.022@queries")
    Gaussian(0.022, side='queries')
    >>> parse("bins:16:dimension@both").label, parse("PQ64").label
    ('bins:16:dimension@both', 'faiss:PQ64')
    """
    word, at, side = text.strip().rpartition("@")
    name, *settings = (word if at else side).split(":")
    options: dict[str, Any] = {"side": side} if at else {}
    name = name.strip().lower()
    quantizer = re.fullmatch(r"(o?)pq(\d+)(x\d+)?", name)
    if quantizer and not settings:
        rotation, count, bits = quantizer.groups(default="")
        return FaissCodec(f"{'OPQ' + count + ',' if rotation else ''}PQ{count}{bits}", **options)
    known = _WORDS.get(_ALIASES.get(name, name))
    if known is None:
        raise ArgumentError(f"`noise` {text!r} is not understood; {_hint(name, settings)}{_HOW}")
    if known.first == ("factory", str):
        settings = [":".join(settings)]
    if known.first and not settings:
        raise ArgumentError(f"`noise` {text!r} is not understood: {name} needs a value; {_HOW}")
    if known.first:
        options[known.first[0]] = _value(settings.pop(0), known.first[1], text)
    for setting in settings:
        options.update(_option(setting, known, text))
    return known.kind(**known.settled, **options)


def as_noises(noises: Noise | str | Iterable[Noise | str]) -> tuple[Noise, ...]:
    """Return one noise or many, records or words, as a tuple of records.

    Raises
    ------
    ArgumentError
        One of them is neither a noise nor a word for one.

    Examples
    --------
    >>> as_noises("gaussian:0.022"), as_noises([Bins(16), "sign"])
    ((Gaussian(0.022),), (Bins(16), Sign()))
    """
    every: tuple[Any, ...] = (noises,)
    if isinstance(noises, Iterable) and not isinstance(noises, str):
        every = tuple(noises)
    return tuple(one if isinstance(one, Noise) else _from_word(one) for one in every)


def _from_word(one: Any) -> Noise:
    if isinstance(one, str):
        return parse(one)
    raise ArgumentError(
        f'`noises` must be noises or words for them, for example "gaussian:0.022"; got {one!r}'
    )


def _value(setting: str, kind: type, text: str) -> Any:
    try:
        return kind(setting)
    except ValueError:
        wanted = "an integer" if kind is int else "a number"
        raise ArgumentError(
            f"`noise` {text!r} is not understood: {setting!r} is not {wanted}; {_HOW}"
        ) from None


def _option(setting: str, known: _Word, text: str) -> dict[str, Any]:
    """Return the field that a setting names: a flag, a seed, or a range."""
    options = known.options
    if options.get(setting) is False:
        return {setting: True}
    if "seed" in options and setting.startswith("seed="):
        return {"seed": _value(setting.removeprefix("seed="), int, text)}
    if "range" in options:
        if setting in ("global", "dimension"):
            return {"range": setting}
        if "," in setting:
            return {"range": tuple(_value(end, float, text) for end in setting.split(","))}
    said = {"range": "global, dimension, LOW,HIGH", "seed": "seed=N"}
    allowed = ", ".join(said.get(name, name) for name in options)
    takes = f"takes {allowed}" if allowed else "takes no more"
    close = difflib.get_close_matches(setting, [*options, "global", "dimension"], n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ArgumentError(
        f"`noise` {text!r} is not understood: it {takes}, not {setting!r}{hint}; {_HOW}"
    )


def _hint(name: str, settings: list[str]) -> str:
    close = difflib.get_close_matches(name, [*_WORDS, *_ALIASES], n=1)
    return f"did you mean {':'.join([close[0], *settings])!r}? Or " if close else ""
