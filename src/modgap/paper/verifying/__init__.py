"""Every statement of the theory on the data at hand: what it says, what is so, and whether that passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modgap._core.arrays import Array, Float, Int
from modgap.closers.closure import Closure
from modgap.paper.verifying import balancing, certifying, deciding, keeping, training
from modgap.paper.verifying.ground import ground_of
from modgap.paper.verifying.record import Check, Verification

__all__ = ["Check", "Verification", "verify"]


def verify(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    labels: Int[Array, " m"] | None = None,
    *,
    paired: bool = False,
    metric: str = "cosine",
    temperature: float = 0.02,
    sigma: float = 0.022,
    draws: int = 400,
    seed: int = 0,
    closures: Sequence[Closure] = (),
    progress: Callable[[int], None] | None = None,
) -> Verification:
    """Return every statement of the theory, the paper's and ours, held against these embeddings.

    Each observation is made without the formula that it is to check: losses by plain sums and derivatives
    by complex steps, scores by SciPy's distances, shares by sampling, optima by a search. The proofs are
    in docs/theory.md and docs/theory_balanced.md; this says that the code computes what they prove, on
    this data, and where a statement has nothing to say about it.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
        n >= 2. At most 2,000 rows of either cloud are used, drawn with `seed`.
    labels : array (m,), integers, optional
        The gallery row that belongs to each query: statements on training need pairs, and look at 60.
    paired : bool
        Row i of both clouds belongs together; in the place of `labels`.
    metric : {"cosine", "ip", "euclidean"}
        By cosine rows are scaled to unit length first. Statements on squared distances and on inner
        products are looked at whatever it is; closures and what follows from balancing by this one.
    temperature : float
        Of the losses, > 0: of squared distances, so 0.02 is CLIP's 0.01 of cosines.
    sigma : float
        Standard deviation of the noise per coordinate, > 0.
    draws : int
        Of the gallery's noise, at least 20; fewer of large galleries, at least 50.
    seed : int
    closures : sequence of Closure
        Your own, whose promises are checked too: one that changes scores by more than its bound fails.
    progress : callable, optional
        Called with 1 after each statement.

    Raises
    ------
    ShapeError, DataError, ArgumentError, ClosureError
        The arrays do not fit together; an option is outside its range; a closure is of another metric.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> gallery, queries = rng.normal(size=(8, 24)), rng.normal(size=(60, 24)) + 1
    >>> found = verify(queries, gallery, np.arange(60) % 8)
    >>> found.passed, found["Theorem 3.5, decisions"].verdict
    (True, 'passes')
    """
    ground = ground_of(
        queries,
        gallery,
        labels,
        paired=paired,
        metric=metric,
        temperature=temperature,
        sigma=sigma,
        draws=draws,
        seed=seed,
    )
    found: list[Check] = []
    for part in (
        training.checks(ground),
        deciding.checks(ground),
        certifying.checks(ground),
        keeping.checks(ground, closures),
        balancing.checks(ground),
    ):
        for check in part:
            found.append(check)
            if progress is not None:
                progress(1)
    return Verification(tuple(found), ground.described())
