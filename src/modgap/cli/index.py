"""`modgap index`: real indexes. `study` is what they find, before closing and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import INPUT, CsvOption, JsonOption, Queries, SeedOption

if TYPE_CHECKING:
    from modgap.index import CodecRow, IndexStudy

#: Commands of this group.
COMMANDS = ("study",)


def index() -> None:
    """Study real indexes: what each finds of the exact answers, before closing the gap and after."""


def study(
    queries: Queries,
    gallery: Annotated[
        str, typer.Option("--gallery", metavar=INPUT, help="What is searched: embeddings (n, d).")
    ],
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            metavar="E",
            help="Repeat for several: faiss, usearch, hnswlib, lancedb, qdrant, pgvector; each tries its "
            "own codecs, or those of it that --codec names.  [default: faiss]",
        ),
    ] = None,
    codec: Annotated[
        list[str] | None,
        typer.Option(
            "--codec",
            metavar="C",
            help="Repeat for several: ENGINE:CODEC, such as faiss:SQ4 or faiss:OPQ64,IVF256,PQ64 (any "
            "factory string), a name such as qdrant-binary or pgvector-bit, or faiss:PATH, a trained index "
            "of the whole gallery as it is.",
        ),
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--maps",
            metavar="M,M,...",
            help="Closers to store the gallery under, separated by commas; with +lengths codecs that keep "
            "signs alone store lengths as signs too, and others leave the map out.  [default: "
            "none,recenter,balanced,balanced+lengths]",
        ),
    ] = None,
    closure: Annotated[
        list[str] | None,
        typer.Option(
            "--closure",
            metavar="FILE",
            help="Also a closure that modgap close wrote; repeat for several.",
        ),
    ] = None,
    fit_queries: Annotated[
        str | None,
        typer.Option(
            "--fit-queries",
            metavar=INPUT,
            help="What maps are fitted to, and --queries all judge. By default one half of --queries is "
            "fitted to, and the other judges.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar=INPUT,
            help="The right gallery row of each query, as integers; with --item-labels its label.",
        ),
    ] = None,
    item_labels: Annotated[
        str | None,
        typer.Option(
            "--item-labels",
            metavar=INPUT,
            help="The label of each gallery row: rows with a query's own label are right.",
        ),
    ] = None,
    rescore: Annotated[
        str,
        typer.Option(
            "--rescore",
            metavar="R,R,...",
            help="Oversampling: so many times as many candidates are put in order by their floats.",
        ),
    ] = "1,2,4",
    reference: Annotated[
        int | None,
        typer.Option(
            "--reference",
            metavar="N",
            help="Rows held out of the gallery as queries of its own kind, a tenth of it at most; 0 for "
            "none.  [default: a third of --sample]",
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            metavar="N",
            help="Most queries that judge, drawn at random.  [default: 1000, and fewer past 30,000 rows]",
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option("--metric", metavar="cosine|ip", help="How the exact answers are found."),
    ] = "cosine",
    seed: SeedOption = 0,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="Also a page with pictures, .html."),
    ] = None,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    r"""Show what real indexes find of the exact answers, before closing the gap and after.

    Each codec of each engine stores the gallery as it is, recentred and balanced, and is searched with
    queries that no map was fitted to. Recall is the share of the exact 1, 10 and 100 nearest (float, rows
    as they are) that it finds; beside it stands what rows of the gallery's own kind find in the same
    index: the difference is the cost of the gap. Graphs and inverted lists are searched at several efforts
    too, for the work that a recall of .9 takes. Rows appear as they are done; a codec that cannot be built
    is one line.

    Examples
    --------
      modgap index study --queries texts.npy --gallery images.npy
      modgap index study --queries texts.npy --gallery images.npy --codec faiss:IVF,SQ4 --codec usearch-b1 \
                         --out study.html
      modgap index study --queries texts.npy --gallery images.npy --codec faiss:trained.index --json
    """
    from modgap.cli._console import print_csv, print_json
    from modgap.cli._inputs import check_out
    from modgap.errors import ArgumentError

    if json and csv:
        raise ArgumentError("`--json` and `--csv` exclude each other; give one of them")
    target = None if out is None else check_out(out, suffixes=(".html",))
    if target is not None:
        _check_page()
    given = {"queries": queries, "gallery": gallery}
    found = _studied(
        given,
        engine or [],
        codec or [],
        _maps(maps, closure),
        {"fit_queries": fit_queries, "labels": labels, "item_labels": item_labels},
        {"rescore": _factors(rescore), "reference": reference, "sample": sample, "metric": metric,
         "seed": seed},
        quiet=json or csv,
    )  # fmt: skip
    if target is not None:
        from modgap.report.index_page import write_index_page

        write_index_page(found, target, inputs=given)
    if csv:
        print_csv(found.table())
    elif json:
        print_json({**found.to_dict(), "inputs": given})
    else:
        _print(found, out)


def _studied(
    given: dict[str, str],
    engines: list[str],
    codecs: list[str],
    maps: list[Any],
    beside: dict[str, str | None],
    settings: dict[str, Any],
    *,
    quiet: bool,
) -> IndexStudy:
    """Return the study of what the paths hold, with a bar and a line a row on a terminal."""
    from modgap.cli._console import progress
    from modgap.index import study as study_of
    from modgap.index.choosing import chosen_codecs, row_count
    from modgap.io import read_array, read_labels

    total = row_count(chosen_codecs(engines, codecs), maps)  # before anything is read
    fit_queries, labels, items = (beside[name] for name in ("fit_queries", "labels", "item_labels"))
    asked, rows = read_array(given["queries"]), read_array(given["gallery"])
    known = None if fit_queries is None else read_array(fit_queries)
    own, theirs = (None if path is None else read_labels(path).labels for path in (labels, items))
    with progress("studying", total=total, unit="codecs", shown=not quiet) as advance:

        def on_row(row: CodecRow) -> None:
            advance.note(_line(row))
            advance(1)

        return study_of(
            asked,
            rows,
            engines=engines,
            codecs=codecs,
            maps=maps,
            fit_queries=known,
            labels=own,
            item_labels=theirs,
            on_row=on_row,
            **settings,
        )


def _maps(words: list[str] | None, files: list[str] | None) -> list[Any]:
    """Return closers by name and closures from files."""
    from modgap.closers import Closure, MixedClosure
    from modgap.errors import ArgumentError, ClosureError
    from modgap.index.running import MAPS

    names = [part.strip() for word in words or MAPS for part in word.split(",") if part.strip()]
    if not names and not files:
        raise ArgumentError("`--maps` names no map; none leaves the rows as they are")
    saved = [Closure.load(path) for path in files or ()]
    for path, one in zip(files or (), saved, strict=True):
        if isinstance(one, MixedClosure):
            raise ClosureError(
                f"`--closure` `{path}` maps each modality of a mixed collection on its own; apply it "
                "first, and study what it wrote"
            )
    return [*dict.fromkeys(names), *saved]


def _factors(words: str) -> list[int]:
    from modgap.errors import ArgumentError

    try:
        return [int(word) for word in words.split(",")]
    except ValueError:
        raise ArgumentError(
            f"`--rescore` must be whole numbers separated by commas; got {words!r}"
        ) from None


def _check_page() -> None:
    """Raise a MissingExtraError where the page could not be drawn, before an hour of work."""
    from modgap._core.extras import require

    for module in ("jinja2", "altair", "vl_convert"):
        require(module, "report")


def _line(row: CodecRow) -> str:
    """Return a row that is done, as one line."""
    if row.failed is not None:
        return f"{row.label} {row.map} failed: {row.failed}"
    recall = ", ".join(f"@{k} {value:.3f}" for k, value in row.recall.items())
    return f"{row.label} {row.map}: recall {recall}; built in {row.build_seconds:.1f} s"


def _print(found: IndexStudy, out: str | None) -> None:
    from modgap.cli._console import print_table, say

    for sentence in found.text:
        say(sentence)
    say()
    setting = found.setting
    columns = [("codec", "text"), ("map", "name"), ("bytes", "number")]
    columns += [(f"@{k}", "number") for k in setting["depths"]]
    columns += [(f"x{factor}", "number") for factor in _oversampled(found)]
    if setting["own_kind"]:
        columns.append(("own", "number"))
    if setting["right_exact"] is not None:
        columns.append(("right", "number"))
    if any(row.sweep for row in found.done):
        columns.append(("work", "number"))
    print_table(
        columns,
        [_cells(row, found) for row in found.done],
        title=_title(found),
        caption=_caption(found),
    )
    seen: set[str] = set()
    for row in found.rows:
        if row.failed is not None and row.failed not in seen:
            say(f"{row.label} failed: {row.failed}")
        for note in set(row.notes) - seen:
            say(note)
        seen |= {str(row.failed), *row.notes}
    say("--json and --csv have every figure: errors, times to build and to search, all efforts.")
    if out is not None:
        say(f"Page: {out}")


def _oversampled(found: IndexStudy) -> list[int]:
    return [factor for factor in found.setting["rescore"] if factor > 1]


def _depth(found: IndexStudy) -> str:
    """Return the depth of the figures that have one: ten, or the largest below."""
    return str(max(k for k in found.setting["depths"] if k <= 10))


def _cells(row: CodecRow, found: IndexStudy) -> list[str]:
    from modgap.cli._console import figure

    setting, depth = found.setting, _depth(found)
    cells = [row.label, row.map, f"{row.bytes_per_vector:,.0f}"]
    cells += [figure(row.recall[str(k)]) for k in setting["depths"]]
    cells += [figure(row.recall_after(factor)[depth]) for factor in _oversampled(found)]
    if setting["own_kind"]:
        cells.append(figure(None if row.own is None else float(row.own[depth].mean())))
    if setting["right_exact"] is not None:
        cells.append(figure(None if row.right is None else float(row.right[depth].mean())))
    if any(one.sweep for one in found.done):
        cells.append(_work(row))
    return cells


def _work(row: CodecRow) -> str:
    work = row.work_at()
    if not row.sweep:
        return "-"
    if work is None:
        return "never"
    return f"{work:,.0f}" if row.counted else f"{1e6 * work:,.0f} µs"


def _title(found: IndexStudy) -> str:
    setting = found.setting
    return (
        f"Recall in {setting['stored']:,} rows of {setting['dimension']} dimensions; "
        f"{setting['judged']:,} queries judge, of {setting['queries']:,}; maps are fitted to "
        f"{setting['fit']:,}"
    )


def _caption(found: IndexStudy) -> str:
    setting, depth = found.setting, _depth(found)
    parts = ["@k: share of the exact k nearest, of floats, that is found"]
    if len(setting["rescore"]) > 1:
        parts.append(f"x2: @{depth} of twice as many candidates, rescored on the floats")
    if setting["own_kind"]:
        where = "left out of its own answers" if setting["own_kind_stored"] else "held out of it"
        parts.append(f"own: @{depth} of {setting['own_kind']} rows of the gallery, each {where}")
    if any(row.sweep for row in found.done):
        parts.append("work: distance computations, or µs, a query for a recall@10 of .9")
    if setting["right_exact"] is not None:
        exact = ", ".join(f"@{k} {value:.3f}" for k, value in setting["right_exact"].items())
        parts.append(f"right: @{depth} by the labels; exact answers {exact}")
    return "; ".join(parts)
