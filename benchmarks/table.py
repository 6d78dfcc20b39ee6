"""Render the results as the table of docs/speed.md.

python benchmarks/table.py            write it between the page's two markers
python benchmarks/table.py --check    fail if the page says something else
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from _subjects import SPEED

HERE = Path(__file__).parent


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    text = options.page.read_text(encoding="utf-8")
    try:
        wanted = between_markers(text, table(load(options.results)))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if options.check:
        if text != wanted:
            print("the page's table is out of date: python benchmarks/table.py", file=sys.stderr)
        return int(text != wanted)
    options.page.write_text(wanted, encoding="utf-8")
    return 0


def load(folder: Path, order: tuple[str, ...] = SPEED) -> list[dict[str, Any]]:
    """Return the results of these subjects in a folder, in this order; speed by default."""
    paths = [path for name in order if (path := folder / f"{name}.json").exists()]
    if not paths:
        raise ValueError("no results to render: python benchmarks/run.py")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as Markdown: a row for each measurement, and a line on the machine."""
    lines = ["| work | measured | bar | |", "| --- | --- | --- | --- |"]
    for result in results:
        for row in result["rows"]:
            holds = "holds" if row["holds"] else "**falls short**"
            lines.append(f"| {row['work']} | {_number(row)} | {_bar(row)} | {holds} |")
    return "\n".join([*lines, "", *_machines(results)])


def between_markers(text: str, content: str, name: str = "benchmarks") -> str:
    """Return the text with `content` between the two markers of a name."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(end) < text.index(start):
        raise ValueError(f"the page must hold {start} and, below it, {end}, once each")
    before, rest = text.split(start)
    return f"{before}{start}\n{content}\n{end}{rest.split(end)[1]}"


def _number(row: dict[str, Any]) -> str:
    value, unit = row["value"], row.get("unit", "")
    if 0 < abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    digits = 0 if abs(value) >= 20 else 1 if abs(value) >= 5 else 2
    return f"{value:.{digits}f}{unit if unit in ('', 'x') else ' ' + unit}"


def _bar(row: dict[str, Any]) -> str:
    unit = row.get("unit", "")
    return row["bar"] + (unit if unit in ("", "x") else f" {unit}")


def _machines(results: list[dict[str, Any]]) -> list[str]:
    """Return one sentence for each machine that took part."""
    seen: dict[str, None] = {}
    for result in results:
        machine, versions = result["machine"], result["versions"]
        gpu = (
            f"{machine['accelerator']}, PyTorch {versions['torch']}; "
            if machine["accelerator"]
            else ""
        )
        seen[
            f"{gpu}{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
            f"{machine['memory_gib']:.0f} GiB; Python {versions['python']}, "
            f"NumPy {versions['numpy']}; {result['date']}."
        ] = None
    return list(seen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Render the results as the table of speed.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "speed.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
