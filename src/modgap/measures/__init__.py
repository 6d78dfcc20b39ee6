"""Measures of the modality gap: two clouds, `queries` and `gallery`, or the two sides of pairs.

Arrays of any library that follows the Array API go in, figures of float64 accuracy come out. Rows
are scaled to unit length first, unless `normalize=False`. The gap g = mean(queries) - mean(gallery)
points from the gallery to the queries. No measure holds all pairs of rows at once.

`measure` returns the record of all figures; it checks and decomposes once. Each function takes, in
the place of an array, also `Moments` of the rows as they are to be measured, if they determine it.
"""

from modgap.measures.bits import CodeBits, CodeNoise, GapInBits, gap_in_bits
from modgap.measures.centroids import (
    centroid_cosine,
    centroid_gap,
    centroid_gap_floor,
    gap_direction,
    gap_vector,
    squared_gap_per_dimension,
)
from modgap.measures.distributions import FrechetDistance, frechet_distance, linear_separability
from modgap.measures.drift import Drift, drift
from modgap.measures.gap import Gap, GapCosines, measure
from modgap.measures.look import Remark, look
from modgap.measures.matching import (
    DoublyStochasticDeviation,
    Hubness,
    RelativeAlignment,
    doubly_stochastic_deviation,
    hubness,
    relative_alignment,
)
from modgap.measures.orthogonality import (
    DifferenceCosines,
    GapVarianceRatio,
    ResidualGapCurve,
    difference_cosines,
    gap_variance_ratio,
    residual_gap_curve,
)
from modgap.measures.pairs import (
    alignment,
    matched_mismatched_margin,
    paired_cosine,
    paired_distance,
    relative_modality_gap,
)
from modgap.measures.shape import CloudShape

__all__ = [
    "CloudShape",
    "CodeBits",
    "CodeNoise",
    "DifferenceCosines",
    "DoublyStochasticDeviation",
    "Drift",
    "FrechetDistance",
    "Gap",
    "GapCosines",
    "GapInBits",
    "GapVarianceRatio",
    "Hubness",
    "RelativeAlignment",
    "Remark",
    "ResidualGapCurve",
    "alignment",
    "centroid_cosine",
    "centroid_gap",
    "centroid_gap_floor",
    "difference_cosines",
    "doubly_stochastic_deviation",
    "drift",
    "frechet_distance",
    "gap_direction",
    "gap_in_bits",
    "gap_variance_ratio",
    "gap_vector",
    "hubness",
    "linear_separability",
    "look",
    "matched_mismatched_margin",
    "measure",
    "paired_cosine",
    "paired_distance",
    "relative_alignment",
    "relative_modality_gap",
    "residual_gap_curve",
    "squared_gap_per_dimension",
]
