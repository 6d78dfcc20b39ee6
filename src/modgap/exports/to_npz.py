"""NumPy alone: the arrays of every map by name, and the formula, in one .npz file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modgap.closers.closure import Closure
from modgap.exports.form import Side, describe

__all__ = ["write"]


def write(path: Path, sides: Sequence[Side], closure: Closure, name: str) -> None:
    """Write "queries.matrix" and so on, each side's two flags, and "about", a JSON text."""
    about = {
        **describe(closure),
        "sides": {side.name: {"modality": side.modality} for side in sides},
    }
    arrays = {"about": np.asarray(json.dumps(about))}
    for side in sides:
        form = side.form
        found = form.arrays() | {
            "normalize_input": np.asarray(form.normalize_input),
            "normalize_output": np.asarray(form.normalize_output),
        }
        arrays |= {f"{side.name}.{part}": each for part, each in found.items()}
    with path.open("r+b") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]
