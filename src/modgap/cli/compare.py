"""`modgap compare`: finished studies beside one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modgap.cli._inputs import CsvOption, JsonOption


def compare(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY...",
            help="Files: what report --json or evaluate --json printed, or cells of modgap bench.",
        ),
    ],
    names: Annotated[
        str | None,
        typer.Option("--names", metavar="A,B,...", help="One a study.  [default: their titles]"),
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", metavar="TEXT", help="Headline of the page.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="A page to write, .html.")
    ] = None,
    latex: Annotated[
        bool, typer.Option("--latex", help="Print a LaTeX table (booktabs) and nothing else.")
    ] = False,
    csv: CsvOption = False,
    json: JsonOption = False,
) -> None:
    """Compare several finished studies: models, data sets, closers or codes.

    A row a problem: how large the gap is, what it costs in bits, the closer, the answers kept, and
    what survives each noise before and after closing.

    Examples
    --------
      modgap report a.npy texts.npy --labels labels.npy --json > a.json
      modgap report b.npy texts.npy --labels labels.npy --json > b.json
      modgap compare a.json b.json --names "ViT-B/16,ViT-L/14" --out compare.html
    """
    from modgap import report
    from modgap.cli._console import print_json, say
    from modgap.cli._inputs import check_out
    from modgap.errors import ArgumentError
    from modgap.io._guard import shown

    if sum((latex, csv, json)) > 1:
        raise ArgumentError("`--latex`, `--csv` and `--json` print to stdout; give one of them")
    target = None if out is None else check_out(out, suffixes=(".html", ".htm"))
    words = None if names is None else [shown(name.strip()) for name in names.split(",")]
    found = report.compare(
        [{"title": Path(path).stem, **report.read_study(path)} for path in studies],
        words,
        title=None if title is None else shown(title),
    )
    if target is not None:
        report.write_comparison(found, target)
    if json:
        print_json(found)
    elif csv:
        typer.echo(report.comparison_csv(found), nl=False)
    elif latex:
        typer.echo(report.comparison_latex(found), nl=False)
    else:
        _print(found)
        if target is not None:
            say(f"Page: {target}")


def _print(found: dict[str, Any]) -> None:
    from modgap.cli._console import figure, print_table

    rows = found["rows"]
    print_table(
        [
            ("study", "text"), ("gap", "number"), ("bits", "number"), ("closer", "name"),
            ("kept", "number"), ("right", "number"),
        ],
        [
            [
                _label(row, rows), figure(row["gap"]), figure(row["bits"]), row["closer"],
                figure(row["agreement"]), figure(row["accuracy"]["after"]),
            ]
            for row in rows
        ],
    )  # fmt: skip
    pairs = [(row, noise) for noise in found["noises"] for row in rows if noise in row["noises"]]
    if pairs:
        print_table(
            [("noise", "name"), ("study", "text"), ("before", "number"), ("after", "number")],
            [
                [
                    noise, _label(row, rows), figure(row["noises"][noise]["before"]),
                    figure(row["noises"][noise]["after"]),
                ]
                for row, noise in pairs
            ],
            title="Share of answers that survive",
        )  # fmt: skip


def _label(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return a study's name, with the problem where it has several."""
    name: str = row["name"]
    several = sum(other["name"] == name for other in rows) > 1
    return f"{name}: {row['problem']}" if several else name
