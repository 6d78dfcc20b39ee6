"""Statements on balancing: the least noise, equal second moments, the best few coordinates, bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from modgap.closers._transport import (
    SecondMoments,
    spectrum_of,
    transport,
    water_filling,
)
from modgap.measures.bits import gap_in_bits
from modgap.paper.verifying.ground import Ground
from modgap.paper.verifying.observing import has_no_spread
from modgap.paper.verifying.record import BALANCED, Check, absent, checked

__all__ = ["checks"]

#: Rows of each cloud whose scores are all made; directions of a search.
_ROWS, _DIRECTIONS = 600, 3
#: Draws of noise at a time, and products that all of them may take.
_AT_ONCE, _PRODUCTS = 500, 1_000_000_000
_NAMES = {
    "The least noise": "no map that keeps every score has less noise in them than F(C, S)^2; one has that",
    "Equal second moments": "balanced to the second moments at hand, both clouds have the same ones",
    "Noise of scores": "relative noise moves scores by rho^2/d tr(A C A^T) tr(A^-T S A^-1) in mean square",
    "The gap in bits": "noise in proportion to what is stored costs b bits a coordinate until balanced",
    "The gap in bits, a range each": "noise in proportion to each variance costs b bits until balanced",
    "Fewer coordinates": "the best k coordinates lose the other sigma_i^2 of the scores' mean square",
    "Rate-distortion": "no way to spend bits on directions has a smaller error than water-filling",
    "Any loss": "whatever loss each query has of its noise, the best map is balanced for some weights",
}  # fmt: skip


def checks(ground: Ground) -> Iterator[Check]:
    """Yield every statement on balancing; by distance those of inner products do not apply."""
    why = ""
    if ground.metric.is_distance:
        why = "by Euclidean distance rows are lifted first; look by inner product or cosine"
    elif has_no_spread(ground.x):
        why = "all items are equal, or nearly so"
    elif ground.rank == 0 or float(np.abs(ground.y @ ground.axes).max()) == 0:
        why = "the queries have no part along the gallery's directions"
    if why:
        for name, statement in _NAMES.items():
            yield absent(name, statement, BALANCED, why)
        return
    scores = _Scores.of(ground)
    yield _least_noise(scores, ground)
    yield _equal_moments(scores)
    yield _noise(scores, ground)
    yield from _bits(scores, ground)
    yield _fewer(scores)
    yield _rate_distortion(scores)
    yield _any_loss(scores, ground)


@dataclass(frozen=True)
class _Scores:
    """Both clouds in the gallery's principal coordinates, about its mean: queries (m, r), items (n, r)."""

    queries: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, ground: Ground) -> _Scores:
        items = (ground.x - ground.x.mean(axis=0)) @ ground.axes
        return cls(ground.y @ ground.axes, items)

    @property
    def second(self) -> np.ndarray:
        """S = E[y y^T]."""
        return np.asarray(self.queries.T @ self.queries / len(self.queries))

    @property
    def variances(self) -> np.ndarray:
        """Of the items, along coordinates that are uncorrelated."""
        return np.asarray(np.mean(self.items**2, axis=0))

    @property
    def spectrum(self) -> np.ndarray:
        """sigma_i."""
        return spectrum_of(self.variances, self.second)

    def leading(self, k: int) -> _Scores:
        """Return both clouds along the gallery's first k directions."""
        return _Scores(self.queries[:, :k], self.items[:, :k])

    def unshrunk(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the balancing maps of items and queries, or None where the queries span too little."""
        if self.spectrum[-1] <= 1e-6 * self.spectrum[0]:
            return None
        moments = SecondMoments(self.second, len(self.queries))
        found = transport(self.variances, moments, gallery_shrinkage=0.0, query_shrinkage=0.0)
        return found.coordinates(len(self.variances))


def _well_known(scores: _Scores) -> _Scores:
    """Return both clouds along directions that so many queries tell: maps without shrinkage need them."""
    return scores.leading(max(1, min(scores.items.shape[1], len(scores.queries) // 4)))


_TOO_FEW = (
    "the queries hardly reach some directions: no invertible map balances them without shrinkage"
)


def _least_noise(scores: _Scores, ground: Ground) -> Check:
    """Search for a better map among all matrices, in the leading directions."""
    name, k = "The least noise", min(_DIRECTIONS, len(scores.variances))
    c, s = np.diag(scores.variances[:k]), scores.second[:k, :k]
    fidelity = float(np.sum(spectrum_of(np.diagonal(c), s)))

    def noise(entries: np.ndarray) -> float:
        a = entries.reshape(k, k)
        try:
            back = np.linalg.inv(a)
        except np.linalg.LinAlgError:
            return np.inf
        return float(np.log(np.trace(a @ c @ a.T)) + np.log(np.trace(back.T @ s @ back)))

    best = _searched(noise, k * k, ground, stream=2)
    return checked(
        name,
        _NAMES[name],
        BALANCED,
        prediction=fidelity**2,
        observation=float(np.exp(best)),
        tolerance=1e-5 * fidelity**2,
        reason="how near a search by numerical slopes comes to a minimum",
        observed_by=f"a search over all {k} x {k} matrices from six starts, in the leading directions",
    )


def _searched(
    loss: Callable[[np.ndarray], float], size: int, ground: Ground, *, stream: int
) -> float:
    """Return the least value of a loss that a search from several starts finds."""
    side = round(size**0.5)
    rng = ground.rng(stream)
    starts = [(np.eye(side) + 0.3 * rng.normal(size=(side, side))).ravel() for _ in range(6)]
    return min(float(minimize(loss, start, method="BFGS").fun) for start in starts)


def _equal_moments(scores: _Scores) -> Check:
    name, scores = "Equal second moments", _well_known(scores)
    maps = scores.unshrunk()
    if maps is None:
        return absent(name, _NAMES[name], BALANCED, _TOO_FEW)
    items, queries = scores.items @ maps[0], scores.queries @ maps[1]
    own = np.cov(items, rowvar=False, bias=True).reshape(items.shape[1], -1)
    theirs = np.einsum("ni,nj->ij", queries, queries) / len(queries)
    size = float(np.linalg.norm(own))
    return checked(
        name,
        _NAMES[name],
        BALANCED,
        prediction=1.0,
        observation=float(np.linalg.norm(theirs)) / size,
        residual=float(np.linalg.norm(own - theirs)) / size,
        tolerance=1e-6,
        reason="rounding, times the condition of the maps; the residual is that of the whole matrices",
        observed_by="covariance of mapped items against second moments of mapped queries, along the "
        f"gallery's first {items.shape[1]} directions",
    )


def _noise(scores: _Scores, ground: Ground) -> Check:
    """Measure the noise of scores for a map of no particular merit."""
    name = "Noise of scores"
    r = len(scores.variances)
    turn = np.linalg.qr(ground.rng(3).normal(size=(r, r)))[0] * np.geomspace(0.5, 2.0, r)
    stored, asked = scores.items @ turn, scores.queries @ np.linalg.inv(turn).T
    power = float(np.mean(np.sum(stored**2, axis=1)))
    seen, error = _moved(asked, power / r, ground, stream=4)
    c, back = np.diag(scores.variances), np.linalg.inv(turn)
    said = np.trace(turn.T @ c @ turn) * np.trace(back @ scores.second @ back.T) / r
    return checked(
        name,
        _NAMES[name],
        BALANCED,
        prediction=said,
        observation=seen,
        tolerance=4.0 * error,
        reason=f"four standard errors of {_draws(asked)} draws",
        observed_by="noise drawn and added to rows mapped by a random matrix; rho = 1",
    )


def _moved(
    asked: np.ndarray, variance: float | np.ndarray, ground: Ground, *, stream: int
) -> tuple[float, float]:
    """Return the mean square by which noise on a stored row moves scores, and its standard error."""
    rng, each = ground.rng(stream), []
    for _ in range(_draws(asked) // _AT_ONCE):
        noise = np.sqrt(variance) * rng.normal(size=(_AT_ONCE, asked.shape[1]))
        each.append(np.mean((noise @ asked.T) ** 2, axis=1))
    moved = np.concatenate(each)
    return float(moved.mean()), float(moved.std(ddof=1)) / math.sqrt(len(moved))


def _draws(asked: np.ndarray) -> int:
    """Return how many draws can be afforded."""
    return _AT_ONCE * int(np.clip(_PRODUCTS // (asked.size * _AT_ONCE), 4, 32))


def _bits(scores: _Scores, ground: Ground) -> Iterator[Check]:
    """Check what the gap costs codes with one range for all coordinates, and with a range for each."""
    names, scores = ("The gap in bits", "The gap in bits, a range each"), _well_known(scores)
    maps = scores.unshrunk()
    if maps is None or len(ground.y) < 4:
        for name in names:
            yield absent(name, _NAMES[name], BALANCED, _TOO_FEW)
        return
    k = scores.items.shape[1]
    basis = _with_mean(ground, k)
    stored, asked = ground.x @ basis, ground.y @ basis
    said = gap_in_bits(asked, stored, metric="ip", sample=4)
    width = basis.shape[1]
    power, closed = (
        float(np.mean(np.sum(rows**2, axis=1))) / width for rows in (stored, scores.items @ maps[0])
    )
    after = _moved(scores.queries @ maps[1], closed, ground, stream=6)
    one, each = (
        _moved(asked, variances, ground, stream=stream)
        for stream, variances in ((5, np.full(width, power)), (9, stored.var(axis=0)))
    )
    costs = (said.one_range.cost, said.range_per_dimension.cost)
    for name, cost, before in zip(names, costs, (one, each), strict=True):
        error = np.hypot(before[1] / before[0], after[1] / after[0]) / (2 * np.log(2))
        yield checked(
            name,
            _NAMES[name],
            BALANCED,
            prediction=cost,
            observation=0.5 * np.log2(before[0] / after[0]),
            tolerance=4.0 * float(error),
            reason=f"four standard errors of {_draws(asked)} draws before and after",
            observed_by="noise in proportion to the stored rows, drawn and added, before and after, along "
            f"the gallery's mean and its first {k} directions",
        )


def _with_mean(ground: Ground, k: int) -> np.ndarray:
    """Return the gallery's first k directions, and that of what its mean has outside of its span."""
    mean = ground.x.mean(axis=0)
    rest = ground.outside(mean)
    length = float(np.linalg.norm(rest))
    if length <= 1e-9 * float(np.linalg.norm(mean)):
        return ground.axes[:, :k]
    return np.column_stack([ground.axes[:, :k], rest / length])


def _fewer(scores: _Scores) -> Check:
    name = "Fewer coordinates"
    part = _Scores(scores.queries[:_ROWS], scores.items[:_ROWS])
    items = part.items - part.items.mean(axis=0)
    values, turn = np.linalg.eigh(items.T @ items / len(items))
    part = _Scores(part.queries @ turn, items @ turn)
    k = max(len(values) // 4, 1)
    table = part.queries @ part.items.T / np.sqrt(len(part.queries) * len(part.items))
    lost = np.linalg.svd(table, compute_uv=False)[k:]
    said = float(np.sum(part.spectrum[k:] ** 2))
    return checked(
        name,
        _NAMES[name],
        BALANCED,
        prediction=said,
        observation=float(np.sum(lost**2)),
        tolerance=1e-9 * float(np.sum(table**2)),
        reason="rounding of float64 against the scores' mean square",
        observed_by=f"the best rank-{k} table of {table.shape[0]} x {table.shape[1]} scores by NumPy's SVD",
    )


def _rate_distortion(scores: _Scores) -> Check:
    """Let a general optimiser spend the bits on eight of the directions."""
    name, bits = "Rate-distortion", 1.0
    spread = scores.spectrum[np.linspace(0, len(scores.spectrum) - 1, 8).astype(int)]
    spread = spread[spread > 0] / spread[0]
    budget = bits * len(spread)

    def error(rates: np.ndarray) -> float:
        return float(np.sum(spread**2 * 4.0**-rates))

    found = minimize(
        error,
        np.full(len(spread), bits),
        method="SLSQP",
        bounds=[(0.0, None)] * len(spread),
        constraints={"type": "eq", "fun": lambda rates: np.sum(rates) - budget},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    said = water_filling(spread, bits)
    return checked(
        name,
        _NAMES[name],
        BALANCED,
        prediction=said,
        observation=float(found.fun),
        tolerance=1e-5 * float(np.sum(spread**2)),
        reason="how near an optimiser comes to a minimum",
        observed_by=f"SciPy's SLSQP spending {budget:g} bits on {len(spread)} directions of the data",
    )


def _any_loss(scores: _Scores, ground: Ground) -> Check:
    """Search for the least mean logarithm of each query's own noise, and weigh queries by its slope."""
    name, k = "Any loss", min(_DIRECTIONS, len(scores.variances))
    c, asked = np.diag(scores.variances[:k]), scores.queries[:_ROWS, :k]
    asked = asked[np.linalg.norm(asked, axis=1) > 1e-6 * np.linalg.norm(asked, axis=1).max()]
    if len(asked) < 4 * k:
        return absent(name, _NAMES[name], BALANCED, f"fewer than {4 * k} queries")

    def loss(back: np.ndarray) -> float:
        """Mean log of the noise of each query under the map whose inverse transpose maps queries."""
        try:
            a = np.linalg.inv(back).T
        except np.linalg.LinAlgError:
            return np.inf
        own = np.einsum("ij,ij->i", asked @ back.T, asked @ back.T)
        return float(np.log(np.trace(a @ c @ a.T)) + np.mean(np.log(own)))

    weights = np.full(len(asked), 1.0 / len(asked))
    for _ in range(500):
        weighted = asked.T @ (weights[:, None] * asked)
        fitted = transport(
            np.diagonal(c),
            SecondMoments(weighted, len(asked)),
            gallery_shrinkage=0.0,
            query_shrinkage=0.0,
        )
        back = fitted.coordinates(k)[1].T
        own = np.einsum("ij,ij->i", asked @ back.T, asked @ back.T)
        fresh = 1.0 / own  # the slope of log
        fresh /= fresh.sum()
        if np.abs(fresh - weights).max() < 1e-13:
            break
        weights = 0.5 * (weights + fresh)
    best = _searched(lambda entries: loss(entries.reshape(k, k)), k * k, ground, stream=7)
    return checked(
        name,
        _NAMES[name],
        BALANCED,
        prediction=loss(back),
        observation=best,
        tolerance=1e-4,
        reason="how near a search by numerical slopes, and the weights' fixed point, come to a minimum",
        observed_by=f"a search over all {k} x {k} maps for the least mean logarithm of each query's noise",
    )
