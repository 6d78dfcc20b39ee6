"""What a figure is: numbers, tables of what is drawn, the chart, and what they say of each claim."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "CONTRADICTED",
    "SUPPORTED",
    "UNTESTED",
    "Case",
    "Estimate",
    "Figure",
    "Finding",
    "Rows",
    "change",
    "findings",
    "listed",
]

SUPPORTED, CONTRADICTED, UNTESTED = "supported", "contradicted", "not tested here"

#: A table: one flat dictionary a row.
Rows: TypeAlias = Sequence[Mapping[str, Any]]

#: A difference counts beyond this many standard errors.
_ERRORS = 2.0


@dataclass(frozen=True)
class Finding:
    """What the data at hand say of one sub-claim.

    Attributes
    ----------
    claim : str
    verdict : {"supported", "contradicted", "not tested here"}
    evidence : tuple of str
        The figures behind it, with their errors: one entry a data set or run.
    """

    claim: str
    verdict: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """What one data set or run says of a sub-claim: yes, no, or None where it cannot tell."""

    name: str
    holds: bool | None
    evidence: str


@dataclass(frozen=True)
class Estimate:
    """A mean over queries, and the standard error of having drawn these and no others."""

    value: float
    stderr: float

    @classmethod
    def of(cls, values: np.ndarray) -> Estimate:
        """Return the estimate from one value a query."""
        values = np.asarray(values, dtype=np.float64)
        spread = float(values.std(ddof=1)) if values.size > 1 else math.nan
        return cls(float(values.mean()), spread / math.sqrt(values.size))

    def beyond(self, bound: float = 0.0) -> bool | None:
        """Return True above the bound, False below it, None within two standard errors of it."""
        away = self.value - bound
        if math.isnan(self.stderr) or abs(away) <= _ERRORS * self.stderr:
            return None
        return away > 0.0

    def __format__(self, form: str) -> str:
        """Return value and error, both in this form."""
        return f"{self.value:{form or '.3f'}} ± {self.stderr:{(form or '.3f').lstrip('+')}}"


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes
    ----------
    number : int
    title : str
    claim : str
        What the paper says with this figure.
    findings : tuple of Finding
        Each sub-claim, and what the data at hand say of it.
    numbers : dict
        What the findings rest on, JSON-able.
    tables : dict of str to list of dict
        What the chart shows, one table a panel or kind of panel; written as CSV.
    chart : altair chart
    sources : tuple of str
        Which data and simulations it was made from.
    notes : tuple of str
        What to embed for a fuller figure, and how; what a closer warned of.
    """

    number: int
    title: str
    claim: str
    findings: tuple[Finding, ...]
    numbers: dict[str, Any]
    tables: dict[str, Rows]
    chart: Any
    sources: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


def change(before: Estimate, after: Estimate, gain: Estimate, form: str = ".3f") -> str:
    """Return what became of a mean, and the paired difference with its error."""
    return f"{before.value:{form}} to {after.value:{form}} ({gain:+{form}})"


def findings(claim: str, cases: Iterable[Case], missing: str = "") -> tuple[Finding, ...]:
    """Return a sub-claim's findings: one for each verdict that some case comes to.

    Parameters
    ----------
    claim : str
    cases : iterable of Case
    missing : str
        Why there is no case at all, where there is none.
    """
    cases = list(cases)
    if not cases:
        return (Finding(claim, UNTESTED, (missing,)),)
    found = []
    for holds, verdict in ((True, SUPPORTED), (False, CONTRADICTED), (None, UNTESTED)):
        told = [
            f"{c.name}: {c.evidence}" if c.name else c.evidence for c in cases if c.holds is holds
        ]
        if told:
            found.append(Finding(claim, verdict, tuple(told)))
    return tuple(found)


def listed(values: Iterable[float], form: str = ".3f") -> str:
    """Return numbers as a list in a sentence."""
    return ", ".join(format(value, form) for value in values)
