"""What noise does to decisions: stability, retention, noisy accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modgap._core.arrays import Array, Float, namespace, to_numpy
from modgap._core.checks import check_clouds, check_count
from modgap.closers.closure import Closure
from modgap.decisions.choices import present_rows
from modgap.decisions.metric import COSINE, as_metric
from modgap.errors import CodeError
from modgap.robustness.code_search import leaders_under
from modgap.robustness.integral import candidate_win_probability, win_probability
from modgap.robustness.noise import Code, Gaussian, Noise, RandomNoise
from modgap.robustness.sampling import Sampled, sample_before, sample_decisions, stored_on
from modgap.robustness.systems import Origin, System, equivalent

__all__ = ["RECALL_AT", "Outcome", "kept_of", "outcomes", "stability"]

#: Depths at which the items found are compared with the exact ones.
RECALL_AT = (1, 10, 100)


@dataclass(frozen=True)
class Outcome:
    """What one noise does to the decisions of one system, query by query.

    Attributes
    ----------
    noise : Noise
    stability : ndarray (m,)
        P(decision under noise = the same system's noise-free decision).
    retention : ndarray (m,)
        P(decision under noise = the noise-free decision before closing).
    accuracy : ndarray (m,) or None
        P(decision under noise is right); None without labels.
    stderr : float
        Standard error of the mean stability that sampling the noise leaves: 0 for the exact integral
        and for codecs. It does not hold the error of having drawn these queries and no others.
    estimator : str
        "exact", "monte carlo (N draws)", or "deterministic".
    recall : dict of str to ndarray (m,), or None
        For each k, the share of the exact k nearest items before closing that are among the k nearest
        under a code: what an index is judged by. None for random noise, and where it was not asked for.
    failed : str or None
        One sentence where a code could not store such rows: stability and retention are NaN then, what
        else there may be is None.
    """

    noise: Noise
    stability: np.ndarray
    retention: np.ndarray
    accuracy: np.ndarray | None
    stderr: float
    estimator: str
    recall: dict[str, np.ndarray] | None = None
    failed: str | None = None


def stability(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    noise: Noise,
    *,
    metric: str | None = None,
    closure: Closure | None = None,
    labels: np.ndarray | None = None,
    draws: int = 100,
    seed: int = 0,
) -> Outcome:
    """Return what a noise does to the decisions, after a closure if one is given.

    Gaussian noise on the gallery is integrated exactly under Euclidean distance and inner product,
    before an exact map too by inner product; other random noise is sampled; codecs are applied.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    noise : Noise
    metric : {"cosine", "ip", "euclidean"}, optional
        By default the one that the closure was fitted for, which it must be; cosine without one.
    closure : Closure, optional
    labels : array (m,), integers, optional
        The right gallery row of each query, for the noisy accuracy.
    draws, seed : int
        For sampled noise.

    Raises
    ------
    ArgumentError, ClosureError, DataError, ShapeError
        Options out of range, a closure of another metric or width, clouds that do not fit.
    CodeError
        A code cannot store such rows.

    Examples
    --------
    >>> import numpy as np
    >>> outcome = stability(np.array([[1.0, 0.0]]), np.eye(2), Gaussian(0.5), metric="ip")
    >>> outcome.estimator, outcome.stability.round(4).tolist()
    ('exact', [0.9214])
    """
    from modgap._core.checks import check_indices

    if metric is None:
        metric = COSINE if closure is None else closure.metric
    metric = as_metric(metric)
    check_count(draws, "draws")
    check_count(seed, "seed", low=0)
    queries, gallery = check_clouds(queries, gallery, zero_rows=not metric.needs_directions)
    positives = None
    if labels is not None:
        rows, items = queries.shape[0], gallery.shape[0]
        positives = check_indices(labels, "labels", rows=rows, below=items)[:, None]
    before = System(queries, gallery, metric)
    system = before
    if closure is not None:
        closure.check_metric(metric)
        system = System(
            closure.apply_queries(queries),
            closure.apply_gallery(gallery),
            closure.comparison,
            Origin(metric, ((gallery, closure.gallery),)),
        )
    decided = before.decisions
    found = outcomes([system], [decided], positives, [noise], draws=draws, seed=seed)[0][0]
    if found.failed is not None:
        raise CodeError(found.failed)
    return found


def kept_of(truth: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """Return, for each k of `RECALL_AT`, the share of the first k of `truth` among the first k found.

    Parameters
    ----------
    truth, found : ndarray (m, K), integers
        Items of each query, the nearest first; each k <= K is counted.

    Examples
    --------
    >>> kept_of(np.array([[3, 1]]), np.array([[1, 3]]))
    {'1': array([0.])}
    """
    kept = {}
    for k in (depth for depth in RECALL_AT if depth <= truth.shape[1]):
        both = np.sort(np.hstack([truth[:, :k], found[:, :k]]), axis=1)
        common = (both[:, 1:] == both[:, :-1]).sum(axis=1)  # none stands twice in one list
        kept[str(k)] = common / k
    return kept


def outcomes(
    systems: Sequence[System],
    before: Sequence[np.ndarray],
    positives: np.ndarray | None,
    noises: Sequence[Noise],
    *,
    truth: np.ndarray | None = None,
    draws: int = 100,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[list[Outcome]]:
    """Return one Outcome per system and noise, sharing all work that a sweep can share.

    A code that cannot store the rows of a system ends nothing: its outcome there says why.

    Parameters
    ----------
    systems : sequence of System
    before : sequence of ndarray (m,)
        Per system, the noise-free decisions before closing.
    positives : ndarray (m, k) or None
        Right items per query, -1 for none.
    noises : sequence of Noise
    truth : ndarray (m, k), optional
        The exact k nearest items before closing, whose recall under codes is asked for.
    """
    targets = []
    for system, first in zip(systems, before, strict=True):
        columns = [system.decisions[:, None], first[:, None]]
        targets.append(np.hstack([*columns, *([] if positives is None else [positives])]))
    table: list[list[Outcome | None]] = [[None] * len(noises) for _ in systems]
    for kind, members in _by_kind(noises).items():
        chosen = [noises[j] for j in members]
        for i, j, outcome in _solve_kind(
            kind, systems, targets, chosen, truth, draws, seed, progress
        ):
            table[i][members[j]] = outcome
    return [[outcome for outcome in row if outcome is not None] for row in table]


def _by_kind(noises: Sequence[Noise]) -> dict[str, list[int]]:
    """Group noises that one pass serves: random ones by law and side, codecs one by one."""
    kinds: dict[str, list[int]] = {}
    for j, noise in enumerate(noises):
        name = f"codec {j}"
        if isinstance(noise, RandomNoise):
            name = f"{type(noise).__name__}@{noise.side}{':before' if noise.before else ''}"
        kinds.setdefault(name, []).append(j)
    return kinds


def _solve_kind(
    kind: str,
    systems: Sequence[System],
    targets: list[np.ndarray],
    noises: Sequence[Noise],
    truth: np.ndarray | None,
    draws: int,
    seed: int,
    progress: Callable[[int], None] | None,
) -> list[tuple[int, int, Outcome]]:
    if kind.startswith("codec"):
        (code,) = (noise for noise in noises if isinstance(noise, Code))
        coded = leaders_under(code, systems, 1 if truth is None else truth.shape[1])
        return [
            (i, 0, _decoded(code, leaders, targets[i], truth)) for i, leaders in enumerate(coded)
        ]
    random = [noise for noise in noises if isinstance(noise, RandomNoise)]
    name = f"monte carlo ({draws} draws)"
    options: dict[str, Any] = {"draws": draws, "seed": seed, "progress": progress}
    found: list[tuple[int, int, Outcome]] = []
    sampled: list[tuple[int, System, list[float]]] = []
    for i, system in enumerate(systems):
        same = _disturbed(system, random)
        if same is None:
            sizes = [noise.size_on(_before(system)) for noise in random]
            for j, (noise, size) in enumerate(zip(random, sizes, strict=True)):
                one = sample_before(system, targets[i], noise, size, **options)
                found.append((i, j, _sampled(noise, one, name)))
        elif _is_integrable(random[0]) and not system.comparison.needs_directions:
            found += [(i, j, o) for j, o in enumerate(_exact(*same, targets[i], random))]
        else:
            sampled.append((i, *same))
    if sampled:
        places, moved, sizes_of = zip(*sampled, strict=True)
        mine = [targets[i] for i in places]
        results = sample_decisions(moved, mine, random, sizes=sizes_of, **options)
        for i, row in zip(places, results, strict=True):
            found += [(i, j, _sampled(random[j], one, name)) for j, one in enumerate(row)]
    return found


def _disturbed(system: System, noises: Sequence[RandomNoise]) -> tuple[System, list[float]] | None:
    """Return a system whose stored rows the noises act on, and the size of each on it.

    None where they act before a map that no such system stands for.
    """
    if not noises[0].before:
        return system, [noise.size_on(stored_on(system, noise)) for noise in noises]
    same = equivalent(system)
    if same is None:
        return None
    return same[0], [same[1] * noise.size_on(_before(system)) for noise in noises]


def _before(system: System) -> Array:
    """Return the rows that noise before the map acts on, none of them padding."""
    if system.origin is None:
        return system.comparison.prepare(system.stored_rows)
    parts = [rows for rows, _ in system.origin.parts]
    if system.present is not None:
        parts = [present_rows(rows, system.present) for rows in parts]
    return parts[0] if len(parts) == 1 else namespace(parts[0]).concat(parts, axis=0)


def _is_integrable(noise: RandomNoise) -> bool:
    return isinstance(noise, Gaussian) and noise.side == "gallery"


def _sampled(noise: Noise, one: Sampled, estimator: str) -> Outcome:
    return _outcome(noise, one.wins, one.stderr, estimator)


def _outcome(noise: Noise, wins: np.ndarray, stderr: float, estimator: str) -> Outcome:
    accuracy = wins[:, 2:].sum(axis=1) if wins.shape[1] > 2 else None
    return Outcome(noise, wins[:, 0], wins[:, 1], accuracy, stderr, estimator)


def _exact(
    system: System, sizes: list[float], targets: np.ndarray, noises: Sequence[Noise]
) -> list[Outcome]:
    asked = system.queries, system.gallery, targets, sizes
    if system.own_candidates:
        wins = to_numpy(
            candidate_win_probability(*asked, metric=system.comparison, present=system.present)
        )
    else:
        wins = to_numpy(win_probability(*asked, metric=system.comparison))
    return [_outcome(noise, wins[j], 0.0, "exact") for j, noise in enumerate(noises)]


def _decoded(
    code: Code, leaders: np.ndarray | CodeError, targets: np.ndarray, truth: np.ndarray | None
) -> Outcome:
    if isinstance(leaders, CodeError):
        nothing = np.full((targets.shape[0], 2), np.nan)
        return replace(_outcome(code, nothing, np.nan, "deterministic"), failed=str(leaders))
    wins = (leaders[:, :1] == targets).astype(float)
    recall = None if truth is None else kept_of(truth, leaders)
    return replace(_outcome(code, wins, 0.0, "deterministic"), recall=recall)
