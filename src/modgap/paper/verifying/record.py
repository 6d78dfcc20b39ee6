"""One statement on the data at hand: what it says, what is so, and whether that passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modgap._core.json import plain, stamp

__all__ = ["Check", "Verification", "absent", "checked"]

PAPER = "Chowers et al. (2026)"
THEORY = "docs/theory.md"
BALANCED = "docs/theory_balanced.md"


@dataclass(frozen=True)
class Check:
    """One statement, held against an observation that does not use its formula.

    Attributes
    ----------
    name : str
        Short, and unique within a verification.
    statement : str
        What must be so.
    source : str
        Who says it, or the page that proves it.
    prediction, observation : float or None
        What the statement says, and what was found; None where it does not apply.
    residual : float or None
        How far the observation is from what the statement allows; of vectors the worst entry.
    tolerance : float or None
        The largest residual that passes.
    reason : str
        Why this tolerance; where the statement does not apply, why not.
    observed_by : str
        How the observation was made.
    """

    name: str
    statement: str
    source: str
    prediction: float | None
    observation: float | None
    residual: float | None
    tolerance: float | None
    reason: str
    observed_by: str

    @property
    def passed(self) -> bool | None:
        """Whether the residual is within the tolerance; None where the statement does not apply."""
        if self.residual is None or self.tolerance is None:
            return None
        return bool(self.residual <= self.tolerance)  # NaN does not pass

    @property
    def verdict(self) -> str:
        """The outcome in words: "passes", "fails" or "does not apply"."""
        return {True: "passes", False: "fails", None: "does not apply"}[self.passed]

    def to_dict(self) -> dict[str, Any]:
        """Return the record and its verdict as plain values."""
        found: dict[str, Any] = plain({**vars(self), "verdict": self.verdict})
        return found


@dataclass(frozen=True)
class Verification:
    """Every statement on one pair of clouds.

    Attributes
    ----------
    checks : tuple of Check
    data : mapping
        Rows, dimension, rank, metric and settings; rows used where not all were.
    """

    checks: tuple[Check, ...]
    data: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether no statement fails; those that do not apply count for nothing."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """The statements that fail."""
        return tuple(check for check in self.checks if check.passed is False)

    def __getitem__(self, name: str) -> Check:
        """Return the check of a name."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def table(self) -> list[dict[str, Any]]:
        """Return one row per statement, plain values."""
        return [check.to_dict() for check in self.checks]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `modgap verify --json` prints."""
        counts = {
            word: sum(check.verdict == word for check in self.checks)
            for word in ("passes", "fails", "does not apply")
        }
        return {
            **stamp(),
            "passed": self.passed,
            "counts": counts,
            "data": plain(dict(self.data)),
            "checks": self.table(),
        }


def checked(
    name: str,
    statement: str,
    source: str,
    *,
    prediction: Any,
    observation: Any,
    tolerance: float,
    reason: str,
    observed_by: str,
    residual: float | None = None,
) -> Check:
    """Return a check of numbers, or of arrays: shown by their root mean square, judged entry by entry."""
    said, seen = (np.asarray(value, dtype=np.float64) for value in (prediction, observation))
    if residual is None:
        residual = float(np.max(np.abs(seen - said), initial=0.0))
    return Check(
        name=name,
        statement=statement,
        source=source,
        prediction=_shown(said),
        observation=_shown(seen),
        residual=float(residual),
        tolerance=float(tolerance),
        reason=reason,
        observed_by=observed_by,
    )


def absent(name: str, statement: str, source: str, why: str) -> Check:
    """Return the check of a statement that does not apply, and why."""
    return Check(name, statement, source, None, None, None, None, why, "")


def _shown(values: np.ndarray) -> float:
    return float(values) if values.ndim == 0 else float(np.sqrt(np.mean(values**2)))
