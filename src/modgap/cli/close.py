"""`modgap close`: fit a closer to two sources and save the closure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import (
    INPUT,
    METHOD_NAMES,
    ComponentsOption,
    EngineOption,
    JsonOption,
    MetricOption,
    SchedulerOption,
    TemplateOption,
    WorkersOption,
)

if TYPE_CHECKING:
    from modgap.cli._engine import EngineChoice
    from modgap.closers.closure import Closure
    from modgap.engines import Checkpoint
    from modgap.io import Source


@dataclass(frozen=True)
class Inputs:
    """Where queries and gallery are, and what is taken of a gallery with three axes."""

    queries: str
    gallery: str
    template: int | None
    pool: bool


def close(
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="The closure to write, .safetensors.")
    ],
    queries: Annotated[
        str | None,
        typer.Option("--queries", metavar=INPUT, help="What searches: embeddings (m, d)."),
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Option(
            "--gallery",
            metavar=INPUT,
            help="What is searched: embeddings (n, d), or (t, n, d) with one gallery per caption "
            "template.",
        ),
    ] = None,
    stats: Annotated[
        str | None,
        typer.Option(
            "--stats",
            metavar="FILE",
            help="Published statistics of the model (modgap stats), in the place of the side that is not "
            "given, or of both.",
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="M",
            help=f"One of {METHOD_NAMES}. none, recenter, orthogonal, affine, scaled and balanced keep "
            "every noise-free answer, the latter four with all components. A comparison of the mapped rows "
            "may follow, as in affine:euclidean. For a mixed collection calibrate, center or standardize; "
            "calibrate keeps every ranking within a modality, and may be followed by :top, :quantile, "
            ":share or :means, and by +balanced.",
        ),
    ] = "affine",
    metric: MetricOption = "cosine",
    alpha: Annotated[
        float | None,
        typer.Option("--alpha", metavar="A", help="Share of the gap to close.  [default: 1]"),
    ] = None,
    n_components: ComponentsOption = None,
    side: Annotated[
        str | None,
        typer.Option(
            "--side",
            metavar="gallery|queries",
            help="orthogonal: which side moves; the queries need no re-indexing.",
        ),
    ] = None,
    reduce: Annotated[
        bool,
        typer.Option(
            "--reduce",
            help="affine, scaled and balanced: map to as many dimensions as the gallery spans.",
        ),
    ] = False,
    scale: Annotated[
        float | None,
        typer.Option(
            "--scale",
            metavar="F",
            help="scaled: how far the queries are pushed from the sphere's centre.  [default: 4]",
        ),
    ] = None,
    shrinkage: Annotated[
        float | None,
        typer.Option(
            "--shrinkage",
            metavar="F",
            help="balanced: share of a multiple of I in the queries' second moments, 0 to 1; more where "
            "the queries of today are not those of the fit.  [default: chosen on queries held out]",
        ),
    ] = None,
    rotation: Annotated[
        str | None,
        typer.Option(
            "--rotation",
            metavar="SEED|none",
            help="balanced: the rotation of what is stored, which codes of few bits want.  [default: 0]",
        ),
    ] = None,
    companions: Annotated[
        str | None,
        typer.Option(
            "--companions",
            metavar=INPUT,
            help="Mixed collection: the items of another modality beside the gallery. The closure names "
            "them `companions`, and the others `gallery`.",
        ),
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(
            "--modalities",
            metavar=INPUT,
            help="Mixed collection: the modality of each gallery row, as names or numbers.",
        ),
    ] = None,
    template: TemplateOption = None,
    pool: Annotated[
        bool,
        typer.Option(
            "--pool",
            help="Take all rows of a gallery with three axes as one gallery, "
            "as for multiple choice.",
        ),
    ] = False,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    json: JsonOption = False,
) -> None:
    r"""Fit a closer to queries and a gallery, and save the closure.

    A closure is two maps, one for each side; modgap apply runs them over files of any size. Most
    methods read the inputs once, block by block, and need memory for one block; scaled,
    realign and procrustes need all rows at once (procrustes: row i of both belong together). A closure
    of a mixed collection has a map for each modality; calibrate and calibrate:means read it block by
    block. With --workers shards are read by several processes. A long reading that was stopped, however
    hard, is taken up by the same command; what it has is kept beside FILE until FILE is there. Published
    statistics of the model (--stats) serve in the place of one side's rows, or of both, but for realign
    and procrustes.

    Examples
    --------
      modgap close --queries images.npy --gallery texts.npy --out closure.safetensors
      modgap close --queries img_emb --gallery texts.npy --template 3 --method orthogonal \
                   --n-components 0.9 --metric cosine --out closure.safetensors
      modgap close --queries texts.npy --gallery images.npy --companions captions.npy \
                   --method calibrate --out closure.safetensors
      modgap close --queries txt_emb --gallery img_emb --method balanced --workers 8 \
                   --out closure.safetensors
      modgap close --stats clip-stats.safetensors --gallery img_emb --method balanced \
                   --out closure.safetensors
    """
    from modgap.cli._engine import EngineChoice
    from modgap.cli._inputs import check_out, parse_components
    from modgap.decisions.metric import as_metric
    from modgap.engines import Checkpoint
    from modgap.errors import ArgumentError

    metric = as_metric(metric)
    target = check_out(out, suffixes=(".safetensors",))
    _check_replaceable(target)
    options = {
        "metric": metric,
        "alpha": alpha,
        "n_components": parse_components(n_components),
        "side": side,
        "reduce": reduce,
        "scale": scale,
        "shrinkage": shrinkage,
        "rotation": _seed(rotation),
    }
    choice = EngineChoice(engine, workers, scheduler)
    if stats is not None:
        from modgap.cli._published import close_published

        _refuse_beside_stats(
            companions=companions, modalities=modalities, template=template, pool=pool
        )
        sides = {"queries": queries, "gallery": gallery}
        closure = close_published(method, stats, sides, options, choice, shown=not json)
        closure.save(target)
        _say(closure, str(target), queries or "QUERIES", gallery or "GALLERY", json=json)
        return
    if queries is None or gallery is None:
        absent = "queries" if queries is None else "gallery"
        raise ArgumentError(
            f"give `--{absent}`, or `--stats` with the published statistics of the model in its place"
        )
    if companions is not None or modalities is not None:
        from modgap.cli._mixed import MixedInputs, close_mixed

        given = {key: value for key, value in options.items() if key != "metric"}
        given |= {"template": template, "pool": pool}
        mixed = MixedInputs(queries, gallery, companions, modalities)
        close_mixed(method, mixed, metric, given, target, choice, json=json)
        return
    inputs = Inputs(queries, gallery, template, pool)
    checkpoint = Checkpoint.beside(target)
    closure = _fit(method, inputs, options, choice, checkpoint, shown=not json)
    closure.save(target)
    checkpoint.remove()
    _say(closure, str(target), queries, gallery, json=json)


def _refuse_beside_stats(**words: Any) -> None:
    """Raise an ArgumentError for options that say how rows are read where statistics stand for them."""
    from modgap.errors import ArgumentError

    for name, value in words.items():
        if value not in (None, False):
            raise ArgumentError(f"`--{name}` has no meaning with `--stats`; leave one of them out")


def _seed(word: str | None) -> int | str | None:
    """Return the seed that a word is, or the word, which the closer refuses unless it is "none"."""
    try:
        return word if word is None else int(word)
    except ValueError:
        return word


def _check_replaceable(target: Any) -> None:
    """Raise an ArgumentError if a file that is no closure would be lost."""
    from modgap.closers.closure import Closure
    from modgap.errors import ArgumentError, FormatError

    if not target.exists():
        return
    try:
        Closure.load(target)
    except FormatError:
        raise ArgumentError(
            f"`--out` `{target}` exists and is no closure of modgap; choose another name"
        ) from None


def _fit(
    method: str,
    inputs: Inputs,
    options: dict[str, Any],
    choice: EngineChoice,
    checkpoint: Checkpoint,
    *,
    shown: bool,
) -> Closure:
    from dataclasses import replace

    from modgap.cli._console import progress
    from modgap.cli._task import check_template
    from modgap.closers import METHODS, method_and_comparison
    from modgap.closers._setting import check_taken
    from modgap.errors import ArgumentError
    from modgap.io import open_source

    name, _ = method_and_comparison(method)
    check_taken(METHODS[name], **{key: options[key] for key in options if key != "metric"})
    left, right = open_source(inputs.queries), open_source(inputs.gallery)
    check_sources(left, right)
    template, gallery = inputs.template, inputs.gallery
    if inputs.pool and template is not None:
        raise ArgumentError("`--pool` and `--template` exclude each other; give one of them")
    if inputs.pool and len(right.shape) != 3:
        raise ArgumentError(
            "`--pool` takes the rows of a gallery of shape (t, n, d) as one; "
            f"`{gallery}` has shape {right.shape}, leave it out"
        )
    check_template(right.shape, gallery, template)
    if METHODS[name].needs == "moments" and len(right.shape) == 2:
        with (
            choice.opened() as engine,
            progress("reading queries", total=left.rows, shown=shown) as job,
        ):
            how = {"engine": engine, "checkpoint": checkpoint, "tell": job}
            closure = _fit_streams(method, left, right, options, how)
    else:
        choice.refuse_for(f"{name} here needs all rows at once")
        with progress("fitting", unit="", shown=shown):
            closure = _fit_rows(method, left, right, inputs, options)
    sources = {"queries_source": inputs.queries, "gallery_source": gallery, "template": template}
    return replace(closure, info={**closure.info, **sources})


def check_sources(
    left: Source,
    right: Source,
    *,
    names: tuple[str, str] = ("queries", "gallery"),
    axes: tuple[int, ...] = (2, 3),
) -> None:
    """Raise an error for sources that do not fit, before any row is read."""
    from modgap.errors import DataError, ShapeError

    for name, source, wanted in ((names[0], left, (2,)), (names[1], right, axes)):
        if len(source.shape) not in wanted:
            shapes = " or ".join({2: "(rows, d)", 3: "(t, rows, d)"}[k] for k in wanted)
            raise ShapeError(f"`{name}` must have shape {shapes}; got {source.shape}")
        if source.dtype.kind != "f":
            raise DataError(
                f"`{name}` must hold floating-point embeddings; got {source.dtype}; convert it "
                "with its scale, for example to float32"
            )
    if left.width != right.width:
        raise ShapeError(
            f"`{names[0]}` and `{names[1]}` must share their last axis (the embedding dimension d); "
            f"got {left.shape} and {right.shape}"
        )


def _fit_streams(
    method: str, left: Source, right: Source, options: dict[str, Any], how: dict[str, Any]
) -> Closure:
    """Fit to two sources that are read block by block; `how` has engine, checkpoint and tell."""
    from modgap import closers
    from modgap.closers._transport import FOLDS
    from modgap.engines import Reading, moments_of

    given = {key: value for key, value in options.items() if key != "metric"}
    metric = options["metric"]
    precise = "float64" if method == "erase" else "input"
    folds = FOLDS if method.startswith("balanced") and left.rows >= 2 * FOLDS else 1
    ours = moments_of(left, Reading("queries", metric, precise, folds), **how)
    how["tell"].stage("reading gallery", total=right.rows)
    (theirs,) = moments_of(right, Reading("gallery", metric), **how)
    how["tell"].stage("fitting")
    queries = ours if len(ours) > 1 else ours[0]
    return closers.fit_moments(method, queries, theirs, metric=metric, **given)


def _fit_rows(
    method: str, left: Source, right: Source, inputs: Inputs, options: dict[str, Any]
) -> Closure:
    from modgap import closers
    from modgap.cli._task import one_gallery

    array = right.read()
    if inputs.pool:
        chosen = array.reshape(-1, array.shape[-1])
    else:
        chosen = one_gallery(array, inputs.gallery, inputs.template)
    return closers.fit(method, left.read(), chosen, **options)


def _say(closure: Closure, out: str, queries: str, gallery: str, *, json: bool) -> None:
    from modgap.cli._console import print_json

    if not json:
        _print(closure, out, queries, gallery)
        return
    names = ("method", "metric", "comparison", "exact", "alpha", "n_components", "rank")
    document = {name: getattr(closure, name) for name in names}
    print_json({"out": out, **document, "info": dict(closure.info)})


def _print(closure: Closure, out: str, queries: str, gallery: str) -> None:
    from modgap.cli._console import figure, print_table, say, say_command

    info = closure.info
    rows = [
        ("gap before", figure(info["gap"]), "distance of the two means"),
        ("rank of the gallery", f"{closure.rank} of {info['dimension']}", "dimensions it spans"),
    ]
    if closure.n_components is not None:
        rows.append(("components kept", str(closure.n_components), "directions left untouched"))
    if "free_share" in info:
        rows.append(("free share", figure(info["free_share"]), "of the gap lies outside them"))
    if closure.alpha is not None:
        rows.append(("alpha", figure(closure.alpha), "share of the gap that is closed"))
    exact = (
        "exact: no noise-free answer changes"
        if closure.exact
        else ("not exact: answers may change, see modgap evaluate")
    )
    columns = [("closure", "name"), ("", "number"), ("", "text")]
    print_table(columns, rows, title=f"{closure.method}, {closure.metric}; {exact}")
    say(f"Wrote {out}. Map both sides with it, and compare them by {closure.comparison.words}:")
    for side, spec, kept in (
        ("queries", queries, closure.queries.is_identity),
        ("gallery", gallery, closure.gallery.is_identity),
    ):
        words = ["modgap", "apply", out, f"--{side}", spec, "--out", f"closed-{side}"]
        say_command(f"# the {side} stay as they are" if kept else shlex.join(words))
