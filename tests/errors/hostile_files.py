"""Sound inputs of every command, in every format, and all that can be wrong with a file."""

from __future__ import annotations

import functools
import json
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

M, N, D = 12, 4, 6
FORMATS = (".npy", ".npz", ".safetensors", ".parquet", ".arrow", ".pt")


@functools.cache
def arrays() -> dict[str, np.ndarray]:
    """Return what the files hold, by the name of the role they play."""
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(N, D)).astype(np.float32)
    queries = rng.normal(size=(M, D)).astype(np.float32) + 1
    return {
        "q": queries,
        "g": gallery,
        "p": queries + rng.normal(size=(M, D)).astype(np.float32),
        "t": np.stack([gallery, gallery + 1]),
        "x": rng.normal(size=(M, 3, D)).astype(np.float32),
        "k": rng.normal(size=(M, D)).astype(np.float32),
        "l": np.arange(M) % N,
        "a": np.arange(M) % 3,
        "o": np.arange(M) // 2,
    }


def save(path: Path, array: np.ndarray, key: str = "emb") -> None:
    """Write an array with the format's own library."""
    suffix = path.suffix
    if suffix == ".npy":
        np.save(path, array, allow_pickle=True)
    elif suffix == ".npz":
        np.savez(path, **{key: array}, allow_pickle=True)
    elif suffix == ".safetensors":
        import safetensors.numpy

        safetensors.numpy.save_file({key: np.ascontiguousarray(array)}, path)
    elif suffix == ".pt":
        import torch

        torch.save({key: torch.from_numpy(array.copy())}, path)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = array if array.ndim == 1 else list(array.reshape(-1, array.shape[-1]))
        table = pa.table({key: pa.array(rows)})
        if suffix == ".parquet":
            pq.write_table(table, path, row_group_size=5)
        else:
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=5)


@functools.cache
def stock() -> dict[str, bytes]:
    """Return the bytes of sound files: every role as .npy, the text files, a closure, shards."""
    from modgap import closers

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held = arrays()
        for role, array in held.items():
            save(folder / f"{role}.npy", array)
        for i in range(3):
            save(folder / f"emb_{i}.npy", held["q"][4 * i : 4 * i + 4])
        closers.fit("affine", held["q"], held["g"]).save(folder / "c.safetensors")
        published = closers.ModelStatistics.of_rows(held["q"], held["g"], model="m")
        published.save(folder / "st.safetensors")
        names = [f"class {i}" for i in range(N)]
        (folder / "classes.json").write_text(json.dumps(names))
        (folder / "labels.txt").write_text("\n".join(names * (M // N)) + "\n")
        (folder / "templates.txt").write_text("a photo of\na drawing of\n")
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {(f"s/{name}" if name.startswith("emb_") else name): raw for name, raw in found.items()}


@functools.cache
def encoded(role: str, suffix: str) -> bytes:
    """Return the bytes of a role's array in a format."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"x{suffix}"
        save(path, arrays()[role])
        return path.read_bytes()


def lay_out(folder: Path) -> None:
    """Put the sound files into a folder."""
    (folder / "s").mkdir()
    for name, raw in stock().items():
        (folder / name).write_bytes(raw)


Damage = Callable[[bytes, np.random.Generator], bytes]


def _flip(raw: bytes, rng: np.random.Generator) -> bytes:
    content = bytearray(raw)
    for place in rng.integers(0, 8 * len(content), size=rng.integers(1, 5)):
        content[place // 8] ^= 1 << (place % 8)
    return bytes(content)


def _insert(raw: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(0, len(raw)))
    stop = start + int(rng.integers(0, 40))
    return raw[:start] + rng.bytes(int(rng.integers(0, 40))) + raw[stop:]


def _digits(raw: bytes, rng: np.random.Generator) -> bytes:
    """Change digits of the header, where the sizes stand."""
    content = bytearray(raw)
    places = [i for i, byte in enumerate(content[:900]) if 48 <= byte <= 57]
    for place in rng.choice(places, size=min(3, len(places))) if places else ():
        content[place] = int(rng.integers(48, 58))
    return bytes(content)


#: What can be wrong with the bytes of a file.
DAMAGES: dict[str, Damage] = {
    "empty": lambda raw, rng: b"",
    "one byte": lambda raw, rng: raw[:1],
    "cut early": lambda raw, rng: raw[: int(rng.integers(1, min(120, len(raw))))],
    "cut": lambda raw, rng: raw[: int(rng.integers(1, len(raw)))],
    "cut late": lambda raw, rng: raw[: -int(rng.integers(1, 9))],
    "flipped": _flip,
    "flipped more": lambda raw, rng: _flip(_flip(raw, rng), rng),
    "inserted": _insert,
    "digits": _digits,
    "zeros": lambda raw, rng: bytes(len(raw)),
    "noise": lambda raw, rng: rng.bytes(len(raw)),
    "twice": lambda raw, rng: raw + raw,
    "head of noise": lambda raw, rng: rng.bytes(16) + raw[16:],
    "tail of noise": lambda raw, rng: raw[:40] + rng.bytes(len(raw)),
}


def _put(x: np.ndarray, value: float, rows: slice | int = 1) -> np.ndarray:
    y = np.array(x, dtype=np.float64)
    y.reshape(-1, y.shape[-1])[rows] = value
    return y


#: What can be wrong, or only odd, with the values of embeddings.
VALUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nan": lambda x: _put(x, np.nan).astype(x.dtype),
    "inf": lambda x: _put(x, np.inf).astype(x.dtype),
    "zero row": lambda x: _put(x, 0).astype(x.dtype),
    "all zero": lambda x: np.zeros_like(x),
    "all equal": lambda x: np.ones_like(x),
    "one value": lambda x: np.full_like(x, -3.5),
    "twice each": lambda x: np.repeat(x[..., : (x.shape[-2] + 1) // 2, :], 2, axis=-2)[
        ..., : x.shape[-2], :
    ],
    "one row": lambda x: x[..., :1, :],
    "two rows": lambda x: x[..., :2, :],
    "no rows": lambda x: x[..., :0, :],
    "no columns": lambda x: x[..., :0],
    "one column": lambda x: x[..., :1],
    "fewer columns": lambda x: x[..., :-1],
    "fewer rows": lambda x: x[..., :-1, :],
    "flat": lambda x: x[..., 0].reshape(-1),
    "a number": lambda x: np.float32(3),
    "four axes": lambda x: x[None, None],
    "three axes": lambda x: x.reshape(1, *x.shape[-2:]) if x.ndim == 2 else x[0],
    "integers": lambda x: np.round(5 * x).astype(np.int64),
    "bytes": lambda x: np.abs(np.round(5 * x)).astype(np.uint8),
    "booleans": lambda x: x > 0,
    "complex": lambda x: x + 1j,
    "text": lambda x: x.astype("U8"),
    "objects": lambda x: x.astype(object),
    "half": lambda x: x.astype(np.float16),
    "half, overflown": lambda x: np.where(x > 1, np.inf, x).astype(np.float16),
    "double": lambda x: x.astype(np.float64),
    "long double": lambda x: x.astype(np.longdouble),
    "big endian": lambda x: x.astype(">f4"),
    "columns first": lambda x: np.asfortranarray(x),
    "structured": lambda x: x.astype([("a", "f4")]),
    **{
        f"times {scale:g}": lambda x, s=scale: np.asarray(x, dtype=np.float64) * s
        for scale in (1e-320, 1e-200, 1e-160, 1e-100, 1e-30, 1e-9, 1e9, 1e30, 1e100, 1e150, 1e307)
    },
    **{
        f"float32 times {scale:g}": lambda x, s=scale: (np.asarray(x, np.float64) * s).astype("f4")
        for scale in (1e-44, 1e-38, 1e-25, 1e-12, 1e12, 1e20, 1e37)
    },
    **{
        f"rows of scale {scale:g}": lambda x, s=scale: (
            np.asarray(x, np.float64) * np.where(np.arange(x.shape[-2]) % 2, s, 1)[:, None]
        )
        for scale in (1e-160, 1e-30, 1e-8, 1e8, 1e30, 1e70)
    },
    **{
        f"columns of scale {scale:g}": lambda x, s=scale: (
            np.asarray(x, np.float64) * np.where(np.arange(x.shape[-1]) % 2, s, 1)
        )
        for scale in (1e-160, 1e-30, 1e-8, 1e8, 1e30, 1e70)
    },
    **{
        f"{offset:g} added": lambda x, o=offset: np.asarray(x, np.float64) + o
        for offset in (1e3, 1e8, 1e15, 1e60)
    },
}


def _socket(path: Path) -> None:
    """Bind a socket by a relative name: the system's limit on names is short."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def _unreadable(path: Path) -> None:
    path.write_bytes(b"1")
    path.chmod(0)


#: What can lie at a path in the place of a file.
PLACES: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: None,
    "pipe": os.mkfifo,
    "socket": _socket,
    "folder": os.mkdir,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
    "two loops": lambda path: (path.symlink_to("loop.x"), Path("loop.x").symlink_to(path.name))[0],
    "device": lambda path: path.symlink_to("/dev/zero"),
    "null": lambda path: path.symlink_to("/dev/null"),
    "full": lambda path: path.symlink_to("/dev/full"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "unreadable": _unreadable,
    "memory": lambda path: path.symlink_to("/proc/self/mem"),
    "link to a folder": lambda path: path.symlink_to("s"),
    "endless log": lambda path: path.symlink_to("/proc/kmsg"),
}

#: What can be wrong with labels, classes and other texts.
TEXTS: dict[str, bytes] = {
    "blank": b"\n\n \n",
    "latin": "caf\xe9\nb\n".encode("latin-1"),
    "utf-16": "a\nb\n".encode("utf-16"),
    "bom": "\ufeffclass 0\nclass 1\n".encode(),
    "nul": b"a\0b\nc\n",
    "few": b"class 0\nclass 1\n",
    "many": b"class 0\n" * 5000,
    "one line": b"x" * 300_000,
    "numbers": b"0\n1\n2\n3\n" * 3,
    "negative": b"-1\n" * 12,
    "large": b"99999999999999999999999999\n" * 12,
    "floats": b"0.5\n" * 12,
    "unknown": b"no such class\n" * 12,
    "csv": b"a,label\n" + b"1,class 0\n" * 12,
    "csv, ragged": b"a,label\n1\n2,3,4\n",
    "quotes": b'"a\n"b""\n,"\n',
    "json": b"[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]",
    "json, mixed": b'[0, "a", null, 1.5]',
    "json, object": b'{"a": [0, 1], "b": 3}',
    "json, cut": b'["a", "b"',
    "json, deep": b"[" * 100_000,
    "json, deep and whole": b"[" * 50_000 + b"]" * 50_000,
    "json, number": b"7",
    "json, long integers": b"[" + b"9" * 6000 + b"]",
    "json, nan": b"[NaN, Infinity]",
    "json, surrogates": b'["\\ud800", "\\udfff"]',
    "controls": b"a\x1b[31m\nb\x07\nc\x9b\n",
    "binary": bytes(range(256)),
}
