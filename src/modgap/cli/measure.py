"""`modgap measure`: the gap between two clouds, as a table or as JSON."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modgap.cli._inputs import JsonOption, SeedOption, TemplateOption

#: Where a figure lies in the document of `modgap.measures.measure`, its name, and what it means.
FIGURES = (
    ("centroid_gap", "centroid gap", "distance of the two means; 0 is no gap"),
    ("centroid_gap_floor", "  floor", "what two samples of one cloud would show by chance"),
    ("squared_gap_per_dimension", "squared gap / d", "the same, squared and per dimension"),
    ("centroid_cosine", "cosine of the means", "1 where both clouds point the same way"),
    ("paired_distance", "paired distance", "mean distance of a row to its partner"),
    ("paired_cosine", "paired cosine", "mean cosine of a row with its partner"),
    ("matched_mismatched_margin", "pair margin", "partners' cosine minus that of strangers"),
    (
        "relative_modality_gap",
        "relative gap (RMG)",
        "distance of partners against distances within",
    ),
    ("relative_alignment.a_to_b", "queries find theirs", "share nearest to their own partner"),
    ("relative_alignment.b_to_a", "items find theirs", "the same the other way round"),
    ("relative_alignment.mutual", "mutual matches", "share of pairs nearest to each other"),
    ("alignment", "alignment", "mean squared distance of partners"),
    ("linear_separability", "separability", "held-out accuracy of a linear probe; .5 is chance"),
    ("frechet_distance.squared", "Frechet distance^2", "of both clouds as Gaussians"),
    ("frechet_distance.centroid", "  of the means", "its part that the means make"),
    ("frechet_distance.shape", "  of the shapes", "its part that the covariances make"),
    (
        "gap_variance_ratio.queries",
        "queries along gap",
        "their variance there over the average one",
    ),
    ("gap_variance_ratio.gallery", "gallery along gap", "the same for the gallery"),
    (
        "doubly_stochastic_deviation.queries_mean",
        "imbalance, queries",
        "of the softmax masses; 0 is doubly stochastic",
    ),
    (
        "doubly_stochastic_deviation.gallery_mean",
        "imbalance, gallery",
        "the same the other way round",
    ),
    ("difference_cosines.queries.rms", "q. differences", "cosine with the gap; 0 is orthogonal"),
    ("difference_cosines.gallery.rms", "g. differences", "the same within the gallery"),
    ("hubness.skewness", "hubness", "skewness of how often an item is found"),
    ("queries.rank", "rank, queries", "dimensions that the queries span"),
    (
        "gallery.rank",
        "rank, gallery",
        "the same; below d something can be closed",
    ),
    ("queries.effective_rank", "effective rank, q.", "dimensions that the queries really use"),
    ("gallery.effective_rank", "effective rank, g.", "dimensions that the gallery really uses"),
    ("queries.mean_cosine", "cone, queries", "mean cosine within; 0 is spread out, 1 a point"),
    ("gallery.mean_cosine", "cone, gallery", "the same for the gallery"),
    (
        "queries.uniformity",
        "uniformity, queries",
        "log mean Gaussian potential; lower is more even",
    ),
    ("gallery.uniformity", "uniformity, gallery", "the same for the gallery"),
)


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
) -> None:
    """Measure the gap between two clouds of embeddings.

    The gap vector points from the mean of B, the gallery, to the mean of A, the queries. Every
    figure is over all rows, but for those over pairs of rows, which take a sample of large clouds.

    Examples
    --------
      modgap measure images.npy texts.npy --paired
      modgap measure clip.npz:images clip.npz:texts --json
    """
    from modgap import measures as gap
    from modgap.cli._console import print_json, progress
    from modgap.cli._task import one_gallery, read_gallery
    from modgap.io import read_array

    queries = read_array(a)
    gallery = one_gallery(read_gallery(b, template), b, template)
    with progress("measuring", unit="", shown=not json):
        found = gap.measure(
            queries,
            gallery,
            paired=paired,
            normalize=not raw,
            temperature=temperature,
            sample=sample,
            seed=seed,
        )
    if json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from modgap.cli._console import figure, print_table, say

    rows = [
        (name, figure(value), meaning)
        for path, name, meaning in FIGURES
        if (value := _look_up(found, path)) is not None
    ]
    counts, lengths = found["rows"], "unit length" if found["normalize"] else "their own length"
    print_table(
        [("measure", "name"), ("value", "number"), ("what it says", "text")],
        rows,
        title=f"{counts['queries']} queries, {counts['gallery']} items, "
        f"{found['dimension']} dimensions, rows of {lengths}",
    )
    if not found["paired"]:
        say("Where row i of A belongs to row i of B, --paired measures the pairs too.")
    sample = found["sample"]
    if counts != {side: sample[side] for side in counts}:
        say(
            f"Over {sample['queries']} and {sample['gallery']} rows drawn with seed "
            f"{sample['seed']}: {', '.join(sample['measures'])}."
        )


def _look_up(document: Any, path: str) -> Any:
    for key in path.split("."):
        if document is None:
            return None
        document = document[key]
    return document
