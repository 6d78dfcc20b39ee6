"""What draws of noise decide, counted where the rows are: nothing travels until the last draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modgap._core.arrays import Array, asarray_like, namespace

__all__ = ["Count"]


@dataclass(eq=False)
class Count:
    """Draws that each target of a block's queries won, counted where the rows are.

    Attributes
    ----------
    targets : array (q, k)
    same : array (1, n) or (q, c), optional
        The first copy of each item, which wins ties.
    wins : array (q, k)
    firsts : list of array ()
        Per draw, queries whose first target won.
    """

    targets: Array
    same: Array | None
    wins: Array
    firsts: list[Array]

    @classmethod
    def of(cls, like: Array, targets: np.ndarray, same: np.ndarray | None, rows: slice) -> Count:
        """Return counts of nothing yet, for targets of the rows of a block, where `like` is."""
        there = asarray_like(targets, like)
        if same is not None and same.shape[0] > 1:
            same = same[rows]
        copies = None if same is None else asarray_like(same, like)
        return cls(there, copies, namespace(there).zeros_like(there), [])

    def look(self, decided: Array) -> None:
        """Take in the decisions (q,) of one draw."""
        xp = namespace(decided)
        if self.same is not None and self.same.shape[0] == 1:
            decided = xp.take(self.same[0, :], decided)
        elif self.same is not None:
            decided = xp.take_along_axis(self.same, decided[:, None], axis=1)[:, 0]
        hits = xp.astype(self.targets == decided[:, None], self.wins.dtype)
        self.wins = self.wins + hits
        self.firsts.append(xp.sum(hits[:, 0]))
