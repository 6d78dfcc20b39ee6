"""Statements on closures: that no score changes by more than each promises, and what mixed ones keep."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from modgap import closers
from modgap.closers.closure import Closure
from modgap.decisions.metric import INNER_PRODUCT
from modgap.errors import ClosureWarning
from modgap.paper.verifying.ground import MOST_QUERIES, Ground
from modgap.paper.verifying.observing import (
    changed_decisions,
    has_no_spread,
    item_scores,
    score_rounding,
)
from modgap.paper.verifying.record import BALANCED, THEORY, Check, absent, checked

__all__ = ["checks"]

_METHODS = {
    "recenter": THEORY,
    "orthogonal": THEORY,
    "affine": THEORY,
    "scaled": THEORY,
    "balanced": BALANCED,
}
_NEEDS_ROOM = ("orthogonal", "affine")
_SCORES = "scores of the mapped rows and of the rows as they are, in float64"


def checks(ground: Ground, closures: Sequence[Closure]) -> Iterator[Check]:
    """Yield what each exact closer promises, and each closure of the caller's; then mixed collections."""
    for method, source in _METHODS.items():
        name = f"Closure {method}"
        if method in _NEEDS_ROOM and ground.rank >= ground.width:
            why = (
                f"the gallery spans all {ground.width} dimensions (r = d): it has nothing to close"
            )
            yield absent(name, _promise(), source, why)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClosureWarning)
            fitted = closers.fit(method, ground.queries, ground.gallery, metric=ground.metric)
        yield _kept(name, source, ground, fitted)
    for i, closure in enumerate(closures, start=1):
        closure.check_metric(ground.metric)
        yield _kept(f"Given closure {i}, {closure.method}", "the closure itself", ground, closure)
    yield from _mixed(ground)


def _promise() -> str:
    return "no difference of two scores changes by more than the closure's own bound"


def _kept(name: str, source: str, ground: Ground, closure: Closure) -> Check:
    if closure.bound is None:
        return absent(name, _promise(), source, f"`{closure.method}` promises no answer")
    few = ground.queries[:MOST_QUERIES]
    mapped = closure.apply_queries(few), closure.apply_gallery(ground.gallery)
    before = item_scores(few, ground.gallery, closure.metric)
    after = item_scores(*mapped, closure.comparison)
    change = np.ptp(after / closure.gain - before, axis=1)
    own = score_rounding(few, ground.gallery) + score_rounding(*mapped) / closure.gain
    exact = (
        "which is below a tie" if closure.exact else "which is above a tie: it is not called exact"
    )
    return checked(
        name,
        _promise(),
        source,
        prediction=0.0,
        observation=float(change.max()),
        tolerance=closure.bound + own,
        reason=f"the closure's bound, {exact}; and the observation's own rounding",
        observed_by=_SCORES,
    )


def _mixed(ground: Ground) -> Iterator[Check]:
    """Check `calibrate` on a collection of the gallery's items and the queries' own kind."""
    names = {
        "Mixed collection, order": "within a modality one increasing map takes all scores: the best stays",
        "Mixed collection, scale": "in each modality the scores of all queries have mean square one",
    }
    if ground.metric.is_distance:
        for name, statement in names.items():
            yield absent(
                name,
                statement,
                BALANCED,
                "a distance is no multiple of another; lift the rows first",
            )
        return
    parts = {"gallery": ground.x, "companions": ground.y}
    if any(has_no_spread(rows) for rows in parts.values()):
        for name, statement in names.items():
            why = "all rows of a modality are equal, or nearly so"
            yield absent(name, statement, BALANCED, why)
        return
    closure = closers.calibrate(ground.y, parts, metric=ground.metric)
    changed, squares = 0, []
    for name, rows in parts.items():
        before = item_scores(ground.y, rows, INNER_PRODUCT)
        after = item_scores(
            closure.apply_queries(ground.y), closure.apply_gallery(rows, name), INNER_PRODUCT
        )
        changed += changed_decisions(before, after, 1e-12 * float(np.abs(before).max()))
        squares.append(float(np.mean(after**2)))
    first, second = names
    yield checked(
        first,
        names[first],
        BALANCED,
        prediction=0.0,
        observation=changed,
        tolerance=0.0,
        reason="a count: any decision beyond a tie is one too many",
        observed_by="the best item of each modality by scores before and after",
    )
    yield checked(
        second,
        names[second],
        BALANCED,
        prediction=[1.0, 1.0],
        observation=squares,
        tolerance=1e-9,
        reason="rounding of float64 in moments and sums",
        observed_by="the mean over all pairs of a query and an item",
    )
