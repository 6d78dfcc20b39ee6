"""The gap in bits as two pictures: what the scores are made of, and what codes do to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modgap.charts import theme

__all__ = ["codes_chart", "spectrum_chart"]

#: What a code is compared with, in the words of the legend, and how each is drawn.
LINES = {
    "now": "the rows as they are",
    "balanced": "after balancing",
    "least": "least of any code",
}


def spectrum_chart(bits: Mapping[str, Any], *, width: int = 300, height: int = 220) -> Any:
    """Return how much each direction adds to the scores, strongest first, both axes in decades.

    Parameters
    ----------
    bits : dict
        From `GapInBits.to_dict`.
    width, height : int
    """
    alt = theme.altair()
    largest = bits["spectrum"][0]
    # Below a thousandth of the first, directions are rounding, or nothing that a picture shows.
    rows = [
        {"direction": place, "share": sigma / largest}
        for place, sigma in enumerate(bits["spectrum"], start=1)
        if sigma > 1e-3 * largest
    ]
    decades = alt.Scale(type="log", nice=False)
    drawn = alt.Chart(theme.table(rows)).encode(
        x=alt.X("direction:Q", title="direction, the strongest first", scale=decades,
                axis=alt.Axis(values=[1, 3, 10, 30, 100, 300, 1000, 3000])),
        y=alt.Y("share:Q", title="its part in the scores, over the first's", scale=decades),
    )  # fmt: skip
    line = drawn.mark_line(strokeWidth=2, color=theme.QUERIES)
    marks = drawn.mark_point(filled=True, size=18, color=theme.QUERIES)
    return alt.layer(line, marks).properties(width=width, height=height)


def codes_chart(bits: Mapping[str, Any], *, width: int = 300, height: int = 220) -> Any:
    """Return the error of a score against the bits of a code: now, balanced, and the least possible.

    Parameters
    ----------
    bits : dict
        From `GapInBits.to_dict`.
    width, height : int
    """
    alt = theme.altair()
    # Where items span few directions, the least lies decades below: what leaves the picture stays out.
    low = min(code["balanced"] for code in bits["codes"]) / 30
    high = 1.3 * max(code[key] for key in ("now", "balanced") for code in bits["codes"])
    rows = [
        {"bits": code["bits"], "noise": code[key], "line": name}
        for key, name in LINES.items()
        for code in bits["codes"]
        if code[key] >= low
    ]
    names = [name for name in LINES.values() if any(row["line"] == name for row in rows)]
    drawn = alt.Chart(theme.table(rows)).encode(
        x=alt.X("bits:Q", title="bits a coordinate", axis=alt.Axis(tickMinStep=1),
                scale=alt.Scale(domain=[0.8, 8.2], nice=False)),
        y=alt.Y("noise:Q", title="error of a score, over their spread",
                scale=alt.Scale(type="log", nice=False, domain=[low, high]), axis=alt.Axis(format="~g")),
        **theme.keyed("line", names, columns=1,
                      colors=[theme.MUTED, theme.GALLERY, theme.INK]),
    )  # fmt: skip
    layers = [drawn.mark_line(strokeWidth=2), drawn.mark_point(filled=True, size=50)]
    return alt.layer(*layers).properties(width=width, height=height)
