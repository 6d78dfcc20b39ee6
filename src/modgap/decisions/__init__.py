"""Which item is nearest: metrics, blockwise search, margins, certificates."""

from modgap.decisions.certificates import certified_radius
from modgap.decisions.metric import COSINE, EUCLIDEAN, INNER_PRODUCT, Metric, as_metric
from modgap.decisions.neighbors import Neighbors, margins, nearest, nearest_candidates

__all__ = [
    "COSINE",
    "EUCLIDEAN",
    "INNER_PRODUCT",
    "Metric",
    "Neighbors",
    "as_metric",
    "certified_radius",
    "margins",
    "nearest",
    "nearest_candidates",
]
