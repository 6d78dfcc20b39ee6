"""PyTorch's .pt: a tensor or a flat dict of tensors, never any other object."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.errors import DataError, FormatError, MissingExtraError
from modgap.io._entries import Entry, Want, check_entry, named, pick
from modgap.io._guard import one_line, reading, shown
from modgap.io._shard import Shard, decode, row_windows

#: Older releases can be made to run code by a file, whatever `weights_only` says (CVE-2025-32434).
_SAFE = (2, 6)
_SAME = ("float16", "float32", "float64", "bool", "uint8", "uint16", "uint32", "uint64")
_DTYPES = {name: name for name in (*_SAME, "int8", "int16", "int32", "int64")}


@dataclass(frozen=True)
class TorchShard(Shard):
    """One tensor of a .pt file, mapped where the file's layout allows it."""

    def read(self) -> np.ndarray:
        """Return the whole tensor, read-only."""
        out = decode(self._stored(), self.dtype)
        out.flags.writeable = False
        return out

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield the rows in order."""
        stored = self._stored()
        per_template = self.shape[-2] if len(self.shape) > 1 else self.shape[0]
        for start, stop in row_windows(self.shape, rows):
            template, first = divmod(start, per_template)
            table = stored[template] if len(self.shape) == 3 else stored
            yield decode(np.ascontiguousarray(table[first : first + stop - start]), self.dtype)

    def _stored(self) -> np.ndarray:
        """Return the tensor as an array; bfloat16 as 16-bit integers."""
        tensors = _load(Path(self.path))
        with reading(self.path, "pt"):
            tensor = tensors if self.key is None else tensors[self.key]
            if tuple(tensor.shape) != self.shape:
                raise ValueError("the file changed while it was read")
            torch = require("torch", "torch")
            tensor = tensor.detach()
            if tensor.dtype == torch.bfloat16:
                return np.asarray(tensor.view(torch.int16).numpy()).view(np.uint16)
            return np.asarray(tensor.resolve_neg().numpy())


def open_torch(path: Path, key: str | None, want: Want) -> TorchShard:
    """Return one tensor of a .pt file; bfloat16, which NumPy lacks, comes back as float32.

    Raises
    ------
    DataError, FormatError, ShapeError
        The file is damaged, holds anything but tensors, or the key is missing or ambiguous.
    MissingExtraError
        torch is not installed, or too old to open files safely.
    """
    tensors = _load(path)
    if isinstance(tensors, Mapping):
        entries = {name: _entry(tensor) for name, tensor in tensors.items()}
        chosen: str | None = pick(entries, key, path, want)
        entry = entries[chosen or ""]
        tensor = tensors[chosen]
    elif key is not None:
        raise FormatError(f"`{shown(path)}` is one tensor without keys; drop `:{shown(key)}`")
    else:
        chosen, entry, tensor = None, _entry(tensors), tensors
    if str(tensor.layout) != "torch.strided" or tensor.is_meta or tensor.is_quantized:
        raise DataError(
            f"{named(path, chosen)} is a sparse, quantized or empty tensor; save tensor.to_dense()"
        )
    dtype = check_entry(entry, path, chosen)
    return TorchShard(path, "pt", chosen, entry.shape, dtype)


def _load(path: Path) -> Any:
    """Return the tensor or the dict of tensors; torch refuses to build anything else."""
    torch = require("torch", "torch")
    _check_version(str(torch.__version__))
    with reading(path, "pt"), path.open("rb") as handle:
        zipped = handle.read(4) == b"PK\x03\x04"
    with reading(path, "pt"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        except Exception as error:
            if "weights" not in str(error).lower() or "only" not in str(error).lower():
                raise
            raise FormatError(
                f"`{shown(path)}` holds more than tensors, which modgap never unpickles "
                f"({one_line(error)}); save the tensor alone with torch.save(tensor, path)"
            ) from None
    return _check_kind(loaded, path, torch.Tensor)


def _check_kind(loaded: Any, path: Path, tensor: type) -> Any:
    if isinstance(loaded, tensor):
        return loaded
    fix = "save a tensor, or a flat dict of tensors, with torch.save"
    if not isinstance(loaded, Mapping):
        raise FormatError(f"`{shown(path)}` holds a {type(loaded).__name__}, no tensor; {fix}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, tensor):
            raise FormatError(
                f"`{shown(path)}` holds a {type(value).__name__} under {shown(repr(name))}, "
                f"no tensor under a name; {fix}"
            )
    return loaded


def _check_version(version: str) -> None:
    found = re.match(r"(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < _SAFE:
        raise MissingExtraError(
            f"torch {version} can be made to run code by a .pt file (CVE-2025-32434); "
            'pip install --upgrade "torch>=2.6", or convert the file to .npy'
        )


def _entry(tensor: Any) -> Entry:
    name = str(tensor.dtype).removeprefix("torch.")
    shape = tuple(int(n) for n in tensor.shape)
    if name == "bfloat16":
        return Entry(shape, np.dtype(np.float32))
    if name in _DTYPES:
        return Entry(shape, np.dtype(name))
    return Entry(shape, None, f"{name} values")
