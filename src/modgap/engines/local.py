"""Several processes of this machine, each with one thread for its matrix products."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from modgap._core.checks import check_count
from modgap._core.tasks import Result, Task, Tell, Work, flow
from modgap.errors import WorkerError

__all__ = ["Processes"]

#: Tasks under way for each worker: one that is done, and one that waits for a worker to be free.
_AHEAD = 2
#: More processes than this are a mistake in the call.
_MOST = 1024
#: What the libraries of matrix products look at when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

#: In a worker: what it does to tasks.
_WORK: list[Any] = []


class Processes:
    """Several processes of this machine: each task is one process's, and its bytes do not depend on N.

    Every process multiplies with one thread: products of float32 differ in their last digit from one
    number of threads to another.

    Parameters
    ----------
    workers : int
        How many processes, at least 1. More than there are cores only take memory.

    Raises
    ------
    ArgumentError
        Another number of workers.

    Notes
    -----
    Processes are spawned, so a script that uses this guards its own work with
    ``if __name__ == "__main__":``. They end with the process that started them, however that ends.
    """

    is_apart = True

    def __init__(self, workers: int) -> None:
        self.workers = check_count(workers, "workers", low=1, high=_MOST)
        self.words = "1 process" if workers == 1 else f"{workers} processes"

    def each(
        self, work: Work[Task, Result], tasks: Iterable[Task], tell: Tell, *, in_order: bool
    ) -> Generator[tuple[int, Result], None, None]:
        """Yield the place and the result of each task.

        Raises
        ------
        WorkerError
            A process was killed from outside, as the system does where memory runs out.
        """
        context = get_context("spawn")
        held, leash = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(self.workers, context, _begin, (work, held))

        def submit(task: Task) -> Future[Any]:
            with _one_thread():  # processes start at the first submission
                return pool.submit(_do, task)

        def finished(futures: list[Future[Any]]) -> Iterable[Future[Any]]:
            return wait(futures, return_when=FIRST_COMPLETED).done

        ended = False
        try:
            found = flow(submit, finished, tasks, lambda: _AHEAD * self.workers, in_order=in_order)
            with contextlib.closing(found):
                for place, (result, rows) in found:
                    tell(rows)
                    yield place, result
            ended = True
        except BrokenProcessPool:
            raise WorkerError(
                "a worker process ended before its work was done, as where memory runs out, or where a "
                'script lacks `if __name__ == "__main__":`; run it again, with fewer workers: what is '
                "complete is kept"
            ) from None
        finally:
            if not ended:
                leash.close()  # the processes see the end of the pipe and are gone
            pool.shutdown(wait=True, cancel_futures=True)
            leash.close()
            held.close()


def _begin(work: Any, held: Connection) -> None:
    """Prepare a worker: its work, and a watch over the process that started it."""
    _WORK[:] = [work]
    # An interruption is for the process that started this one, which then lets go of the leash.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(held,), daemon=True).start()


def _end_with_parent(held: Connection) -> None:
    """Wait until nobody holds the other end of the pipe, and end this process at once."""
    with contextlib.suppress(EOFError, OSError):
        held.recv_bytes()
    os._exit(1)


def _do(task: Any) -> tuple[Any, int]:
    """Return a task's result and the rows that it told of."""
    told: list[int] = []
    result = _WORK[0](task, told.append)
    return result, sum(told)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start in the body multiply with one thread each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
