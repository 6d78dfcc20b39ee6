"""Figures that a study is made of: the gap before closing, and what one noise does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap.robustness.noise import RandomNoise
from modgap.robustness.outcomes import Outcome

__all__ = ["GapFigures", "NoiseResult"]


@dataclass(frozen=True)
class GapFigures:
    """The gap of one problem, before closing; None where the clouds have no such figure.

    Attributes
    ----------
    problem : str
    centroid_gap, centroid_cosine : float or None
        Of unit rows.
    gap_variance_ratio_queries, gap_variance_ratio_gallery : float or None
        Variance along the gap over the average variance per direction.
    relative_modality_gap : float or None
        For pairs.
    rank : int
        Numerical rank of the gallery as the metric sees it.
    """

    problem: str
    centroid_gap: float | None
    centroid_cosine: float | None
    gap_variance_ratio_queries: float | None
    gap_variance_ratio_gallery: float | None
    relative_modality_gap: float | None
    rank: int


@dataclass(frozen=True, eq=False)
class NoiseResult:
    """What one noise does to one row of a study.

    Attributes
    ----------
    outcome : Outcome
        Query by query.
    """

    outcome: Outcome

    @property
    def noise(self) -> str:
        """The noise in the notation of `robustness.parse`, its side included."""
        return self.outcome.noise.label

    @property
    def side(self) -> str:
        """What the noise acts on: gallery, queries or both."""
        return self.outcome.noise.side

    @property
    def stability(self) -> float:
        """Mean over queries of P(decision under noise = the row's own noise-free decision).

        This and the other figures are NaN where the noise `failed`.
        """
        return float(self.outcome.stability.mean())

    @property
    def stderr(self) -> float | None:
        """Standard error of the stability that sampling the noise leaves; None from one draw."""
        return None if np.isnan(self.outcome.stderr) else float(self.outcome.stderr)

    @property
    def retention(self) -> float:
        """Mean over queries of P(decision under noise = the noise-free decision before closing)."""
        return float(self.outcome.retention.mean())

    @property
    def noisy_accuracy(self) -> float | None:
        """Mean over queries of P(decision under noise is right); None without labels."""
        accuracy = self.outcome.accuracy
        return None if accuracy is None or self.failed else float(accuracy.mean())

    @property
    def recall(self) -> dict[str, float] | None:
        """Share of the exact k nearest items before closing that a code still finds, for each k.

        None for random noise, and where each query has its own candidates.
        """
        if self.outcome.recall is None:
            return None
        return {k: float(share.mean()) for k, share in self.outcome.recall.items()}

    @property
    def estimator(self) -> str:
        """How the figures were obtained."""
        return self.outcome.estimator

    @property
    def fixed_size(self) -> bool:
        """Whether it is noise of one size whatever is stored, and after the map."""
        noise = self.outcome.noise
        return isinstance(noise, RandomNoise) and not (noise.before or noise.relative)

    @property
    def failed(self) -> str | None:
        """One sentence where a code could not store what this row stores; None where it could."""
        return self.outcome.failed

    def to_dict(self) -> dict[str, Any]:
        """Return the means as a plain dict; where the noise failed they are None."""
        return {
            "noise": self.noise,
            "side": self.side,
            "stability": None if self.failed else self.stability,
            "stability_stderr": self.stderr,
            "retention": None if self.failed else self.retention,
            "noisy_accuracy": self.noisy_accuracy,
            "recall": self.recall,
            "estimator": self.estimator,
            "failed": self.failed,
        }

    def __repr__(self) -> str:
        return (
            f"NoiseResult({self.noise!r}, stability={self.stability:.4f}, "
            f"retention={self.retention:.4f})"
        )
