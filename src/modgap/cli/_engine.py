"""From the options of an engine to the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modgap.engines import Engine

ENGINES = ("local", "dask")


@dataclass(frozen=True)
class EngineChoice:
    """What --engine, --workers and --scheduler say."""

    name: str
    workers: int | None
    scheduler: str | None

    def __post_init__(self) -> None:
        """Raise an ArgumentError for what no engine can be."""
        from modgap._core.checks import check_choice, check_count
        from modgap.errors import ArgumentError

        check_choice(self.name, "--engine", ENGINES)
        if self.workers is not None:
            check_count(self.workers, "--workers", low=1)
        if self.scheduler is None:
            return
        if self.name == "local":
            raise ArgumentError("`--scheduler` belongs to --engine dask; add that, or leave it out")
        if self.workers is not None:
            raise ArgumentError(
                "`--workers` starts a cluster on this machine, `--scheduler` uses one that runs; give one"
            )

    @contextmanager
    def opened(self) -> Iterator[Engine]:
        """Yield the engine; a cluster that was started for it ends with it.

        Raises
        ------
        MissingExtraError
            Dask is not installed.
        WorkerError
            No scheduler answers, or its workers cannot do the work.
        """
        from modgap.engines import HERE, Processes

        if self.name == "dask":
            from modgap.engines.dask import DaskCluster

            with DaskCluster.opened(workers=self.workers, scheduler=self.scheduler) as cluster:
                yield cluster
        else:
            yield HERE if self.workers is None else Processes(self.workers)

    def refuse_for(self, what: str) -> None:
        """Raise an ArgumentError if more than this process was asked for and only it can do `what`."""
        from modgap.errors import ArgumentError

        if self != EngineChoice("local", None, None):
            raise ArgumentError(
                f"`--engine`, `--workers` and `--scheduler` spread shards that are read once; {what}, in "
                "this process, so leave them out"
            )
