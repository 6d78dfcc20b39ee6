"""Real indexes: what each keeps of the exact answers, and closures inside them."""

from modgap.index.lengths import LengthBits
from modgap.index.records import CodecRow, Effort, IndexStudy
from modgap.index.running import study
from modgap.index.served import Served

__all__ = ["CodecRow", "Effort", "IndexStudy", "LengthBits", "Served", "study"]
