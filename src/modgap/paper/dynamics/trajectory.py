"""What a simulation leaves: one figure per record, and the last embeddings."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from modgap._core.arrays import Array, namespace, normalize_rows, to_numpy
from modgap._core.clouds import Cloud
from modgap._core.json import plain
from modgap._core.opening import open_cloud
from modgap.measures.centroids import gap_vector
from modgap.measures.orthogonality import variance_ratio_along
from modgap.paper.dynamics.settings import Simulation


@dataclass(frozen=True)
class Snapshot:
    """Both clouds (n, d) after some steps, rows in the order in which they were given."""

    step: int
    x: Array
    y: Array


@dataclass(frozen=True)
class Trajectory:
    """A simulation's records, one entry per record step, and the embeddings that it ended with.

    Attributes
    ----------
    settings : Simulation
    step : array (k,), integers
        Updates done before each record.
    loss : array (k,)
        Over all pairs, also with mini-batches.
    gap : array (k,)
        ||mean(y) - mean(x)||.
    variance_ratio_x, variance_ratio_y : array (k,)
        Variance along the gap over the average variance per direction; 1 for an isotropic cloud.
    orthogonality_x, orthogonality_y : array (k,)
        Root mean square cosine between the gap and the rows about their mean; 0 is orthogonal,
        1 / sqrt(d) a random direction.
    mass_min, mass_mean, mass_max : array (k,)
        Of the softmax sums S of both sides, at the temperature of the moment. The mean is one by
        construction.
    deviation : array (k,)
        Mean |S - 1| of both sides: 0 where both softmax matrices are doubly stochastic.
    alignment_x, alignment_y : array (k,)
        Share of x (of y) whose nearest row of the other cloud is its partner.
    temperature, bias : array (k,)
    stability : array (k,), optional
        Mean probability that the nearest x of a y stays under Gaussian noise `sigma` on all x.
    final_x, final_y : array (n, d)
    snapshots : tuple of Snapshot
        The clouds on the way, at the steps that were asked for.
    """

    settings: Simulation
    step: np.ndarray
    loss: np.ndarray
    gap: np.ndarray
    variance_ratio_x: np.ndarray
    variance_ratio_y: np.ndarray
    orthogonality_x: np.ndarray
    orthogonality_y: np.ndarray
    mass_min: np.ndarray
    mass_mean: np.ndarray
    mass_max: np.ndarray
    deviation: np.ndarray
    alignment_x: np.ndarray
    alignment_y: np.ndarray
    temperature: np.ndarray
    bias: np.ndarray
    stability: np.ndarray | None
    final_x: Array
    final_y: Array
    snapshots: tuple[Snapshot, ...] = ()

    def to_dict(self, *, embeddings: bool = False) -> dict[str, Any]:
        """Return settings and records as plain lists for JSON; figures that are NaN are None.

        Parameters
        ----------
        embeddings : bool
            Also put the final embeddings in, under "final_x" and "final_y".
        """
        document: dict[str, Any] = {"settings": asdict(self.settings)}
        for name in RECORDED:
            document[name] = plain(getattr(self, name))
        if embeddings:
            for name in ("final_x", "final_y"):
                document[name] = to_numpy(getattr(self, name)).tolist()
        return document


#: Fields of a trajectory that hold one figure per record.
RECORDED = tuple(
    f.name
    for f in fields(Trajectory)
    if f.name not in ("settings", "final_x", "final_y", "snapshots")
)


def geometry(x: Array, y: Array) -> dict[str, float]:
    """Return the gap, and how each cloud lies to it; NaN where there is no gap, or no variance."""
    clouds = [open_cloud(rows, name, normalize=False) for rows, name in ((x, "x"), (y, "y"))]
    gap = gap_vector(clouds[1], clouds[0])
    length = float(namespace(gap).linalg.vector_norm(gap))
    found = {"gap": length}
    for name, cloud in zip("xy", clouds, strict=True):
        unit = gap / length if length > 0 else math.nan * gap
        found[f"variance_ratio_{name}"] = variance_ratio_along(cloud, unit)
        found[f"orthogonality_{name}"] = math.sqrt(_mean_square_cosine(cloud, unit))
    return found


def _mean_square_cosine(cloud: Cloud, unit: Array) -> float:
    """Return the mean squared cosine of the rows about their mean with a direction."""
    xp = namespace(unit)
    rows = normalize_rows(cloud.block(slice(None)) - cloud.center.mean)
    return float(xp.mean(xp.matmul(rows, unit) ** 2))
