"""The inputs that describe a task: one set of options for every command that takes a task."""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from modgap.cli._inputs import INPUT, MetricOption, TemplateOption

if TYPE_CHECKING:
    import numpy as np

    from modgap.evaluation.tasks import Task

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
        "gallery row, or else one per query. With --answers: for each candidate the row of its query.",
    ),
]
AnswersOption = Annotated[
    str | None,
    typer.Option(
        "--answers",
        metavar=INPUT,
        help="Multiple choice: the gallery has shape (m, c, d), and this is the position of the "
        "right candidate of each query. With --owners the candidates lie in a gallery (n, d), as "
        "many of each query as there are.",
    ),
]
CompanionsOption = Annotated[
    str | None,
    typer.Option(
        "--companions",
        metavar=INPUT,
        help="Mixed collection of two modalities: items of the queries' own kind that lie in it beside "
        "the gallery. They are its modality `companions`, and count on after the gallery's rows.",
    ),
]
ModalitiesOption = Annotated[
    str | None,
    typer.Option(
        "--modalities",
        metavar=INPUT,
        help="Mixed collection: the modality of each gallery row, as names or numbers. Any array file, "
        ".txt, .csv or .json.",
    ),
]
QueryModalitiesOption = Annotated[
    str | None,
    typer.Option(
        "--query-modalities",
        metavar=f"NAME|{INPUT}",
        help="With --modalities: what the queries are, all of them or, in a file, each one; a table "
        "for each.",
    ),
]
PartnersOption = Annotated[
    str | None,
    typer.Option(
        "--partners",
        metavar=INPUT,
        help="Mixed collection: the gallery row that answers a query.",
    ),
]
ItemLabelsOption = Annotated[
    str | None,
    typer.Option(
        "--item-labels",
        metavar=INPUT,
        help="Mixed collection, in the place of --partners: the label of each gallery row; items of a "
        "query's own label, in --labels, answer it.",
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


@dataclass(frozen=True)
class TaskInputs:
    """What stands beside queries and gallery; each field is an option of the same name.

    Labels or nothing: zero-shot classification. `paired` or `owners`: retrieval in both directions.
    `answers`: multiple choice, with `owners` of different numbers of candidates. `modalities` or
    `companions`: retrieval from a mixed collection.
    """

    labels: LabelsOption = None
    paired: PairedOption = False
    owners: OwnersOption = None
    answers: AnswersOption = None
    companions: CompanionsOption = None
    modalities: ModalitiesOption = None
    query_modalities: QueryModalitiesOption = None
    partners: PartnersOption = None
    item_labels: ItemLabelsOption = None
    metric: MetricOption = "cosine"
    template: TemplateOption = None
    classes: ClassesOption = None
    templates: TemplatesOption = None

    @property
    def mixed(self) -> bool:
        """Whether the gallery holds several modalities."""
        return self.modalities is not None or self.companions is not None

    @property
    def both_ways(self) -> bool:
        """Whether each side searches the other."""
        return self.paired or (self.owners is not None and self.answers is None)

    def class_names(self) -> list[str] | None:
        """Return the names of the gallery's rows, in order."""
        from modgap.io import read_strings

        return None if self.classes is None else read_strings(self.classes)

    def words(self) -> str:
        """Return the options as they would be given again, those at their defaults left out."""
        return self.words_of(*(field.name for field in fields(self)))

    def words_of(self, *names: str) -> str:
        """Return some of the options as they would be given again."""
        parts = []
        for field in fields(self):
            if field.name not in names:
                continue
            value = getattr(self, field.name)
            if value == field.default:
                continue
            parts.append(f"--{field.name.replace('_', '-')}")
            if value is not True:
                parts.append(shlex.quote(str(value)))
        return " ".join(parts)

    def load(self, queries: str, gallery: str) -> Task:
        """Return the task that the inputs describe.

        Raises
        ------
        ModgapError
            Inputs exclude each other, cannot be read, or do not fit together.
        """
        from modgap.decisions.metric import as_metric
        from modgap.evaluation import tasks
        from modgap.io import read_array, read_strings
        from modgap.io._guard import shown

        metric = as_metric(self.metric)
        self._check_kind()
        names = self.class_names()
        left = read_array(queries)
        right = read_gallery(gallery, self.template, keep=self.answers is None)
        if self.answers is not None:
            return self._choice(left, right, metric)
        if self.both_ways or self.mixed:
            return self._retrieval(left, one_gallery(right, gallery, self.template), metric)
        templates = None
        if self.templates is not None:
            templates = [shown(name) for name in read_strings(self.templates)]
        check_classes(names, right)
        labels = None if self.labels is None else _label_rows(self.labels, names)
        return tasks.ZeroShot(
            left, right, labels, metric=metric, template=self.template, templates=templates
        )

    def _choice(self, left: np.ndarray, right: np.ndarray, metric: str) -> Task:
        from modgap.evaluation import tasks
        from modgap.io import read_labels

        answers = read_labels(str(self.answers)).labels
        if self.owners is None:
            return tasks.MultipleChoice(left, right, answers, metric=metric)
        owners = read_labels(self.owners).labels
        return tasks.MultipleChoice(
            left, _by_query(right, owners, len(left)), answers, metric=metric
        )

    def _retrieval(self, left: np.ndarray, right: np.ndarray, metric: str) -> Task:
        from modgap.evaluation import tasks
        from modgap.io import read_labels

        if self.mixed:
            return self._mixed(left, right, metric)
        names = ("queries", "gallery")
        if self.owners is None:
            return tasks.PairedRetrieval(left, right, metric=metric, names=names)
        rows = read_labels(self.owners).labels
        if len(rows) != len(right) and len(rows) == len(left):  # the queries are the captions
            left, right, names = right, left, (names[1], names[0])
        return tasks.PairedRetrieval(left, right, owners=rows, metric=metric, names=names)

    def _mixed(self, left: np.ndarray, right: np.ndarray, metric: str) -> Task:
        import numpy as np

        from modgap._core.checks import check_array, check_same_width
        from modgap.evaluation import tasks
        from modgap.io import read_array, read_labels

        partners = None if self.partners is None else read_labels(self.partners).labels
        labels = None
        if self.labels is not None:
            labels = _numbered(str(self.labels), str(self.item_labels))
        if self.companions is not None:
            companions = read_array(self.companions)
            for rows, name in ((right, "gallery"), (companions, "companions")):
                check_array(rows, name, ndim=2)
            check_same_width(right, "gallery", companions, "companions")
            kinds = ["gallery"] * len(right) + ["companions"] * len(companions)
            right, own = np.concatenate([right, companions]), "companions"
            return tasks.MixedRetrieval(
                left, right, kinds, partners, labels=labels, query_modalities=own, metric=metric
            )
        return tasks.MixedRetrieval(
            left,
            right,
            read_names(str(self.modalities)),
            partners,
            labels=labels,
            query_modalities=self._query_modalities(),
            metric=metric,
        )

    def _query_modalities(self) -> str | list[str] | None:
        """Return the one name that was given, or those in a file of that name."""
        from pathlib import Path

        from modgap.io import parse_spec

        given = self.query_modalities
        if given is None or not Path(parse_spec(given)[0]).exists():
            return given
        return read_names(given)

    def _check_kind(self) -> None:
        """Raise an ArgumentError for options that describe two kinds of task at once."""
        from modgap.errors import ArgumentError

        kinds = ("labels", "paired", "owners", "answers", "companions", "modalities")
        chosen = [f"--{name}" for name in kinds if getattr(self, name) not in (None, False)]
        if self.answers is not None:  # the owners say whose the candidates are
            chosen = [name for name in chosen if name != "--owners"]
        if self.mixed and self.item_labels is not None:
            chosen = [name for name in chosen if name != "--labels"]
        if len(chosen) > 1:
            raise ArgumentError(
                f"`{chosen[0]}` and `{chosen[1]}` describe different kinds of task; give one of them"
            )
        named = [f"--{n}" for n in ("classes", "templates") if getattr(self, n) is not None]
        if named and chosen and chosen[0] != "--labels":
            raise ArgumentError(
                f"`{named[0]}` names what --labels are about, and has no meaning with `{chosen[0]}`; "
                "leave it out"
            )
        for name in ("partners", "item_labels"):
            if getattr(self, name) is not None and not self.mixed:
                raise ArgumentError(
                    f"`--{name.replace('_', '-')}` needs `--modalities` or `--companions`, which say what "
                    "a mixed collection holds"
                )
        if self.query_modalities is not None and self.modalities is None:
            raise ArgumentError(
                "`--query-modalities` needs `--modalities`, those of the gallery's rows"
            )
        if self.item_labels is not None and (self.labels is None or self.partners is not None):
            raise ArgumentError(
                "`--item-labels` needs `--labels`, those of the queries, in the place of `--partners`"
            )


def takes_task_inputs(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the parameter `inputs: TaskInputs` of a command into one option per field."""
    hints = get_type_hints(TaskInputs, include_extras=True)
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.annotation is not TaskInputs:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        for field in fields(TaskInputs):
            parameters.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=field.default,
                    annotation=hints[field.name],
                )
            )

    @functools.wraps(command)
    def taking(**words: Any) -> None:
        given = {field.name: words.pop(field.name) for field in fields(TaskInputs)}
        command(inputs=TaskInputs(**given), **words)

    taking.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return taking


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


def check_classes(classes: list[str] | None, gallery: np.ndarray) -> None:
    """Raise a ShapeError unless there is one name per gallery row."""
    from modgap.errors import ShapeError

    if classes is not None and gallery.ndim > 1 and len(classes) != gallery.shape[-2]:
        raise ShapeError(
            f"`--classes` must name the {gallery.shape[-2]} rows of the gallery; got {len(classes)}"
        )


def read_names(spec: str) -> list[str]:
    """Return one name per row from a file of names or of numbers."""
    from modgap.io import read_labels

    found = read_labels(spec)
    if found.classes is None:
        return [str(number) for number in found.labels.tolist()]
    return [found.classes[number] for number in found.labels.tolist()]


def _numbered(queries: str, items: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of queries and of items as numbers that mean the same on both sides."""
    import numpy as np

    asked, given = read_names(queries), read_names(items)
    numbers = np.unique([*asked, *given], return_inverse=True)[1]
    return numbers[: len(asked)], numbers[len(asked) :]


def _by_query(gallery: np.ndarray, owners: np.ndarray, queries: int) -> list[np.ndarray]:
    """Return the candidates of each query, in the order of the gallery."""
    import numpy as np

    from modgap._core.checks import check_array, check_indices
    from modgap.errors import ShapeError

    check_array(gallery, "gallery", ndim=2)
    owners = check_indices(owners, "--owners", rows=len(gallery), below=queries, rows_of="gallery")
    counts = np.bincount(owners, minlength=queries)
    if not counts.all():
        raise ShapeError(
            f"`--owners` names no candidate of query {int(counts.argmin())} (of "
            f"{int((counts == 0).sum())} such queries); each needs at least one"
        )
    order = np.argsort(owners, kind="stable")
    return np.split(gallery[order], np.cumsum(counts)[:-1])


def _label_rows(spec: str, classes: list[str] | None) -> np.ndarray:
    from modgap.errors import ArgumentError
    from modgap.io import read_labels

    found = read_labels(spec, classes=classes)
    if found.classes is not None and classes is None:
        raise ArgumentError(
            f"`--labels` {spec} holds class names; say which gallery row each is with --classes FILE"
        )
    return found.labels
