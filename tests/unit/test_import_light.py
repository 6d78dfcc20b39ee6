"""Importing modgap loads no heavy package."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "altair",
    "concept_erasure",
    "cupy",
    "dask",
    "distributed",
    "faiss",
    "fsspec",
    "hnswlib",
    "jax",
    "pandas",
    "pyarrow",
    "sklearn",
    "torch",
    "transformers",
    "usearch",
)


def loaded_by(code: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after running `code`."""
    report = f"import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import modgap",
        "import modgap.closers, modgap.robustness.outcomes",
        "import modgap.evaluation.tasks, modgap.evaluation.study, modgap.evaluation.advice",
        "import modgap.measures, modgap.measures.cloud, modgap.paper.theory, modgap.paper.dynamics",
        "import modgap.engines, modgap.io",
        "import modgap.cli",
        "import modgap.index.registry",
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert loaded_by(code) == set()


def test_nothing_heavy_is_loaded_by_using_it_on_numpy() -> None:
    code = """
import numpy as np
from modgap import closers
from modgap.robustness.noise import Bins, Gaussian, Uniform
from modgap.decisions.certificates import certified_radius
from modgap.robustness.outcomes import stability
rng = np.random.default_rng(0)
queries, gallery = rng.normal(size=(6, 300)), rng.normal(size=(4, 300))
closure = closers.fit("affine", queries, gallery)
for noise in (Gaussian(0.1), Gaussian(0.1, side="queries"), Uniform(0.1), Bins(4)):
    stability(queries, gallery, noise, closure=closure, draws=3)
certified_radius(queries, gallery, metric="euclidean")
"""
    assert loaded_by(code) == set()


def test_the_check_can_fail() -> None:
    assert "pyarrow" in loaded_by("import pyarrow")


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [("sklearn", "modgap.sklearn", "sklearn"), ("torch", "modgap.nn", "torch")],
)
def test_an_absent_extra_is_named_with_the_command(package: str, module: str, extra: str) -> None:
    code = f"""
import sys
sys.modules["{package}"] = None
try:
    import {module}
except ImportError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingExtraError")
    assert f'pip install "modgap[{extra}]"' in done.stdout
