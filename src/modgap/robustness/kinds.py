"""What every noise is: a frozen record that names itself by the word that `parse` reads.

A word is a name, then settings after colons, then the side after an @: ``bins:16:dimension@both``.
The settings are the record's own fields, so a label loses nothing: the first field stands as it is,
a flag by its name, a range as a rule or as LOW,HIGH, a seed as seed=N; what has its default is left out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import Field, fields
from typing import Any, ClassVar, TypeAlias

from modgap._core.arrays import Array, Float
from modgap._core.checks import check_choice, check_number
from modgap._core.random import Draws
from modgap.errors import ArgumentError

__all__ = ["Code", "Noise", "RandomNoise", "Range", "check_range", "digits"]

#: "global", "dimension", or a pair (low, high).
Range: TypeAlias = "str | tuple[float, float]"


class Noise(ABC):
    """What perturbs embeddings: random noise, or a code that stores them.

    Attributes
    ----------
    side : str
        Where it acts: "gallery", "queries", or, for codes, "both".
    """

    word: ClassVar[str]
    sides: ClassVar[tuple[str, ...]] = ("gallery", "queries")
    side: str

    def check_ready(self) -> None:  # noqa: B027
        """Raise a MissingExtraError where a package that this noise needs is not installed."""

    @property
    def _name(self) -> str:
        """The word without settings and side."""
        return self.word

    @property
    def label(self) -> str:
        """The word that `parse` reads this very noise from: all digits, all settings, the side."""
        said = [_said(field, getattr(self, field.name)) for field in _settings(self)]
        side = "" if self.side == "gallery" else f"@{self.side}"
        return ":".join([self._name, *(word for word in said if word)]) + side

    def __repr__(self) -> str:
        shown = []
        for place, field in enumerate(_fields(self)):
            value = getattr(self, field.name)
            if place == 0 and not field.kw_only:
                shown.append(repr(value))
            elif value != field.default:
                shown.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _check_side(self) -> None:
        check_choice(self.side, "side", self.sides)


class RandomNoise(Noise):
    """Noise drawn anew for every coordinate: a size times a unit draw.

    Attributes
    ----------
    before : bool
        Whether it acts before the closure's map, on what the stored rows are made of.
    relative : bool
        Whether its size is that of the rows times a factor.
    """

    before: bool = False
    relative: bool = False

    @property
    @abstractmethod
    def scale(self) -> float:
        """Factor of the unit draw."""

    def size_on(self, rows: Float[Array, "... d"]) -> float:
        """Return the factor of the unit draw on rows such as these."""
        return self.scale

    @abstractmethod
    def unit_draw(self, rng: Draws, shape: tuple[int, ...]) -> Array:
        """Return one draw of size one, float32: on the host, or where `rng` draws."""


class Code(Noise):
    """A way to store rows in fewer bits: deterministic, the rows come back changed.

    The comparison stays the system's own, with queries as they are (unless the side says otherwise),
    as vector stores compare a float query with what they have stored.
    """

    sides = ("gallery", "queries", "both")

    @abstractmethod
    def apply(self, cloud: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Return the cloud as it comes back from storage; what the code learns it learns from it."""


def digits(value: float) -> str:
    """Return a number with all its digits and no more: 0.022, 1e-05, 3."""
    return repr(float(value)).removesuffix(".0")


def check_range(rule: Any) -> Range:
    """Return a range: a known rule, or a pair of floats from low to high."""
    if isinstance(rule, str):
        return check_choice(rule, "range", ("global", "dimension"))
    try:
        low, high = rule
    except (TypeError, ValueError):
        raise ArgumentError(
            f"`range` must be global, dimension, or a pair (low, high); got {rule!r}"
        ) from None
    low, high = check_number(low, "range"), check_number(high, "range")
    if not low < high:
        raise ArgumentError(f"`range` must go from low to high; got ({low:g}, {high:g})")
    return low, high


def _fields(noise: Noise) -> list[Field[Any]]:
    return [field for field in fields(noise) if field.init]  # type: ignore[arg-type]


def _settings(noise: Noise) -> list[Field[Any]]:
    """Return the fields that stand between name and side."""
    return [f for f in _fields(noise) if f.name not in ("side", "name")]


def _said(field: Field[Any], value: Any) -> str:
    """Return a setting as it stands in a word; empty where it has its default."""
    if value == field.default:
        return ""
    if isinstance(value, bool):
        return field.name
    if isinstance(value, tuple):
        return ",".join(digits(end) for end in value)
    if field.name == "seed":
        return f"seed={value}"
    return value if isinstance(value, str) else digits(value)
