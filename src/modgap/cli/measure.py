"""`modgap measure`: the gap between two clouds, as a table or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modgap.cli._inputs import CsvOption, JsonOption, SeedOption, TemplateOption

if TYPE_CHECKING:
    from modgap.measures import Gap


def measure(
    a: Annotated[str, typer.Argument(metavar="A", help="Queries (m, d), as PATH or PATH:KEY.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Gallery (n, d) or (t, n, d), likewise.")],
    paired: Annotated[
        bool, typer.Option("--paired", help="Row i of A belongs to row i of B: measure pairs too.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Leave the rows' lengths; by default they are made 1.")
    ] = False,
    template: TemplateOption = None,
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="T", help="Of the softmax matrices.")
    ] = 0.02,
    sample: Annotated[
        int,
        typer.Option("--sample", metavar="N", help="Most rows for measures over pairs of rows."),
    ] = 5000,
    seed: SeedOption = 0,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """Measure the gap between two clouds of embeddings.

    The gap vector points from the mean of B, the gallery, to the mean of A, the queries. What to
    know about the data stands first; then the main figures, a sentence each. Every figure is over
    all rows, but for those over pairs of rows, which take a sample of large clouds.

    Examples
    --------
      modgap measure images.npy texts.npy --paired
      modgap measure clip.npz:images clip.npz:texts --json
    """
    from modgap import measures as gap
    from modgap.cli._console import print_csv, print_json, progress
    from modgap.cli._task import one_gallery, read_gallery
    from modgap.errors import ArgumentError
    from modgap.io import read_array

    if json and csv:
        raise ArgumentError("`--json` and `--csv` exclude each other; give one of them")
    queries = read_array(a)
    gallery = one_gallery(read_gallery(b, template), b, template)
    with progress("measuring", unit="", shown=not (json or csv)):
        found = gap.measure(
            queries,
            gallery,
            paired=paired,
            normalize=not raw,
            temperature=temperature,
            sample=sample,
            seed=seed,
        )
        document = found.to_dict()  # all figures, while the bar moves
    if json:
        for side, path in (("queries", a), ("gallery", b)):
            document["inputs"][side]["path"] = path
        print_json(document)
    elif csv:
        print_csv(found.table())
    else:
        _print(found)


def _print(gap: Gap) -> None:
    from modgap.cli._console import print_table, say
    from modgap.measures.words import main_lines

    for remark in gap.remarks:
        say(str(remark))
    columns = [("measure", "name"), ("value", "number"), ("what it says", "text")]
    print_table(columns, main_lines(gap), title=gap.title)
    if not gap.paired:
        say("Where row i of A belongs to row i of B, --paired measures the pairs too.")
    drawn = (gap.queries.drawn.count, gap.gallery.drawn.count)
    if drawn != (gap.queries.rows, gap.gallery.rows):
        found = ", partners found" if gap.paired else ""
        say(
            f"Separability{found} and hubness are over {drawn[0]} and {drawn[1]} rows drawn with seed "
            f"{gap.seed}."
        )
    say("--json and --csv have every figure.")
