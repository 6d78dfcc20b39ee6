"""Draw the pictures of the guides from the results on quality.

python benchmarks/pictures.py              write them beside the guides
python benchmarks/pictures.py --out DIR    somewhere else
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pages import SETS

from modgap.charts import theme

HERE = Path(__file__).parent
GUIDES = HERE.parent / "docs" / "guide"
#: One colour a map, told apart in grey and by the colour-blind too; the marks differ as well.
COLOURS = {"none": "#767676", "recenter": "#c8541a", "balanced": "#1b6ca8"}
BITS = {"1 bit, clipped": 1, "2 bits, clipped": 2, "4 bits, clipped": 4}


def codes(result: dict[str, Any]) -> Any:
    """Recall against bits a dimension, a panel a set: what a code finds of the exact ten nearest."""
    alt = theme.altair()
    panels = []
    for name, columns in result["details"]["table"].items():
        points = [
            {
                "map": label,
                "bits": bits,
                "recall": columns[column][label]["recall"],
                "low": columns[column][label]["recall"] - 2 * columns[column][label]["stderr"],
                "high": columns[column][label]["recall"] + 2 * columns[column][label]["stderr"],
            }
            for column, bits in BITS.items()
            for label in COLOURS
        ]
        base = alt.Chart(theme.table(points), title=SETS.get(name, name)).encode(
            x=alt.X("bits:Q", title="bits a dimension", axis=alt.Axis(values=[1, 2, 4]),
                    scale=alt.Scale(domain=[0.8, 4.2])),
        )  # fmt: skip
        lines = base.mark_line(point=True).encode(
            y=alt.Y("recall:Q", title="recall of the exact ten nearest", scale=alt.Scale(domain=[0.3, 1])),
            **_by_map(list(COLOURS)),
        )  # fmt: skip
        low = alt.Y("low:Q", scale=alt.Scale(domain=[0.3, 1]))
        bars = base.mark_rule().encode(y=low, y2="high:Q", color=_colour(list(COLOURS)))
        panels.append((bars + lines).properties(width=300, height=230))
    return theme.styled(alt.hconcat(*panels))


def graphs(result: dict[str, Any]) -> Any:
    """Recall against distance computations on a graph: texts by map, and the index's own modality."""
    alt = theme.altair()
    curves = {
        "none": ("none", "texts"),
        "recenter": ("recenter", "texts"),
        "balanced": ("balanced", "texts"),
        "none, asked with images": ("none", "images"),
        "balanced, asked with images": ("balanced", "images"),
    }
    points = [
        {"map": name, "work": work, "recall": recall}
        for name, (label, kind) in curves.items()
        for work, recall in zip(
            result["details"]["hnsw"][label][kind]["work"],
            result["details"]["hnsw"][label][kind]["recall"],
            strict=True,
        )
    ]
    chart = alt.Chart(theme.table(points)).mark_line(point=True, clip=True).encode(
        x=alt.X("work:Q", title="distance computations a query", scale=alt.Scale(domain=[0, 2000])),
        y=alt.Y("recall:Q", title="recall of the exact ten nearest", scale=alt.Scale(domain=[0.5, 1])),
        **_by_map(list(curves)),
    )  # fmt: skip
    return theme.styled(chart.properties(width=440, height=270))


def mixed(result: dict[str, Any]) -> Any:
    """Share of queries whose partner is among the first ten of a merged list, by closer."""
    alt = theme.altair()
    words = {
        "none": "none",
        "center": "center",
        "standardize": "standardize",
        "calibrate": "calibrate",
    }
    bars = [
        {
            "closer": words[label],
            "recall": sum(record["recall"]["10"] for record in records[label]) / len(records[label]),
            "asked with": name.removeprefix("COCO, ").removesuffix(" ask"),
        }
        for name, records in result["details"]["sets"].items()
        if name.startswith("COCO")
        for label in words
    ]  # fmt: skip
    chart = alt.Chart(theme.table(bars)).mark_bar().encode(
        x=alt.X("closer:N", title=None, sort=list(words.values()), axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("asked with:N"),
        y=alt.Y("recall:Q", title="partner among the first ten", scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("asked with:N", scale=alt.Scale(range=["#1b6ca8", "#c8541a"])),
    )  # fmt: skip
    return theme.styled(chart.properties(width=440, height=230))


PICTURES = {
    "indexing_codes": ("codes", codes),
    "indexing_graphs": ("graphs", graphs),
    "mixed": ("mixed", mixed),
}


def _by_map(names: list[str]) -> dict[str, Any]:
    """Colour and dash of each line: of those asked with images, as of the same map, but dashed."""
    alt = theme.altair()
    dashes = [[4, 3] if "," in name else [1, 0] for name in names]
    legend = _legend()
    return {
        "color": _colour(names),
        "strokeDash": alt.StrokeDash("map:N", sort=names, legend=legend,
                                     scale=alt.Scale(domain=names, range=dashes)),
        "shape": alt.Shape("map:N", sort=names, legend=legend, scale=alt.Scale(domain=names)),
    }  # fmt: skip


def _legend() -> Any:
    return theme.altair().Legend(title=None, labelLimit=0, columns=3)


def _colour(names: list[str]) -> Any:
    alt = theme.altair()
    return alt.Color("map:N", sort=names, legend=_legend(),
                     scale=alt.Scale(domain=names,
                                     range=[COLOURS[name.split(",")[0]] for name in names]))  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw the pictures of the guides.")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--out", type=Path, default=GUIDES)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, (subject, draw) in PICTURES.items():
        result = json.loads((options.results / f"{subject}.json").read_text(encoding="utf-8"))
        (options.out / f"{name}.svg").write_text(theme.svg(draw(result)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
