"""What the rows of both sides are called, and shown by."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from modgap.errors import ArgumentError
from modgap.evaluation.tasks import Problem, Task
from modgap.report.words import brief

__all__ = ["Names", "Side", "row_in_all", "rows_of"]


@dataclass(frozen=True)
class Side:
    """One side of a problem.

    Attributes
    ----------
    word : str
        What its rows are: image, text.
    names : sequence of str, optional
        One a row.
    pictures : sequence of (bytes or None), optional
        A small JPEG of each row.
    """

    word: str
    names: Sequence[str] | None = None
    pictures: Sequence[bytes | None] | None = None

    def name(self, row: int) -> str:
        """Return what a row is called, at most 200 characters of it."""
        return f"{self.word} {row}" if self.names is None else brief(self.names[row])

    def picture(self, row: int) -> str | None:
        """Return a row's picture as a data URI; None where it has none."""
        data = None if self.pictures is None else self.pictures[row]
        if not data:
            return None
        return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")


@dataclass(frozen=True)
class Names:
    """What queries and gallery of a task are called.

    Attributes
    ----------
    queries, gallery : Side
    """

    queries: Side = field(default_factory=lambda: Side("queries"))
    gallery: Side = field(default_factory=lambda: Side("gallery"))

    @property
    def both(self) -> tuple[Side, Side]:
        """Queries and gallery."""
        return self.queries, self.gallery

    def check(self, task: Task) -> None:
        """Raise an ArgumentError unless every row has its name and picture where there are any.

        Names of class texts go with tasks whose items are the gallery's rows.
        """
        queries, items = rows_of(task)
        for what, side, rows in (
            ("query_names", self.queries, queries),
            ("classes", self.gallery, items),
        ):
            if what == "classes" and task.problems[0].gallery.ndim == 3:
                continue  # each query has its own
            of = "queries" if what == "query_names" else "gallery items"
            for given, kind in ((side.names, "names"), (side.pictures, "pictures")):
                if given is not None and len(given) != rows:
                    raise ArgumentError(
                        f"`{what}` must name each of the {rows} {of}; got {len(given)} {kind}"
                    )

    def of_problem(self, name: str) -> str:
        """Return the name of a problem in the user's words."""
        known = {"queries": self.queries.word, "gallery": self.gallery.word}
        return " → ".join(brief(known.get(word, word)) for word in name.split(" -> "))

    def sides(self, problem: Problem) -> tuple[Side, Side]:
        """Return what the queries and the items of a problem are called."""
        left, arrow, right = self.of_problem(problem.name).partition(" → ")
        if not arrow:
            return self.queries, self.gallery
        by_word = {side.word: side for side in (self.gallery, self.queries)}
        return by_word.get(left, Side(left)), by_word.get(right, Side(right))


def rows_of(task: Task) -> tuple[int, int]:
    """Return how many rows both sides have, as they were given: captions that search may stand second."""
    problem = task.problems[0]
    counts = int(problem.queries.shape[0]), int(problem.gallery.shape[-2])
    return counts[::-1] if problem.name.startswith("gallery -> ") else counts


def row_in_all(rows: np.ndarray | None, row: int) -> int:
    """Return the place among all rows of one of those that were looked at."""
    return row if rows is None else int(rows[row])
