"""safetensors: named arrays behind a JSON header, mapped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from modgap.io._entries import Entry, Want, check_entry, pick
from modgap.io._guard import reading
from modgap.io._shard import MappedShard
from modgap.io.remote import AnyPath

_DTYPES = {
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "BF16": "<f4",
    "BOOL": "|b1",
    **{f"I{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
}
#: What the library itself allows.
_MOST_HEADER = 100_000_000
#: Inverse of `_DTYPES` for the types that modgap writes.
NAMES = {np.dtype(code): name for name, code in _DTYPES.items() if name != "BF16"}


def open_safetensors(path: AnyPath, key: str | None, want: Want) -> MappedShard:
    """Return one array of a safetensors file, checked by the library itself and then mapped.

    bfloat16, which NumPy lacks, comes back as float32.

    Raises
    ------
    DataError, FormatError, ShapeError
        The file is damaged, the key missing or ambiguous, or the array unusable.
    """
    from safetensors import safe_open

    with reading(path, "safetensors"):
        if isinstance(path, Path):
            with safe_open(path, framework="numpy"):
                pass  # opening checks the header against the file's length
        header, start = _read_header(path)
        entries = {name: _entry(info) for name, info in header.items() if name != "__metadata__"}
    chosen = pick(entries, key, path, want)
    dtype = check_entry(entries[chosen], path, chosen)
    info = header[chosen]
    stored = np.dtype("<u2") if info["dtype"] == "BF16" else np.dtype(_DTYPES[info["dtype"]])
    begin, end = info["data_offsets"]
    shape = entries[chosen].shape
    with reading(path, "safetensors"):
        if end - begin != math.prod(shape) * stored.itemsize:
            raise ValueError(f"tensor {chosen} has {end - begin} bytes for shape {shape}")
    shard = MappedShard(path, "safetensors", chosen, shape, dtype, start + begin, stored)
    shard.check_extent()
    return shard


def _read_header(path: AnyPath) -> tuple[dict[str, Any], int]:
    """Return the header and where the data begin; the library has found that of a local file sound."""
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > _MOST_HEADER:
            raise ValueError(f"its header claims {length} bytes")
        header = json.loads(handle.read(length))
    return dict(header), 8 + length


def _entry(info: dict[str, Any]) -> Entry:
    shape = tuple(int(n) for n in info["shape"])
    code = _DTYPES.get(info["dtype"])
    if code is None:
        return Entry(shape, None, f"{info['dtype']} values")
    return Entry(shape, np.dtype(code))
