"""Random noise that is added to every coordinate, independently: normal and uniform."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, InitVar, dataclass

import numpy as np

from modgap._core.checks import check_number
from modgap.errors import ArgumentError
from modgap.robustness.kinds import RandomNoise

__all__ = ["Gaussian", "Uniform"]


@dataclass(frozen=True, repr=False)
class Gaussian(RandomNoise):
    """Independent normal noise on every coordinate of one side.

    Attributes
    ----------
    sigma : float
        Standard deviation per coordinate. Give `variance` instead to name its square.
    side : {"gallery", "queries"}

    Examples
    --------
    >>> Gaussian(0.3), Gaussian(0.022, side="queries").label
    (Gaussian(0.3), 'gaussian:0.022@queries')
    """

    word = "gaussian"

    sigma: float | None = None
    _: KW_ONLY
    variance: InitVar[float | None] = None
    side: str = "gallery"

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
        self._check_side()

    @property
    def scale(self) -> float:
        """Factor of the unit draw."""
        return float(self.sigma or 0.0)

    def unit_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
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

    def unit_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Return uniform values in [-1, 1], float32."""
        return 2 * rng.random(shape, dtype=np.float32) - 1
