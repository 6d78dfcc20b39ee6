"""Statements on decisions: what moves none of them, and which queries keep theirs under noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lstsq
from scipy.stats import binom

from modgap.decisions.metric import EUCLIDEAN, INNER_PRODUCT, Metric
from modgap.errors import DataError
from modgap.paper import theory
from modgap.paper.theory._tasks import INTEGRAL_ERROR
from modgap.paper.verifying.ground import Ground
from modgap.paper.verifying.observing import (
    changed_decisions,
    item_scores,
    sampled_hits,
    score_rounding,
)
from modgap.paper.verifying.record import PAPER, THEORY, Check, absent, checked
from modgap.robustness.integral import win_probability

__all__ = ["checks"]

#: Queries whose decisions are sampled, and random numbers that all draws may take.
_QUERIES, _NUMBERS = 20, 30_000_000
#: Chance that any of all the comparisons of a check is called a rise where there is none.
_LEVEL = 1e-4
#: Draws that must differ for their spread to be known.
_RARE = 25
_HEIGHTS, _ALPHAS = (0.0, 0.5, 1.0, 2.0), (0.0, 0.5, 1.0)
_FULL = "the gallery spans all {0} dimensions (r = d): nothing of the gap is outside its span"
_DISTANCES = "SciPy's squared distances before and after"
_COUNTED = "a count: any decision beyond a tie is one too many"


def checks(ground: Ground) -> Iterator[Check]:
    """Yield every statement on decisions."""
    yield _assumption(ground)
    yield _rank_limit(ground)
    yield from _margins(ground)
    yield from _kept(ground)
    yield from _under_noise(ground)
    yield _scaling(ground)


def _free(ground: Ground) -> np.ndarray:
    """Return g', the part of the gap outside the gallery's span."""
    return ground.outside(ground.gap)


def _nothing_outside(ground: Ground) -> str:
    """Return why g' cannot be moved along, or nothing."""
    if ground.rank >= ground.width:
        return _FULL.format(ground.width)
    size = float(np.linalg.norm(ground.gap))
    if float(np.linalg.norm(_free(ground))) <= 1e-9 * max(size, 1e-300):
        return "no part of the gap lies outside the gallery's span"
    return ""


def _assumption(ground: Ground) -> Check:
    """Check what the paper assumes, and what it would be good for: closing the whole gap for free."""
    name = "Assumption 3.3"
    statement = "where the gap is orthogonal to both clouds, all of it can be closed for free"
    gap = ground.gap
    length = float(np.linalg.norm(gap))
    ratios = []
    for rows in (ground.y, ground.x):
        centred = rows - rows.mean(axis=0)
        average = float(np.mean(centred**2))
        ratios.append(
            float(np.mean((centred @ gap / length) ** 2)) / average if length * average > 0 else 0.0
        )
    if length == 0:
        return absent(name, statement, PAPER, "the two means coincide: there is no gap")
    if max(ratios) > 1e-9:
        return absent(
            name,
            statement,
            PAPER,
            f"the assumption does not hold here: along the gap queries vary {ratios[0]:.2f} times as "
            f"much as along an average direction, items {ratios[1]:.2f} times; nothing else here needs it",
        )
    before = item_scores(ground.y, ground.x, EUCLIDEAN)
    return checked(
        name,
        statement,
        PAPER,
        prediction=0.0,
        observation=changed_decisions(
            before,
            item_scores(ground.y, ground.x + gap, EUCLIDEAN),
            score_rounding(ground.y, ground.x),
        ),
        tolerance=0.0,
        reason=_COUNTED,
        observed_by="the nearest of all items by SciPy's distances",
    )


def _rank_limit(ground: Ground) -> Check:
    differences = (ground.x[1:] - ground.x[0]).T
    size = float(np.linalg.norm(ground.gap))
    near = differences @ lstsq(differences, ground.gap)[0]
    return checked(
        "The rank limit",
        "the part of the gap that can be closed for free is what the gallery's directions leave of it",
        THEORY,
        prediction=float(np.linalg.norm(_free(ground))) / size if size else 0.0,
        observation=float(np.linalg.norm(ground.gap - near)) / size if size else 0.0,
        tolerance=1e-6,
        reason="rounding, times the condition of the directions",
        observed_by="SciPy's least squares: how near the gallery's differences come to the gap",
    )


def _margins(ground: Ground) -> Iterator[Check]:
    """Check what a move of the gallery does to differences of squared distances."""
    statement = "moving the gallery by g' changes no difference of two squared distances"
    why = _nothing_outside(ground)
    before = -2.0 * item_scores(ground.few, ground.x, EUCLIDEAN)
    if why:
        yield absent("Theorem 3.5", statement, PAPER, why)
    else:
        yield _margin_check(ground, "Theorem 3.5", statement, PAPER, before, _free(ground))
    statement = (
        "moving it by any v changes the most changed one by 2 (max v.x - min v.x), here for v = g"
    )
    yield _margin_check(ground, "Theorem 3.5, any direction", statement, THEORY, before, ground.gap)


def _margin_check(
    ground: Ground, name: str, statement: str, source: str, before: np.ndarray, move: np.ndarray
) -> Check:
    found = theory.decision_invariance(ground.few, ground.x, move)
    change = -2.0 * item_scores(ground.few, ground.x + move, EUCLIDEAN) - before
    return checked(
        name,
        statement,
        source,
        prediction=0.0 if source == PAPER else found.predicted_change,
        observation=float(np.max(np.ptp(change, axis=1))),
        tolerance=8.0 * found.rounding,
        reason="what float64 leaves of g' and of squared distances this large",
        observed_by=_DISTANCES,
    )


def _kept(ground: Ground) -> Iterator[Check]:
    """Check the decisions themselves: clean, under noise on the queries, and after renormalising."""
    free, why, tie = _free(ground), _nothing_outside(ground), score_rounding(ground.y, ground.x)
    rows = {
        "Theorem 3.5, decisions": ("moving the gallery by g' changes no decision", PAPER),
        "Noise on the queries": (
            "nor does it under noise on the queries, query by query with the same noise",
            THEORY,
        ),
        "Renormalising": (
            "of items of one length, scaled to unit length after the move, the nearest stays",
            THEORY,
        ),
    }
    lengths = np.linalg.norm(ground.x, axis=1)
    one_length = float(np.ptp(lengths)) <= 1e-6 * float(lengths.max())
    noise = ground.sigma * ground.rng(1).normal(size=ground.y.shape)
    for name, (statement, source) in rows.items():
        reason = why
        if not why and name == "Renormalising" and not one_length:
            reason = "the items have several lengths; unit rows, as by cosine, have one"
        if reason:
            yield absent(name, statement, source, reason)
            continue
        queries = ground.y + noise if name.startswith("Noise") else ground.y
        moved, slack = ground.x + free, tie
        if name == "Renormalising":
            moved = moved / np.linalg.norm(moved, axis=1, keepdims=True)
            slack += float(lengths.max() * np.ptp(lengths))  # of lengths that were rounded to one
        before = item_scores(queries, ground.x, EUCLIDEAN)
        after = item_scores(queries, moved, EUCLIDEAN)
        yield checked(
            name,
            statement,
            source,
            prediction=0.0,
            observation=changed_decisions(before, after, slack),
            tolerance=0.0,
            reason=_COUNTED,
            observed_by="the nearest of all items by SciPy's distances",
        )


@dataclass(frozen=True)
class _Places:
    """Where queries stand: as they are, at several heights above the gallery's span, and moved along g'."""

    metric: Metric
    word: str
    queries: np.ndarray
    heights: list[np.ndarray]
    moves: list[np.ndarray]
    middle: np.ndarray

    @classmethod
    def of(cls, ground: Ground, metric: Metric, word: str) -> _Places:
        queries = ground.y[:_QUERIES]
        middle = ground.x.mean(axis=0) if metric.is_distance else np.zeros(ground.width)
        outside = ground.outside(queries - middle)
        step = ground.outside(ground.y.mean(axis=0) - middle)
        heights = [queries - outside + h * outside for h in _HEIGHTS]
        return cls(metric, word, queries, heights, [queries - a * step for a in _ALPHAS], middle)

    def distances(self, ground: Ground, places: list[np.ndarray]) -> np.ndarray:
        """Return how far the queries lie from the gallery's span at each place, (places, m)."""
        away = [np.linalg.norm(ground.outside(place - self.middle), axis=1) for place in places]
        return np.stack(away)


def _under_noise(ground: Ground) -> Iterator[Check]:
    """Check the stability of the same decisions at several places, sampled with the same noise."""
    both = [
        _Places.of(ground, metric, word)
        for metric, word in ((EUCLIDEAN, "Euclidean"), (INNER_PRODUCT, "inner product"))
    ]
    hits = sampled_hits(
        [([*each.moves, *each.heights], each.metric) for each in both],
        ground.x,
        ground.sigma,
        draws=_draws(ground),
        rng=ground.rng(8),
    )
    for each, found in zip(both, hits, strict=True):
        yield _integral(ground, each, found[:, 0])
        cut = len(each.moves)
        yield _ordered(
            f"Theorem 3.4, {each.word}",
            "along g' a query's decision gets steadier where its distance to the gallery's span falls, and "
            "the other way about",
            PAPER,
            ground,
            each.distances(ground, each.moves),
            found[:, :cut],
        )
        yield _ordered(
            f"The projection, {each.word}",
            "of all maps that keep the margins the projection onto the gallery's span is the steadiest",
            THEORY,
            ground,
            each.distances(ground, each.heights),
            found[:, cut:],
        )


def _draws(ground: Ground) -> int:
    """Return how many draws of a whole gallery's noise can be afforded."""
    return int(np.clip(_NUMBERS // ground.x.size, 50, ground.draws))


def _integral(ground: Ground, places: _Places, hits: np.ndarray) -> Check:
    targets = item_scores(places.queries, ground.x, places.metric).argmax(axis=1)
    said = win_probability(places.queries, ground.x, targets, [ground.sigma], metric=places.metric)
    means, share = hits.mean(axis=1), float(np.mean(said))
    error = float(means.std(ddof=1)) / math.sqrt(len(means))
    rare = min(share, 1.0 - share) * len(means) < _RARE
    if rare:  # too few draws differ to show how much queries fall together: as if all did
        error = math.sqrt(max(share * (1.0 - share), 1.0 / len(means)) / len(means))
    return checked(
        f"Stability, {places.word}",
        "the exact integral is the probability that a decision survives noise on the gallery",
        THEORY,
        prediction=share,
        observation=float(means.mean()),
        tolerance=4.0 * error + INTEGRAL_ERROR,
        reason=f"four standard errors of {len(means)} draws over {len(targets)} queries"
        + (", as if all fell together, since few do" if rare else ""),
        observed_by=f"{len(means)} draws of the gallery's noise",
    )


def _ordered(
    name: str,
    statement: str,
    source: str,
    ground: Ground,
    distances: np.ndarray,
    hits: np.ndarray,
) -> Check:
    """Count the queries that get steadier where their distance rises, or less steady where it falls."""
    if ground.rank >= ground.width:
        return absent(name, statement, source, _FULL.format(ground.width))
    steps = np.diff(distances, axis=0)
    moved = np.abs(steps) > 1e-9 * distances.max()
    later, sooner = hits[:, 1:], hits[:, :-1]
    gains, losses = np.sum(later & ~sooner, axis=0), np.sum(sooner & ~later, axis=0)
    against = np.where(steps > 0, gains, losses)
    chance = binom.sf(against - 1, gains + losses, 0.5)
    level = _LEVEL / max(chance.size, 1)
    return checked(
        name,
        statement,
        source,
        prediction=0.0,
        observation=int(np.count_nonzero(moved & (chance < level))),
        tolerance=0.0,
        reason=f"a count of steps against the prediction beyond chance, {_LEVEL:g} for all of "
        f"{chance.size} together",
        observed_by=f"{len(hits)} draws, the same noise before and after each step; exact sign test",
    )


def _scaling(ground: Ground) -> Check:
    name = "Beyond the projection"
    statement = (
        "scaling the projected queries about the centre of the gallery's sphere changes no decision"
    )
    try:
        found = theory.scaling_stability(ground.y[:2], ground.x, ground.sigma, scales=(1.0,))
    except DataError:
        return absent(name, statement, THEORY, "the items lie on no common sphere; unit rows do")
    middle = ground.x.mean(axis=0)
    inside = middle + (ground.y - middle) @ ground.axes @ ground.axes.T
    before = item_scores(ground.y, ground.x, EUCLIDEAN)
    # what a sphere that is one up to rounding moves a score by, at each scale
    off = 2.0 * found.radius**2 * found.radius_spread
    changed = [
        changed_decisions(
            before,
            item_scores(found.center + scale * (inside - found.center), ground.x, EUCLIDEAN),
            score_rounding(ground.y, ground.x) + off * abs(1.0 / scale - 1.0),
        )
        for scale in (0.5, 4.0)
    ]
    return checked(
        name,
        statement,
        THEORY,
        prediction=0.0,
        observation=max(changed),
        tolerance=0.0,
        reason=_COUNTED,
        observed_by="the nearest of all items by SciPy's distances, at half and at four times the length",
    )
