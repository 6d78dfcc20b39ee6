"""What every test may use: array libraries, the real embeddings, hypothesis profiles."""

from __future__ import annotations

import os
import sys

# Before NumPy is loaded, and inherited by workers and child processes: the products here are small, and
# two workers with two spinning threads each on two cores take several times as long.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
if "numpy" in sys.modules:  # a plugin was faster
    import threadpoolctl

    threadpoolctl.threadpool_limits(int(os.environ["OPENBLAS_NUM_THREADS"]))

import importlib
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Simple examples come first, so that thirty are worth most of what many are. "thorough" is for a night.
settings.register_profile("dev", deadline=None, max_examples=30)
settings.register_profile(
    "ci",
    settings.get_profile("dev"),
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("dev"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

#: They hold no examples, and pytest cannot look for some in several files of one name.
collect_ignore_glob = ["conftest.py", "*/conftest.py"]

#: Array libraries the core is tested on; those that are not installed are skipped.
LIBRARIES = ("numpy", "array_api_strict", "torch", "jax")
_NAMESPACES = {"jax": "jax.numpy"}
_SOURCE = Path(__file__).resolve().parents[1] / "src"


def _has_cuda() -> bool:
    torch = sys.modules.get("torch") or (
        importlib.import_module("torch") if importlib.util.find_spec("torch") else None
    )
    return torch is not None and torch.cuda.is_available()


def _library(name: str) -> Any:
    if name == "jax":
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    return importlib.import_module(_NAMESPACES.get(name, name))


@pytest.fixture(params=[*LIBRARIES, *(["torch-cuda"] if _has_cuda() else [])])
def xp(request: pytest.FixtureRequest) -> Any:
    """The namespace of an array library; of PyTorch a second time on a GPU where there is one."""
    if request.param == "torch-cuda":
        request.getfixturevalue("_on_cuda")
        return _library("torch")
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return _library(request.param)


@pytest.fixture
def _on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTorch makes its tensors on the GPU, and NumPy reads them in tests, though not in the package."""
    torch = _library("torch")
    read = torch.Tensor.__array__

    def from_device(self: Any, *args: Any, **options: Any) -> Any:
        of_ours = Path(sys._getframe(1).f_code.co_filename).is_relative_to(_SOURCE)
        return read(self if of_ours else self.cpu(), *args, **options)

    monkeypatch.setattr(torch.Tensor, "__array__", from_device)
    with torch.device("cuda"):
        yield


@pytest.fixture(scope="session")
def libraries() -> list[Any]:
    """The namespaces of every array library that is installed."""
    return [_library(name) for name in LIBRARIES if importlib.util.find_spec(name)]


@pytest.fixture
def to_xp(xp: Any) -> Callable[[Any], Any]:
    """A function that copies a NumPy array to the library of `xp`."""

    def move(values: Any) -> Any:
        return xp.asarray(np.array(values, copy=True))

    return move


@pytest.fixture
def to_other_device() -> Callable[[Any], Any]:
    """A function that copies a NumPy array to a pretended device of the strict reference library.

    Its arrays refuse to meet arrays of the host, as those on a GPU would.
    """
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    device = strict.Device("device1")
    return lambda values: strict.asarray(np.array(values, copy=True), device=device)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(0)


@pytest.fixture
def interruptible_modgap() -> list[str]:
    """The command line that starts modgap and lets an interruption through.

    A process that was started in the background hands down to its children that these are ignored, and
    so does nohup with hanging up.
    """
    program = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "hasattr(signal, 'SIGHUP') and signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "runpy.run_module('modgap.cli', run_name='__main__')"
    )
    return [sys.executable, "-c", program]


class RealData:
    """The real embeddings, read where they lie; a test that asks for absent ones is skipped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *parts: str) -> np.ndarray:
        """Return one .npy array, float32, as it is stored."""
        return np.load(self.path(*parts), allow_pickle=False)

    def json(self, *parts: str) -> Any:
        """Return one JSON document."""
        return json.loads(self.path(*parts).read_text(encoding="utf-8"))

    def path(self, *parts: str) -> Path:
        """Return the path of one file or folder, or skip the test."""
        path = self.folder.joinpath(*parts)
        if not path.exists():
            pytest.skip(
                f"no real data at {path}: set MODGAP_TEST_DATA to the folder that holds "
                f"{parts[0] if parts else 'them'}"
            )
        return path


@pytest.fixture(scope="session")
def real_data() -> RealData:
    """Real embeddings: `real_data("coco_clip_vitb16", "images.npy")`."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return RealData(Path(os.environ.get("MODGAP_TEST_DATA", default)))
