"""Values of headers: each reader returns its value, or raises what says what it must be."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["distance", "factor", "field", "flag", "mapping", "number", "or_none", "text", "whole"]


def whole(value: Any) -> int:
    """Return a whole number >= 0."""
    if isinstance(value, bool):
        raise TypeError("must be a whole number, no truth value")
    found = operator.index(value)
    if not 0 <= found < 2**53:
        raise ValueError(f"must lie in [0, 2**53), got {found:.3g}")
    return found


def number(value: Any) -> float:
    """Return a finite number."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        found = float(value) if plain else math.nan
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"must be a finite number, got {value!r:.40}")
    return found


def flag(value: Any) -> bool:
    """Return a truth value."""
    if not isinstance(value, bool):
        raise TypeError(f"must be true or false, got {value!r:.40}")
    return value


def distance(value: Any) -> float:
    """Return a number >= 0."""
    found = number(value)
    if found < 0:
        raise ValueError(f"must not be below 0, got {found:g}")
    return found


def factor(value: Any) -> float:
    """Return a number > 0."""
    found = number(value)
    if found <= 0:
        raise ValueError(f"must be above 0, got {found:g}")
    return found


def text(value: Any) -> str:
    """Return text."""
    if not isinstance(value, str):
        raise TypeError(f"must be text, got {value!r:.40}")
    return value


def mapping(value: Any) -> dict[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise TypeError(f"must be an object, got {value!r:.40}")
    return value


def or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a reader that lets None through."""
    return lambda value: None if value is None else read(value)


def field(header: Mapping[str, Any], name: str, read: Callable[[Any], Any]) -> Any:
    """Return a value of a header; what is wrong with it is said under its name."""
    try:
        return read(header[name])
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` {error}") from None
