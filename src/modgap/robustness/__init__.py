"""What noise does to decisions: noise and codes, the exact integral, sampling."""

from modgap.robustness.integral import candidate_win_probability, win_probability
from modgap.robustness.noise import (
    Bins,
    Bits,
    Codec,
    Dims,
    FaissCodec,
    Gaussian,
    Noise,
    Sign,
    Uniform,
    as_noises,
    parse,
)
from modgap.robustness.outcomes import Outcome, stability

__all__ = [
    "Bins",
    "Bits",
    "Codec",
    "Dims",
    "FaissCodec",
    "Gaussian",
    "Noise",
    "Outcome",
    "Sign",
    "Uniform",
    "as_noises",
    "candidate_win_probability",
    "parse",
    "stability",
    "win_probability",
]
