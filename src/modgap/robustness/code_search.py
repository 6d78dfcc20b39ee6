"""What is found in rows that come back from a code, or why a code cannot store them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from modgap.decisions.choices import lay_out
from modgap.errors import CodeError, CodeWarning
from modgap.robustness.kinds import Code
from modgap.robustness.systems import System

__all__ = ["leaders_under"]


def leaders_under(code: Code, systems: Sequence[System], k: int) -> list[np.ndarray | CodeError]:
    """Return the k nearest items (m, k) of each system's queries under a code, or what kept it from acting.

    What several systems store is encoded once, and a warning of the code's is heard once.
    """
    stored: dict[int, Any] = {}
    with _each_once(CodeWarning):
        return [_leaders(code, system, k, stored) for system in systems]


def _leaders(code: Code, system: System, k: int, stored: dict[int, Any]) -> np.ndarray | CodeError:
    sides = {"queries": system.queries, "gallery": system.stored_rows}
    for side in tuple(sides) if code.side == "both" else (code.side,):
        back = _once(code, sides[side], stored)
        if isinstance(back, CodeError):
            return back
        sides[side] = back
    if system.present is not None:
        sides["gallery"] = lay_out(sides["gallery"], system.present)
    found = System(**sides, comparison=system.comparison, present=system.present)
    return found.leaders(k)


def _once(code: Code, rows: Any, stored: dict[int, Any]) -> Any:
    """Return the rows as they come back, or the error of a code that cannot store them."""
    if id(rows) not in stored:
        try:
            stored[id(rows)] = code.apply(rows)
        except CodeError as error:
            stored[id(rows)] = error
    return stored[id(rows)]


@contextmanager
def _each_once(category: type[Warning]) -> Iterator[None]:
    """Let every warning of a kind through once: several systems store rows of one shape."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category)
        yield
    for kind, message in dict.fromkeys((w.category, str(w.message)) for w in caught):
        warnings.warn(message, kind, stacklevel=4)
