"""`modgap simulate`: watch a gap form, freeze, or close."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import JsonOption

if TYPE_CHECKING:
    from modgap.paper.dynamics import Simulation

#: Figures of a record that the table shows; the JSON has all of them.
_SHOWN = (
    ("step", "step"),
    ("loss", "loss"),
    ("gap", "gap"),
    ("orthogonality_x", "orthog. x"),
    ("orthogonality_y", "orthog. y"),
    ("deviation", "imbalance"),
    ("alignment_y", "y finds x"),
    ("temperature", "temper."),
    ("stability", "stability"),
)


def simulate(
    n: Annotated[int, typer.Option("--n", metavar="N", help="Pairs.")] = 100,
    dimension: Annotated[int, typer.Option("--dimension", metavar="D", help="Dimensions.")] = 10,
    start: Annotated[
        str,
        typer.Option(
            "--start", metavar="clusters|isotropic|cone|collapsed", help="Where the clouds begin."
        ),
    ] = "clusters",
    spread: Annotated[
        float | None,
        typer.Option("--spread", metavar="S", help="Standard deviation per coordinate there."),
    ] = None,
    start_gap: Annotated[
        float | None,
        typer.Option("--start-gap", metavar="G", help="Distance of the clouds, 0 to 2."),
    ] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", metavar="R", help="Dimensions of a collapsed start.")
    ] = None,
    loss: Annotated[str, typer.Option("--loss", metavar="softmax|sigmoid")] = "softmax",
    metric: Annotated[str, typer.Option("--metric", metavar="euclidean|ip")] = "euclidean",
    sphere: Annotated[bool, typer.Option("--sphere", help="Keep rows on the unit sphere.")] = False,
    temperature: Annotated[float, typer.Option("--temperature", metavar="T")] = 0.1,
    learn_temperature: Annotated[bool, typer.Option("--learn-temperature")] = False,
    min_temperature: Annotated[float, typer.Option("--min-temperature", metavar="T")] = 0.01,
    bias: Annotated[float, typer.Option("--bias", metavar="B", help="Of the sigmoid loss.")] = 0.0,
    learn_bias: Annotated[bool, typer.Option("--learn-bias")] = False,
    scalar_rate: Annotated[
        float, typer.Option("--scalar-rate", help="Step size of temperature and bias.")
    ] = 0.01,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Updates.")] = 6000,
    rate: Annotated[float, typer.Option("--rate", help="Step size, per row of a batch.")] = 0.001,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="N", help="Rows per batch; all by default.")
    ] = None,
    record_every: Annotated[
        int, typer.Option("--record-every", metavar="N", help="Steps between records.")
    ] = 20,
    sigma: Annotated[
        float | None,
        typer.Option("--sigma", metavar="S", help="Gallery noise at which to record stability."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of start and batches.")] = 0,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Also write a page with a time slider, .html; or all records, .json.",
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", metavar="TEXT", help="Headline of the page.")
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Train free embeddings and record how the gap develops.

    Gradient descent with no network between the loss and the embeddings. The defaults are two
    tight clusters in ten dimensions: the loss falls, the gap turns orthogonal to both clouds, and
    then stays. As a page the run can be watched: both clouds, loss, gap and what else changes, with
    a slider for the time. The page is one file and needs no network.

    Examples
    --------
      modgap simulate --seed 5
      modgap simulate --seed 5 --out gap.html --open
      modgap simulate --start cone --sphere --learn-temperature --sigma 0.1 --out run.json
    """
    from modgap.cli._console import print_json, progress, say
    from modgap.cli._inputs import check_out
    from modgap.io._guard import shown
    from modgap.paper import dynamics

    target = None if out is None else check_out(out, suffixes=(".html", ".htm", ".json"))
    page = target is not None and target.suffix.lower() != ".json"
    _refuse_without_page(page, title=title, open_page=open_page)
    settings = dynamics.Simulation(
        n=n,
        dimension=dimension,
        start=start,
        spread=spread,
        start_gap=start_gap,
        rank=rank,
        loss=loss,
        metric=metric,
        sphere=sphere,
        temperature=temperature,
        learn_temperature=learn_temperature,
        min_temperature=min_temperature,
        bias=bias,
        learn_bias=learn_bias,
        scalar_rate=scalar_rate,
        steps=steps,
        rate=rate,
        batch=batch,
        record_every=record_every,
        sigma=sigma,
        seed=seed,
    )
    done = 0
    with progress("descending", total=steps, unit="steps", shown=not json) as advance:

        def tell(step: int, of: int) -> None:
            nonlocal done
            advance(step - done)
            done = step

        kept = dynamics.film_steps(steps) if page else ()
        run = dynamics.simulate(settings, tell, snapshots=kept)
    document = run.to_dict()
    if target is not None and page:
        from modgap.report.simulation_page import write_simulation_page

        words = {} if title is None else {"title": shown(title)}
        command = _command(settings, target)
        write_simulation_page(dynamics.film(run), target, command=command, **words)
    elif target is not None:
        _write(target, document)
    if json:
        print_json(document)
    else:
        _print(document)
        if out is not None:
            say(f"{'Page' if page else 'All records'}: {out}")
    if open_page and target is not None:
        typer.launch(target.resolve().as_uri())


def _refuse_without_page(page: bool, *, title: str | None, open_page: bool) -> None:
    """Raise an ArgumentError for options of a page where none is written."""
    from modgap._core.extras import require
    from modgap.errors import ArgumentError

    if page:
        require("jinja2", "report")  # before the work, not after it
        return
    for option, given in (("--title", title is not None), ("--open", open_page)):
        if given:
            raise ArgumentError(f"`{option}` is for a page; name one, as in --out gap.html")


def _command(settings: Simulation, target: Path) -> str:
    """Return the line that gives this run again: every setting that is not the default."""
    import shlex

    words = ["modgap", "simulate"]
    for part in fields(settings):
        value = getattr(settings, part.name)
        if value != part.default:
            words.append(f"--{part.name.replace('_', '-')}")
            words += [] if value is True else [str(value)]
    return shlex.join([*words, "--out", target.name])


def _write(target: Any, document: dict[str, Any]) -> None:
    import json

    from modgap.io.atomic import atomic_path

    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


def _print(document: dict[str, Any], limit: int = 16) -> None:
    """Print at most `limit` records, evenly spaced, the last one always."""
    from modgap.cli._console import figure, print_table

    count = len(document["step"])
    stride = max(1, -(-(count - 1) // (limit - 1)))
    picked = sorted({*range(0, count, stride), count - 1})
    shown = [(key, header) for key, header in _SHOWN if document[key] is not None]
    rows = [[figure(document[key][i]) for key, _ in shown] for i in picked]
    print_table(
        [(header, "number") for _, header in shown],
        rows,
        title=f"{len(picked)} of {count} records",
        caption="orthog.: cosine of the rows about their mean with the gap, 0 is orthogonal"
        + ("" if document["stability"] is None else "; stability: exact integral"),
    )
