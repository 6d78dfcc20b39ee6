"""Real indexes: what each keeps of the exact answers, and closures inside them."""

from modgap.index.lengths import LengthBits
from modgap.index.served import Served

__all__ = ["LengthBits", "Served"]
