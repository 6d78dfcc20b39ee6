"""The files of a collection that comes in shards: one file, or a folder of numbered ones."""

from __future__ import annotations

from pathlib import Path

from modgap.datasets._files import is_folder, listing
from modgap.errors import ArgumentError, FormatError
from modgap.io._guard import file_status, shown
from modgap.io.shards import Numbered, check_numbers, numbered

__all__ = ["shards_of"]


def shards_of(path: Path, suffix: str, split: str | None = None) -> list[Path]:
    """Return the files of a suffix in the order of their numbers.

    Parameters
    ----------
    path : Path
        A file, or a folder of files: `00000.tar`, `train-00001-of-00005.parquet`. Where it has none itself,
        those of the folder `data` in it count.
    suffix : str
    split : str, optional
        What stands before the numbers, where a folder holds several kinds: `train`.

    Raises
    ------
    ArgumentError, FormatError
        There is none, the numbers have a hole, or several kinds lie there and none is chosen.
    """
    file_status(path)
    if not path.is_dir():
        if split is not None:
            raise ArgumentError(f"`split` chooses among the files of a folder; got {shown(path)}")
        return [path]
    kinds = _kinds(path, suffix) or (
        _kinds(path / "data", suffix) if (path / "data").is_dir() else {}
    )
    if not kinds:
        raise FormatError(f"`{shown(path)}` holds no {suffix} file; check the folder")
    listed = ", ".join(shown(kind) or "(numbers alone)" for kind in sorted(kinds)[:12])
    if split is None and len(kinds) > 1:
        raise FormatError(
            f"`{shown(path)}` holds {suffix} files of {len(kinds)} kinds: {listed}; choose one with "
            "`split`, or name a file"
        )
    chosen = next(iter(kinds)) if split is None else split
    if chosen not in kinds:
        raise ArgumentError(f"`{shown(path)}` has no split `{shown(chosen)}`; it has {listed}")
    shards = sorted(kinds[chosen], key=lambda shard: shard.number)
    if len(shards) > 1 or shards[0].total is not None:
        check_numbers(path, shards)
    return [Path(shard.path) for shard in shards]


def _kinds(folder: Path, suffix: str) -> dict[str, list[Numbered]]:
    """Return the files of a suffix by what stands before their numbers; a name without counts alone."""
    kinds: dict[str, list[Numbered]] = {}
    for entry in listing(folder):
        path = folder / entry.name
        if path.suffix.lower() == suffix and not is_folder(entry):
            shard = numbered(path) or Numbered(path, path.stem, 0, None)
            kinds.setdefault(shard.kind, []).append(shard)
    return kinds
