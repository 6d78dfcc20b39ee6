"""PyTorch: a state of float32 buffers in one safetensors file, which no version has to unpickle.

`torch.export.load` unpickles parts of its archives ("never load data from an untrusted source"),
TorchScript is deprecated, and a graph for compilers is what ONNX is for. Buffers go into a layer of a
few lines (docs/guide/export.md) or any other, move, compile and train with the model around them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modgap.closers.closure import Closure
from modgap.exports.form import Side, describe

__all__ = ["write"]


def write(path: Path, sides: Sequence[Side], closure: Closure, name: str) -> None:
    """Write "queries.matrix" and so on; flags are tensors of one bool, the header tells the rest."""
    import safetensors.numpy

    tensors: dict[str, np.ndarray] = {}
    for side in sides:
        found = side.form.arrays() | {
            "normalize_input": np.asarray(side.form.normalize_input),
            "normalize_output": np.asarray(side.form.normalize_output),
        }
        tensors |= {f"{side.name}.{part}": each for part, each in found.items()}
    about = {
        **describe(closure),
        "sides": {side.name: {"modality": side.modality} for side in sides},
    }
    # Bytes and our own write: the library's writer reports a full disk as an error of its own.
    content = safetensors.numpy.save(tensors, metadata={"about": json.dumps(about)})
    path.write_bytes(content)
