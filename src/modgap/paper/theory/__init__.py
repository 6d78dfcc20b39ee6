"""The theory as functions: losses and gradients, the theorems on training, those on decisions.

`contrastive` and `sigmoid` are the losses. `training` and `freezing` say what descent on them does
to the gap, `geometry`, `distance` and `scaling` what the gap does to decisions. docs/theory.md
derives every constant.
"""

from modgap.paper.theory.contrastive import (
    ContrastiveGradient,
    SoftmaxMatrices,
    SoftmaxSums,
    contrastive_gradient,
    contrastive_loss,
    softmax_matrices,
    softmax_sums,
)
from modgap.paper.theory.distance import (
    ProjectionStability,
    StabilityByDistance,
    projection_stability,
    stability_by_distance,
)
from modgap.paper.theory.freezing import FrozenDirection, SpherePull, frozen_direction, sphere_pull
from modgap.paper.theory.geometry import (
    DecisionInvariance,
    GapOrthogonality,
    OrthogonalityTest,
    decision_invariance,
    gap_orthogonality,
)
from modgap.paper.theory.scaling import ScalingStability, scaling_stability
from modgap.paper.theory.sigmoid import SigmoidGradient, sigmoid_gradient, sigmoid_loss
from modgap.paper.theory.training import (
    GapDrift,
    ModeRates,
    TightClusterGradient,
    gap_drift,
    mode_rates,
    tight_cluster_gradient,
)

__all__ = [
    "ContrastiveGradient",
    "DecisionInvariance",
    "FrozenDirection",
    "GapDrift",
    "GapOrthogonality",
    "ModeRates",
    "OrthogonalityTest",
    "ProjectionStability",
    "ScalingStability",
    "SigmoidGradient",
    "SoftmaxMatrices",
    "SoftmaxSums",
    "SpherePull",
    "StabilityByDistance",
    "TightClusterGradient",
    "contrastive_gradient",
    "contrastive_loss",
    "decision_invariance",
    "frozen_direction",
    "gap_drift",
    "gap_orthogonality",
    "mode_rates",
    "projection_stability",
    "scaling_stability",
    "sigmoid_gradient",
    "sigmoid_loss",
    "softmax_matrices",
    "softmax_sums",
    "sphere_pull",
    "stability_by_distance",
    "tight_cluster_gradient",
]
