"""What `look` looks for: each function yields the remarks of one kind about a view of two clouds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from modgap._core.arrays import Array, dtype_eps, namespace, scale_range, to_numpy
from modgap._core.checks import check_lengths
from modgap._core.clouds import Cloud
from modgap._core.copies import first_copies, in_both, row_keys
from modgap.decisions.metric import Metric
from modgap.errors import DataError
from modgap.measures.relations import (
    answers_against_chance,
    pairs_against_chance,
    shared_directions,
)

__all__ = ["Remark", "Severity", "View"]

Severity = Literal["error", "warning", "note"]

#: Rows below which means and shares are rough.
FEW_ROWS = 30
#: Pairs below which a permutation says too little.
FEW_PAIRS = 8
#: A test against chance that is passed at this level is no remark.
LEVEL = 0.01
#: Rows and dimensions from which shared directions show, and the deviations that two models reach.
SHARED_ROWS, SHARED_WIDTH, SHARED_Z = 50, 64, 2.5
#: Rows of each side that are enough to see them.
SHARED_SAMPLE = 512
#: How far from 1 the length of a row may lie that was made 1 in float32.
UNIT = 1e-5
#: Mean lengths of the two sides, one over the other, from which distances compare two scales.
SCALES = 3.0


@dataclass(frozen=True)
class Remark:
    """One thing to know about the data.

    Attributes
    ----------
    code : str
        Its name, which does not change with the figures.
    severity : {"error", "warning", "note"}
        Other calls refuse the data; figures mislead; good to know.
    count : int
        Rows, queries or directions that it is about.
    text : str
        One line: what is so, and what to do.
    """

    code: str
    severity: Severity
    count: int
    text: str

    def __str__(self) -> str:
        """Return the line, its severity before it."""
        return f"{self.severity}: {self.text}"


@dataclass(frozen=True)
class View:
    """Both clouds as the checks see them; the items of all queries are one gallery.

    Attributes
    ----------
    queries, gallery : Cloud
    candidates : array (m, c, d) or None
        Each query's own items.
    positives : ndarray (m, k) or None
        Right items, -1 where there are fewer.
    owners : ndarray (n,) or None
        What each item belongs to.
    present : ndarray (m, c) of bool, or None
        Which candidates are there; the gallery holds those alone.
    """

    queries: Cloud
    gallery: Cloud
    candidates: Array | None
    positives: np.ndarray | None
    paired: bool
    owners: np.ndarray | None
    metric: Metric
    sample: int
    seed: int
    present: np.ndarray | None = None

    @property
    def sides(self) -> tuple[tuple[str, Cloud], tuple[str, Cloud]]:
        """Name and cloud of each side."""
        return ("queries", self.queries), ("gallery", self.gallery)

    @cached_property
    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of the rows of each side."""
        return row_keys(self.queries.rows), row_keys(self.gallery.rows)


def not_usable(view: View) -> Iterator[Remark]:
    """Rows that hold what no figure can be made of."""
    for name, cloud in view.sides:
        rows = cloud.need_rows()
        try:
            check_lengths(rows, cloud.lengths, name)
        except DataError as error:
            xp = namespace(rows)
            bad = to_numpy(xp.any(~xp.isfinite(rows), axis=1))
            count = int(bad.sum())
            if count:
                yield Remark(
                    "not-finite", "error", count,
                    f"{count} of {cloud.count} rows of `{name}` (first: row {int(bad.argmax())}) hold "
                    "NaN or infinity; drop or repair them",
                )  # fmt: skip
            else:
                yield Remark("out-of-range", "error", cloud.count, str(error))


def zero_rows(view: View) -> Iterator[Remark]:
    """Rows of zeros: refused by cosine, at one point by the others."""
    for name, cloud in view.sides:
        zero = to_numpy(cloud.lengths) < scale_range(cloud.need_rows())[0]
        count = int(zero.sum())
        if not count:
            continue
        start = (
            f"{count} of {cloud.count} rows of `{name}` (first: row {int(zero.argmax())}) are zero"
        )
        if view.metric.needs_directions:
            text = f"{start} and have no direction; drop them, or compare by inner product"
            yield Remark("zero-rows", "error", count, text)
        else:
            text = f"{start}: they may stand for input that could not be embedded; drop them"
            yield Remark("zero-rows", "note", count, text)


def copies(view: View) -> Iterator[Remark]:
    """Rows that are equal to the last bit, within a side and across."""
    if view.candidates is None:
        yield from _copied_items(view)
    yield from _copied_queries(view)
    shared = int(in_both(view.queries.rows, view.gallery.rows, view.keys).sum())
    if shared:
        yield Remark(
            "same-rows", "warning", shared,
            f"{shared} of {view.queries.count} queries are rows of the gallery too, bit for bit: is "
            "one file given twice, or one side part of the other?",
        )  # fmt: skip


def _copied_items(view: View) -> Iterator[Remark]:
    first = first_copies(view.gallery.rows, view.keys[1])
    own = first != np.arange(first.size)
    if view.owners is not None:
        own &= view.owners != view.owners[first]
    count = int(own.sum())
    if not count:
        return
    fix = "drop them"
    if view.paired:
        fix = "keep each item once and name what belongs to it with owners (--owners)"
    elif view.owners is not None:
        fix = "they have different owners; drop them, or give copies one owner"
    most = int(np.bincount(first).max())
    yield Remark(
        "copies-in-gallery", "warning", count,
        f"{count} of {first.size} gallery rows repeat another one ({most} times the commonest): "
        f"copies tie, which can halve recall and stability; {fix}",
    )  # fmt: skip


def _copied_queries(view: View) -> Iterator[Remark]:
    first = first_copies(view.queries.rows, view.keys[0])
    count = int((first != np.arange(first.size)).sum())
    if not count:
        return
    start = f"{count} of {first.size} queries repeat another one"
    if view.paired:
        text = f"{start} but have partners of their own, of which each query finds one first; keep "
        text += "each once and name what belongs to it with owners (--owners)"
        yield Remark("copies-in-queries", "warning", count, text)
    else:
        text = f"{start}: they are the evidence of {first.size - count}, and errors are larger than shown"
        yield Remark("copies-in-queries", "note", count, text)


def lengths(view: View) -> Iterator[Remark]:
    """Rows that are not of unit length, or of it to half precision only, and sides of two scales."""
    half: list[tuple[str, int]] = []
    other: list[tuple[str, int]] = []
    for name, cloud in view.sides:
        found = to_numpy(cloud.lengths)
        off = np.abs(found - 1) > UNIT
        if not off.any():
            continue
        spread = f"{name} {found.min():.4g} to {found.max():.4g}"
        is_half = np.abs(found - 1).max() <= 4 * 2.0**-8 and _is_half(cloud.rows)
        (half if is_half else other).append((spread, int(off.sum())))
    if other:
        yield Remark(
            "lengths", "note", sum(count for _, count in other),
            f"rows are not of unit length ({'; '.join(text for text, _ in other)}): cosine leaves "
            "lengths out, inner product and Euclidean distance do not",
        )  # fmt: skip
    if half:
        yield Remark(
            "half-precision", "note", sum(count for _, count in half),
            f"unit rows were stored in half precision ({'; '.join(text for text, _ in half)}): compare "
            "them by cosine, and expect no more than three digits",
        )  # fmt: skip
    ours, theirs = (float(np.mean(to_numpy(cloud.lengths))) for _, cloud in view.sides)
    if view.metric.is_distance and min(ours, theirs) * SCALES < max(ours, theirs):
        yield Remark(
            "scales", "warning", view.queries.count,
            f"queries are {ours:.3g} long on average and gallery rows {theirs:.3g}: Euclidean "
            "distance compares two scales; normalise both sides, or compare by cosine",
        )  # fmt: skip


def _is_half(rows: Array) -> bool:
    """Return whether the values carry no more digits than a float of 16 bits does."""
    if dtype_eps(rows) > 1e-4:
        return True
    some = to_numpy(rows[: min(64, int(rows.shape[0])), :]).astype(np.float32)
    with np.errstate(over="ignore"):
        half = some.astype(np.float16).astype(np.float32) == some
    brain = some.view(np.uint32) & 0xFFFF == 0
    return bool(half.all() or brain.all())


def sizes(view: View) -> Iterator[Remark]:
    """Sides of few rows, and galleries that leave nothing to decide."""
    m, n = view.queries.count, view.gallery.count
    items = n if view.candidates is None else int(view.candidates.shape[1])
    if items == 1:
        yield Remark(
            "one-item", "warning", m,
            "the gallery has one item, which is the nearest to every query: there is nothing to decide",
        )  # fmt: skip
    elif n < FEW_ROWS:
        center = view.gallery.center
        yield Remark(
            "few-items", "note", n,
            f"the gallery has {n} rows: its mean is known to {_rough(center.variance, n)} only, and "
            "so is the gap; a spread or a rank of so few says little",
        )  # fmt: skip
    if m < FEW_ROWS:
        yield Remark(
            "few-queries", "note", m,
            f"there are {m} queries: one more right answer moves a share by {1 / m:.3f}",
        )  # fmt: skip


def _rough(variance: float, n: int) -> str:
    return f"{math.sqrt(variance / (n - 1)):.2g}"


def relations(view: View) -> Iterator[Remark]:
    """Pairs, answers or clouds that are not related beyond chance."""
    if view.paired and view.queries.count >= FEW_PAIRS:
        found = pairs_against_chance(view.queries, view.gallery, sample=view.sample, seed=view.seed)
        if found.p_value > LEVEL:
            yield Remark(
                "unrelated-pairs", "warning", found.rows,
                f"partners match no better than strangers (mean cosine {found.matched:.3f} and "
                f"{found.mismatched:.3f} over {found.rows} pairs, p = {found.p_value:.2g}): are both "
                "sides in one order, and from one model?",
            )  # fmt: skip
            return
    if view.positives is not None:
        yield from _answers(view, view.positives)
    elif not view.paired:
        yield from _directions(view)


def _answers(view: View, positives: np.ndarray) -> Iterator[Remark]:
    if view.queries.count < FEW_ROWS:
        return
    items = view.gallery.rows if view.candidates is None else view.candidates
    found = answers_against_chance(
        view.queries.rows,
        items,
        positives,
        view.metric,
        sample=view.sample,
        seed=view.seed,
        present=view.present,
    )
    if items.shape[-2] > 1 and found.p_value > LEVEL:
        yield Remark(
            "chance", "warning", found.asked,
            f"{found.hits} of {found.asked} queries find a right item, and {found.expected:.1f} would "
            f"by chance (binomial test, p = {found.p_value:.2g}): do labels, order and model match?",
        )  # fmt: skip


def _directions(view: View) -> Iterator[Remark]:
    clouds = view.queries, view.gallery
    if min(c.count for c in clouds) < SHARED_ROWS or view.queries.width < SHARED_WIDTH:
        return
    z = shared_directions(*clouds, sample=min(view.sample, SHARED_SAMPLE), seed=view.seed)
    if abs(z) < SHARED_Z:
        yield Remark(
            "unrelated-clouds", "warning", view.queries.count,
            f"queries and gallery spread along directions that have nothing to do with each other (z = "
            f"{z:.1f}; sides of one model reach 15): another model, untrained, or another subject?",
        )  # fmt: skip


def full_rank(view: View) -> Iterator[Remark]:
    """Galleries that span the space, shown by as few of their rows as it takes."""
    gallery, d = view.gallery, view.gallery.width
    if gallery.count <= d:
        return
    drawn = gallery if gallery.has_moments else gallery.sample(4 * d, view.seed)
    if drawn.moments.full_axes.rank == d:
        yield Remark(
            "full-rank", "note", d,
            f"the gallery spans all {d} dimensions: every direction carries decisions, so `orthogonal` "
            "and `affine` have nothing to take away exactly",
        )  # fmt: skip
