"""`modgap verify`: every statement of the theory on the data at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import (
    INPUT,
    CsvOption,
    JsonOption,
    MetricOption,
    SeedOption,
    TemplateOption,
    checked_draws,
)
from modgap.cli._task import ClassesOption

if TYPE_CHECKING:
    import numpy as np

    from modgap.paper import Verification

#: Statements that a bar counts; the caller's own closures come on top.
_STATEMENTS = 47


def verify(
    queries: Annotated[
        str | None,
        typer.Argument(metavar="[QUERIES]", help="What searches, (m, d); the sample by default."),
    ] = None,
    gallery: Annotated[
        str | None, typer.Argument(metavar="[GALLERY]", help="What is searched, (n, d).")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar=INPUT,
            help="The gallery row that belongs to each query, as numbers, or as names together with "
            "--classes: statements on training need pairs.",
        ),
    ] = None,
    classes: ClassesOption = None,
    paired: Annotated[
        bool,
        typer.Option("--paired", help="Row i of the queries and of the gallery belong together."),
    ] = False,
    closure: Annotated[
        list[str] | None,
        typer.Option(
            "--closure",
            metavar="FILE",
            help="A file that modgap close wrote, whose promise is checked too; repeat for several.",
        ),
    ] = None,
    metric: MetricOption = "cosine",
    template: TemplateOption = None,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            metavar="T",
            help="Of the losses, by squared distances: CLIP's is 0.02.",
        ),
    ] = 0.02,
    sigma: Annotated[
        float, typer.Option("--sigma", metavar="S", help="Noise per coordinate of the gallery.")
    ] = 0.022,
    draws: Annotated[
        int,
        typer.Option(
            "--draws",
            metavar="N",
            callback=checked_draws,
            help="Draws of the gallery's noise, at least 20; of large galleries fewer are taken.",
        ),
    ] = 400,
    seed: SeedOption = 0,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="Write the table to a .csv or .json file too."),
    ] = None,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """Check every statement of the theory, the paper's and ours, on embeddings.

    For each: what it predicts, what is observed without its formula, how far they are apart, and whether
    that passes; or why it has nothing to say about this data. Without arguments the sample that ships
    with modgap is looked at. Exit code 1 if a statement fails, 2 for a mistake in the call.

    Examples
    --------
      modgap verify
      modgap verify images.npy texts.npy --labels labels.npy --out verified.csv
      modgap verify images.npy captions.npy --paired --json
    """
    from modgap.cli._console import print_csv, print_json, progress
    from modgap.cli._inputs import check_out
    from modgap.closers import load
    from modgap.errors import ArgumentError
    from modgap.paper import verify as verify_clouds

    if json and csv:
        raise ArgumentError("`--json` and `--csv` both print to stdout; give one of them")
    target = None if out is None else check_out(out, suffixes=(".csv", ".json"))
    own = [load(path) for path in closure or ()]
    if queries is None and gallery is None:
        _refuse(labels, classes, paired)
        y, x, rows = _sample(template)
    elif queries is None or gallery is None:
        raise ArgumentError("give both QUERIES and GALLERY, or neither for the sample")
    else:
        y, x, rows = _clouds(queries, gallery, labels, classes, template)
    total = _STATEMENTS + len(own)
    with progress("checking", total=total, unit="statements", shown=not (json or csv)) as advance:
        found = verify_clouds(
            y,
            x,
            rows,
            paired=paired,
            metric=metric,
            temperature=temperature,
            sigma=sigma,
            draws=draws,
            seed=seed,
            closures=own,
            progress=advance,
        )
    if target is not None:
        _write(found, target)
    if json:
        print_json(found.to_dict())
    elif csv:
        print_csv(found.table())
    else:
        _print(found, out)
    if not found.passed:
        raise typer.Exit(1)


def _clouds(
    queries: str, gallery: str, labels: str | None, classes: str | None, template: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return queries, gallery, and the row that belongs to each query, from files."""
    from modgap.cli._task import check_classes, one_gallery, read_gallery
    from modgap.errors import ArgumentError
    from modgap.io import read_array, read_labels, read_strings

    if classes is not None and labels is None:
        raise ArgumentError(
            "`--classes` names what --labels are about; give these, or leave it out"
        )
    found = one_gallery(read_gallery(gallery, template), gallery, template)
    if labels is None:
        return read_array(queries), found, None
    names = None if classes is None else read_strings(classes)
    check_classes(names, found)
    given = read_labels(labels, classes=names)
    if given.classes is not None and names is None:
        raise ArgumentError(
            f"`--labels` {labels} holds class names; say which gallery row each is with --classes FILE"
        )
    return read_array(queries), found, given.labels


def _refuse(labels: str | None, classes: str | None, paired: bool) -> None:
    from modgap.errors import ArgumentError

    if labels is not None or classes is not None or paired:
        raise ArgumentError(
            "`--labels`, `--classes` and `--paired` need QUERIES and GALLERY before them; the sample has "
            "its own"
        )


def _sample(template: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    from modgap.errors import ArgumentError
    from modgap.samples import load_sample

    sample, chosen = load_sample(), template or 0
    if not 0 <= chosen < len(sample.texts):
        raise ArgumentError(
            f"`--template` must lie between 0 and {len(sample.texts) - 1} for the sample; got {chosen}"
        )
    return sample.images, sample.texts[chosen], sample.labels


def _write(found: Verification, target: Any) -> None:
    """Write the table as CSV, or the document as JSON."""
    import csv
    import json

    from modgap.io.atomic import atomic_path

    with (
        atomic_path(target) as path,
        path.open("w", encoding="utf-8", newline="") as file,
    ):
        if target.suffix.lower() == ".json":
            json.dump(found.to_dict(), file, indent=2, allow_nan=False)
            file.write("\n")
            return
        rows = found.table()
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _print(found: Verification, out: str | None) -> None:
    from modgap.cli._console import print_table, say

    data = found.data
    applied = [check for check in found.checks if check.passed is not None]
    columns = [
        ("statement", "text"),
        ("predicted", "number"),
        ("observed", "number"),
        ("residual", "number"),
        ("tolerance", "number"),
        ("verdict", "name"),
    ]
    rows = [
        [
            check.name,
            *map(_figure, (check.prediction, check.observation, check.residual, check.tolerance)),
            check.verdict,
        ]
        for check in applied
    ]
    used = [f"{data[f'{side}_used']:,} of {data[side]:,}" for side in ("queries", "gallery")]
    title = (
        f"{used[0]} queries, {used[1]} items, dimension {data['dimension']}, rank {data['rank']}, "
        f"{data['metric']}"
    )
    print_table(columns, rows, title=title)
    absent: dict[str, list[str]] = {}
    for check in found.checks:
        if check.passed is None:
            absent.setdefault(check.reason, []).append(check.name)
    for reason, names in absent.items():
        say(f"Does not apply: {', '.join(names)}: {reason}.")
    for check in found.failed:
        say(
            f"Fails: {check.name}: {check.statement}. Observed by {check.observed_by}; tolerance: "
            f"{check.reason}."
        )
    passed = len(applied) - len(found.failed)
    say(
        f"{passed} of {len(applied)} statements that apply here pass; --json says what each states and how "
        "it was observed."
    )
    if out is not None:
        say(f"Table: {out}")


def _figure(value: float | None) -> str:
    """Return a figure with three digits, whatever its size."""
    if value is None or value != value:
        return "-"
    return "0" if value == 0 else f"{value:.3g}"
