"""Random noise that is added to every coordinate, independently: normal and uniform."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, InitVar, dataclass

import numpy as np

from modgap._core.arrays import Array, Float, as_float64, block_slices, namespace
from modgap._core.checks import check_number
from modgap._core.random import Draws
from modgap.errors import ArgumentError
from modgap.robustness.kinds import RandomNoise

__all__ = ["Gaussian", "Uniform", "spread"]


@dataclass(frozen=True, repr=False)
class Gaussian(RandomNoise):
    """Independent normal noise on every coordinate of one side.

    Attributes
    ----------
    sigma : float
        Standard deviation per coordinate. Give `variance` instead to name its square.
    side : {"gallery", "queries"}
    relative : bool
        `sigma` is then times the `spread` of the rows that the noise acts on: the root mean square, per
        coordinate, of their distances from their mean. The mean itself is left out. It adds one constant
        to all of a query's scores, and no answer depends on it; a noise that grew with it could be
        beaten by moving the origin alone, and every recentring would pass for a gain against any noise.
        So relative noise is the same before and after a shift or a scaling of what is stored, and it is
        the noise that `balanced` is best against. What a common offset does cost, in codes with one
        range for all coordinates and in floats, those codes show themselves (bins:N, bits:B, bfloat16).
    before : bool
        The noise acts on the gallery before the closure's map, on unit rows by cosine, and goes through
        the map with them. An exact map of full rank changes nothing then; a projection leaves
        behind what is at right angles to it. Without a closure it is plain noise.

    Examples
    --------
    >>> Gaussian(0.3), Gaussian(0.022, side="queries").label
    (Gaussian(0.3), 'gaussian:0.022@queries')
    >>> Gaussian(0.3, relative=True).label, Gaussian(0.04, before=True).label
    ('gaussian:0.3:relative', 'gaussian:0.04:before')
    """

    word = "gaussian"

    sigma: float | None = None
    _: KW_ONLY
    variance: InitVar[float | None] = None
    side: str = "gallery"
    relative: bool = False
    before: bool = False

    def __post_init__(self, variance: float | None) -> None:
        if (self.sigma is None) == (variance is None):
            raise ArgumentError(
                "Gaussian noise takes either `sigma` or `variance`; give exactly one"
            )
        if variance is not None:
            value = math.sqrt(check_number(variance, "variance", low=0.0))
        else:
            value = check_number(self.sigma, "sigma", low=0.0)
        object.__setattr__(self, "sigma", value)
        for name in ("relative", "before"):
            if not isinstance(getattr(self, name), bool):
                raise ArgumentError(f"`{name}` must be True or False; got {getattr(self, name)!r}")
        self._check_side()
        if self.before and self.side != "gallery":
            raise ArgumentError(
                f"`before` is for noise on the gallery, before the closure's map; got side={self.side!r}"
            )

    @property
    def scale(self) -> float:
        """Factor of the unit draw."""
        return float(self.sigma or 0.0)

    def size_on(self, rows: Float[Array, "... d"]) -> float:
        """Return the standard deviation on rows such as these."""
        return self.scale * spread(rows) if self.relative else self.scale

    def unit_draw(self, rng: Draws, shape: tuple[int, ...]) -> Array:
        """Return standard normal values, float32."""
        return rng.standard_normal(shape, dtype=np.float32)


@dataclass(frozen=True, repr=False)
class Uniform(RandomNoise):
    """Independent uniform noise in [-half_width, half_width] on every coordinate of one side.

    Attributes
    ----------
    half_width : float
    side : {"gallery", "queries"}
    """

    word = "uniform"

    half_width: float
    _: KW_ONLY
    side: str = "gallery"

    def __post_init__(self) -> None:
        object.__setattr__(self, "half_width", check_number(self.half_width, "half_width", low=0.0))
        self._check_side()

    @property
    def scale(self) -> float:
        """Factor of the unit draw."""
        return float(self.half_width)

    def unit_draw(self, rng: Draws, shape: tuple[int, ...]) -> Array:
        """Return uniform values in [-1, 1], float32."""
        return 2 * rng.random(shape, dtype=np.float32) - 1


def spread(rows: Float[Array, "... d"]) -> float:
    """Return the root mean square of rows about their mean, per coordinate: sqrt(tr Cov / d).

    Parameters
    ----------
    rows : array (n, d) or (m, c, d), floating

    Examples
    --------
    >>> round(spread(np.array([[3.0, 1.0], [1.0, 1.0]])), 4)
    0.7071
    """
    xp = namespace(rows)
    flat = xp.reshape(rows, (-1, rows.shape[-1]))
    parts = list(block_slices(*flat.shape))
    mean = sum(xp.sum(as_float64(flat[part, :]), axis=0) for part in parts) / flat.shape[0]
    square = 0.0
    for part in parts:
        step = as_float64(flat[part, :]) - mean
        square += float(xp.sum(step * step))
    rounding = (
        1e-28 * flat.shape[0] * float(xp.sum(mean * mean))
    )  # of the mean of rows that are all one
    return math.sqrt(square / (flat.shape[0] * flat.shape[1])) if square > rounding else 0.0
