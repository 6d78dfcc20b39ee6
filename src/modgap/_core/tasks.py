"""Many tasks, one piece of work: what an engine does with them, and the one that uses this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeVar

__all__ = ["HERE", "Engine", "Here", "Tell", "Work", "flow"]

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Called with the number of rows that were finished since the last call.
Tell = Callable[[int], None]
#: What is done to a task; it tells of the rows that it has finished.
Work = Callable[[Task, Tell], Result]


class Engine(Protocol):
    """Who does the work: this process, several, or a cluster.

    Work and tasks may travel to another process, so both can be pickled, and errors that modgap
    raises come back as they are.
    """

    #: Where the work is done, as a sentence needs it.
    words: str
    #: Whether tasks and results travel, so that many small ones cost time.
    is_apart: bool

    def each(
        self, work: Work[Task, Result], tasks: Iterable[Task], tell: Tell, *, in_order: bool
    ) -> Generator[tuple[int, Result], None, None]:
        """Yield the place and the result of each task, a few of which are under way at a time.

        Parameters
        ----------
        work : callable
        tasks : iterable
            Drawn as they are needed: results that nobody has taken yet hold the next ones up.
        tell : callable
            Is told of finished rows: at once in this process, with its result of a task elsewhere.
        in_order : bool
            Whether results come in the order of the tasks; as they finish otherwise.

        Notes
        -----
        Closing the iterator ends what is under way.
        """
        ...


class Here:
    """The process itself, one task after the other."""

    words = "this process"
    is_apart = False

    def each(
        self, work: Work[Task, Result], tasks: Iterable[Task], tell: Tell, *, in_order: bool
    ) -> Generator[tuple[int, Result], None, None]:
        """Yield the place and the result of each task, in order."""
        for place, task in enumerate(tasks):
            yield place, work(task, tell)


#: Has no state, so one is enough.
HERE = Here()


def flow(
    submit: Callable[[Task], Any],
    wait: Callable[[list[Any]], Iterable[Any]],
    tasks: Iterable[Task],
    window: Callable[[], int],
    *,
    in_order: bool,
) -> Generator[tuple[int, Any], None, None]:
    """Yield the place and the result of each task that is submitted, never more than a window ahead.

    Parameters
    ----------
    submit : callable
        Starts one task somewhere and returns its future, which has `result` and `cancel`.
    wait : callable
        Returns those of the futures that are done, one at least.
    tasks : iterable
    window : callable
        Returns how many tasks may be under way or wait to be taken: memory is flat because of it.
    in_order : bool
        Whether results come in the order of the tasks.
    """
    waiting = enumerate(tasks)
    under_way: dict[Any, int] = {}
    finished: dict[int, Any] = {}
    expected = 0
    try:
        while True:
            while len(under_way) + len(finished) < window():
                place, task = next(waiting, (-1, None))
                if place < 0:
                    break
                under_way[submit(task)] = place  # type: ignore[arg-type]
            if not under_way and not finished:
                return
            while (expected not in finished) if in_order else not finished:
                for future in wait(list(under_way)):
                    finished[under_way.pop(future)] = future.result()
            place = expected if in_order else next(iter(finished))
            expected += 1
            yield place, finished.pop(place)
    finally:
        for future in under_way:
            future.cancel()
