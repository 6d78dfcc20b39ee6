"""Measure, explain and close the modality gap of embedding models, and prove what that does.

    import modgap
    task = modgap.load_sample().task()
    study = modgap.evaluate(task, closers=["none", "orthogonal", "affine"])
    study.best()

Names are imported when they are first used, so `import modgap` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("modgap")

_HOMES = {
    "Advice": "evaluation",
    "AffineMap": "closers",
    "Bins": "robustness",
    "Closure": "closers",
    "Codec": "robustness",
    "FaissCodec": "robustness",
    "Gaussian": "robustness",
    "MixedRetrieval": "evaluation",
    "Moments": "_core.moments",
    "MultipleChoice": "evaluation",
    "PairedRetrieval": "evaluation",
    "Study": "evaluation",
    "Uniform": "robustness",
    "ZeroShot": "evaluation",
    "advise": "evaluation",
    "certified_radius": "decisions",
    "evaluate": "evaluation",
    "fit": "closers",
    "fit_moments": "closers",
    "load_sample": "samples",
    "measure": "measures",
    "nearest": "decisions",
}

__all__ = [
    "Advice",
    "AffineMap",
    "Bins",
    "Closure",
    "Codec",
    "FaissCodec",
    "Gaussian",
    "MixedRetrieval",
    "Moments",
    "MultipleChoice",
    "PairedRetrieval",
    "Study",
    "Uniform",
    "ZeroShot",
    "advise",
    "certified_radius",
    "evaluate",
    "fit",
    "fit_moments",
    "load_sample",
    "measure",
    "nearest",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"modgap.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'modgap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
