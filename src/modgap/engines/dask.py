"""A Dask cluster: a running one, or one that is started on this machine for the work at hand."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from modgap._core.checks import check_count
from modgap._core.extras import require
from modgap._core.tasks import Result, Task, Tell, Work, flow
from modgap.errors import ModgapError, WorkerError
from modgap.io._guard import one_line, shown

__all__ = ["DaskCluster"]

#: Tasks under way for each thread of the cluster: one that is done, and one that waits.
_AHEAD = 2
#: Seconds in which a scheduler has to answer, and then one worker at least has to be there.
_ANSWER_S = 15
#: How many workers may die over one task before it is given up: it may well be what kills them.
_DEATHS = 5


class DaskCluster:
    """The workers of a Dask cluster, which see the same files under the same paths as this process.

    Tasks of workers that die are done by others. Shards are mapped into files that get their names
    here, so what a worker that was given up still writes does no harm.

    Parameters
    ----------
    client : distributed.Client
        Connected to the cluster.

    Raises
    ------
    WorkerError
        The cluster has no workers, or they run another modgap.
    """

    is_apart = True

    def __init__(self, client: Any) -> None:
        self._client = client
        self.words = "the workers of the Dask cluster"
        _check_workers(client)

    @classmethod
    @contextmanager
    def opened(
        cls, *, workers: int | None = None, scheduler: str | None = None
    ) -> Iterator[DaskCluster]:
        """Yield the cluster behind an address, or one of so many processes that ends with the body.

        Raises
        ------
        MissingExtraError
            Dask's distributed is not installed.
        WorkerError
            No scheduler answers, or the cluster cannot do the work.
        """
        distributed = require("distributed", "dask")
        with contextlib.ExitStack() as stack:
            stack.enter_context(_quiet())
            if scheduler is None:
                count = {} if workers is None else {"n_workers": check_count(workers, "workers")}
                stack.enter_context(_settings())
                cluster = distributed.LocalCluster(
                    threads_per_worker=1, processes=True, dashboard_address=":0",
                    silence_logs=logging.CRITICAL, **count,
                )  # fmt: skip
                target: Any = stack.enter_context(cluster)
            else:
                target = scheduler
            try:
                client = distributed.Client(target, timeout=_ANSWER_S, set_as_default=False)
            except (OSError, ValueError, TypeError) as error:
                raise WorkerError(
                    f"no Dask scheduler answers at `{shown(scheduler)}` ({one_line(error)}); start one "
                    "with `dask scheduler`, or check the address"
                ) from None
            yield cls(stack.enter_context(client))

    def each(
        self, work: Work[Task, Result], tasks: Iterable[Task], tell: Tell, *, in_order: bool
    ) -> Generator[tuple[int, Result], None, None]:
        """Yield the place and the result of each task.

        Raises
        ------
        WorkerError
            One task has cost several workers their lives, or the cluster is gone.
        """
        distributed = require("distributed", "dask")
        run = _Run(work)

        def submit(task: Task) -> Any:
            # Not pure: a task writes a file, and a second run of it is no mistake.
            return self._client.submit(run, task, pure=False)

        def finished(futures: list[Any]) -> Iterable[Any]:
            with self._client.as_current():
                found: Iterable[Any] = distributed.wait(futures, return_when="FIRST_COMPLETED").done
            return found

        def window() -> int:
            threads = int(sum(self._client.nthreads().values()))
            return _AHEAD * max(1, threads)

        try:
            with contextlib.closing(
                flow(submit, finished, tasks, window, in_order=in_order)
            ) as found:
                for place, (result, rows) in found:
                    tell(rows)
                    yield place, result
        except distributed.KilledWorker:
            raise WorkerError(
                "one task has cost several workers of the Dask cluster their lives, as where memory runs "
                "out; give them more, then run the same command again: what is complete is kept"
            ) from None
        except (distributed.CancelledError, distributed.comm.CommClosedError, TimeoutError):
            raise WorkerError(
                "the Dask cluster is gone; start it again, then run the same command again: what is "
                "complete is kept"
            ) from None


class _Run:
    """Work as a cluster does it: the result, and the rows that it told of."""

    def __init__(self, work: Any) -> None:
        self.work = work

    def __call__(self, task: Any) -> tuple[Any, int]:
        told: list[int] = []
        result = self.work(task, told.append)
        return result, sum(told)


def _version() -> str:
    import modgap

    return str(modgap.__version__)


def _check_workers(client: Any) -> None:
    """Raise a WorkerError unless there are workers, and all of them run this modgap."""
    try:
        client.wait_for_workers(1, timeout=_ANSWER_S)
    except TimeoutError:
        raise WorkerError(
            f"the Dask cluster has no workers after {_ANSWER_S} s; start some with `dask worker ADDRESS`"
        ) from None
    try:
        versions = set(client.run(_version).values())
    except ModgapError:
        raise
    except Exception as error:  # a worker without modgap fails as it likes
        raise WorkerError(
            f"the workers of the Dask cluster cannot import this modgap ({one_line(error)}); install "
            f"modgap {_version()} with them"
        ) from None
    if versions != {_version()}:
        found = ", ".join(sorted(versions))
        raise WorkerError(
            f"the workers of the Dask cluster run modgap {found}, this is {_version()}; install one version"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the cluster's own log off the terminal: deaths of workers are its daily bread."""
    loggers = [logging.getLogger(name) for name in ("distributed", "asyncio", "tornado")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _settings() -> Any:
    """Return a context in which Dask starts clusters as this work wants them."""
    dask = require("dask", "dask")
    return dask.config.set({"distributed.scheduler.allowed-failures": _DEATHS})
