"""The clouds that a simulation starts from."""

from __future__ import annotations

import math

import numpy as np

from modgap._core.arrays import normalize_rows
from modgap.paper.dynamics.settings import Simulation, checked


def initial_clouds(settings: Simulation) -> tuple[np.ndarray, np.ndarray]:
    """Return the two clouds that a simulation starts from, each (n, d), float64.

    Raises
    ------
    ArgumentError
        A setting is outside its range.

    Examples
    --------
    >>> x, y = initial_clouds(Simulation(start_gap=1.0, spread=0.0))
    >>> round(float(np.linalg.norm(y.mean(0) - x.mean(0))), 12)
    1.0
    """
    settings = checked(settings)
    rng = np.random.default_rng(settings.seed)
    n, d = settings.n, settings.dimension
    center_x, center_y = _centers(settings, rng)
    noise = rng.standard_normal((2, n, d))
    spread = settings.spread
    if settings.start == "collapsed":
        rank = d // 2 if settings.rank is None else settings.rank
        basis, _ = np.linalg.qr(
            np.column_stack([center_x, center_y, rng.standard_normal((d, rank))])
        )
        noise = noise[:, :, :rank] @ basis[:, 2:].T
        spread = 1.0 / math.sqrt(rank) if spread is None else spread
    elif spread is None:
        spread = {"clusters": 0.05, "isotropic": 0.6 / math.sqrt(d), "cone": 0.5 / math.sqrt(d)}[
            settings.start
        ]
    x, y = center_x + spread * noise[0], center_y + spread * noise[1]
    if settings.start == "cone" or settings.sphere:
        x, y = normalize_rows(x), normalize_rows(y)
    return x, y


def _centers(settings: Simulation, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return two unit vectors: random ones, or a random pair at the distance asked for."""
    first, second = normalize_rows(rng.standard_normal((2, settings.dimension)))
    if settings.start_gap is None:
        return first, second
    if settings.dimension == 1:
        return first, first if settings.start_gap < 1.0 else -first
    across = second - (second @ first) * first
    across /= np.linalg.norm(across)
    cosine = 1.0 - settings.start_gap**2 / 2.0
    return first, cosine * first + math.sqrt(max(1.0 - cosine**2, 0.0)) * across
