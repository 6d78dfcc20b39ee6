"""`modgap evaluate`: what closers do to the answers, clean and under noise."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import (
    AlphasOption,
    ComponentsOption,
    DrawsOption,
    Gallery,
    JsonOption,
    MethodsOption,
    NoiseOption,
    Queries,
    SeedOption,
)
from modgap.cli._task import TaskInputs, takes_task_inputs

if TYPE_CHECKING:
    from modgap.evaluation.study import Study


@takes_task_inputs
def evaluate(
    queries: Queries,
    gallery: Gallery,
    inputs: TaskInputs,
    methods: MethodsOption = None,
    alphas: AlphasOption = None,
    n_components: ComponentsOption = None,
    noise: NoiseOption = None,
    paraphrase: Annotated[
        bool,
        typer.Option(
            "--paraphrase",
            help="Also treat the other caption templates of a gallery (t, n, d) as a noise.",
        ),
    ] = False,
    draws: DrawsOption = 100,
    seed: SeedOption = 0,
    fragile: Annotated[
        int | None,
        typer.Option(
            "--fragile",
            metavar="K",
            help="Also list the K queries that the first method and the "
            "first noise leave least stable.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    r"""Show what closers do to the answers, clean and under noise.

    The answer to a query is the nearest gallery row. Stability is the probability that noise leaves
    a method's own answer as it is; retention, that the answer under noise is the one from before
    closing; agreement, the share of noise-free answers that closing leaves alone. Stability alone
    can mislead: a method may hold on to wrong answers. Accuracies need labels or pairs.

    The inputs say what kind of task it is: --labels (or nothing) zero-shot classification,
    --paired or --owners retrieval in both directions, --answers multiple choice, --companions
    retrieval from an index that holds both modalities.

    Examples
    --------
      modgap evaluate --queries images.npy --gallery texts.npy --labels labels.npy \
                      --methods none,orthogonal,affine --noise gaussian:0.022 --noise bins:16
      modgap evaluate --queries images.npy --gallery captions.npy --paired --json
    """
    from modgap.cli._console import print_json, progress
    from modgap.cli._inputs import (
        parse_alphas,
        parse_components,
        parse_methods,
        parse_noises,
    )
    from modgap.evaluation import study

    chosen, shares, noises = parse_methods(methods), parse_alphas(alphas), parse_noises(noise)
    components = parse_components(n_components)
    task = inputs.load(queries, gallery)
    _check_fragile(fragile, bool(noises) or paraphrase)
    with progress("evaluating", unit="draws", shown=not json) as advance:
        found = study.evaluate(
            task,
            chosen,
            shares,
            noises,
            n_components=components,
            paraphrase=paraphrase,
            draws=draws,
            seed=seed,
            progress=advance,
        )
    document = found.to_dict()
    if json:
        if fragile is not None:
            document["fragile"] = found.fragile(fragile)
        print_json(document)
        return
    _print(document)
    if fragile is not None:
        _print_fragile(found, fragile, inputs.class_names())


def _check_fragile(fragile: int | None, noisy: bool) -> None:
    from modgap._core.checks import check_count
    from modgap.errors import ArgumentError

    if fragile is None:
        return
    check_count(fragile, "--fragile")
    if not noisy:
        raise ArgumentError("`--fragile` needs a noise to be fragile under; give --noise")


def _print(document: dict[str, Any]) -> None:
    from modgap.cli._console import figure, say
    from modgap.io._guard import shown

    task = document["task"]
    say(
        f"{task['kind']}: {task['queries']} queries, gallery of {task['gallery']}, "
        f"{task['dimension']} dimensions of which the gallery spans {task['rank']}, "
        f"by {task['metric']}"
    )
    say()
    several = len({row["problem"] for row in document["closers"]}) > 1
    for problem, group in groupby(document["closers"], key=lambda row: row["problem"]):
        rows = list(group)
        gap = document["gap"][problem] if several else document["gap"]
        rmg = gap["relative_modality_gap"]
        say(
            f"{shown(problem)}: gap {figure(gap['centroid_gap'])}, cosine of the means "
            f"{figure(gap['centroid_cosine'])}" + ("" if rmg is None else f", RMG {figure(rmg)}")
        )
        if rows[0]["recall"]:
            _print_recall(rows)
        for i in range(len(rows[0]["noises"])):
            _print_noise(rows, i)
        if not rows[0]["noises"]:
            _print_clean(rows)


def _shared_columns(rows: list[dict[str, Any]]) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Return the columns that name a row of a table, without those that are empty throughout."""
    from modgap.cli._console import figure

    columns, cells = [("method", "name")], [[row["method"]] for row in rows]
    for key, header in (("alpha", "alpha"), ("n_components", "k")):
        if any(row[key] is not None for row in rows):
            columns.append((header, "number"))
            for cell, row in zip(cells, rows, strict=True):
                value = row[key]
                cell.append(f"{value:g}" if isinstance(value, float) else figure(value))
    columns.append(("exact", "number"))
    for cell, row in zip(cells, rows, strict=True):
        cell.append(figure(row["exact"]))
    return columns, cells


def _print_clean(rows: list[dict[str, Any]]) -> None:
    from modgap.cli._console import figure, print_table

    columns, cells = _shared_columns(rows)
    for key, header in (
        ("clean_accuracy", "clean accuracy"),
        ("agreement", "agreement"),
        ("gap_after", "gap after"),
    ):
        if any(row[key] is not None for row in rows):
            columns.append((header, "number"))
            for cell, row in zip(cells, rows, strict=True):
                cell.append(figure(row[key]))
    print_table(columns, cells, title="without noise")


def _print_recall(rows: list[dict[str, Any]]) -> None:
    from modgap.cli._console import figure, print_table

    columns, cells = _shared_columns(rows)
    columns += [(f"recall@{k}", "number") for k in rows[0]["recall"]]
    for cell, row in zip(cells, rows, strict=True):
        cell += [figure(value) for value in row["recall"].values()]
    print_table(columns, cells, title="without noise")


def _print_noise(rows: list[dict[str, Any]], i: int) -> None:
    """Print one noise's table: agreement and retention stand beside stability."""
    from modgap.cli._console import figure, print_table

    noises = [row["noises"][i] for row in rows]
    columns, cells = _shared_columns(rows)
    accurate = any(noise["noisy_accuracy"] is not None for noise in noises)
    sampled = any(noise["stability_stderr"] for noise in noises)
    headers = [
        "agree-\nment",
        "stabil-\nity",
        *(["std.\nerror"] if sampled else []),
        "reten-\ntion",
    ]
    headers += ["clean\nacc.", "noisy\nacc."] if accurate else []
    columns += [(header, "number") for header in headers]
    for cell, row, noise in zip(cells, rows, noises, strict=True):
        cell += [figure(row["agreement"]), figure(noise["stability"])]
        if sampled:
            error = noise["stability_stderr"]
            cell.append(figure(error) if error else "-")
        cell.append(figure(noise["retention"]))
        if accurate:
            cell += [figure(row["clean_accuracy"]), figure(noise["noisy_accuracy"])]
    print_table(
        columns,
        cells,
        title=f"{noises[0]['noise']} on the {noises[0]['side']}",
        caption=f"estimator: {_estimators(rows, noises)}",
    )


def _estimators(rows: list[dict[str, Any]], noises: list[dict[str, Any]]) -> str:
    """Return the estimator, or each with the methods that it served."""
    served: dict[str, list[str]] = {}
    for row, noise in zip(rows, noises, strict=True):
        served.setdefault(noise["estimator"], []).append(row["method"])
    if len(served) == 1:
        return next(iter(served))
    parts = [f"{name} for {', '.join(dict.fromkeys(who))}" for name, who in served.items()]
    return "; ".join(parts)


def _print_fragile(found: Study, count: int, names: list[str] | None) -> None:
    """Print the least stable queries of the first row, and what the other rows make of them."""
    from modgap.cli._console import figure, print_table
    from modgap.io._guard import shown

    first = found.closers[0]
    rows = [i for i, row in enumerate(found.closers) if row["problem"] == first["problem"]][:4]
    columns = [("query", "number"), ("answer", "name"), ("right", "number")]
    columns += [(_name(found.closers[i]), "number") for i in rows]
    cells = []
    for item in found.fragile(count):
        answer = item["decision"]
        label = str(answer)
        if names is not None and answer < len(names):
            label = shown(names[answer])[:24]
        stable = [found.details[i].outcomes[0].stability[item["query"]] for i in rows]
        right = figure(item["right"])
        cells.append([str(item["query"]), label, right, *(figure(value) for value in stable)])
    noise = first["noises"][0]["noise"]
    print_table(
        columns, cells, title=f"least stable of {_name(first)} under {noise}; stability by method"
    )


def _name(row: dict[str, Any]) -> str:
    return row["method"] if row["alpha"] in (None, 1.0) else f"{row['method']} {row['alpha']:g}"
