"""JSON: every number of the maps as the shortest text that reads back as the same float32."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modgap.closers.closure import Closure
from modgap.exports.form import Side, describe

__all__ = ["shortest", "write"]


def write(path: Path, sides: Sequence[Side], closure: Closure, name: str) -> None:
    """Write {"about": ..., "sides": {"queries": {"matrix": [[...], ...], ...}}}."""
    document = {"about": describe(closure), "sides": {side.name: _side(side) for side in sides}}
    path.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


def shortest(values: np.ndarray) -> np.ndarray:
    """Return the shortest texts that float32 values are read back from, an array of str."""
    return np.asarray(values, dtype=np.float32).astype("U")


def _side(side: Side) -> dict[str, Any]:
    form = side.form
    return {
        "modality": side.modality,
        "normalize_input": form.normalize_input,
        "normalize_output": form.normalize_output,
        # Through the text, so that 0.1 does not become the 0.10000000149011612 of its float32.
        **{
            name: shortest(each).astype(np.float64).tolist() for name, each in form.arrays().items()
        },
    }
