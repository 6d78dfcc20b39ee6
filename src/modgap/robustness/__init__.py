"""What noise does to decisions: noise and codecs, the exact integral, sampling."""

from modgap.robustness.integral import candidate_win_probability, win_probability
from modgap.robustness.noise import Bins, Codec, FaissCodec, Gaussian, Noise, Uniform, parse
from modgap.robustness.outcomes import Outcome, stability

__all__ = [
    "Bins",
    "Codec",
    "FaissCodec",
    "Gaussian",
    "Noise",
    "Outcome",
    "Uniform",
    "candidate_win_probability",
    "parse",
    "stability",
    "win_probability",
]
