"""What a figure is: numbers, the chart of them, the paper's claim, and whether it holds here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Figure", "Verdict", "judge", "listed", "words"]

#: True, False, or "partly"; None where the data at hand cannot tell.
Verdict = bool | str | None


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes
    ----------
    number : int
    title : str
    claim : str
        What the paper says with this figure.
    holds : {True, False, "partly"} or None
        Whether that is so on this data; None where it cannot be told.
    verdict : str
        The same in words, with numbers.
    numbers : dict
        Everything that the chart shows, JSON-able.
    chart : altair chart
    sources : tuple of str
        Which data and simulations it was made from.
    needs : tuple of str
        What to embed for a fuller figure, and how.
    """

    number: int
    title: str
    claim: str
    holds: Verdict
    verdict: str
    numbers: dict[str, Any]
    chart: Any
    sources: tuple[str, ...]
    needs: tuple[str, ...] = field(default=())


def judge(parts: Sequence[bool]) -> Verdict:
    """Return True if all hold, False if none does, "partly" between, None without any."""
    if not parts:
        return None
    return True if all(parts) else "partly" if any(parts) else False


def words(holds: Verdict) -> str:
    """Return a verdict as a reader says it."""
    names = {"True": "holds here", "False": "does not hold here", "partly": "holds in part"}
    return names.get(str(holds), "cannot be told from the data at hand")


def listed(values: Iterable[float], form: str = ".3f") -> str:
    """Return numbers as a list in a sentence."""
    return ", ".join(format(value, form) for value in values)
