"""Tasks, what closers do to them, and what to do about it."""

from modgap.evaluation.advice import Advice, advise
from modgap.evaluation.records import NoiseResult, Row, Study
from modgap.evaluation.reliability import Calibration, Calibrations, calibration
from modgap.evaluation.study import evaluate
from modgap.evaluation.tasks import (
    MixedRetrieval,
    MultipleChoice,
    PairedRetrieval,
    Problem,
    Task,
    ZeroShot,
)

__all__ = [
    "Advice",
    "Calibration",
    "Calibrations",
    "MixedRetrieval",
    "MultipleChoice",
    "NoiseResult",
    "PairedRetrieval",
    "Problem",
    "Row",
    "Study",
    "Task",
    "ZeroShot",
    "advise",
    "calibration",
    "evaluate",
]
