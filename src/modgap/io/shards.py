"""Folders of numbered shards: ``img_emb_0.npy``, ``img_emb_1.npy``, ... read as one cloud."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from modgap.errors import FormatError
from modgap.io._guard import one_line, shown
from modgap.io.remote import AnyPath, RemotePath

#: Suffixes of the files that modgap reads, and the names of their formats.
FORMATS = {
    ".npy": "npy",
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".pt": "pt",
    ".pth": "pt",
}
# KIND_NUMBER.SUFFIX, as clip-retrieval writes it, and KIND-NUMBER-of-TOTAL.SUFFIX (Hugging Face)
_NAME = re.compile(r"(?P<kind>.*?)[-_.]?(?P<number>[0-9]{1,18})(?:-of-(?P<total>[0-9]{1,18}))?")
_LISTED = 12


@dataclass(frozen=True)
class Numbered:
    """One numbered file of a folder."""

    path: AnyPath
    kind: str
    number: int
    total: int | None

    @property
    def suffix(self) -> str:
        """File suffix in lower case."""
        return self.path.suffix.lower()


def find_shards(folder: AnyPath, key: str | None) -> tuple[list[AnyPath], str | None]:
    """Return the shards of one kind in the order of their numbers, and the key within each.

    Parameters
    ----------
    folder : Path or RemotePath
        Holds the shards, or holds folders of them (``img_emb/img_emb_0.npy``).
    key : str or None
        A kind (``img_emb``), a kind and a key within its files (``metadata:embedding``), or, where
        the folder has only one kind, a key within its files.

    Raises
    ------
    FormatError
        There are no shards, several kinds and no key, no such kind, two files of one number, or a
        hole in the numbering.
    """
    kinds = _kinds(folder)
    if not kinds:
        raise FormatError(_nothing_found(folder))
    kind, inner = _choose(folder, kinds, key)
    shards = sorted(kinds[kind], key=lambda shard: shard.number)
    check_numbers(folder, shards)
    return [shard.path for shard in shards], inner


def _kinds(folder: AnyPath) -> dict[str, list[Numbered]]:
    """Return the shards of a folder and of the folders in it, by the name that chooses them."""
    files, folders = _listing(folder)
    kinds = _group(files)
    for inner in folders:
        groups = _group(_listing(inner)[0])
        for kind, shards in groups.items():
            name = inner.name if len(groups) == 1 else f"{inner.name}/{kind}"
            if name in kinds:
                raise FormatError(
                    f"`{shown(folder)}` holds `{shown(name)}` shards twice: "
                    f"`{shown(kinds[name][0].path)}` and `{shown(shards[0].path)}`; move one away"
                )
            kinds[name] = shards
    return kinds


def _listing(folder: AnyPath) -> tuple[list[AnyPath], list[AnyPath]]:
    """Return the files and the folders in a folder, sorted, without hidden ones.

    What is named like a shard counts as a file, whatever it is: a link that leads nowhere or a folder
    is refused when it is opened, and not passed over.
    """
    try:
        found: Iterable[AnyPath] = folder.iterdir()
        entries = sorted((p for p in found if not p.name.startswith(".")), key=lambda p: p.name)
        # The name first: of a remote file the rest may cost a request.
        files = [p for p in entries if _numbered(p) is not None or p.is_file()]
        others = sorted(set(entries).difference(files), key=lambda p: p.name)
        return files, [p for p in others if p.is_dir()]
    except OSError as error:
        reason = (error.strerror or one_line(error)).lower()
        remote = isinstance(folder, RemotePath)
        fix = "check the address and the credentials" if remote else "change its mode or owner"
        raise FormatError(f"`{shown(folder)}` cannot be listed: {reason}; {fix}") from None


def _numbered(path: AnyPath) -> Numbered | None:
    """Return the shard of embeddings that a name says it is, or None."""
    return numbered(path) if path.suffix.lower() in FORMATS else None


def numbered(path: AnyPath) -> Numbered | None:
    """Return the shard that a name says it is, whatever its suffix, or None."""
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    total = int(match["total"]) if match["total"] else None
    return Numbered(path, match["kind"], int(match["number"]), total)


def _group(files: Iterable[AnyPath]) -> dict[str, list[Numbered]]:
    """Return numbered files by kind; a kind that comes in two formats carries its suffix."""
    by_format: dict[tuple[str, str], list[Numbered]] = {}
    for path in files:
        shard = _numbered(path)
        if shard is not None:
            by_format.setdefault((shard.kind, shard.suffix), []).append(shard)
    stems = [kind for kind, _ in by_format]
    return {
        kind if stems.count(kind) == 1 else f"{kind}{suffix}": shards
        for (kind, suffix), shards in by_format.items()
    }


def _choose(
    folder: AnyPath, kinds: dict[str, list[Numbered]], key: str | None
) -> tuple[str, str | None]:
    """Return the kind that is meant and what is left of the key."""
    listed = ", ".join(f"`{shown(kind)}`" for kind in sorted(kinds)[:_LISTED])
    if key is None:
        if len(kinds) == 1:
            return next(iter(kinds)), None
        raise FormatError(
            f"`{shown(folder)}` holds shards of {len(kinds)} kinds: {listed}; choose one with "
            f"`{shown(folder)}:KIND`"
        )
    if key in kinds:
        return key, None
    head, colon, tail = key.partition(":")
    if colon and head in kinds:
        return head, tail
    if len(kinds) == 1:
        kind, shards = next(iter(kinds.items()))
        if shards[0].suffix != ".npy":  # the shards have keys of their own
            return kind, key
    raise FormatError(f"`{shown(folder)}` has no shards `{shown(key)}`; it holds {listed}")


def check_numbers(folder: AnyPath, shards: list[Numbered]) -> None:
    """Raise a FormatError for two files of one number, a hole, or a missing end."""
    for before, after in pairwise(shards):
        if before.number == after.number:
            raise FormatError(
                f"`{shown(folder)}` has two shards with the number {after.number}: "
                f"`{shown(before.path.name)}` and `{shown(after.path.name)}`; remove one"
            )
        if after.number > before.number + 1:
            raise FormatError(
                f"`{shown(folder)}` lacks shard {before.number + 1}: after "
                f"`{shown(before.path.name)}` comes `{shown(after.path.name)}`; add the missing "
                "file or number the shards without holes"
            )
    total = shards[0].total
    if total is not None and total != len(shards):
        raise FormatError(
            f"`{shown(folder)}` has {len(shards)} of the {total} shards that "
            f"`{shown(shards[0].path.name)}` counts; add the missing files"
        )


def _nothing_found(folder: AnyPath) -> str:
    files, folders = _listing(folder)
    readable = [path for path in files if path.suffix.lower() in FORMATS]
    if readable:
        return (
            f"`{shown(folder)}` holds no numbered shards (like `img_emb_0.npy`); name the file "
            f"itself, for example `{shown(readable[0])}`"
        )
    if not files and not folders:
        return (
            f"the folder `{shown(folder)}` is empty; shards like `img_emb_0.npy` are expected in it"
        )
    return (
        f"`{shown(folder)}` holds no shards like `img_emb_0.npy`; modgap reads "
        f"{', '.join(FORMATS)}; check the folder"
    )
