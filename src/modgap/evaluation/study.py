"""Evaluate closers on a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from modgap._core.checks import check_count, check_number
from modgap.closers import Closure
from modgap.errors import ArgumentError, CodeError
from modgap.evaluation._ground import Ground
from modgap.evaluation._stage import Plan, Stage
from modgap.evaluation.records import Study
from modgap.evaluation.tasks import Task
from modgap.measures import Remark
from modgap.robustness.noise import Gaussian, Noise, parse

__all__ = ["evaluate"]

DEFAULT_CLOSERS = ("none", "orthogonal", "affine")
FOLDS = 5


def evaluate(
    task: Task,
    closers: str | Closure | Iterable[str | Closure] = DEFAULT_CLOSERS,
    alphas: float | Iterable[float] = (1.0,),
    noises: str | Noise | Iterable[str | Noise] = (Gaussian(0.022),),  # noqa: B008
    *,
    n_components: int | float | str | None = None,
    paraphrase: bool = False,
    folds: int = FOLDS,
    draws: int = 100,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Study:
    """Return what each closer does to a task's decisions, noise-free and under each noise.

    Parameters
    ----------
    task : Task
    closers : one or several of str or Closure
        Names from `closers.METHODS`, a comparison may follow ("affine:ip"); or fitted closures, which
        are used as they are: those count as exact if they promise to be and change no answer here,
        where the gallery may be another.
    alphas : one or several floats
        Shares of the gap to close, for the methods that take alpha; the others run once.
    noises : one or several of str or Noise
        Words as `robustness.parse` reads them, or noises.
    n_components : int, float, or "all", optional
        For the methods that take it.
    paraphrase : bool
        Also treat each other caption template as a noise: the closure of one template is applied to
        the texts of another. Needs a task with several templates.
    folds : int
        Closers that can change answers are fitted to all but one of so many parts of the queries
        and judged on the part left out, so that none is praised for what it has seen.
    draws, seed : int
        For sampled noise, and the folds; the exact integral needs neither.
    progress : callable, optional
        Called with 1 after each draw of each block.

    Raises
    ------
    ArgumentError, ClosureError, DataError, ShapeError
        Options out of range, or closures that do not fit the task.
    CodeError
        None of the noises can act: a single code that cannot store such rows ends nothing, and its
        results say why (`NoiseResult.failed`).

    Examples
    --------
    >>> from modgap import load_sample
    >>> study = evaluate(load_sample().task(), closers=["none", "affine"])
    >>> [row.agreement for row in study.rows]
    [1.0, 1.0]
    """
    if not isinstance(task, Task):
        raise ArgumentError(
            f"`task` must be a task such as ZeroShot(queries, gallery, labels); got {type(task).__name__}"
        )
    plan = Plan(
        closers=several(closers, "closers", str | Closure),
        alphas=tuple(check_number(a, "alphas") for a in several(alphas, "alphas", None)),
        noises=read_noises(noises),
        n_components=n_components,
        paraphrase=paraphrase,
        folds=check_count(folds, "folds", low=2),
        draws=check_count(draws, "draws"),
        seed=check_count(seed, "seed", low=0),
        progress=progress,
    )
    if paraphrase and not any(problem.rephrased for problem in task.problems):
        raise ArgumentError(
            "`paraphrase` needs a gallery per caption template, shape (t, n, d) with t >= 2"
        )
    return Evaluator(task).study(plan)


class Evaluator:
    """A task to be studied several times: statistics and noise-free search are made once.

    Parameters
    ----------
    task : Task
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.grounds = tuple(Ground(task.metric, problem) for problem in task.problems)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What to know about the data of all problems, each line once."""
        found = {remark.text: remark for ground in self.grounds for remark in ground.remarks}
        return tuple(found.values())

    def study(self, plan: Plan) -> Study:
        """Return what `evaluate` returns."""
        for noise in plan.noises:
            noise.check_ready()
        rows = [row for ground in self.grounds for row in Stage(ground, plan).rows()]
        gaps = tuple(ground.gap for ground in self.grounds)
        described = {**self.task.describe(), "rank": gaps[0].rank}
        found = Study(described, gaps, tuple(rows), plan.describe(), self.remarks)
        results = [result for row in rows for result in row.results]
        if results and all(result.failed for result in results):
            raise CodeError("; ".join(dict.fromkeys(str(result.failed) for result in results)))
        return found


def several(value: Any, name: str, kind: Any) -> tuple[Any, ...]:
    """Return one or many values as a tuple, none of them refused."""
    single = isinstance(value, str | Closure | int | float) or not isinstance(value, Iterable)
    values = (value,) if single else tuple(value)
    if not values:
        raise ArgumentError(f"`{name}` must name at least one; got none")
    for one in values:
        if kind is not None and not isinstance(one, kind):
            raise ArgumentError(
                f"`{name}` must hold names and closures; got {type(one).__name__} among them"
            )
    return values


def read_noises(noises: Any) -> tuple[Noise, ...]:
    """Return noises from one or many of words and noises; none is fine."""
    if isinstance(noises, str) or not isinstance(noises, Iterable):
        noises = (noises,)
    found = tuple(parse(one) if isinstance(one, str) else one for one in noises)
    for one in found:
        if not isinstance(one, Noise):
            raise ArgumentError(
                f"`noises` must hold words such as gaussian:0.022, or noises; got {type(one).__name__}"
            )
    return found
