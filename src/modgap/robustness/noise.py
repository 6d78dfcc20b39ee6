"""What perturbs embeddings: random noise, and the codecs that vector stores compress with.

Noise is a value: ``Gaussian(0.022)``, ``Bins(16)``, ``Codec("int8")``. `parse` reads the notation of
the command line: ``gaussian:0.022``, ``bins:16:dimension``, ``int8``, ``faiss:PQ8``, each with
``@queries`` or ``@both`` to perturb another side than the gallery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from modgap._core.arrays import Array, Float, as_float64, asarray_like, namespace, to_numpy
from modgap._core.checks import check_choice, check_count, check_number
from modgap._core.extras import require
from modgap.errors import ArgumentError

__all__ = ["Bins", "Codec", "FaissCodec", "Gaussian", "Noise", "Uniform", "parse", "round_to_float"]

_CODEC_SIDES = ("gallery", "queries", "both")
_RANDOM_SIDES = ("gallery", "queries")
_CODECS = ("int8", "uint8", "float16", "bfloat16", "float8_e4m3", "float8_e5m2", "sign")


@dataclass(frozen=True)
class Gaussian:
    """Independent normal noise on every coordinate of one side.

    Attributes
    ----------
    sigma : float
        Standard deviation per coordinate. Give `variance` instead to name its square.
    side : {"gallery", "queries"}
    """

    sigma: float | None = None
    side: str = "gallery"
    variance: float | None = None

    def __post_init__(self) -> None:
        if (self.sigma is None) == (self.variance is None):
            raise ArgumentError(
                "Gaussian noise takes either `sigma` or `variance`; give exactly one"
            )
        if self.variance is not None:
            value = math.sqrt(check_number(self.variance, "variance", low=0.0))
        else:
            value = check_number(self.sigma, "sigma", low=0.0)
        object.__setattr__(self, "sigma", value)
        object.__setattr__(self, "variance", None)
        check_choice(self.side, "side", _RANDOM_SIDES)

    @property
    def scale(self) -> float:
        """Factor of the unit draw."""
        return float(self.sigma or 0.0)

    @property
    def label(self) -> str:
        """Name in tables, as `parse` reads it."""
        return f"gaussian:{self.scale:g}"

    def unit_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Return standard normal values, float32."""
        return rng.standard_normal(shape, dtype=np.float32)


@dataclass(frozen=True)
class Uniform:
    """Independent uniform noise in [-half_width, half_width] on every coordinate of one side."""

    half_width: float
    side: str = "gallery"

    def __post_init__(self) -> None:
        check_number(self.half_width, "half_width", low=0.0)
        check_choice(self.side, "side", _RANDOM_SIDES)

    @property
    def scale(self) -> float:
        """Factor of the unit draw."""
        return float(self.half_width)

    @property
    def label(self) -> str:
        """Name in tables, as `parse` reads it."""
        return f"uniform:{self.half_width:g}"

    def unit_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Return uniform values in [-1, 1], float32."""
        return 2 * rng.random(shape, dtype=np.float32) - 1


@dataclass(frozen=True)
class Bins:
    """Uniform quantization: every value to the nearest of n evenly spaced levels, ends included.

    Attributes
    ----------
    bins : int
        n >= 2; the paper uses 32, 64, 128 and 256.
    range : {"global", "dimension"} or (low, high)
        Smallest and largest value of the whole cloud, of each coordinate, or given; values outside
        a given range go to the nearest end.
    side : {"gallery", "queries", "both"}
    """

    bins: int
    range: str | tuple[float, float] = "global"
    side: str = "gallery"

    def __post_init__(self) -> None:
        check_count(self.bins, "bins", low=2, high=2**31)
        check_choice(self.side, "side", _CODEC_SIDES)
        _check_range(self.range)

    @property
    def label(self) -> str:
        """Name in tables, as `parse` reads it."""
        rule = "" if self.range == "global" else f":{_range_label(self.range)}"
        return f"bins:{self.bins}{rule}"

    def apply(self, cloud: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Return the cloud as it comes back from storage; the range is taken from the cloud."""
        low, high = _range_of(cloud, self.range)
        return _to_levels(cloud, low, high, self.bins)


@dataclass(frozen=True)
class Codec:
    """A number format of vector stores.

    Attributes
    ----------
    name : str
        "int8" or "uint8": 255 steps over each coordinate's range, as FAISS' QT_8bit decodes it;
        "float16", "bfloat16", "float8_e4m3", "float8_e5m2": round to nearest even, saturating;
        "sign": one bit per coordinate, kept as -1 or 1.
    range : {"dimension", "global"} or (low, high)
        For the integer formats.
    side : {"gallery", "queries", "both"}
    """

    name: str
    range: str | tuple[float, float] = "dimension"
    side: str = "gallery"

    def __post_init__(self) -> None:
        check_choice(self.name, "name", _CODECS)
        check_choice(self.side, "side", _CODEC_SIDES)
        if self.name not in ("int8", "uint8") and self.range != "dimension":
            raise ArgumentError(f"`{self.name}` has no range; leave `range` out")
        _check_range(self.range)

    @property
    def label(self) -> str:
        """Name in tables, as `parse` reads it."""
        return self.name if self.range == "dimension" else f"{self.name}:{_range_label(self.range)}"

    def apply(self, cloud: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Return the cloud as it comes back from storage."""
        xp = namespace(cloud)
        if self.name in ("int8", "uint8"):
            low, high = _range_of(cloud, self.range)
            return _to_codes(cloud, low, high)
        if self.name == "sign":
            one = xp.ones_like(cloud)
            return xp.where(cloud > 0, one, -one)
        mantissa, least, largest = _FLOATS[self.name]
        return round_to_float(cloud, mantissa=mantissa, least_exponent=least, largest=largest)


@dataclass(frozen=True)
class FaissCodec:
    """Any FAISS codec by its factory string: "SQ8", "SQ4", "PQ8", "OPQ16,PQ16", "ITQ64,LSH" ...

    The codec is trained on the cloud that it stores. Needs the extra `faiss`.
    """

    factory: str
    side: str = "gallery"

    def __post_init__(self) -> None:
        check_choice(self.side, "side", _CODEC_SIDES)
        if not self.factory:
            raise ArgumentError("`factory` must name a FAISS codec, for example SQ8 or PQ8")

    @property
    def label(self) -> str:
        """Name in tables, as `parse` reads it."""
        return f"faiss:{self.factory}"

    def apply(self, cloud: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Return the cloud encoded and decoded by FAISS."""
        faiss = require("faiss", "faiss")
        rows = np.ascontiguousarray(to_numpy(cloud), dtype=np.float32).reshape(-1, cloud.shape[-1])
        try:
            index = faiss.index_factory(rows.shape[1], self.factory)
            index.train(rows)
            back = index.sa_decode(index.sa_encode(rows))
        except (RuntimeError, AttributeError) as error:
            reason = str(error).splitlines()[-1] if str(error) else repr(error)
            raise ArgumentError(
                f"FAISS cannot store {rows.shape[0]} rows of dimension {rows.shape[1]} "
                f"as {self.factory!r}: {reason}"
            ) from None
        return asarray_like(back.reshape(cloud.shape), cloud, dtype=cloud.dtype)


Noise: TypeAlias = Gaussian | Uniform | Bins | Codec | FaissCodec


def parse(text: str) -> Noise:
    """Return the noise that a command-line word names.

    Raises
    ------
    ArgumentError
        The word is not of the notation in the module's docstring.

    Examples
    --------
    >>> parse("gaussian:0.022")
    Gaussian(sigma=0.022, side='gallery', variance=None)
    >>> parse("bins:16:dimension@both").label
    'bins:16:dimension'
    """
    word, _, side = text.partition("@")
    name, *settings = word.split(":")
    options: dict[str, Any] = {"side": side} if side else {}
    try:
        if name == "faiss" and settings:
            return FaissCodec(":".join(settings), **options)
        if name in ("gaussian", "gaussian-variance", "uniform") and len(settings) == 1:
            size = float(settings[0])
            if name == "uniform":
                return Uniform(size, **options)
            options["sigma" if name == "gaussian" else "variance"] = size
            return Gaussian(**options)
        if len(settings) == (2 if name == "bins" else 1) and name in ("bins", "int8", "uint8"):
            options["range"] = _parse_range(settings[-1])
        if name == "bins" and 1 <= len(settings) <= 2:
            return Bins(int(settings[0]), **options)
        if name in _CODECS and len(settings) <= 1 and (not settings or "range" in options):
            return Codec(name, **options)
    except ValueError as error:
        if isinstance(error, ArgumentError):
            raise
    raise ArgumentError(
        f"`noise` {text!r} is not understood; write gaussian:SIGMA, gaussian-variance:V, uniform:W, "
        f"bins:N[:global|dimension|LOW,HIGH], {', '.join(_CODECS)}, or faiss:FACTORY, "
        "each with @queries or @both where the side is not the gallery"
    )


def _parse_range(text: str) -> str | tuple[float, float]:
    if "," not in text:
        return text
    low, high = text.split(",")
    return float(low), float(high)


def round_to_float(x: Array, *, mantissa: int, least_exponent: int, largest: float) -> Array:
    """Return `x` rounded to a binary float with `mantissa` stored bits: nearest even, saturating."""
    xp = namespace(x)
    wide = as_float64(x)
    size = xp.abs(wide)
    exponent = xp.floor(xp.log2(xp.where(size > 0, size, xp.ones_like(size))))
    step = 2.0 ** (xp.clip(exponent, min=float(least_exponent)) - mantissa)
    rounded = xp.clip(xp.round(wide / step) * step, min=-largest, max=largest)
    return xp.astype(rounded, x.dtype)


#: Stored mantissa bits, smallest exponent of a normal number, largest finite value.
_FLOATS = {
    "float16": (10, -14, 65504.0),
    "bfloat16": (7, -126, 3.3895313892515355e38),
    "float8_e4m3": (3, -6, 448.0),
    "float8_e5m2": (2, -14, 57344.0),
}


def _check_range(rule: str | tuple[float, float]) -> None:
    """Refuse a range that is neither a known rule nor a pair from low to high."""
    if isinstance(rule, str):
        check_choice(rule, "range", ("global", "dimension"))
        return
    try:
        low, high = rule
    except (TypeError, ValueError):
        raise ArgumentError(
            f"`range` must be global, dimension, or a pair (low, high); got {rule!r}"
        ) from None
    if not check_number(low, "range") < check_number(high, "range"):
        raise ArgumentError(f"`range` must go from low to high; got ({low:g}, {high:g})")


def _range_label(rule: str | tuple[float, float]) -> str:
    return rule if isinstance(rule, str) else f"{rule[0]:g},{rule[1]:g}"


def _range_of(cloud: Array, rule: str | tuple[float, float]) -> tuple[Array, Array]:
    xp = namespace(cloud)
    wide = as_float64(cloud)
    if not isinstance(rule, str):
        return xp.full_like(wide[..., :1], rule[0]), xp.full_like(wide[..., :1], rule[1])
    axes = None if rule == "global" else tuple(range(wide.ndim - 1))
    return xp.min(wide, axis=axes), xp.max(wide, axis=axes)


def _to_levels(cloud: Array, low: Array, high: Array, levels: int) -> Array:
    """Return every value at the nearest of `levels` levels from low to high."""
    xp = namespace(cloud)
    step = (high - low) / (levels - 1)
    safe = xp.where(step > 0, step, xp.ones_like(step))
    level = xp.clip(xp.round((as_float64(cloud) - low) / safe), min=0.0, max=float(levels - 1))
    return xp.astype(low + level * step, cloud.dtype)


def _to_codes(cloud: Array, low: Array, high: Array) -> Array:
    """Return every value at the middle of its code of one byte, as FAISS' QT_8bit decodes it.

    The range is 255 codes wide and the code is rounded down, so the largest value comes back half a
    code too high.
    """
    xp = namespace(cloud)
    width = high - low
    safe = xp.where(width > 0, width, xp.ones_like(width))
    wide = as_float64(cloud)
    code = xp.clip(xp.floor(255 * ((wide - low) / safe)), min=0.0, max=255.0)
    code = xp.where(wide >= high, xp.full_like(code, 255.0), code)  # whatever the rounding
    back = xp.where(width > 0, low + (code + 0.5) / 255 * width, low + xp.zeros_like(code))
    return xp.astype(back, cloud.dtype)
