"""What drift found: bits, exactness, and how both sides have moved; a verdict and its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from modgap._core.json import plain

__all__ = ["BitsDrift", "Drift", "ExactnessDrift", "SideDrift"]


@dataclass(frozen=True)
class BitsDrift:
    """Bits a coordinate that a closure saves a stored code with one range.

    Attributes
    ----------
    at_fit : float or None
        On the rows of its fit; None where the file does not say.
    now, now_stderr : float
        On today's.
    refit : float or None
        What the same method saves when fitted to half of today's queries, on the other half; None
        where it could not be fitted.
    win, win_stderr : float or None
        By how much that is more than the saved closure saves on the same queries. A little too low, since
        half of the queries are fewer than all.
    drifted : bool
    """

    at_fit: float | None
    now: float
    now_stderr: float
    refit: float | None
    win: float | None
    win_stderr: float | None
    drifted: bool


@dataclass(frozen=True)
class ExactnessDrift:
    """Whether a closure still keeps every decision.

    Attributes
    ----------
    promised : bool
        Whether it did on the rows of its fit.
    bound : float
        By how much a difference of two scores could change there at most, rounding included.
    left_out : float
        By how much it can change on today's rows at most, rounding apart.
    resolution : float
        Differences of today's scores below this are ties.
    drifted : bool
        Promised, and no longer so.
    """

    promised: bool
    bound: float
    left_out: float
    resolution: float
    drifted: bool


@dataclass(frozen=True)
class SideDrift:
    """How far one side's rows have moved since the fit.

    Attributes
    ----------
    count_at_fit, count : int
    mean : float
        Step of the mean, over the spread (root of the total variance) at the fit.
    mean_in_errors : float
        The same step over what two samples of so many rows differ by, in the root mean square.
    spread : float
        Largest singular value of the change of the covariance along the leading axes of the fit, over the
        largest variance there.
    spread_by_chance : float
        What it would be about for samples of so many rows (Koltchinskii & Lounici, 2017).
    outside_at_fit, outside : float
        Share of the variance outside these axes.
    mean_moved, spread_moved : bool
        Past the threshold, and past chance.
    """

    count_at_fit: int
    count: int
    mean: float
    mean_in_errors: float
    spread: float
    spread_by_chance: float
    outside_at_fit: float
    outside: float
    mean_moved: bool
    spread_moved: bool

    @property
    def moved(self) -> bool:
        """Whether either figure is past its threshold and past chance."""
        return self.mean_moved or self.spread_moved


@dataclass(frozen=True)
class Drift:
    """Whether a closure still fits, figure by figure. It says nothing of whether closing helps at all.

    Attributes
    ----------
    method : str
    queries, gallery : SideDrift or None
        None where the file holds no summary of the rows of its fit.
    bits : BitsDrift or None
        None for closers that may change answers, whose scores are other scores.
    exactness : ExactnessDrift or None
        None for the same.
    thresholds : mapping
    missing : tuple of str
        What could not be said, and why.
    """

    method: str
    queries: SideDrift | None
    gallery: SideDrift | None
    bits: BitsDrift | None
    exactness: ExactnessDrift | None
    thresholds: Mapping[str, float]
    missing: tuple[str, ...] = field(default=())

    @property
    def drifted(self) -> bool:
        """Whether the closure should be fitted again.

        Where it is known what that would win, rows that have moved are no reason by themselves: no mean of
        the queries enters `affine`, say. They are where it is not known.
        """
        told = self.bits is not None and self.bits.win is not None
        if (self.exactness is not None and self.exactness.drifted) or (
            self.bits is not None and self.bits.drifted
        ):
            return True
        return not told and bool(self._moves)

    @property
    def _moves(self) -> list[str]:
        """What has moved, in words."""
        found = []
        for name, side in (("queries", self.queries), ("gallery", self.gallery)):
            if side is not None and side.mean_moved:
                found.append(f"the mean of the {name} has moved by {side.mean:.2f} spreads")
            if side is not None and side.spread_moved:
                found.append(f"second moments of the {name} have changed by {side.spread:.0%}")
        return found

    @property
    def sentence(self) -> str:
        """What to do, in one sentence."""
        found = []
        if self.exactness is not None and self.exactness.drifted:
            found.append("it no longer keeps every answer")
        if self.bits is not None and self.bits.drifted:
            found.append(f"fitting again would win {self.bits.win:.2f} bits a coordinate")
        found += self._moves
        if self.drifted:
            return f"This closure has drifted: {'; '.join(found)}. Fit it again to today's rows."
        if found:
            win = 0.0 if self.bits is None else max(self.bits.win or 0.0, 0.0)
            return (
                f"This closure still fits, and fitting again would win {win:.2f} bits, though "
                f"{'; '.join(found)}."
            )
        return "This closure still fits."

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, as plain values."""
        found: dict[str, Any] = plain({**asdict(self), "drifted": self.drifted})
        return found
