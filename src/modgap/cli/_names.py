"""What rows are called on a page: from files that are named, or from what stands beside the embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from modgap.cli._task import TaskInputs
    from modgap.evaluation.tasks import Task

QueryNamesOption = Annotated[
    str | None,
    typer.Option(
        "--query-names",
        metavar="FILE",
        help="What each query is called, in order: a .txt with one a line, or a .json list.  [default: "
        "captions, file names and thumbnails beside embeddings of modgap embed or clip-retrieval]",
    ),
]
ItemNamesOption = Annotated[
    str | None,
    typer.Option("--item-names", metavar="FILE", help="The same of each gallery row."),
]


def names_of(
    task: Task,
    inputs: TaskInputs,
    queries: str,
    gallery: str,
    query_names: str | None,
    item_names: str | None,
) -> dict[str, Any]:
    """Return names and pictures of both sides, and the model, as `report.summarize` takes them.

    Raises
    ------
    ArgumentError
        Both --item-names and --classes, which name the same rows.
    DataError, FormatError
        A file of names cannot be used.
    """
    from modgap.errors import ArgumentError
    from modgap.io import read_strings
    from modgap.io._guard import shown
    from modgap.io.metadata import read_metadata
    from modgap.report.naming import rows_of

    if item_names is not None and inputs.classes is not None:
        raise ArgumentError("`--item-names` and `--classes` name the same rows; give one of them")
    rows = rows_of(task)
    found: dict[str, Any] = {"model": None}
    pictures = []
    sides = (
        ("query_names", queries, query_names, rows[0]),
        ("classes", gallery, item_names or inputs.classes, rows[1]),
    )
    for name, spec, given, count in sides:
        beside = read_metadata(spec, count)
        names = beside.names if given is None else [shown(one) for one in read_strings(given)]
        found[name] = names
        found["model"] = found["model"] or beside.model
        pictures.append(beside.pictures)
    return {**found, "pictures": tuple(pictures)}
