"""The gap in bits: how many bits a coordinate a stored code loses to it, before any experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modgap._core.arrays import Array, Float, to_numpy
from modgap._core.checks import check_count, check_number
from modgap._core.clouds import Cloud
from modgap._core.json import plain
from modgap._core.memory import halving
from modgap._core.opening import open_clouds
from modgap.closers._transport import (
    FOLDS,
    SecondMoments,
    spectrum_of,
    transport,
    water_filling,
)
from modgap.closers.balanced import GALLERY_SHRINKAGE
from modgap.decisions.metric import Metric, as_metric
from modgap.errors import DataError, ShapeError
from modgap.measures._scores import Scores, scores_of

__all__ = ["CodeBits", "CodeNoise", "GapInBits", "bits_of_clouds", "gap_in_bits"]

#: Mean squared error of the best uniform code of a normal coordinate of variance 1, by bits (Max, 1960).
UNIFORM_NOISE = (1.0, 0.3634, 0.1188, 0.03744, 0.01154, 0.003495, 0.00104, 0.0003043, 0.00008769)
#: Queries below which half of them say nothing of the other half.
FEWEST = 4
ESTIMATOR = (
    "balanced fitted on a random half of the queries, reached on the other half, both ways, and the mean "
    "taken; standard error by the delta method over the queries"
)


@dataclass(frozen=True)
class CodeBits:
    """Bits a coordinate that the gap costs one kind of code.

    Attributes
    ----------
    cost : float
        means + shapes: what balancing would win if the second moments were those of the queries at
        hand. They are known from so many queries only, which makes it too high in the mean, the more
        so the fewer they are.
    means : float
        The part that subtracting the gallery's mean wins, >= 0.
    shapes : float
        The part that is left then, because the second moments of the two clouds differ; >= 0 by inner
        product and cosine. By Euclidean distance it holds what comparing by distance costs too.
    reached : float or None
        What balancing wins on queries that it was not fitted to. Below the true cost in the mean;
        negative where it loses. None where there are only moments.
    reached_stderr : float or None
        Its standard error.
    """

    cost: float
    means: float
    shapes: float
    reached: float | None
    reached_stderr: float | None


@dataclass(frozen=True)
class CodeNoise:
    """What a code of so many bits does to scores, as predicted; in units of the scores' own spread.

    Attributes
    ----------
    bits : int
        A coordinate.
    now, balanced : float
        Root mean square error of a score: as the rows are, and after balancing; for the best uniform code
        with one range for all, on rotated rows, whose coordinates are near normal.
    least : float
        What no code of so many bits a coordinate can beat, whatever it is: the rate-distortion bound for
        normal items, bits going where they count.
    """

    bits: int
    now: float
    balanced: float
    least: float


@dataclass(frozen=True, eq=False)
class GapInBits:
    """How many bits a coordinate the gap costs a stored code. It is no measure of quality.

    Attributes
    ----------
    one_range : CodeBits
        For a code with one range for all coordinates, rotated or not, or with one length a row.
    range_per_dimension : CodeBits
        For a code with a range for each coordinate, which the means do not enter.
    spectrum : ndarray (r,)
        sigma_i, largest first: the root mean square of what direction i adds to the scores. The squares
        of the smallest are what dropping their directions costs.
    metric : Metric
    dimension : int
        Of the rows as they are stored, d.
    balanced_dimension : int
        Of the rows after balancing: d, or d + 1 by Euclidean distance on items of several lengths.
    queries : int
        How many the second moments were taken from.
    estimator : str or None
        How `reached` was found.
    """

    one_range: CodeBits
    range_per_dimension: CodeBits
    spectrum: np.ndarray
    metric: Metric
    dimension: int
    balanced_dimension: int
    queries: int
    estimator: str | None
    _before: float = field(repr=False)

    @property
    def cost(self) -> float:
        """The cost for a code with one range."""
        return self.one_range.cost

    @property
    def means(self) -> float:
        """The part of the means, for a code with one range."""
        return self.one_range.means

    @property
    def shapes(self) -> float:
        """The part of the shapes, for a code with one range."""
        return self.one_range.shapes

    @property
    def reached(self) -> float | None:
        """What balancing wins on unseen queries, for a code with one range."""
        return self.one_range.reached

    @property
    def reached_stderr(self) -> float | None:
        """Its standard error."""
        return self.one_range.reached_stderr

    @property
    def score_spread(self) -> float:
        """Root mean square of a query's scores about their mean over the gallery, before any code."""
        return math.sqrt(float(np.sum(self.spectrum**2)))

    def code(self, bits: int) -> CodeNoise:
        """Return what a code of so many bits a coordinate does to scores, as predicted.

        Under three bits a code's error goes along with what is stored, so that part of it only scales
        the scores: the prediction is then too high, for both sides alike.

        Raises
        ------
        ArgumentError
            `bits` is not from 1 to 8.
        """
        check_count(bits, "bits", high=len(UNIFORM_NOISE) - 1)
        noise, spread = UNIFORM_NOISE[bits], self.score_spread
        fidelity = float(np.sum(self.spectrum))
        return CodeNoise(
            bits,
            now=math.sqrt(noise / self.dimension * self._before) / spread,
            balanced=math.sqrt(noise / self.balanced_dimension) * fidelity / spread,
            least=self.least_noise(bits),
        )

    def least_noise(self, bits: float) -> float:
        """Return the least root mean square error of a score that any code of `bits` a coordinate has.

        In units of the scores' spread. Reverse water-filling over sigma_i^2 (Shannon, 1959).

        Raises
        ------
        ArgumentError
            `bits` is negative or no number.
        """
        bits = check_number(bits, "bits", low=0.0)
        padded = np.zeros(self.dimension)  # directions that no score has a part in need no bits
        padded[: len(self.spectrum)] = self.spectrum[: self.dimension]
        return math.sqrt(water_filling(padded, bits)) / self.score_spread

    @property
    def sentence(self) -> str:
        """What whoever runs a search engine should know, in one sentence."""
        found = self.one_range
        if found.reached is None or found.reached_stderr is None:
            return (
                f"The gap costs a stored code about {found.cost:.2f} bits a coordinate, "
                f"{found.means:.2f} of them by the means; from few queries this comes out too high."
            )
        error = 2 * found.reached_stderr
        if found.reached <= max(error, 0.005):
            return (
                "The gap costs a stored code nothing that balancing would win back: "
                f"{max(found.reached, 0.0):.2f} ± {error:.2f} bits a coordinate on unseen queries."
            )
        today = 4 if found.reached < 3 else 8
        worth = max(today - found.reached, 0.0)
        return (
            f"The gap costs {found.reached:.2f} ± {error:.2f} bits a coordinate: a code of {today} bits "
            f"now does what one of {worth:.1f} bits does after balancing; "
            f"{min(found.means / found.reached, 1.0):.0%} of the loss is the means."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name: those of one range first, as plain values."""
        found: dict[str, Any] = plain(
            {
                "code": "one range for all coordinates",
                **vars(self.one_range),
                "range_per_dimension": self.range_per_dimension,
                "metric": self.metric,
                "queries": self.queries,
                "estimator": self.estimator,
                "codes": [self.code(bits) for bits in range(1, len(UNIFORM_NOISE))],
                "spectrum": self.spectrum,
            }
        )
        return found


@halving
def gap_in_bits(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    *,
    metric: str = "cosine",
    sample: int | None = 5000,
    seed: int = 0,
) -> GapInBits:
    """Return how many bits a coordinate the gap costs a stored code.

    A scalar code's noise falls by 4 a bit, so a factor in the mean squared error of the scores is a
    number of bits: that by which `balanced`, which keeps every answer, makes it smaller.

    Parameters
    ----------
    queries : array (m, d), floating, or Moments
        m >= 4: half of them are held out. Moments give all but `reached`.
    gallery : array (n, d), floating, or Moments
        n >= 2. Moments are taken as those of the rows as the metric sees them: by cosine of unit length.
    metric : {"cosine", "ip", "euclidean"}
        By Euclidean distance moments suffice where all items have one length.
    sample : int, optional
        Most queries that `reached` is found with, drawn without replacement; None for all. All other
        figures use every row.
    seed : int
        Of the draw and of the halves.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        An option is out of range; the clouds do not fit together, hold NaN, or are too few; all items
        are equal, or the queries have no part along the items' differences.

    Notes
    -----
    With C = Cov(x), S = E[y y^T] and F = tr (C^1/2 S C^1/2)^1/2, for one range

        b = 1/2 log2(E|x|^2 E|y|^2 / F^2) = 1/2 log2(E|x|^2 / tr C) + 1/2 log2(tr C tr S / F^2),

    the means and the shapes; with a range a dimension b = 1/2 log2(d sum_j C_jj S_jj / F^2). By Euclidean
    distance the query's step to the item takes the place of the query before closing, and the lifted rows
    that of both after it. `reached` is 1/2 log2 of the same before, over what the maps make of it on
    queries held out. Derived in docs/theory_balanced.md. Cost: (m + n) d^2, and two eigendecompositions of
    size d, eight more for `reached`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.concatenate([np.eye(4), -np.eye(4)])
    >>> found = gap_in_bits(x * [8.0, 4.0, 2.0, 1.0], x * [1.0, 2.0, 4.0, 8.0], metric="ip")
    >>> round(found.cost, 3), round(found.means, 3)
    (1.409, 0.0)
    """
    metric = as_metric(metric)
    check_count(seed, "seed", low=0)
    ours, theirs = open_clouds(
        queries, gallery, normalize=metric.needs_directions, directions=metric.needs_directions
    )
    return bits_of_clouds(ours, theirs, metric, sample=sample, seed=seed)


def bits_of_clouds(
    queries: Cloud, gallery: Cloud, metric: Metric, *, sample: int | None, seed: int
) -> GapInBits:
    """Return the gap in bits of clouds that passed the door; `gap_in_bits` says the rest."""
    _check(queries, gallery, metric)
    s = scores_of(queries, gallery, metric)
    spectrum = spectrum_of(s.variances, s.basis.T @ s.second @ s.basis)
    fidelity = float(np.sum(spectrum))
    if fidelity == 0:
        raise DataError(
            "`queries` have no part along the gallery's directions: every item scores the same; check "
            "that both clouds come from one model"
        )
    halves = None
    if queries.rows is not None:
        drawn = queries.sample(sample, seed)
        halves = _reached(to_numpy(drawn.block(slice(None))), s, seed)
    after = fidelity**2 * s.dimension / s.width
    one, apart = s.one_range(s.exposure), s.range_per_dimension(s.exposure)
    centred = float(np.sum(s.spread) * np.sum(s.exposure))
    return GapInBits(
        _code_bits(one, centred, after, halves and [(s.one_range(e), a) for e, a in halves]),
        _code_bits(
            apart, apart, after, halves and [(s.range_per_dimension(e), a) for e, a in halves]
        ),
        spectrum,
        metric,
        s.dimension,
        s.width,
        queries.count,
        None if halves is None else ESTIMATOR,
        float(one),
    )


def _check(queries: Cloud, gallery: Cloud, metric: Metric) -> None:
    for name, cloud, least in (
        ("queries", queries, 2 if queries.rows is None else FEWEST),
        ("gallery", gallery, 2),
    ):
        if cloud.count < least:
            why = ", half of which are held out" if least == FEWEST else ""
            raise ShapeError(f"`{name}` must have at least {least} rows{why}; got {cloud.count}")
        if metric.needs_directions and not cloud.normalize:
            raise DataError(
                f"`{name}` must be moments of rows of unit length under cosine; got lengths from "
                f"{cloud.moments.shortest:.6g} to {cloud.moments.longest:.6g}: normalise the rows "
                'first, or ask for metric="ip"'
            )


def _code_bits(
    before: Any, centred: float, after: float, halves: list[tuple[Any, np.ndarray]] | None
) -> CodeBits:
    means, shapes = _bits(before, centred), _bits(centred, after)
    reached, error = _cross_fitted(halves) if halves else (None, None)
    return CodeBits(means + shapes, means, shapes, reached, error)


def _bits(before: float, after: float) -> float:
    """Return the bits that the noise of scores falls by; none where only rounding is between."""
    bits = math.log2(before / after) / 2
    return 0.0 if abs(bits) < 1e-12 else bits


def _reached(rows: np.ndarray, s: Scores, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return of both halves of the queries, balanced as fitted to the other half, what each is exposed to.

    Before closing, coordinate by coordinate (m, d), and after it in all (m,).
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    halves = np.array_split(order, 2)
    found = []
    for fit, test in (halves, halves[::-1]):
        fitted = transport(
            s.variances,
            _second_moments(s.form(rows[fit])).within(s.basis),
            gallery_shrinkage=GALLERY_SHRINKAGE,
        )
        items, queries = fitted.coordinates(len(s.variances))
        mapped = s.form(rows[test]) @ (s.basis @ queries)
        stored = float(s.variances @ np.sum(items**2, axis=1)) * s.dimension / s.width
        found.append((s.exposed(rows[test]), stored * np.sum(mapped**2, axis=1)))
    return found


def _second_moments(rows: np.ndarray) -> SecondMoments:
    """Return E[y y^T] of rows (m, e), with the folds that `balanced` chooses its shrinkage on.

    The rows are few and at hand, so their products are made without a pass for moments.
    """
    count = len(rows)
    if count < 2 * FOLDS:
        return SecondMoments(rows.T @ rows / count, count)
    parts = [rows[k::FOLDS] for k in range(FOLDS)]
    products = [part.T @ part for part in parts]
    whole = np.sum(products, axis=0)
    folds = tuple(
        ((whole - own) / (count - len(part)), own / len(part))
        for own, part in zip(products, parts, strict=True)
    )
    return SecondMoments(whole / count, count, folds)


def _cross_fitted(halves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Return the mean of the bits won in both halves, and its standard error.

    A half's bits are a log of a ratio of means over its queries, of which the delta method gives the
    error. That the fits differ from draw to draw too adds little: a test draws anew and compares.
    """
    won, errors = [], []
    for before, after in halves:
        won.append(math.log2(float(np.mean(before)) / float(np.mean(after))) / 2)
        off = before / np.mean(before) - after / np.mean(after)
        errors.append(float(np.std(off, ddof=1)) / (2 * math.log(2) * math.sqrt(len(off))))
    return float(np.mean(won)), math.hypot(*errors) / 2
