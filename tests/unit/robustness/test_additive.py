"""Random noise: what its draws are, and the values it takes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from modgap.errors import ArgumentError
from modgap.robustness.noise import Gaussian, Uniform


class TestRandomNoise:
    @pytest.mark.parametrize("side", ["gallery", "queries"])
    def test_gaussian_draws_are_normal(self, side):
        noise = Gaussian(0.3, side=side)
        draw = noise.unit_draw(np.random.default_rng(0), (200, 500))
        assert draw.dtype == np.float32
        # 100,000 values: the mean and the mean square have standard errors .0032 and .0045.
        assert abs(draw.mean()) < 0.013
        assert abs((draw**2).mean() - 1) < 0.018
        assert noise.scale == 0.3

    def test_uniform_draws_fill_the_interval(self):
        draw = Uniform(0.2).unit_draw(np.random.default_rng(0), (200, 500))
        assert draw.dtype == np.float32
        assert -1 <= draw.min() < -0.9999
        assert 0.9999 < draw.max() <= 1
        # Variance 1/3; the mean square of 100,000 values has a standard error of .00094.
        assert abs((draw**2).mean() - 1 / 3) < 0.004

    def test_a_variance_is_the_square_of_sigma(self):
        assert Gaussian(variance=0.04).scale == pytest.approx(0.2, rel=1e-15)
        assert Gaussian(variance=0.04) == Gaussian(sigma=np.sqrt(0.04))
        with pytest.raises(ArgumentError, match="either `sigma` or `variance`; give exactly one"):
            Gaussian()
        with pytest.raises(ArgumentError, match="either `sigma` or `variance`; give exactly one"):
            Gaussian(0.1, variance=0.01)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Gaussian(-0.1), "`sigma` must be finite and in [0, inf]; got -0.1"),
            (lambda: Gaussian(np.nan), "`sigma` must be finite and in [0, inf]; got nan"),
            (lambda: Gaussian(np.inf), "`sigma` must be finite and in [0, inf]; got inf"),
            (lambda: Gaussian("big"), "`sigma` must be a number; got 'big'"),
            (lambda: Gaussian(variance=-1), "`variance` must be finite and in [0, inf]; got -1"),
            (lambda: Gaussian(0.1, side="both"), "`side` must be one of gallery, queries; got 'bo"),
            (lambda: Uniform(-1), "`half_width` must be finite and in [0, inf]; got -1"),
            (lambda: Uniform(1, side=""), "`side` must be one of gallery, queries; got ''"),
        ],
    )
    def test_values_out_of_range(self, make, message):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            make()
