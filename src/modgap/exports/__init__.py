"""Closures for other runtimes: ONNX, FAISS, NumPy alone, PostgreSQL, PyTorch, JSON.

    modgap.export(closure, "closure.onnx", to="onnx")

Every export holds the maps in float32 and is equal to the closure to float32 rounding. None needs
modgap, or unpickles anything, where it is used. One file a target here; `form.py` has the one formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from modgap._core.checks import check_choice
from modgap.closers.closure import Closure
from modgap.errors import ArgumentError, FormatError
from modgap.exports import to_faiss, to_json, to_npz, to_onnx, to_sql, to_torch
from modgap.exports.form import SIDES, Form, Side, sides_of
from modgap.io.atomic import atomic_path

__all__ = ["SIDES", "TARGETS", "Form", "Side", "Target", "export"]


@dataclass(frozen=True)
class Target:
    """What a closure can be exported to.

    Attributes
    ----------
    name : str
    suffixes : tuple of str
        Of its files.
    holds_all : bool
        Whether one file holds every map; otherwise each map has a file of its own.
    write : callable
        Writes sides of a closure to a file: `write(path, sides, closure, name)`, `name` being the
        file's own before its suffix.
    hint : str
        How it is used, on one line.
    """

    name: str
    suffixes: tuple[str, ...]
    holds_all: bool
    write: Callable[[Path, Sequence[Side], Closure, str], None]
    hint: str


TARGETS: dict[str, Target] = {
    each.name: each
    for each in (
        Target(
            "onnx",
            (".onnx",),
            False,
            to_onnx.write,
            'onnxruntime.InferenceSession(FILE).run(None, {"rows": rows})',
        ),
        Target(
            "faiss",
            (".faiss", ".index"),
            False,
            to_faiss.write,
            "faiss.read_index(FILE): an empty index behind the map",
        ),
        Target(
            "npz", (".npz",), True, to_npz.write, "numpy.load(FILE), and the formula in `about`"
        ),
        Target("sql", (".sql",), True, to_sql.write, "psql -f FILE, in a database with pgvector"),
        Target(
            "torch",
            (".safetensors",),
            True,
            to_torch.write,
            "safetensors.torch.load_file(FILE): buffers for a layer",
        ),
        Target(
            "json", (".json",), True, to_json.write, "any JSON reader, and the formula in `about`"
        ),
    )
}


def export(
    closure: Closure,
    path: str | Path,
    *,
    to: str,
    side: str = "both",
    modality: str | None = None,
) -> tuple[Path, ...]:
    """Write a closure's maps for another runtime, and return the paths of the files.

    Parameters
    ----------
    closure : Closure
    path : str or Path
        The file; a file of that name is replaced in one step. Where a target holds one map a file (onnx,
        faiss) and several are asked for, the side goes before the suffix: "closure.queries.onnx".
    to : {"onnx", "faiss", "npz", "sql", "torch", "json"}
    side : {"queries", "gallery", "both"}
    modality : str, optional
        Mixed collection: the one modality of the gallery whose map is wanted; all by default.

    Raises
    ------
    ArgumentError
        No such target, side or modality, or another suffix than the target's.
    ClosureError
        A map cannot be held by the target.
    FormatError
        The folder is missing or cannot be written, or the disk is full.
    MissingExtraError
        The package of the target is not installed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from modgap import closers
    >>> closure = closers.fit("affine", np.eye(4), np.eye(4)[:2])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = export(closure, folder + "/closure.npz", to="npz")
    ...     sorted(name for name in np.load(files[0]) if name.startswith("gallery"))[:3]
    ['gallery.center', 'gallery.diagonal', 'gallery.normalize_input']
    """
    check_choice(to, "to", tuple(TARGETS))
    target, file = TARGETS[to], Path(path)
    if file.suffix.lower() not in target.suffixes:
        raise ArgumentError(
            f"`path` must end in {' or '.join(target.suffixes)} for {to}; got `{file.name}`"
        )
    sides = sides_of(closure, side, modality)
    groups = [sides] if target.holds_all else [[each] for each in sides]
    written = []
    for group in groups:
        alone = len(groups) == 1
        place = file if alone else file.with_name(f"{file.stem}.{group[0].name}{file.suffix}")
        _check_no_closure(place)
        with atomic_path(place) as temporary:
            target.write(temporary, group, closure, file.stem)
        written.append(place)
    return tuple(written)


def _check_no_closure(place: Path) -> None:
    """Raise an ArgumentError if an export would take the place of a closure, which says more."""
    if place.suffix.lower() != ".safetensors" or not place.exists():
        return
    try:
        Closure.load(place)
    except FormatError:
        return
    raise ArgumentError(
        f"`path` `{place}` is a closure, which an export cannot be turned back into; choose another name"
    )
