"""Whether a model's probabilities are right as often as they say, before a closure and after it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modgap._core.checks import check_count, check_number
from modgap._core.json import plain, stamp
from modgap.closers import Closure
from modgap.errors import ArgumentError, ClosureWarning, ShapeError
from modgap.evaluation._ground import Ground
from modgap.evaluation._probabilities import Judgement, Link, judge, refitted
from modgap.evaluation._stage import Plan, Stage
from modgap.evaluation.study import several
from modgap.evaluation.tasks import Task
from modgap.robustness.systems import System

__all__ = ["Calibration", "Calibrations", "calibration"]

#: Resamples of the queries behind a standard error, and draws behind what chance alone would show.
_RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class Calibration:
    """Probabilities of one closer on one problem, judged.

    Attributes
    ----------
    problem, label : str
        Which problem, and which closer.
    scale : {"given", "refitted"}
        Whether probabilities are those at the scale that was given, or at one fitted to one half of the
        queries and judged on the other, both ways round.
    logit_scale : float
        What scores are multiplied by; where refitted the mean over both halves.
    logit_bias : float or None
        What is added before a sigmoid; None for a softmax.
    accuracy, confidence : float
        Share of right decisions, and the mean probability of what is decided for.
    ece, ece_stderr : float
        Expected calibration error: the mean over bins of |accuracy - confidence|, by their queries.
        Bins hold equally many queries. Its standard error over resampled queries.
    ece_chance : float
        What the same error would be on average were every confidence right: of few queries not zero.
    ece_width, ece_width_stderr : float
        The same with bins of equal width in [0, 1].
    nll, nll_stderr : float
        Negative log likelihood of the right class, natural logarithm; of a sigmoid summed over all classes.
    brier, brier_stderr : float
        Sum over the classes of (probability - truth)^2, in [0, 2] for a softmax.
    moved : float
        Largest change of a confidence by closing, at the same scale; 0 before closing.
    bins : tuple of (int, float, float)
        Of each bin of equal mass its queries, mean confidence and accuracy.
    judgement : Judgement
        All of it query by query.
    """

    problem: str
    label: str
    scale: str
    logit_scale: float
    logit_bias: float | None
    accuracy: float
    confidence: float
    ece: float
    ece_stderr: float
    ece_chance: float
    ece_width: float
    ece_width_stderr: float
    nll: float
    nll_stderr: float
    brier: float
    brier_stderr: float
    moved: float
    bins: tuple[tuple[int, float, float], ...]
    judgement: Judgement

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as a plain dict, without those of single queries."""
        found: dict[str, Any] = plain({k: v for k, v in vars(self).items() if k != "judgement"})
        return found

    def __repr__(self) -> str:
        return (
            f"Calibration({self.label!r}, {self.problem!r}, {self.scale}, ece={self.ece:.4f}, "
            f"nll={self.nll:.4f})"
        )


@dataclass(frozen=True, eq=False)
class Calibrations:
    """Rows for every problem and closer, at the scale given and refitted; `none` comes first."""

    task: dict[str, Any]
    rows: tuple[Calibration, ...]
    settings: dict[str, Any]

    def __getitem__(self, key: str | tuple[str, str]) -> Calibration:
        """Return the row of a closer's label at the scale given, or of (label, "refitted")."""
        label, scale = (key, "given") if isinstance(key, str) else key
        for row in self.rows:
            if (row.label, row.scale) == (label, scale):
                return row
        labels = ", ".join(dict.fromkeys(row.label for row in self.rows))
        raise KeyError(f"there is no row {key!r}; there are {labels}, each given and refitted")

    def __iter__(self) -> Iterator[Calibration]:
        return iter(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record, without figures of single queries."""
        found: dict[str, Any] = plain(
            {
                **stamp(),
                "task": self.task,
                "calibration": [row.to_dict() for row in self.rows],
                "settings": self.settings,
            }
        )
        return found

    def __repr__(self) -> str:
        return f"Calibrations({', '.join(repr(row) for row in self.rows)})"


def calibration(
    task: Task,
    closers: str | Closure | Iterable[str | Closure] = (),
    alphas: float | Iterable[float] = (1.0,),
    *,
    logit_scale: float = 100.0,
    logit_bias: float | None = None,
    n_components: int | float | str | None = None,
    bins: int = 15,
    seed: int = 0,
) -> Calibrations:
    """Return how well probabilities agree with what comes true, before each closure and after it.

    A closure that keeps decisions moves the scores of a query by one constant, which a softmax does not
    see: its probabilities stay. A sigmoid sees it, and other closures change the probabilities of both.
    Whether that is harm or only another scale is what the refitted rows tell.

    Parameters
    ----------
    task : Task
        `ZeroShot` with labels, or `MultipleChoice` with answers.
    closers : one or several of str or Closure
        As `evaluate` takes them; `none` is always there. Names are fitted to one half of the queries and
        judged on the other, both ways round.
    alphas : one or several floats
    logit_scale : float
        What the model multiplies its scores by: `encoder.card.logit_scale`; 100 is CLIP's. By Euclidean
        distance d the score is -d^2 / 2, the cosine of unit rows up to a constant.
    logit_bias : float, optional
        Of a model trained with a sigmoid (SigLIP), what it adds: each class then has a probability of its
        own.
    n_components : int, float or "all", optional
        For the closers that take it.
    bins : int
        Of the expected calibration error.
    seed : int
        Of the halves and of resampling.

    Raises
    ------
    ArgumentError, ClosureError, DataError, ShapeError
        The task has no labels or is of another kind, an option is out of range, or there are too few
        queries: at least four, and one a bin.

    Notes
    -----
    Guo et al. (2017) for the error in bins and for refitting one scale. Cost: m n d for each closer and
    scale.

    Examples
    --------
    >>> from modgap import load_sample
    >>> found = calibration(load_sample().task(), "affine", logit_scale=20.0)
    >>> abs(found["affine"].ece - found["none"].ece) < 1e-6, found["affine"].moved < 1e-5
    (True, True)
    """
    _check_task(task)
    scale = check_number(logit_scale, "logit_scale", low=0.0, open_low=True)
    bias = None if logit_bias is None else check_number(logit_bias, "logit_bias")
    given = Link(scale, bias)
    wanted = (closers,) if isinstance(closers, str | Closure) else tuple(closers)
    wanted = ("none", *(one for one in wanted if one != "none"))
    plan = Plan(
        closers=several(wanted, "closers", str | Closure),
        alphas=tuple(check_number(a, "alphas") for a in several(alphas, "alphas", None)),
        noises=(),
        n_components=n_components,
        paraphrase=False,
        folds=2,
        draws=1,
        seed=check_count(seed, "seed", low=0),
        progress=None,
    )
    counted = _Bins(check_count(bins, "bins"), plan.seed)
    fewest = min(int(problem.queries.shape[0]) for problem in task.problems)
    if fewest < max(4, counted.count):
        raise ShapeError(
            f"`queries` must be at least 4 and as many as `bins`, {counted.count}; got {fewest}"
        )
    rows: list[Calibration] = []
    for problem in task.problems:
        rows += _of_problem(Stage(Ground(task.metric, problem), plan), given, counted)
    settings = {
        **{name: plan.describe()[name] for name in ("closers", "alphas", "n_components", "seed")},
        "logit_scale": scale,
        "logit_bias": bias,
        "bins": counted.count,
        "resamples": _RESAMPLES,
    }
    return Calibrations(task.describe(), tuple(rows), settings)


def _check_task(task: Task) -> None:
    if not isinstance(task, Task):
        raise ArgumentError(f"`task` must be a task; got {type(task).__name__}")
    if task.kind not in ("zero-shot", "multiple-choice", "search"):
        raise ArgumentError(
            f"`task` must choose among classes or choices to have probabilities; got {task.kind}"
        )
    if task.problems[0].positives is None:
        raise ArgumentError(
            "`task` has no labels, so nothing says how often it is right; give them"
        )


def _of_problem(stage: Stage, given: Link, bins: _Bins) -> list[Calibration]:
    """Return the rows of one problem: each half judged by what was fitted to the other."""
    count = int(stage.problem.queries.shape[0])
    order = np.random.default_rng([stage.plan.seed, count]).permutation(count)
    halves = [np.sort(half) for half in np.array_split(order, 2)]
    labels: list[str] = []
    found: dict[tuple[int, str], list[tuple[Link, Judgement]]] = {}
    for half in halves:
        rest = np.setdiff1d(np.arange(count), half)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClosureWarning)
            closures = [one.closure for one in stage._fit_all(without=half)]
        labels = [_label(closure) for closure in closures]
        for i, closure in enumerate(closures):
            best = refitted(*_system_of(stage, rest, closure), given, stage.plan.seed)
            system, right = _system_of(stage, half, closure)
            for name, link in (("given", given), ("refitted", best)):
                found.setdefault((i, name), []).append((link, judge(system, right, link)))
    together = np.argsort(np.concatenate(halves))
    rows: list[Calibration] = []
    before: dict[str, np.ndarray] = {}
    for (i, name), parts in found.items():
        judgement = Judgement.joined([one for _, one in parts], together)
        before.setdefault(name, judgement.confidence)
        moved = float(np.abs(judgement.confidence - before[name]).max())
        row = bins.row(judgement, stage.problem.name, labels[i], name, [link for link, _ in parts])
        rows.append(replace(row, moved=moved))
    return rows


def _label(closure: Closure) -> str:
    alpha = closure.alpha
    return closure.label + ("" if alpha in (None, 1.0) else f" {alpha:g}")


def _system_of(stage: Stage, rows: np.ndarray, closure: Closure) -> tuple[System, np.ndarray]:
    """Return what some of the queries are compared by, and their right answers."""
    part = stage.problem.subset(rows)
    assert part.positives is not None  # asked before
    return part.system(stage.metric, closure), part.positives[:, 0]


@dataclass(frozen=True)
class _Bins:
    """A number of bins, and the seed of what is resampled."""

    count: int
    seed: int

    def row(
        self, judged: Judgement, problem: str, label: str, scale: str, links: list[Link]
    ) -> Calibration:
        """Return the figures of one closer at one scale."""
        confidence, right = judged.confidence, judged.right.astype(np.float64)
        errors = {
            width: _error(confidence, right, self.count, width=width) for width in (False, True)
        }
        spread, chance = self._resampled(confidence, right)
        biases = [link.bias for link in links if link.bias is not None]
        root = np.sqrt(len(right))
        return Calibration(
            problem=problem,
            label=label,
            scale=scale,
            logit_scale=float(np.mean([link.scale for link in links])),
            logit_bias=float(np.mean(biases)) if biases else None,
            accuracy=float(right.mean()),
            confidence=float(confidence.mean()),
            ece=errors[False],
            ece_stderr=spread[0],
            ece_chance=chance,
            ece_width=errors[True],
            ece_width_stderr=spread[1],
            nll=float(judged.loss.mean()),
            nll_stderr=float(judged.loss.std(ddof=1) / root),
            brier=float(judged.brier.mean()),
            brier_stderr=float(judged.brier.std(ddof=1) / root),
            moved=0.0,
            bins=_table(confidence, right, self.count),
            judgement=judged,
        )

    def _resampled(
        self, confidence: np.ndarray, right: np.ndarray
    ) -> tuple[tuple[float, float], float]:
        """Return standard errors of both errors over resampled queries, and the error of chance alone."""
        rng = np.random.default_rng([self.seed, len(right)])
        both, chance = np.zeros((_RESAMPLES, 2)), np.zeros(_RESAMPLES)
        for i in range(_RESAMPLES):
            drawn = rng.integers(0, len(right), len(right))
            for j, width in enumerate((False, True)):
                both[i, j] = _error(confidence[drawn], right[drawn], self.count, width=width)
            true = (rng.random(len(right)) < confidence).astype(np.float64)
            chance[i] = _error(confidence, true, self.count, width=False)
        first, second = both.std(axis=0, ddof=1)
        return (float(first), float(second)), float(chance.mean())


def _places(confidence: np.ndarray, bins: int, *, width: bool) -> np.ndarray:
    """Return the bin of each query: of equal width in [0, 1], or of equal numbers of queries."""
    if width:
        return np.minimum((confidence * bins).astype(np.int64), bins - 1)
    places = np.empty(len(confidence), dtype=np.int64)
    order = np.argsort(confidence, kind="stable")
    places[order] = np.arange(len(confidence)) * bins // len(confidence)
    return places


def _error(confidence: np.ndarray, right: np.ndarray, bins: int, *, width: bool) -> float:
    """Return sum_b |sum of (right - confidence) in bin b| / m, which is the weighted mean of gaps."""
    places = _places(confidence, bins, width=width)
    gaps = np.bincount(places, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(right))


def _table(
    confidence: np.ndarray, right: np.ndarray, bins: int
) -> tuple[tuple[int, float, float], ...]:
    places = _places(confidence, bins, width=False)
    counts = np.bincount(places, minlength=bins)
    means = [np.bincount(places, weights=v, minlength=bins) / counts for v in (confidence, right)]
    return tuple((int(n), float(c), float(r)) for n, c, r in zip(counts, *means, strict=True))
