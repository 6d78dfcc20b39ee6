"""`modgap stats`: publish the moments of a model's queries and gallery, show them, and merge them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import (
    EngineOption,
    Gallery,
    JsonOption,
    MetricOption,
    Queries,
    SchedulerOption,
    TemplateOption,
    WorkersOption,
)

if TYPE_CHECKING:
    from pathlib import Path

    from modgap._core.moments import Moments
    from modgap.closers.model_statistics import ModelStatistics
    from modgap.decisions.metric import Metric
    from modgap.io import Source

OutOption = Annotated[
    str, typer.Option("--out", metavar="FILE", help="The file to write, .safetensors.")
]
#: Longer cards are no cards.
_MOST_CARD_BYTES = 2**20


#: The commands of the group, in the order of its help.
COMMANDS = ("write", "show", "merge")


def stats() -> None:
    """Publish the moments of a model's queries and gallery, for others to fit closers to.

    Examples
    --------
      modgap stats show clip-stats.safetensors
    """


def write(
    queries: Queries,
    gallery: Gallery,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="What made the rows, with its revision.")
    ],
    out: OutOption,
    card: Annotated[
        str | None,
        typer.Option(
            "--card", metavar="FILE", help="A text: what the rows were, who made them and what for."
        ),
    ] = None,
    metric: MetricOption = "cosine",
    template: TemplateOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    json: JsonOption = False,
) -> None:
    r"""Write the moments of a model's queries and gallery, for others to fit closers to.

    Counts, means, second moments and the range of lengths leave, of rows of unit length under cosine;
    no row does. Of a side with fewer rows than dimensions they tell much all the same: the command says so.

    Examples
    --------
      modgap stats write --queries texts.npy --gallery images.npy --model openai/clip-vit-base-patch32 \
                         --card card.md --out clip-stats.safetensors
    """
    from modgap.cli._console import progress
    from modgap.cli._engine import EngineChoice
    from modgap.cli._inputs import check_out
    from modgap.cli.close import check_sources
    from modgap.closers.model_statistics import ModelStatistics
    from modgap.decisions.metric import as_metric
    from modgap.io import open_source

    seen = as_metric(metric)
    choice = EngineChoice(engine, workers, scheduler)
    target = check_out(out, suffixes=(".safetensors",))
    _check_replaceable(target)
    text = "" if card is None else _card(card)
    left, right = open_source(queries), open_source(gallery)
    check_sources(left, right)
    with choice.opened() as workplace, progress("reading", total=left.rows, shown=not json) as job:
        how = {"engine": workplace, "tell": job}
        parts, items = _read(left, right, gallery, template, seen, how)
    found = ModelStatistics(model, tuple(parts), items, seen, text)
    found.save(target)
    _say(found, str(target), json=json)


def show(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file that stats write wrote.")],
    json: JsonOption = False,
) -> None:
    """Show what a file of statistics holds: model, card, counts, and what the gap costs there.

    Examples
    --------
      modgap stats show clip-stats.safetensors
    """
    from modgap.closers.model_statistics import ModelStatistics

    _say(ModelStatistics.load(file), None, json=json)


def merge(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Files of one model, two or more.")
    ],
    out: OutOption,
    json: JsonOption = False,
) -> None:
    """Merge statistics of one model: those of all rows together.

    Examples
    --------
      modgap stats merge monday.safetensors tuesday.safetensors --out week.safetensors
    """
    from functools import reduce

    from modgap.cli._inputs import check_out
    from modgap.closers.model_statistics import ModelStatistics
    from modgap.errors import ArgumentError

    target = check_out(out, suffixes=(".safetensors",))
    _check_replaceable(target)
    if len(files) < 2:
        raise ArgumentError("`modgap stats merge` takes two files or more; got one")
    found = reduce(ModelStatistics.merge, map(ModelStatistics.load, files))
    found.save(target)
    _say(found, str(target), json=json)


def _check_replaceable(target: Path) -> None:
    """Raise an ArgumentError if a file that holds no statistics would be lost."""
    from modgap.closers.model_statistics import ModelStatistics
    from modgap.errors import ArgumentError, FormatError

    if not target.exists():
        return
    try:
        ModelStatistics.load(target)
    except FormatError:
        raise ArgumentError(
            f"`--out` `{target}` exists and is no file of statistics; choose another name"
        ) from None


def _card(path: str) -> str:
    """Return the text of a card."""
    from pathlib import Path

    from modgap.errors import FormatError
    from modgap.io._guard import check_file, shown

    source = Path(path)
    if check_file(source) > _MOST_CARD_BYTES:
        raise FormatError(f"`{shown(path)}` is larger than a mebibyte, and no card; shorten it")
    try:
        return source.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"`{shown(path)}` is no text in UTF-8; save it as such") from None


def _read(
    left: Source,
    right: Source,
    gallery: str,
    template: int | None,
    metric: Metric,
    how: dict[str, Any],
) -> tuple[list[Moments], Moments]:
    """Return the moments of two sources, the queries' in thirds; `how` has engine and tell."""
    from modgap._core.checks import check_cloud
    from modgap._core.moments import Moments
    from modgap.cli._task import check_template, one_gallery
    from modgap.closers._transport import FOLDS
    from modgap.engines import Reading, moments_of

    check_template(right.shape, gallery, template)
    if len(right.shape) == 3:
        rows = one_gallery(right.read(), gallery, template)
        rows = check_cloud(rows, "gallery", zero_rows=not metric.needs_directions)
        items = Moments.from_rows(metric.prepare(rows), precision="float64")
    else:
        how["tell"].stage("reading gallery", total=right.rows)
        (items,) = moments_of(right, Reading("gallery", metric), **how)
    how["tell"].stage("reading queries", total=left.rows)
    folds = FOLDS if left.rows >= 2 * FOLDS else 1
    return moments_of(left, Reading("queries", metric, folds=folds), **how), items


def _say(found: ModelStatistics, out: str | None, *, json: bool) -> None:
    from modgap.cli._console import figure, print_json, print_table, say

    document = _describe(found)
    if json:
        print_json({"out": out, **document} if out else document)
        return
    ours, theirs = found.counts
    rows = [
        ("queries", str(ours), "rows"),
        ("gallery", str(theirs), "rows"),
        ("dimension", str(found.width), ""),
        ("gap", figure(document["gap"]), "distance of the two means"),
    ]
    if document["bits"] is not None:
        rows.append(("gap in bits", figure(document["bits"]), "a coordinate of a stored code"))
    rows_are = "rows at unit length" if found.metric.needs_directions else "rows as they are"
    print_table([("statistics", "name"), ("", "number"), ("", "text")], rows,
                title=f"{found.model}; {rows_are}")  # fmt: skip
    if found.card:
        say(found.card)
        say()
    for line in found.remarks:
        say(f"Note: {line}.")
    if out:
        say(f"Wrote {out}. To fit to it: modgap close --stats {out} --method balanced --out FILE")


def _describe(found: ModelStatistics) -> dict[str, Any]:
    import numpy as np

    from modgap.closers._transport import merged
    from modgap.errors import ModgapError
    from modgap.measures import gap_in_bits

    queries = merged(found.queries)
    try:
        bits = gap_in_bits(queries, found.gallery, metric=found.metric).cost
    except ModgapError:  # items that are all equal, distances of rows of several lengths
        bits = None
    return {
        "model": found.model,
        "card": found.card,
        "metric": found.metric,
        "queries": found.counts[0],
        "gallery": found.counts[1],
        "dimension": found.width,
        "gap": float(np.linalg.norm(queries.mean - found.gallery.mean)),
        "bits": bits,
        "remarks": list(found.remarks),
    }
