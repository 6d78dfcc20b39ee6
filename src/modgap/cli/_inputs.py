"""Options that several commands share, and how words become arrays, tasks, methods and noises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np

    from modgap.maps import Closure
    from modgap.noise import Noise
    from modgap.tasks import Task

INPUT = "PATH[:KEY]"
#: The keys of `modgap.closers.METHODS`, written down because help must load nothing heavy.
METHOD_NAMES = (
    "none, recenter, orthogonal, affine, scaled, mean-shift, center, standardize, realign, "
    "procrustes, erase"
)

Queries = Annotated[
    str, typer.Option("--queries", metavar=INPUT, help="What searches: embeddings (m, d).")
]
Gallery = Annotated[
    str,
    typer.Option(
        "--gallery",
        metavar=INPUT,
        help="What is searched: embeddings (n, d), or (t, n, d) with one gallery per caption "
        "template.",
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar=INPUT,
        help="The right gallery row of each query: integers, or class names together with "
        "--classes. Any array file, .txt, .csv or .json.",
    ),
]
PairedOption = Annotated[
    bool,
    typer.Option("--paired", help="Row i of the queries and row i of the gallery belong together."),
]
OwnersOption = Annotated[
    str | None,
    typer.Option(
        "--owners",
        metavar=INPUT,
        help="Several captions an image: for each caption the row of its image. One integer per "
        "gallery row, or else one per query.",
    ),
]
AnswersOption = Annotated[
    str | None,
    typer.Option(
        "--answers",
        metavar=INPUT,
        help="Multiple choice: the gallery has shape (m, c, d), and this is the position of the "
        "right candidate of each query.",
    ),
]
CompanionsOption = Annotated[
    str | None,
    typer.Option(
        "--companions",
        metavar=INPUT,
        help="Mixed index: items of the queries' own modality that lie in it beside the gallery.",
    ),
]
PartnersOption = Annotated[
    str | None,
    typer.Option(
        "--partners", metavar=INPUT, help="With --companions: the gallery row that answers a query."
    ),
]
MetricOption = Annotated[
    str,
    typer.Option(
        "--metric",
        metavar="euclidean|ip|cosine",
        help="How the nearest item is found; ip is the inner product.",
    ),
]
TemplateOption = Annotated[
    int | None,
    typer.Option(
        "--template", metavar="I", help="Take gallery I (from 0) of a gallery of shape (t, n, d)."
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="Names of the gallery rows, in order: a .txt with one a line, or a .json list.",
    ),
]
TemplatesOption = Annotated[
    str | None,
    typer.Option("--templates", metavar="FILE", help="Names of the caption templates, likewise."),
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--methods",
        metavar="M,M,...",
        help="Closers, or files of saved closures; separated by commas, or repeat the option. "
        f"Names: {METHOD_NAMES}.  [default: none,orthogonal,affine]",
    ),
]
AlphasOption = Annotated[
    list[str] | None,
    typer.Option(
        "--alphas",
        metavar="A,A,...",
        help="Shares of the gap to close, for the methods that take one: 0 leaves it, 1 closes it, "
        "more overshoots.",
    ),
]
NoiseOption = Annotated[
    list[str] | None,
    typer.Option(
        "--noise",
        metavar="NOISE",
        help="Repeat for several: gaussian:SIGMA (standard deviation per coordinate), uniform:W, "
        "bins:N, int8, float16, bfloat16, float8_e4m3, sign, faiss:FACTORY, or none. @queries or "
        "@both after it perturbs another side than the gallery.  [default: gaussian:0.022]",
    ),
]
ComponentsOption = Annotated[
    str | None,
    typer.Option(
        "--n-components",
        metavar="K",
        help="Principal components of the gallery to keep decisions along: a whole number, a share "
        "of the variance such as 0.9, or all. Fewer than all is approximate.  [default: all]",
    ),
]
DrawsOption = Annotated[
    int, typer.Option("--draws", metavar="N", help="Draws for noise that has to be sampled.")
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything random.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else.")
]


def load_task(
    queries: str,
    gallery: str,
    *,
    labels: str | None = None,
    paired: bool = False,
    owners: str | None = None,
    answers: str | None = None,
    companions: str | None = None,
    partners: str | None = None,
    metric: str = "euclidean",
    template: int | None = None,
    classes: list[str] | None = None,
    templates: str | None = None,
) -> Task:
    """Return the task that the inputs describe.

    Labels or nothing: zero-shot classification. `paired` or `owners`: retrieval in both directions.
    `answers`: multiple choice. `companions`: retrieval from a mixed index.

    Raises
    ------
    ModgapError
        Inputs exclude each other, cannot be read, or do not fit together.
    """
    from modgap import tasks
    from modgap._validate import check_metric
    from modgap.io import read_array, read_labels, read_strings
    from modgap.io._guard import shown

    check_metric(metric)
    _check_kind(labels, paired, owners, answers, companions, partners)
    left, right = read_array(queries), read_gallery(gallery, template, keep=answers is None)
    if answers is not None:
        return tasks.MultipleChoice(left, right, read_labels(answers).labels, metric=metric)
    if labels is None and (paired or owners or companions):
        right = one_gallery(right, gallery, template)
        return _retrieval(left, right, owners, companions, partners, metric)
    names = None if templates is None else [shown(name) for name in read_strings(templates)]
    check_classes(classes, right)
    found = None if labels is None else _label_rows(labels, classes)
    return tasks.ZeroShot(left, right, found, metric=metric, template=template, templates=names)


def _retrieval(
    left: np.ndarray,
    right: np.ndarray,
    owners: str | None,
    companions: str | None,
    partners: str | None,
    metric: str,
) -> Task:
    from modgap import tasks
    from modgap.io import read_array, read_labels

    if companions is not None:
        found = None if partners is None else read_labels(partners).labels
        return tasks.MixedRetrieval(left, right, read_array(companions), found, metric=metric)
    names = ("queries", "gallery")
    if owners is None:
        return tasks.PairedRetrieval(left, right, metric=metric, names=names)
    rows = read_labels(owners).labels
    if len(rows) != len(right) and len(rows) == len(left):  # the queries are the captions
        left, right, names = right, left, (names[1], names[0])
    return tasks.PairedRetrieval(left, right, owners=rows, metric=metric, names=names)


def read_gallery(spec: str, template: int | None, *, keep: bool = True) -> np.ndarray:
    """Return the array of a gallery; refuses a template where there is nothing to choose from."""
    from modgap.io import open_source

    source = open_source(spec)
    check_template(source.shape if keep else (), spec, template)
    return source.read()


def check_template(shape: tuple[int, ...], spec: str, template: int | None) -> None:
    """Raise an ArgumentError for a template that a gallery of this shape does not have."""
    from modgap.errors import ArgumentError

    if template is None:
        return
    if len(shape) != 3:
        raise ArgumentError(
            "`--template` chooses among the galleries of an array of shape (t, n, d), one per "
            f"caption template, and `{spec}` is no such array here; leave it out"
        )
    if not 0 <= template < shape[0]:
        raise ArgumentError(
            f"`--template` must lie between 0 and {shape[0] - 1}, since `{spec}` has {shape[0]} "
            f"galleries; got {template}"
        )


def one_gallery(array: np.ndarray, spec: str, template: int | None) -> np.ndarray:
    """Return one gallery, shape (n, d)."""
    from modgap.errors import ArgumentError

    if array.ndim != 3:
        return array
    if template is None:
        raise ArgumentError(
            f"`{spec}` has shape {array.shape}: one gallery per caption template, and one is "
            f"needed here; choose it with --template I, from 0 to {array.shape[0] - 1}"
        )
    chosen: np.ndarray = array[template]
    return chosen


def read_classes(spec: str | None) -> list[str] | None:
    """Return class names in the order of the gallery."""
    from modgap.io import read_strings

    return None if spec is None else read_strings(spec)


def check_classes(classes: list[str] | None, gallery: np.ndarray) -> None:
    """Raise a ShapeError unless there is one name per gallery row."""
    from modgap.errors import ShapeError

    if classes is not None and gallery.ndim > 1 and len(classes) != gallery.shape[-2]:
        raise ShapeError(
            f"`--classes` must name the {gallery.shape[-2]} rows of the gallery; got {len(classes)}"
        )


def _label_rows(spec: str, classes: list[str] | None) -> np.ndarray:
    from modgap.errors import ArgumentError
    from modgap.io import read_labels

    found = read_labels(spec, classes=classes)
    if found.classes is not None and classes is None:
        raise ArgumentError(
            f"`--labels` {spec} holds class names; say which gallery row each is with --classes FILE"
        )
    return found.labels


def _check_kind(
    labels: str | None,
    paired: bool,
    owners: str | None,
    answers: str | None,
    companions: str | None,
    partners: str | None,
) -> None:
    """Raise an ArgumentError for options that describe two kinds of task at once."""
    from modgap.errors import ArgumentError

    given = {
        "--labels": labels is not None,
        "--paired": paired,
        "--owners": owners is not None,
        "--answers": answers is not None,
        "--companions": companions is not None,
    }
    chosen = [name for name, present in given.items() if present]
    if len(chosen) > 1:
        raise ArgumentError(
            f"`{chosen[0]}` and `{chosen[1]}` describe different kinds of task; give one of them"
        )
    if partners is not None and companions is None:
        raise ArgumentError("`--partners` needs `--companions`, the other items of the mixed index")


def parse_methods(words: list[str] | None) -> list[str | Closure]:
    """Return closers by name, and closures from files."""
    from modgap.closers import METHODS
    from modgap.errors import ArgumentError
    from modgap.maps import Closure

    found: list[str | Closure] = []
    for word in _split(words):
        if word in METHODS:
            found.append(word)
        elif word.endswith(".safetensors") or Path(word).is_file():
            found.append(Closure.load(word))
        else:
            raise ArgumentError(
                f"`--methods` must name closers ({', '.join(METHODS)}) or files of saved closures; "
                f"got {word!r}"
            )
    return found or ["none", "orthogonal", "affine"]


def parse_alphas(words: list[str] | None) -> list[float]:
    """Return the alphas, 1 by default."""
    from modgap._validate import check_number

    return [check_number(word, "--alphas", low=-100, high=100) for word in _split(words)] or [1.0]


def parse_noises(words: list[str] | None) -> list[Noise]:
    """Return the noises; ``none`` alone for an empty list."""
    from modgap.noise import Gaussian, parse

    if words and [word.strip() for word in words] == ["none"]:
        return []
    return [parse(word.strip()) for word in words or ()] or [Gaussian(0.022)]


def parse_components(word: str | None) -> int | float | str | None:
    """Return `n_components` as the library takes it."""
    from modgap._validate import check_components
    from modgap.errors import ArgumentError

    if word is None:
        return None
    text = word.strip()
    for kind in (int, float):
        try:
            return check_components(kind(text))
        except ArgumentError:
            raise
        except ValueError:
            continue
    return check_components(text)


def _split(words: list[str] | None) -> list[str]:
    """Return words given by commas or by repetition; a file whose name has a comma stays whole."""
    parts: list[str] = []
    for word in words or ():
        parts += [word] if Path(word).is_file() else word.split(",")
    return [part.strip() for part in parts if part.strip()]


def check_out(out: str | Path, *inputs: str | None, suffixes: tuple[str, ...]) -> Path:
    """Return the path of an output file that can be written without touching an input.

    Raises
    ------
    ArgumentError
        Its folder is missing, it is a folder or one of the inputs, or has another suffix.
    """
    from modgap.errors import ArgumentError
    from modgap.io import parse_spec

    target = Path(out)
    if target.suffix.lower() not in suffixes:
        raise ArgumentError(f"`--out` must end in {' or '.join(suffixes)}; got `{out}`")
    if target.is_dir():
        raise ArgumentError(f"`--out` `{out}` is a folder; name a file in it")
    if not target.parent.is_dir():
        raise ArgumentError(f"`--out` `{out}` lies in a folder that does not exist; make it first")
    for spec in inputs:
        if spec is None or not target.exists():
            continue
        path = parse_spec(spec)[0]
        if path.exists() and path.samefile(target):
            raise ArgumentError(f"`--out` `{out}` is one of the inputs; choose another name")
    return target


def fill_in(command: str, paths: dict[str, Any]) -> str:
    """Return a command with the caller's own paths in the place of words such as QUERIES."""
    import shlex

    words = [shlex.quote(str(paths[w])) if w in paths else w for w in command.split(" ")]
    return " ".join(words)
