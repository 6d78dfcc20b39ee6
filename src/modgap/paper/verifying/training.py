"""Statements on training, held against pairs of the data: as they lie, drawn together, or made flat.

What is proved of tight clusters is looked at on the data's own clouds, drawn together about their means:
a model's clouds are nowhere near tight at its own temperature, which is said where it matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from modgap.paper import theory
from modgap.paper.theory.training import softmax_remainder
from modgap.paper.verifying.ground import Ground
from modgap.paper.verifying.observing import contrastive, row_slopes, sigmoid, slope, softmax_mass
from modgap.paper.verifying.record import PAPER, THEORY, Check, absent, checked

__all__ = ["checks"]

#: Gap times radius over temperature of clouds that are drawn together: tight, and far above rounding.
_TIGHT = 1e-5
#: Above this the remainder of the first order says nothing.
_LOOSE = 0.1
_BIAS = -10.0

_STEPS = "complex steps through a loss written anew, row by row"
_ROUNDING = "rounding of float64 in sums of this size"
_PROVED = "the remainder's proved bound, second order in the radius"

_NAMES = {
    "The gradient": "the closed gradient of the softmax loss is its derivative",
    "The sigmoid gradient": "the closed gradient of the sigmoid loss is its derivative",
    "Theorem 3.1": "of tight clouds dL/dy is 4/(n t^2) (g.eta) g - 4/(n t) xi, here along the gap",
    "Theorem 3.1, as the data lies": "the same of the clouds as they are",
    "Softmax sums": "of tight clouds a softmax sum is 1 - (2/t) g.eta",
    "What the gap loses": "of tight clouds the gap moves by -(8/(n t^2)) (C_x + C_y) g",
    "Theorem 3.2, as the data lies": "the pull along the gap is (2/(n t)) (1 - S) |g|, but for the spread",
    "Theorem 3.2, Euclidean": "clouds flat along the gap are pulled along it by (2/(n t)) (1 - S) |g|",
    "Theorem 3.2, inner product": "clouds flat along the gap are pulled along it by (1/(n t)) (S - 1) a",
    "On the sphere": "the pull at the gap of flat clouds is a/(1 - a^2) that at the log temperature",
    "On the sphere, sigmoid": "of the sigmoid loss it is that and what pulls at the bias",
}  # fmt: skip
_RATES = {
    "Growth rate, shared, along": ("shared_along", 1.0, True),
    "Growth rate, difference, along": ("difference_along", -1.0, True),
    "Growth rate, shared, across": ("shared_across", 1.0, False),
    "Growth rate, difference, across": ("difference_across", -1.0, False),
}
_SOURCES = {name: PAPER for name in _NAMES if name.startswith("Theorem")}


def checks(ground: Ground) -> Iterator[Check]:
    """Yield every statement on training."""
    why = _why_not(ground)
    if why:
        for name, statement in _NAMES.items():
            yield absent(name, statement, _source(name), why)
        for name in _RATES:
            yield absent(name, _rate_words(name), THEORY, why)
        return
    assert ground.pairs is not None  # `_why_not` looked
    clouds = _Clouds(*ground.pairs, ground.temperature)
    yield from _gradients(clouds, ground)
    yield from _tight(clouds)
    yield from _flat(clouds)


def _why_not(ground: Ground) -> str:
    if ground.pairs is None:
        return "nothing says which query belongs to which item: give labels, or say that rows are paired"
    x, y = ground.pairs
    if len(x) < 2:
        return "one pair has no other to be told from"
    clouds = _Clouds(x, y, ground.temperature)
    if clouds.length <= 1e-9 * clouds.reach:
        return "the two means coincide: there is no gap"
    if clouds.softmax_rounding > 1e-6:
        return (
            "rows are so long against the temperature that float64 has no digits left for softmaxes"
        )
    return ""


def _source(name: str) -> str:
    return _SOURCES.get(name, THEORY)


def _rate_words(name: str) -> str:
    words = {
        "shared_along": "what partners share along the gap grows at the rate c (1 - |g|^2/t)",
        "difference_along": "their differences along the gap grow at the rate -c (1 + |g|^2/t)",
        "shared_across": "what partners share across the gap grows at the rate c = 4/(n t)",
        "difference_across": "their differences across the gap grow at the rate -c",
    }
    return f"of tight clouds {words[_RATES[name][0]]}"


@dataclass(frozen=True)
class _Clouds:
    """Pairs, and the direction of the gap between them."""

    x: np.ndarray
    y: np.ndarray
    temperature: float

    @property
    def rows(self) -> int:
        return len(self.x)

    @property
    def gap(self) -> np.ndarray:
        return np.asarray(self.y.mean(axis=0) - self.x.mean(axis=0))

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.gap))

    @property
    def unit(self) -> np.ndarray:
        return np.asarray(self.gap / self.length)

    @property
    def centred(self) -> tuple[np.ndarray, np.ndarray]:
        return self.x - self.x.mean(axis=0), self.y - self.y.mean(axis=0)

    @property
    def radius(self) -> float:
        return max(float(np.linalg.norm(rows, axis=1).max()) for rows in self.centred)

    @property
    def tightness(self) -> float:
        """Gap times radius over temperature: what must be small."""
        return max(self.length, self.radius) * self.radius / self.temperature

    @property
    def reach(self) -> float:
        """Length of the longest row."""
        return max(float(np.linalg.norm(rows, axis=1).max()) for rows in (self.x, self.y))

    @property
    def softmax_rounding(self) -> float:
        """What float64 leaves of a softmax: the rounding of a logit goes through exp."""
        return 64 * float(np.finfo(float).eps) * (1.0 + 4.0 * self.reach**2 / self.temperature)

    @property
    def rounding(self) -> float:
        """What it leaves of a derivative by one row, which is made of terms as long as the clouds."""
        return self.softmax_rounding * self.reach / (self.rows * self.temperature)

    def drawn_together(self) -> _Clouds:
        """Return the clouds about their means, so small that they are tight."""
        factor = min(1.0, _TIGHT / self.tightness)
        means = self.x.mean(axis=0), self.y.mean(axis=0)
        # about the middle between the means: squared distances lose no digits to an offset
        half = (means[1] - means[0]) / 2
        x, y = self.centred
        return _Clouds(factor * x - half, factor * y + half, self.temperature)

    def flattened(self) -> _Clouds:
        """Return the clouds without their variance along the gap."""
        unit = self.unit
        x, y = (rows - np.outer(rows @ unit, unit) for rows in self.centred)
        return _Clouds(x + self.x.mean(axis=0), y + self.y.mean(axis=0), self.temperature)

    def loss(self, *, distance: bool = True) -> partial[complex]:
        return partial(contrastive, temperature=self.temperature, distance=distance)


def _gradients(clouds: _Clouds, ground: Ground) -> Iterator[Check]:
    """Check both closed gradients along directions drawn at random."""
    x, y, t = clouds.x, clouds.y, clouds.temperature
    rng = ground.rng(0)
    directions = [tuple(rng.normal(size=(2, *x.shape)) / np.sqrt(x.size)) for _ in range(8)]
    soft = theory.contrastive_gradient(x, y, temperature=t)
    alone = theory.sigmoid_gradient(x, y, temperature=t, bias=_BIAS, sphere=False)
    losses = (clouds.loss(), partial(sigmoid, temperature=t, bias=_BIAS))
    slopes = ((soft.x, soft.y), (alone.x, alone.y))
    for name, found, loss in zip(list(_NAMES)[:2], slopes, losses, strict=True):
        said = [float(np.sum(found[0] * a) + np.sum(found[1] * b)) for a, b in directions]
        yield checked(
            name,
            _NAMES[name],
            THEORY,
            prediction=said,
            observation=[slope(loss, x, y, a, b) for a, b in directions],
            tolerance=clouds.rounding * np.sqrt(clouds.rows),
            reason=_ROUNDING,
            observed_by="complex steps through a loss written anew, along eight random directions",
        )


def _tight(as_given: _Clouds) -> Iterator[Check]:
    """Check what is proved of tight clouds on the clouds drawn together."""
    tight = as_given.drawn_together()
    yield _leading("Theorem 3.1", tight)
    name = "Theorem 3.1, as the data lies"
    if as_given.tightness > _LOOSE:
        why = f"gap times radius is {as_given.tightness:.3g} temperatures, not well below one"
        yield absent(name, _NAMES[name], PAPER, f"the clouds are not tight: {why}")
    else:
        yield _leading(name, as_given)
    yield _sums(tight)
    yield from _rates(tight)
    yield _drift(tight)


def _leading(name: str, clouds: _Clouds) -> Check:
    found = theory.tight_cluster_gradient(clouds.x, clouds.y, temperature=clouds.temperature)
    _, seen = row_slopes(clouds.loss(), clouds.x, clouds.y, clouds.unit)
    return checked(
        name,
        _NAMES[name],
        PAPER,
        prediction=found.first_order @ clouds.unit,
        observation=seen,
        tolerance=found.bound + clouds.rounding,
        reason=_PROVED,
        observed_by=_STEPS,
    )


def _sums(clouds: _Clouds) -> Check:
    _, along = clouds.centred
    return checked(
        "Softmax sums",
        _NAMES["Softmax sums"],
        THEORY,
        prediction=1.0 - 2.0 / clouds.temperature * (along @ clouds.gap),
        observation=softmax_mass(clouds.x, clouds.y, clouds.temperature),
        tolerance=softmax_remainder(clouds.temperature, clouds.length, clouds.radius)
        + clouds.softmax_rounding,
        reason=f"{_PROVED}; and rounding",
        observed_by="a double loop over the softmaxes",
    )


def _rates(clouds: _Clouds) -> Iterator[Check]:
    """Check how fast each kind of variance grows, by the exact descent of one instant."""
    said = theory.mode_rates(clouds.length, temperature=clouds.temperature, n=clouds.rows)
    bound = theory.tight_cluster_gradient(clouds.x, clouds.y, temperature=clouds.temperature).bound
    across = _across(clouds)
    slopes = {}
    for along, unit in ((True, clouds.unit), (False, across)):
        if unit is not None:
            slopes[along] = unit, row_slopes(clouds.loss(), clouds.x, clouds.y, unit)
    for name, (rate, sign, along) in _RATES.items():
        if along not in slopes:
            yield absent(
                name, _rate_words(name), THEORY, "in one dimension nothing is across the gap"
            )
            continue
        unit, (by_x, by_y) = slopes[along]
        x, y = (rows @ unit for rows in clouds.centred)
        part, moved = y + sign * x, -(by_y + sign * by_x)
        size = float(np.sum(part**2))
        if size <= (1e-9 * clouds.radius) ** 2:
            yield absent(name, _rate_words(name), THEORY, "the clouds have no such variance")
            continue
        worst = 2.0 * (bound + clouds.rounding) * np.sqrt(clouds.rows / size)
        yield checked(
            name,
            _rate_words(name),
            THEORY,
            prediction=getattr(said, rate),
            observation=float(part @ moved) / size,
            tolerance=worst,
            reason=f"{_PROVED}, over the size of what grows",
            observed_by=_STEPS,
        )


def _across(clouds: _Clouds) -> np.ndarray | None:
    """Return the direction across the gap in which the clouds vary most."""
    unit = clouds.unit
    rows = np.vstack(clouds.centred)
    rows = rows - np.outer(rows @ unit, unit)
    size = np.linalg.norm(rows, axis=1)
    if size.max() <= 1e-9 * clouds.radius:
        return None
    return np.asarray(np.linalg.svd(rows, full_matrices=False)[2][0])


def _drift(clouds: _Clouds) -> Check:
    n, t = clouds.rows, clouds.temperature
    said = theory.gap_drift(clouds.x, clouds.y, temperature=t).predicted
    size = float(np.linalg.norm(said))
    unit = said / size if size > 0 else clouds.unit
    # the gradients of both clouds sum to zero, so moving one cloud as a whole tells all
    seen = -2.0 / n * slope(clouds.loss(), clouds.x, clouds.y, 0.0, np.tile(unit, (n, 1)))
    kappa = softmax_remainder(t, clouds.length, clouds.radius)
    return checked(
        "What the gap loses",
        _NAMES["What the gap loses"],
        THEORY,
        prediction=size,
        observation=seen,
        # what is left of the slopes by the logits, each g/t long, once they cancel
        tolerance=8.0 * kappa * clouds.radius / (n * t)
        + 32 * np.finfo(float).eps * clouds.length / (n * t),
        reason="the softmax sums' proved remainder times the radius; and rounding",
        observed_by="a complex step of one whole cloud",
    )


def _flat(as_given: _Clouds) -> Iterator[Check]:
    """Check Theorem 3.2: within its bound as the data lies, exactly once the clouds are flat."""
    flat = as_given.flattened()
    yield _frozen("Theorem 3.2, as the data lies", as_given, "euclidean")
    yield _frozen("Theorem 3.2, Euclidean", flat, "euclidean")
    yield _frozen("Theorem 3.2, inner product", flat, "ip")
    yield from _on_the_sphere(as_given)


def _frozen(name: str, clouds: _Clouds, metric: str) -> Check:
    found = theory.frozen_direction(
        clouds.x, clouds.y, clouds.gap, temperature=clouds.temperature, metric=metric
    )
    said = np.concatenate([found.predicted_x, found.predicted_y])
    exact = max(found.spread_x, found.spread_y) < 1e-9
    if not exact and found.bound > float(np.sqrt(np.mean(said**2))):
        spread = max(found.spread_x, found.spread_y) / clouds.length
        return absent(
            name,
            _NAMES[name],
            PAPER,
            f"the clouds spread along the gap by {spread:.3g} of its length: the bound on what that does "
            "is larger than what is predicted",
        )
    seen = row_slopes(clouds.loss(distance=metric == "euclidean"), clouds.x, clouds.y, clouds.unit)
    return checked(
        name,
        _NAMES[name],
        PAPER,
        prediction=said,
        observation=np.concatenate(seen),
        tolerance=found.bound + clouds.rounding,
        reason=_ROUNDING if exact else "the proved bound of clouds that spread along the gap",
        observed_by=_STEPS,
    )


def _on_the_sphere(clouds: _Clouds) -> Iterator[Check]:
    """Check what pulls at the gap of unit rows that are flat along it."""
    t = clouds.temperature
    heights, rests = [], []
    for rows in (clouds.x, clouds.y):
        unit_rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        along = unit_rows @ clouds.unit
        rest = unit_rows - np.outer(along, clouds.unit)
        lengths = np.linalg.norm(rest, axis=1, keepdims=True)
        if lengths.min() < 1e-6:
            for name in list(_NAMES)[-2:]:
                yield absent(
                    name, _NAMES[name], THEORY, "a row points along the gap, and has no other part"
                )
            return
        heights.append(float(along.mean()))
        rests.append(rest / lengths)
    a, b = heights

    def moved(height: complex, other: complex) -> tuple[np.ndarray, np.ndarray]:
        sides = zip((height, other), rests, strict=True)
        x, y = (h * clouds.unit + np.sqrt(1.0 - h * h) * rest for h, rest in sides)
        return x, y

    x, y = (rows.real for rows in moved(a, b))
    lifted = moved(a + 1e-30j, b)
    on = _Clouds(x, y, t)
    slack = on.rounding * clouds.rows / (1.0 - a * a)
    pull = theory.sphere_pull(x, y, clouds.unit, temperature=t, metric="ip")
    soft, alone = list(_NAMES)[-2:]
    yield checked(
        soft,
        _NAMES[soft],
        THEORY,
        prediction=pull.log_temperature * a / (1.0 - a * a),
        observation=contrastive(*lifted, t, distance=False).imag / 1e-30,
        tolerance=slack,
        reason=_ROUNDING,
        observed_by="a complex step of all items along their meridians",
    )
    found = theory.sigmoid_gradient(x, y, temperature=t, bias=_BIAS)
    said = b / t * found.bias
    said += a / (1.0 - a * a) * (found.log_temperature + a * b / t * found.bias)
    yield checked(
        alone,
        _NAMES[alone],
        THEORY,
        prediction=said,
        observation=sigmoid(*lifted, t, _BIAS).imag / 1e-30,
        tolerance=slack * clouds.rows,
        reason=_ROUNDING,
        observed_by="a complex step of all items along their meridians",
    )
