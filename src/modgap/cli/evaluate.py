"""`modgap evaluate`: what closers do to the answers, clean and under noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modgap.cli._inputs import (
    AlphasOption,
    ComponentsOption,
    CsvOption,
    JsonOption,
    MethodsOption,
    NoiseOption,
    OptionalGallery,
    OptionalQueries,
    SeedOption,
)
from modgap.cli._sample import FewerDrawsOption, SampleOption
from modgap.cli._task import TaskInputs, takes_task_inputs
from modgap.cli.embed import DeviceOption, EncoderOption, ImagesOption, OfflineOption

if TYPE_CHECKING:
    from modgap.evaluation import Row, Study
    from modgap.evaluation.tasks import Task


@takes_task_inputs
def evaluate(
    *,
    queries: OptionalQueries = None,
    gallery: OptionalGallery = None,
    inputs: TaskInputs,
    images: ImagesOption = None,
    model: EncoderOption = None,
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
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
    draws: FewerDrawsOption = None,
    sample: SampleOption = None,
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
    logit_scale: Annotated[
        float | None,
        typer.Option(
            "--logit-scale",
            metavar="S",
            help="Also judge the probabilities of the classes at this scale of the scores, before "
            "closing and after it: 100 for CLIP. Needs labels or answers.",
        ),
    ] = None,
    logit_bias: Annotated[
        float | None,
        typer.Option(
            "--logit-bias",
            metavar="B",
            help="With --logit-scale: of a model trained with a sigmoid (SigLIP), its bias.",
        ),
    ] = None,
    folds: Annotated[
        int,
        typer.Option(
            "--folds",
            metavar="N",
            help="Closers that can change answers are fitted to all but one of N parts of the "
            "queries and judged on the part left out.",
        ),
    ] = 5,
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    r"""Show what closers do to the answers, clean and under noise.

    The answer to a query is the nearest gallery row. Stability is the probability that noise leaves
    a method's own answer as it is; retention, that the answer under noise is the one from before
    closing; agreement, the share of noise-free answers that closing leaves alone. Stability alone
    can mislead: a method may hold on to wrong answers. Accuracies need labels or pairs.

    The inputs say what kind of task it is: --labels (or nothing) zero-shot classification,
    --paired or --owners retrieval in both directions, --answers multiple choice, --modalities or
    --companions retrieval from a collection that holds several modalities: what its merged list
    finds, the share of each modality in it, and whether the list of each modality stays as it was.

    Where queries times items are more than 200 million, queries are drawn to judge on, and the standard
    error that this brings is said; closers are fitted to 20,000 other queries too. The gallery stays whole:
    memory grows with it, to a few times its size, and not with the queries.

    Examples
    --------
      modgap evaluate --queries images.npy --gallery texts.npy --labels labels.npy \
                      --methods none,orthogonal,affine --noise gaussian:0.022 --noise bins:16
      modgap evaluate --queries images.npy --gallery captions.npy --paired --json
      modgap evaluate --images photos --classes classes.txt --model hf:openai/clip-vit-base-patch32
      modgap evaluate --queries texts.npy --gallery all.npy --modalities kinds.txt --partners rows.npy
    """
    from modgap.cli._calibrated import check_scale, print_calibration
    from modgap.cli._console import print_csv, print_json, progress
    from modgap.cli._inputs import parse_alphas, parse_components, parse_methods, parse_noises
    from modgap.cli._pictures import sides
    from modgap.cli._sample import drawn_of, row_of_all, say_sample
    from modgap.errors import ArgumentError
    from modgap.evaluation import calibration
    from modgap.evaluation import evaluate as study_of
    from modgap.evaluation.effort import affordable_draws

    if json and csv:
        raise ArgumentError("`--json` and `--csv` exclude each other; give one of them")
    check_scale(logit_scale, logit_bias, csv=csv)
    chosen, shares = parse_methods(methods, mixed=inputs.mixed), parse_alphas(alphas)
    noises, components = parse_noises(noise, mixed=inputs.mixed), parse_components(n_components)
    _check_taken(chosen, alphas, components, mixed=inputs.mixed)
    queries, gallery, inputs = sides(
        queries, gallery, images, model, inputs,
        device=device, offline=offline, shown=not (json or csv),
    )  # fmt: skip
    if queries is None or gallery is None:
        raise ArgumentError("give `--queries` and `--gallery`, or `--images` and `--model`")
    task, drawn = drawn_of(inputs.load(queries, gallery), sample, seed)
    _check_fragile(fragile, bool(noises) or paraphrase)
    with progress("evaluating", unit="draws", shown=not (json or csv)) as advance:
        found = study_of(
            task,
            chosen,
            shares,
            noises,
            n_components=components,
            paraphrase=paraphrase,
            folds=folds,
            draws=affordable_draws(task) if draws is None else draws,
            seed=seed,
            progress=advance,
        )
    judged = None
    if logit_scale is not None:
        judged = calibration(
            task,
            chosen,
            shares,
            n_components=components,
            logit_scale=logit_scale,
            logit_bias=logit_bias,
            seed=seed,
        )
    if csv:
        print_csv(found.table())
    elif json:
        document = {**found.to_dict(), "inputs": {"queries": queries, "gallery": gallery}}
        document["sample"] = drawn
        if judged is not None:
            document["calibration"] = [row.to_dict() for row in judged]
        if fragile is not None:
            document["fragile"] = [
                {**item, "query": row_of_all(task, item["query"])}
                for item in found.rows[0].fragile(fragile)
            ]
        print_json(document)
    else:
        _print(found)
        say_sample(drawn)
        if judged is not None:
            print_calibration(judged)
        if fragile is not None:
            names = inputs.class_names() if inputs.answers is None else None
            _print_fragile(found, fragile, names, task)


def _check_taken(
    chosen: list[Any],
    alphas: list[str] | None,
    components: int | float | str | None,
    *,
    mixed: bool,
) -> None:
    """Raise an ArgumentError for an option that none of the closers takes."""
    from modgap.closers import METHODS, method_and_comparison
    from modgap.closers.calibrate import is_mixed_method
    from modgap.errors import ArgumentError

    takes = {
        option
        for closer in chosen
        if isinstance(closer, str) and not (mixed and is_mixed_method(closer))
        for option in METHODS[method_and_comparison(closer)[0]].takes
    }
    for given, option in ((alphas, "alpha"), (components, "n_components")):
        if given is not None and option not in takes:
            takers = ", ".join(name for name, known in METHODS.items() if option in known.takes)
            words = "--alphas" if option == "alpha" else "--n-components"
            raise ArgumentError(
                f"none of the closers takes `{words}`; leave it out, or add {takers}"
            )


def _check_fragile(fragile: int | None, noisy: bool) -> None:
    from modgap._core.checks import check_count
    from modgap.errors import ArgumentError

    if fragile is None:
        return
    check_count(fragile, "--fragile")
    if not noisy:
        raise ArgumentError("`--fragile` needs a noise to be fragile under; give --noise")


def _print(study: Study) -> None:
    from modgap.cli._console import figure, say
    from modgap.io._guard import shown

    task = study.task
    say(
        f"{task['kind']}: {task['queries']} queries, gallery of {task['gallery']}, "
        f"{task['dimension']} dimensions of which the gallery spans {task['rank']}, "
        f"by {task['metric']}"
    )
    for remark in study.remarks:
        say(shown(str(remark)))
    for gap in study.gaps:
        say()
        rmg = gap.relative_modality_gap
        say(
            f"{shown(gap.problem)}: gap {figure(gap.centroid_gap)}, cosine of the means "
            f"{figure(gap.centroid_cosine)}" + ("" if rmg is None else f", RMG {figure(rmg)}")
        )
        rows = study.of_problem(gap.problem)
        if rows[0].merged is None:
            _print_rows(rows)
        else:
            _print_merged(rows)
            _print_under_noise(rows)
    _print_legend(study)


def _print_rows(rows: tuple[Row, ...]) -> None:
    """Print closers down and noises across; stability of its own only where it is not the retention."""
    from modgap.cli._console import figure, print_table

    columns = [("closer", "name"), ("exact", "number"), ("agree-\nment", "number")]
    cells = [[row.label, figure(row.exact), figure(row.agreement)] for row in rows]
    if rows[0].clean_accuracy is not None:
        columns.append(("accu-\nracy", "number"))
        for cell, row in zip(cells, rows, strict=True):
            cell.append(figure(row.clean_accuracy))
    for k in rows[0].recall or ():
        columns.append((f"recall\n@{k}", "number"))
        for cell, row in zip(cells, rows, strict=True):
            cell.append(figure((row.recall or {}).get(k)))
    print_table(columns, cells, title="without noise")
    _print_under_noise(rows)


def _print_under_noise(rows: tuple[Row, ...]) -> None:
    from modgap.cli._console import figure, say
    from modgap.io._guard import shown

    if not rows[0].results:
        return
    _print_noises(rows, "retention", "answers from before closing that survive the noise")
    failures = {r.noise: r.failed for row in reversed(rows) for r in row.results if r.failed}
    for noise, why in failures.items():
        say(shown(f"{noise}: {why}."))
    _say_enlarged(rows)
    _print_recall(rows)
    differ = [
        row for row in rows if any(figure(r.retention) != figure(r.stability) for r in row.results)
    ]
    if differ:
        _print_noises(
            tuple(differ), "stability", "of a closer's own answers, where it changes some"
        )


def _say_enlarged(rows: tuple[Row, ...]) -> None:
    """Say which closers noise of a fixed size flatters, or wrongs, because of what they store."""
    from modgap.cli._console import say

    fixed = [r.noise for r in rows[0].results if r.fixed_size]
    enlarged = [row for row in rows if row.enlarges and not 0.9 <= row.enlarges <= 1.1]
    if fixed and enlarged:
        factors = ", ".join(f"{row.label} {row.enlarges:.2f} times" for row in enlarged)
        say(
            f"How far apart the items are stored, against before: {factors}. Noise of a fixed size "
            f"({', '.join(fixed)}) flatters what is above 1 and wrongs what is below; "
            "gaussian:SIGMA:relative treats all alike."
        )


def _print_merged(rows: tuple[Row, ...]) -> None:
    """Print what the merged list of a mixed collection finds, and what of each modality it shows."""
    from modgap.cli._console import figure, print_table
    from modgap.io._guard import shown

    columns, cells = [("closer", "name")], [[row.label] for row in rows]
    merged = rows[0].merged
    assert merged is not None  # asked before
    deepest = "10" if "10" in merged.shares else "1"
    for k in rows[0].recall or ():
        columns.append((f"recall\n@{k}", "number"))
        for cell, row in zip(cells, rows, strict=True):
            cell.append(figure((row.recall or {}).get(k)))
    if rows[0].ndcg is not None:
        columns.append((f"NDCG\n@{deepest}", "number"))
        for cell, row in zip(cells, rows, strict=True):
            cell.append(figure((row.ndcg or {}).get(deepest)))
    for name in merged.modalities:
        columns.append((f"{shown(name)}\n@{deepest}", "number"))
        for cell, row in zip(cells, rows, strict=True):
            cell.append(figure((row.shares or {})[deepest][name]))
    columns.append(("lists\nkept", "number"))
    for cell, row in zip(cells, rows, strict=True):
        cell.append(figure(min((row.lists or {}).values())))
    print_table(
        columns,
        cells,
        title=f"merged list: what it finds, the share of each modality among the first {deepest}, and of "
        "queries whose list of every one modality stays",
    )


def _print_noises(rows: tuple[Row, ...], name: str, words: str) -> None:
    from modgap.cli._console import figure, print_table

    columns = [("closer", "name")]
    columns += [(_two_lines(r.noise), "number") for r in rows[0].results]
    cells = [[row.label, *(figure(getattr(r, name)) for r in row.results)] for row in rows]
    print_table(columns, cells, title=f"{name}: {words}")


def _print_recall(rows: tuple[Row, ...]) -> None:
    """Print what an index with each code finds, of ten items where there are so many."""
    from modgap.cli._console import figure, print_table

    coded = [j for j, result in enumerate(rows[0].results) if result.recall]
    depths = {k for row in rows for j in coded for k in row.results[j].recall or {}}
    if not depths - {"1"}:  # of one item the retention says as much
        return
    k = "10"
    columns = [("closer", "name"), ("no code", "number")]
    columns += [(_two_lines(rows[0].results[j].noise), "number") for j in coded]
    cells = [
        [row.label, figure((row.kept or {}).get(k))]
        + [figure((row.results[j].recall or {}).get(k)) for j in coded]
        for row in rows
    ]
    print_table(columns, cells, title=f"recall@{k}: of the exact {k} nearest before closing")


def _two_lines(noise: str) -> str:
    return noise.replace(":", ":\n", 1).replace("@", "\n@")


def _print_legend(study: Study) -> None:
    """Print how the figures were obtained."""
    from modgap.cli._console import figure, say

    results = [result for row in study for result in row.results]
    if results:
        estimators = ", ".join(sorted({result.estimator for result in results}))
        error = max((result.stderr or 0.0 for result in results), default=0.0)
        sampled = f"; standard error of sampled figures at most {figure(error)}" if error else ""
        say(f"Estimator: {estimators}{sampled}.")
    if any(result.noisy_accuracy is not None for result in results):
        say("Accuracy under noise: --json or --csv.")
    unseen = dict.fromkeys(row.label for row in study if row.held_out)
    if unseen:
        folds = next(row.folds for row in study if row.held_out)
        say(f"Judged on queries they were not fitted to, in {folds} folds: {', '.join(unseen)}.")


def _print_fragile(study: Study, count: int, names: list[str] | None, task: Task) -> None:
    """Print the least stable queries of the first row, and what the other rows make of them."""
    from modgap.cli._console import figure, print_table
    from modgap.cli._sample import row_of_all
    from modgap.io._guard import shown

    first = study.rows[0]
    rows = study.of_problem(first.problem)[:4]
    columns = [("query", "number"), ("answer", "name"), ("right", "number")]
    columns += [(row.label, "number") for row in rows]
    noise = next(result.noise for result in first.results if not result.failed)
    cells = []
    for item in first.fragile(count, noise=noise):
        answer = item["decision"]
        label = str(answer)
        if names is not None and answer < len(names):
            label = shown(names[answer])[:24]
        stable = [row.under(noise).outcome.stability[item["query"]] for row in rows]
        cells.append(
            [
                str(row_of_all(task, item["query"])),
                label,
                figure(item["right"]),
                *(figure(value) for value in stable),
            ]
        )
    print_table(
        columns, cells, title=f"least stable of {first.label} under {noise}; stability by closer"
    )
