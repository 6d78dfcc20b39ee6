"""`modgap close --stats`: published statistics of a model stand in for the rows of a side, or of both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modgap._core.moments import Moments
    from modgap.cli._console import Job
    from modgap.cli._engine import EngineChoice
    from modgap.closers.closure import Closure
    from modgap.decisions.metric import Metric


def close_published(
    method: str,
    stats: str,
    sides: dict[str, str | None],
    options: dict[str, Any],
    choice: EngineChoice,
    *,
    shown: bool,
) -> Closure:
    """Return the closure of published statistics, and of the rows of the side that is given.

    Parameters
    ----------
    method, stats : str
    sides : dict
        Where "queries" and "gallery" are; None for what the statistics stand in for.
    options : dict
        As `closers.fit_moments` takes them.
    choice : EngineChoice
        Where the rows are read.
    shown : bool

    Raises
    ------
    ModgapError
        Nothing is left for the statistics to stand in for, they are of another width, or of rows taken in
        another way than the metric does; the method needs rows.
    """
    from modgap.cli._console import progress
    from modgap.closers import METHODS, fit_moments, method_and_comparison
    from modgap.closers._setting import check_taken
    from modgap.closers.model_statistics import ModelStatistics
    from modgap.errors import ArgumentError

    given = {key: value for key, value in options.items() if key != "metric"}
    metric: Metric = options["metric"]
    name, _ = method_and_comparison(method)
    check_taken(METHODS[name], **given)
    if METHODS[name].needs != "moments":
        raise ArgumentError(f"`{name}` is fitted from rows, and `--stats` holds moments; give rows")
    if None not in sides.values():
        raise ArgumentError(
            "`--stats` stands in for the side that is not given; leave out `--queries`, `--gallery` or it"
        )
    found = ModelStatistics.load(stats)
    found.check_metric(metric)
    queries, gallery = list(found.queries), found.gallery
    if sides["queries"] is None and sides["gallery"] is None:
        choice.refuse_for("here no rows are read at all")
    with choice.opened() as engine, progress("reading", shown=shown) as job:
        how = {"engine": engine, "tell": job}
        if sides["queries"] is not None:
            queries = _moments(sides["queries"], "queries", metric, found.width, job, how)
        if sides["gallery"] is not None:
            (gallery,) = _moments(sides["gallery"], "gallery", metric, found.width, job, how)
        job.stage("fitting")
        closure = fit_moments(method, queries, gallery, metric=metric, **given)
    sources = {f"{side}_source": spec or stats for side, spec in sides.items()}
    return replace(closure, info={**closure.info, **sources, "model": found.model})


def _moments(
    spec: str, name: str, metric: Metric, width: int, job: Job, how: dict[str, Any]
) -> list[Moments]:
    """Return the moments of a side's rows; of queries in thirds, as `balanced` wants them."""
    from modgap.closers._transport import FOLDS
    from modgap.engines import Reading, moments_of
    from modgap.errors import DataError, ShapeError
    from modgap.io import open_source

    source = open_source(spec)
    if len(source.shape) != 2 or source.width != width:
        raise ShapeError(
            f"`{name}` must have shape (rows, {width}), as the statistics have it; got {source.shape}"
        )
    if source.dtype.kind != "f":
        raise DataError(f"`{name}` must hold floating-point embeddings; got {source.dtype}")
    job.stage(f"reading {name}", total=source.rows)
    folds = FOLDS if name == "queries" and source.rows >= 2 * FOLDS else 1
    return moments_of(source, Reading(name, metric, folds=folds), **how)
