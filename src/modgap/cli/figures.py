"""`modgap figures`: the figures of the paper, drawn anew."""

from __future__ import annotations

from typing import Annotated

import typer

from modgap.cli._inputs import JsonOption


def figures(
    numbers: Annotated[
        list[int] | None,
        typer.Argument(metavar="[N]...", help="Figures to draw; all of them by default."),
    ] = None,
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Folder for the figures.")
    ] = "figures",
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DIR", help="Folder with real embeddings, where needed."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            metavar="T",
            help="Of the losses of figures 3 to 6; their own by default.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="R",
            help="Step size per pair of the simulations of figures 4 to 6. One that overshoots along the "
            "gap, above T^2 / (2 (|g|^2 + T)), is warned of.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="Start of the simulations of figures 4 to 6."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Draw the paper's figures anew, each from its own computation.

    For each figure: the drawing as SVG, PDF and PNG, its tables as CSV, its numbers as JSON, and for each
    claim of the paper whether they support it, contradict it, or cannot tell. Figures of trained models
    use the embeddings under --data, and the sample that ships with modgap. index.html shows all of them,
    figures.tex puts the PDFs into a paper.

    Examples
    --------
      modgap figures --out figures
      modgap figures 1 4 --out figures
      modgap figures 4 --temperature 0.2 --rate 0.005 --seed 1 --out warm
    """
    from pathlib import Path

    from modgap.cli._console import print_json, progress, say
    from modgap.errors import ArgumentError
    from modgap.paper.figures import FIGURES, make

    target = Path(out)
    if target.exists() and not target.is_dir():
        raise ArgumentError(f"`--out` `{out}` is a file; name a folder")
    wanted = list(numbers) if numbers else None
    with progress(
        "drawing", total=len(wanted or FIGURES), unit="figures", shown=not json
    ) as advance:
        made = make(
            wanted,
            target,
            data=data,
            temperature=temperature,
            rate=rate,
            seed=seed,
            progress=advance,
        )
    if json:
        print_json(made.to_dict())
        return
    for one in made.excluded:
        say(f"Left out: {one.name}, {one.reason}.")
    for figure in made.figures:
        say(f"Figure {figure.number}, {figure.title}")
        for found in figure.findings:
            say(f"  {found.verdict}: {found.claim} ({'; '.join(found.evidence)})")
    say(f"Figures: {target / 'index.html'}")
