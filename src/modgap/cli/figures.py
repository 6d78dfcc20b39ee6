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
    json: JsonOption = False,
) -> None:
    """Draw the paper's figures anew, each from its own computation.

    Examples
    --------
      modgap figures --out figures
      modgap figures 1 4 --out figures
    """
    from pathlib import Path

    from modgap.cli._console import print_json, progress, say
    from modgap.errors import ArgumentError
    from modgap.figures import make

    target = Path(out)
    if target.exists() and not target.is_dir():
        raise ArgumentError(f"`--out` `{out}` is a file; name a folder")
    wanted = list(numbers) if numbers else None
    with progress("drawing", unit="steps", shown=not json) as advance:
        made = make(wanted, target, data=data, progress=advance)
    if json:
        print_json(made)
        return
    for entry in made:
        say(" ".join(str(value) for value in entry.values() if isinstance(value, str | int)))
    say(f"{len(made)} figures in {out}")
