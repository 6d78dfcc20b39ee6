"""Render the results on quality as the tables of the guide.

python benchmarks/pages.py            write them between their markers
python benchmarks/pages.py --check    fail if the page says something else
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import table

SETS = {
    "photos_clip_vitb32": "15,692 photos, CLIP ViT-B/32",
    "coco_clip_vitb16": "500 photos, CLIP ViT-B/16",
}


def codes(result: dict[str, Any]) -> str:
    """Return a table a set: maps by codes, each the best of its forms."""
    parts = []
    for name, columns in result["details"]["table"].items():
        shown = [column for column in columns if column != "float"]
        lines = [
            _line([SETS.get(name, name), *shown]),
            _line(["---"] * (len(shown) + 1)),
        ]
        for label in ("none", "recenter", "balanced"):
            strong = "**" if label == "balanced" else ""
            cells = [f"{strong}{_share(columns[c][label]['recall'])}{strong}" for c in shown]
            lines.append(_line([f"`{label}`", *cells]))
        gains = [columns[c]["balanced"]["over_best_without"] for c in shown]
        lines.append(_line(["gain over the better of both", *(_gain(**gain) for gain in gains)]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def graphs(result: dict[str, Any]) -> str:
    """Return the work of each map at fixed recalls, for both kinds of queries, beside what explains it."""
    hnsw, why = result["details"]["hnsw"], result["details"]["why"]
    head = [
        "map",
        "texts: work for .9",
        "over `none`",
        "work for .95",
        "images: work for .95",
        "answers near each other, texts",
        "linked",
        "images",
        "linked",
        "hubness",
        "orphans",
    ]
    lines = [_line(head), _line(["---"] * len(head))]
    for label, kinds in hnsw.items():
        texts, images = kinds["texts"], kinds["images"]
        over = texts["at 0.9"]
        ratio = "" if over["stderr"] is None else f"{over['over_none']:.2f} ± {over['stderr']:.2f}"
        own = [
            _share(figure)
            for kind in ("texts", "images")
            for figure in (
                why[label][kind]["mutual_nearness"]["mean"],
                why[label][kind]["answers_linked"],
            )
        ]
        lines.append(
            _line(
                [
                    label,
                    _count(over["work"]),
                    ratio.replace("0.", "."),
                    _count(texts["at 0.95"]["work"]),
                    _count(images["at 0.95"]["work"]),
                    *own,
                    f"{why[label]['hubness']:.1f}",
                    f"{100 * why[label]['orphans']:.0f} %",
                ]
            )
        )
    return "\n".join(lines)


PARTS: dict[str, Callable[[dict[str, Any]], str]] = {"codes": codes, "graphs": graphs}


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    text = wanted = options.page.read_text(encoding="utf-8")
    for result in table.load(options.results, tuple(PARTS)):
        name = result["subject"]
        wanted = table.between_markers(wanted, PARTS[name](result), name)
    if options.check:
        if text != wanted:
            print("the guide's tables are out of date: python benchmarks/pages.py", file=sys.stderr)
        return int(text != wanted)
    options.page.write_text(wanted, encoding="utf-8")
    return 0


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _count(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f}"


def _gain(difference: float, stderr: float) -> str:
    return f"{difference:+.3f} ± {stderr:.3f}".replace("0.", ".")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Render the results as the guide's tables.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    parser.add_argument("--results", type=Path, default=table.HERE / "results")
    parser.add_argument(
        "--page", type=Path, default=table.HERE.parent / "docs" / "guide" / "indexing.md"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
