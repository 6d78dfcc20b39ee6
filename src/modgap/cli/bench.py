"""`modgap bench`: models times data sets, resumable, as cells and one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import JsonOption, SeedOption
from modgap.cli.embed import DeviceOption, ModelDtypeOption, OfflineOption

if TYPE_CHECKING:
    from modgap.bench import Cell, Suite


def bench(
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Folder of the cells and the page.")
    ],
    models: Annotated[
        list[str] | None,
        typer.Option("--models", metavar="M,M,...", help="As modgap embed takes them; or repeat."),
    ] = None,
    data_sets: Annotated[
        list[str] | None,
        typer.Option(
            "--datasets",
            metavar="[NAME=]KIND:PATH,...",
            help="As --images of modgap embed takes them; or repeat.",
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite", metavar="paper|FILE", help="The paper's models and data, or a .toml."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DIR", help="Where the suite's data sets lie.  [default: here]"
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", metavar="FILE", help="Class names, of data sets without their own."
        ),
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(
            "--templates", metavar="FILE|NAME", help="Caption templates; the first is reported."
        ),
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(
            "--noise",
            metavar="NOISE",
            help="As modgap evaluate takes it; repeat for several.  [default: the paper's, and codes]",
        ),
    ] = None,
    device: DeviceOption = "auto",
    dtype: ModelDtypeOption = "float32",
    offline: OfflineOption = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    r"""Run the paper's experiment, and ours beside it, for every model on every data set.

    Each model on each data set is one JSON file in DIR, which is not made again; embeddings are kept
    too, so a run that was stopped goes on where it was. compare.html, compare.csv and compare.tex put
    all cells beside one another. A model or a data set that cannot be had is one line, not the end.

    Examples
    --------
      modgap bench --models openclip:ViT-B-32/openai,hf:google/siglip-base-patch16-224 \
                   --datasets cifar10:cifar-10-batches-bin,coco:captions_val2017.json --out results
      modgap bench --suite paper --data datasets --out results
    """
    from modgap import bench as room
    from modgap.cli._console import print_json, progress, say
    from modgap.errors import ModelError

    chosen = _suite(models, data_sets, suite, data, classes, templates, noise)
    cells: list[Cell] = []
    with progress("loading", unit="steps", shown=not json) as job:

        def told(stage: str, total: int | None) -> Any:
            job.stage(stage, total=total)
            return job

        for cell in room.run(
            chosen, out, device=device, dtype=dtype, offline=offline, seed=seed, progress=told
        ):
            cells.append(cell)
            if not json:
                say(_line(cell))
    made = [cell.document for cell in cells if cell.document is not None]
    if not made:
        raise ModelError(f"no cell could be made; the first: {cells[0].error}")
    pages = _compare(made, Path(out))
    if json:
        print_json(
            {
                "cells": [
                    {"model": c.model, "dataset": c.dataset, "file": str(c.path) if c.document else None,
                     "kept": c.kept, "error": c.error}
                    for c in cells
                ],
                "pages": pages,
            }
        )  # fmt: skip
    else:
        say(f"{len(made)} of {len(cells)} cells; compared in {', '.join(pages)}")


def _suite(
    models: list[str] | None,
    data_sets: list[str] | None,
    suite: str | None,
    data: str | None,
    classes: str | None,
    templates: str | None,
    noise: list[str] | None,
) -> Suite:
    from modgap.bench import DataSet, Suite, read_suite
    from modgap.bench.suite import NOISES
    from modgap.errors import ArgumentError
    from modgap.robustness.noise import parse

    noises = list(noise or ())
    for word in noises:
        parse(word)
    if suite is not None:
        if models or data_sets or classes or templates:
            raise ArgumentError(
                "`--suite` names models and data sets itself; leave out --models, --datasets, --classes "
                "and --templates"
            )
        found = read_suite(suite, data=data)
        return Suite(found.models, found.datasets, noises or found.noises)
    if data is not None:
        raise ArgumentError("`--data` is where the data sets of a `--suite` lie; leave it out")
    if not models or not data_sets:
        raise ArgumentError("give `--models` and `--datasets`, or a `--suite`")
    entries = []
    for word in _words(data_sets):
        name, equals, path = word.rpartition("=")
        entries.append(DataSet(name if equals else Path(path).name, path, classes, templates))
    if len({entry.name for entry in entries}) < len(entries):
        raise ArgumentError(
            "two data sets have one name; name them, as in --datasets mine=folder:PATH"
        )
    return Suite(_words(models), entries, noises or NOISES)


def _words(values: list[str]) -> list[str]:
    return [word.strip() for value in values for word in value.split(",") if word.strip()]


def _line(cell: Cell) -> str:
    """Return what became of a cell, as one line."""
    if cell.document is None:
        return f"{cell.model}, {cell.dataset}: left out: {cell.error}"
    kept = " (kept)" if cell.kept else ""
    return f"{cell.model}, {cell.dataset}{kept}: {cell.document['report']['verdict']}"


def _compare(documents: list[dict[str, Any]], folder: Path) -> list[str]:
    """Write the page and the tables of all cells; return their names."""
    from modgap import report
    from modgap.io.atomic import atomic_path

    found = report.compare(documents, title="Models and data sets compared")
    texts = {
        "compare.csv": report.comparison_csv(found),
        "compare.tex": report.comparison_latex(found),
    }
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    page = report.write_comparison(found, folder / "compare.html")
    return [str(page), *(str(folder / name) for name in texts)]
