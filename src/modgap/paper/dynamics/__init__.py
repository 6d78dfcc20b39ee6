"""Gradient descent on free embeddings, recorded: how a modality gap forms, freezes, or does not.

No network stands between the loss and the embeddings: every row of both clouds is a parameter. That
is the setting of the theorems in `modgap.paper.theory`, and of figures 3 to 6 of Chowers et al. (2026).
"""

from modgap.paper.dynamics.descent import descend, simulate
from modgap.paper.dynamics.filming import film, film_steps
from modgap.paper.dynamics.settings import PAPER_RUN, Simulation
from modgap.paper.dynamics.starts import initial_clouds
from modgap.paper.dynamics.trajectory import Snapshot, Trajectory

__all__ = [
    "PAPER_RUN",
    "Simulation",
    "Snapshot",
    "Trajectory",
    "descend",
    "film",
    "film_steps",
    "initial_clouds",
    "simulate",
]
