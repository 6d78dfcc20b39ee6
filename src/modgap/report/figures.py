"""The figures of the gap with a sentence each, and what the closers do to what is stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from modgap.evaluation._ground import Ground
from modgap.measures.bits import gap_in_bits
from modgap.measures.shape import defined

__all__ = ["bits", "free_share", "gap_figures"]


def free_share(ground: Ground) -> float | None:
    """Return the share of the gap's length that no decision depends on; None in a mixed gallery."""
    if ground.problem.modalities is not None:
        return None
    stats = ground.statistics
    length = float(np.linalg.norm(stats.gap))
    if length == 0 or stats.axes.rank >= stats.width:
        return 0.0 if length else None
    basis = stats.axes.axes[:, : stats.axes.rank]
    return float(np.linalg.norm(stats.gap - basis @ (basis.T @ stats.gap))) / length


def bits(ground: Ground) -> dict[str, Any] | None:
    """Return the gap in bits by the task's metric, and the sentence that it comes to.

    None where it has none, as where each query has candidates of its own.
    """
    problem, measured = ground.problem, ground.measured
    if problem.gallery.ndim != 2:
        return None
    if ground.metric.needs_directions:  # by cosine the measured gap has the moments already
        found = None if measured is None else measured.bits
    else:
        found = defined(
            lambda: gap_in_bits(problem.queries, problem.gallery_rows, metric=ground.metric)
        )
    return None if found is None else {"sentence": found.sentence, **found.to_dict()}


def gap_figures(ground: Ground) -> list[dict[str, Any]]:
    """Return the figures of the gap with one sentence of meaning each; absent ones are left out."""
    gap = ground.measured
    share = free_share(ground)
    rows: list[tuple[str, str, Any, str]] = []
    if gap is not None:
        ratio, frechet = gap.gap_variance_ratio, gap.frechet_distance
        rows = [
            ("centroid_gap", "Length of the gap", gap.centroid_gap,
             "Distance between the mean query and the mean item, rows of unit length."),
            ("centroid_gap_floor", "Length by chance", gap.centroid_gap_floor,
             "About what two samples of one cloud of this spread and size would show."),
            ("centroid_cosine", "Cosine of the means", gap.centroid_cosine,
             "1: both clouds point the same way; 0: at right angles."),
            ("variance_ratio_queries", "Spread of the queries along the gap",
             None if ratio is None else ratio.queries,
             "Over their average spread per direction (variances); far below 1: the gap is orthogonal "
             "to them."),
            ("variance_ratio_gallery", "Spread of the items along the gap",
             None if ratio is None else ratio.gallery, "The same for the items."),
            ("relative_modality_gap", "Relative modality gap", ground.gap.relative_modality_gap,
             "Dissimilarity of true pairs against that within each side, 0 to 1; 0.5: pairs are as "
             "far apart as strangers of one side."),
            ("paired_cosine", "Cosine of true pairs", gap.paired_cosine, "Mean over the pairs."),
            ("linear_separability", "Told apart by a linear probe", gap.linear_separability,
             "Accuracy on rows it was not fitted to; 0.5 is a coin, 1 means fully separated clouds."),
            ("frechet_distance", "Fréchet distance", float(frechet.squared) ** 0.5,
             "Difference of both mean and shape, as if the clouds were Gaussian."),
            ("mean_cosine_queries", "Cone of the queries", gap.queries.mean_cosine,
             "Mean cosine between two queries; high: a narrow cone."),
            ("mean_cosine_gallery", "Cone of the items", gap.gallery.mean_cosine,
             "Mean cosine between two items."),
            ("effective_rank_queries", "Effective rank of the queries", gap.queries.effective_rank,
             "Directions in real use, from the entropy of the spectrum."),
        ]  # fmt: skip
    rows.append(
        ("free_share", "Share of the gap no answer depends on", share,
         "Part of its length outside the directions that the items span.")
    )  # fmt: skip
    return [
        {"name": name, "label": label, "value": float(value), "meaning": meaning}
        for name, label, value, meaning in rows
        if value is not None
    ]
