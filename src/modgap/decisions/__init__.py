"""Which item is nearest: metrics, blockwise search, margins, certificates."""

from modgap.decisions.certificates import certified_radius
from modgap.decisions.neighbors import Neighbors, margins, nearest, nearest_candidates

__all__ = ["Neighbors", "certified_radius", "margins", "nearest", "nearest_candidates"]
