"""Results as JSON: one way to plain values, and what every document says about itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from modgap._core.arrays import is_array, to_numpy

__all__ = ["SCHEMA", "plain", "stamp"]

#: Version of the documents' names: it rises when one is renamed, moved or removed.
SCHEMA = 1


def stamp() -> dict[str, Any]:
    """Return what every document begins with: the version of its names, and that of modgap."""
    import modgap

    return {"schema": SCHEMA, "modgap": modgap.__version__}


def plain(value: Any) -> Any:
    """Return a value that JSON can hold; NaN and infinity become None, records dictionaries.

    Names of metrics and methods, which may be strings with methods of their own, become bare ones.

    Examples
    --------
    >>> plain({"a": np.float32(0.5), "b": (1, math.nan), "c": np.arange(2)})
    {'a': 0.5, 'b': [1, None], 'c': [0, 1]}
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Mapping):
        return {str.__str__(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    if is_array(value):
        return plain(to_numpy(value).tolist())
    raise TypeError(f"{type(value).__name__} has no place in a JSON document")
