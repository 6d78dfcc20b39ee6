"""Render the README's table from the results: ``python benchmarks/table.py [--check]``."""

from __future__ import annotations

import json
import sys
from typing import Any

from _harness import RESULTS, ROOT

START, END = "<!-- benchmarks:start -->", "<!-- benchmarks:end -->"


def table() -> str:
    documents = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    lines = ["| work | size | measured | bar | holds |", "| --- | --- | --- | --- | --- |"]
    for document in documents:
        for row in document["rows"]:
            value, text = measured(row)
            lines.append(
                f"| {row['work']} | {row['size']} | {text} | {row['bar']} | {holds(row['bar'], value)} |"
            )
    facts = documents[0]["machine"]
    lines += [
        "",
        f"{facts['processor']}, {facts['cores']} cores, shared with other work; "
        f"NumPy {documents[0]['versions']['numpy']}, {documents[0]['date']}.",
    ]
    return "\n".join(lines)


def measured(row: dict[str, Any]) -> tuple[float, str]:
    if "seconds" in row:
        return row["seconds"], f"{row['seconds']:.2f} s"
    value = row.get("speedup", row.get("ratio"))
    text = f"{value:.2f}x" if value < 10 else f"{value:.0f}x"
    if "largest_error" in row:
        text += f", off by {row['largest_error']:.0e} at most"
    if "peak_mib_beyond_inputs" in row:
        text += f", {row['peak_mib_beyond_inputs']:.0f} MiB"
    return value, text


def holds(bar: str, value: float) -> str:
    if bar.startswith("independent"):
        return "yes" if value < 1.2 else "**no**"
    limit = float(bar.strip("<>= xs"))
    return "yes" if (value <= limit if bar.startswith("<") else value >= limit) else "**no**"


def main() -> int:
    path = ROOT / "README.md"
    text = path.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    wanted = f"{before}{START}\n{table()}\n{END}{after}"
    if "--check" in sys.argv:
        if wanted != text:
            print("README.md differs from benchmarks/results; run python benchmarks/table.py")
        return int(wanted != text)
    path.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
