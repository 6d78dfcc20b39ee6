"""What the backends on PyTorch share: device, number type, and failures in one line."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.checks import check_choice
from modgap._core.extras import require
from modgap.errors import ArgumentError, ModelError, ModgapError
from modgap.io._guard import one_line, shown

DTYPES = ("float32", "float16", "bfloat16")


def device_of(name: str) -> Any:
    """Return a device of PyTorch by name; `auto` is CUDA, then MPS, then the processor."""
    torch = require("torch", "torch")
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda"
        elif torch.backends.mps.is_available():
            name = "mps"
        else:
            name = "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # every backend of PyTorch has errors of its own
        raise ArgumentError(
            f"`device` {name!r} cannot be used here ({one_line(error)}); take auto or cpu"
        ) from None
    return device


def dtype_of(name: str) -> Any:
    """Return a number type of PyTorch by name."""
    check_choice(name, "dtype", DTYPES)
    return getattr(require("torch", "torch"), name)


def to_rows(output: Any) -> np.ndarray:
    """Return a model's features as float32 on the host.

    transformers 4 returns a tensor, transformers 5 a record whose pooled output they are.
    """
    tensor = getattr(output, "pooler_output", output)
    rows: np.ndarray = tensor.detach().float().cpu().numpy()
    return rows


def joined(batch: Sequence[Mapping[str, Any]], device: Any, dtype: Any) -> dict[str, Any]:
    """Return prepared items as one batch on the device; floats in the model's number type."""
    torch = require("torch", "torch")
    out = {}
    for name in batch[0]:
        whole = torch.cat([item[name] for item in batch])
        out[name] = whole.to(device, dtype if whole.is_floating_point() else None)
    return out


@contextmanager
def loading(model: str, *, offline: bool) -> Iterator[None]:
    """Turn whatever a library says of a model that it cannot load into one line.

    Raises
    ------
    ModelError
        The body raised anything but an error of modgap.
    """
    with _hub(offline):
        try:
            yield
        except ModgapError:
            raise
        except MemoryError:
            raise ModelError(
                f"`{shown(model)}` does not fit into memory; take a smaller one"
            ) from None
        except Exception as error:  # hubs, parsers and registries each have errors of their own
            hint = (
                "its files are not at hand and no hub may be asked: download it first, or leave out offline"
                if offline and not Path(model).exists()
                else "check the name, the revision, and the connection or the folder"
            )
            raise ModelError(f"cannot load `{shown(model)}` ({one_line(error)}); {hint}") from None


@contextmanager
def _hub(offline: bool) -> Iterator[None]:
    """Keep the hub's client off the network where asked; its own variable is honoured without."""
    if not offline:
        yield
        return
    constants: Any = require("huggingface_hub.constants", "hf")
    before = os.environ.get("HF_HUB_OFFLINE"), constants.HF_HUB_OFFLINE
    os.environ["HF_HUB_OFFLINE"], constants.HF_HUB_OFFLINE = "1", True
    try:
        yield
    finally:
        if before[0] is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before[0]
        constants.HF_HUB_OFFLINE = before[1]


def digest_of(folder: Path) -> str:
    """Return a digest of all files of a local model, names and bytes."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        found.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        with path.open("rb") as handle:
            found.update(hashlib.file_digest(handle, "sha256").digest())
    return found.hexdigest()
