"""Number formats of vector stores: bytes over a range, and floats of few bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from modgap._core.arrays import Array, Float, as_float64, asarray_like, gather_rows, namespace
from modgap._core.checks import check_choice
from modgap.errors import ArgumentError
from modgap.robustness.codes import block_by_block
from modgap.robustness.kinds import Code, Range, check_range
from modgap.robustness.ranges import to_codes, value_range

__all__ = ["Codec", "round_to_float"]

#: Stored mantissa bits, smallest exponent of a normal number, largest finite value.
_FLOATS: dict[str, dict[str, Any]] = {
    "float16": {"mantissa": 10, "least_exponent": -14, "largest": 65504.0},
    "bfloat16": {"mantissa": 7, "least_exponent": -126, "largest": 3.3895313892515355e38},
    "float8_e4m3": {"mantissa": 3, "least_exponent": -6, "largest": 448.0},
    "float8_e5m2": {"mantissa": 2, "least_exponent": -14, "largest": 57344.0},
}
_BYTES = ("int8", "uint8")


@dataclass(frozen=True, repr=False)
class Codec(Code):
    """A number format of vector stores.

    Attributes
    ----------
    name : str
        "int8" or "uint8": 255 steps over each coordinate's range, as FAISS' QT_8bit decodes it;
        "float16", "bfloat16", "float8_e4m3", "float8_e5m2": round to nearest even, saturating.
    range : {"dimension", "global"} or (low, high)
        For the integer formats.
    side : {"gallery", "queries", "both"}
    """

    names: ClassVar[tuple[str, ...]] = (*_BYTES, *_FLOATS)

    name: str
    range: Range = "dimension"
    _: KW_ONLY
    side: str = "gallery"

    def __post_init__(self) -> None:
        check_choice(self.name, "name", self.names)
        self._check_side()
        object.__setattr__(self, "range", check_range(self.range))
        if self.name in _FLOATS and self.range != "dimension":
            raise ArgumentError(f"`{self.name}` has no range; leave `range` out")

    @property
    def _name(self) -> str:
        return self.name

    def apply(self, cloud: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Return the cloud as it comes back from storage."""
        return block_by_block(cloud, self._learn)

    def _learn(self, rows: Array) -> Callable[[Array], Array]:
        if self.name in _FLOATS:
            return partial(round_to_float, **_FLOATS[self.name])
        ends = value_range(rows, self.range)
        return lambda block: to_codes(block, ends)


def round_to_float(x: Array, *, mantissa: int, least_exponent: int, largest: float) -> Array:
    """Return `x` rounded to a binary float with `mantissa` stored bits: nearest even, saturating."""
    xp = namespace(x)
    wide = as_float64(x)
    size = xp.abs(wide)
    exponent = xp.floor(xp.log2(xp.where(size > 0, size, xp.ones_like(size))))
    # Powers of two by a table: a GPU's own are off by a few units of rounding.
    most = math.floor(math.log2(largest))
    steps = asarray_like(np.exp2(np.arange(least_exponent, most + 1) - float(mantissa)), wide)
    place = xp.astype(xp.clip(exponent, min=float(least_exponent), max=float(most)), xp.int64)
    step = gather_rows(steps, place - least_exponent)
    rounded = xp.clip(xp.round(wide / step) * step, min=-largest, max=largest)
    return xp.astype(rounded, x.dtype)
