"""The main figures of a gap in words: a name, the value, and a sentence that says what it says."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from modgap.measures.gap import Gap

__all__ = ["Line", "as_html", "main_lines", "number"]


class Line(NamedTuple):
    """One row of the table: a figure's name, its value as text, and what it says."""

    name: str
    value: str
    says: str


def number(value: float | None) -> str:
    """Return a figure with three decimals; tiny ones with two digits, absent ones as a dash."""
    if value is None:
        return "-"
    return f"{value:.1e}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"


def main_lines(gap: Gap) -> list[Line]:
    """Return the main figures of a gap, those that it has, each with one sentence."""
    found = [*_of_means(gap), *_of_bits(gap), *_of_pairs(gap), *_of_clouds(gap), *_of_shapes(gap)]
    return [line for line in found if line.value.strip("- /")]


def as_html(gap: Gap) -> str:
    """Return the main figures as a table for a notebook."""
    rows = "".join(
        f"<tr><th>{escape(line.name)}</th><td>{escape(line.value)}</td>"
        f"<td>{escape(line.says)}</td></tr>"
        for line in main_lines(gap)
    )
    return f"<table><caption>{escape(gap.title)}</caption>{rows}</table>"


def _of_means(gap: Gap) -> Iterator[Line]:
    floor = gap.centroid_gap_floor
    by_chance = "" if floor is None else f"; sampling alone would show {number(floor)}"
    yield Line("centroid gap", number(gap.centroid_gap), f"distance of the two means{by_chance}")
    yield Line(
        "cosine of the means",
        number(gap.centroid_cosine),
        "1 where both clouds point the same way",
    )
    frechet = gap.frechet_distance
    share = frechet.centroid / frechet.squared if frechet.squared > 0 else None
    yield Line(
        "share of the means",
        number(share),
        "of the squared Fréchet distance; what is left lies between the shapes of the clouds",
    )


def _of_bits(gap: Gap) -> Iterator[Line]:
    if gap.bits is not None:
        reached = gap.bits.reached
        yield Line(
            "gap in bits",
            f"{gap.bits.cost if reached is None else reached:.2f}",
            gap.bits.sentence,
        )


def _of_pairs(gap: Gap) -> Iterator[Line]:
    yield Line(
        "relative gap (RMG)",
        number(gap.relative_modality_gap),
        "0 where partners coincide, .5 where they differ as two items of one side do",
    )
    yield Line(
        "pair margin",
        number(gap.matched_mismatched_margin),
        "mean cosine of partners minus that of strangers",
    )
    found = gap.relative_alignment
    if found is not None:
        yield Line(
            "partners found",
            f"{number(found.a_to_b)} / {number(found.b_to_a)}",
            f"share of queries / of items nearest to their own partner, one among {found.rows}",
        )


def _of_clouds(gap: Gap) -> Iterator[Line]:
    yield Line(
        "separability",
        number(gap.linear_separability),
        "held-out accuracy of a plane between the clouds; .5 is chance",
    )
    ratio = gap.gap_variance_ratio
    if ratio is not None:
        yield Line(
            "spread along gap",
            f"{number(ratio.queries)} / {number(ratio.gallery)}",
            "variance of queries / gallery there, over that of an average direction",
        )
    yield Line("rank of gallery", f"{gap.gallery.rank} of {gap.dimension}", _rank(gap))
    if gap.hubness is not None:
        yield Line(
            "hubness",
            number(gap.hubness.skewness),
            "skewness of how often items are found; above 0 a few are found by many",
        )


def _of_shapes(gap: Gap) -> Iterator[Line]:
    sides = (gap.queries, gap.gallery)
    yield Line(
        "cone",
        " / ".join(number(side.mean_cosine) for side in sides),
        "mean cosine within queries / gallery; 0 is spread out, 1 a point",
    )
    yield Line(
        "effective rank",
        " / ".join(
            "-" if side.effective_rank is None else f"{side.effective_rank:.1f}" for side in sides
        ),
        f"dimensions that queries / gallery really use, of {gap.dimension}",
    )


def _rank(gap: Gap) -> str:
    if gap.gallery.rank == gap.dimension:
        return "it spans the space: no direction is free, whichever way the gap points"
    curve = gap.residual_gap_curve
    if curve is None:
        return "directions outside its span change no decision"
    return f"{number(curve.ratios[-1])} of the gap's length lies outside, where no decision sees it"
