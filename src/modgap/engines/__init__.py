"""Who does the work on shards: this process, several of them, or a Dask cluster; one mechanism for all.

Shards are read into moments, which merge here in the order of the shards, or mapped into shards of the same
names, which get their names here. So results do not depend on who did what, and when.
"""

from modgap._core.tasks import HERE, Engine, Here
from modgap.engines.checkpoint import Checkpoint
from modgap.engines.fitting import Reading, moments_of, read_moments
from modgap.engines.local import Processes

__all__ = [
    "HERE",
    "Checkpoint",
    "Engine",
    "Here",
    "Processes",
    "Reading",
    "moments_of",
    "read_moments",
]
