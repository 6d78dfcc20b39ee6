"""Where figures get real embeddings: a folder of the user's, and the sample that ships.

A folder holds one sub-folder a dataset, with `images.npy` (m, d) and `texts.npy`. With `labels.npy`
(m,) it is zero-shot classification, texts (n, d) or (t, n, d), names in `classes.json` and
`templates.json`; without labels and with as many texts as images, row i of both belongs together;
otherwise texts search images, and nothing is known to be right. Rows are scaled to unit length.

A set whose decisions are no better than chance has none that are worth keeping, and one in which two
classes have the same text decides between equals: neither takes part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from modgap._core.arrays import normalize_rows
from modgap.decisions.neighbors import nearest
from modgap.errors import FormatError
from modgap.evaluation.tasks import PairedRetrieval, ZeroShot
from modgap.io._guard import shown
from modgap.samples import load_sample

__all__ = ["EMBED", "Excluded", "Labelled", "Pairs", "Search", "Sources", "find_sources"]

#: What to do where a dataset or model is missing.
EMBED = (
    "Embed images and texts with the model, save them as images.npy (m, d) and texts.npy "
    "((n, d), or (t, n, d) for t caption templates) with labels.npy (m,) in a folder of their own, "
    "and pass the folder above it as `data` (modgap figures --data FOLDER)."
)
_MOST_ROWS = 2000
#: Longest name in a title, and of a class or template.
_LONGEST = 60
#: Standard errors above chance that decisions must be.
_ABOVE_CHANCE = 3.0


@dataclass(frozen=True)
class Labelled:
    """Zero-shot classification: images, texts (t, n, d), labels, names."""

    name: str
    images: np.ndarray
    texts: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    templates: tuple[str, ...]

    def task(self, template: int = 0, metric: str = "euclidean") -> ZeroShot:
        """Return the task under one caption template; the others are its rephrasings."""
        return ZeroShot(
            self.images,
            self.texts,
            self.labels,
            metric=metric,
            template=template,
            templates=self.templates,
        )

    def clouds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return images and texts, the texts of the first template."""
        return self.images, self.texts[0]

    def plain_template(self) -> int:
        """Return the template in plain use: the first that speaks of a photo, else the first."""
        return next((i for i, name in enumerate(self.templates) if "photo" in name), 0)


@dataclass(frozen=True)
class Pairs:
    """Image-text pairs: row i of both belongs together."""

    name: str
    images: np.ndarray
    texts: np.ndarray

    def task(self, metric: str = "euclidean") -> PairedRetrieval:
        """Return retrieval in both directions."""
        return PairedRetrieval(self.images, self.texts, metric=metric, names=("image", "text"))

    def clouds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return images and texts."""
        return self.images, self.texts


@dataclass(frozen=True)
class Search:
    """Texts that search images, without a truth."""

    name: str
    images: np.ndarray
    texts: np.ndarray

    def task(self, metric: str = "euclidean") -> ZeroShot:
        """Return the search as decisions without labels."""
        return ZeroShot(self.texts, self.images, metric=metric)

    def clouds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return images and texts."""
        return self.images, self.texts


@dataclass(frozen=True)
class Excluded:
    """A set that no figure uses, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Sources:
    """All data at hand."""

    labelled: tuple[Labelled, ...]
    pairs: tuple[Pairs, ...] = ()
    searches: tuple[Search, ...] = ()
    excluded: tuple[Excluded, ...] = ()

    def all(self) -> tuple[Pairs | Labelled | Search, ...]:
        """Return every set, those with the richest clouds of both modalities first."""
        return (*self.pairs, *self.searches, *self.labelled)


def find_sources(data: str | Path | None = None) -> Sources:
    """Return every dataset in a folder, and the sample.

    Parameters
    ----------
    data : str or Path, optional
        Without it the sample alone. At most 2,000 rows of a dataset are used.

    Raises
    ------
    FormatError
        `data` is no folder, holds no dataset, or holds a file that cannot be read.
    """
    loaded = [] if data is None else _datasets(Path(data))
    sample = load_sample()
    loaded.append(
        Labelled(
            "sample (CIFAR-10)", sample.images, sample.texts, sample.labels,
            tuple(sample.classes), tuple(sample.templates),
        )
    )  # fmt: skip
    loaded = [
        replace(one, name=name)
        for one, name in zip(loaded, _apart([one.name for one in loaded]), strict=True)
    ]
    reasons = [_reason_against(one) for one in loaded]
    kept = [one for one, reason in zip(loaded, reasons, strict=True) if not reason]
    return Sources(
        tuple(one for one in kept if isinstance(one, Labelled)),
        tuple(one for one in kept if isinstance(one, Pairs)),
        tuple(one for one in kept if isinstance(one, Search)),
        tuple(Excluded(one.name, r) for one, r in zip(loaded, reasons, strict=True) if r),
    )


def _datasets(folder: Path) -> list[Labelled | Pairs | Search]:
    if not folder.is_dir():
        raise FormatError(f"`{folder}` is no folder; name one with a sub-folder per dataset")
    found = [_load(child) for child in sorted(folder.iterdir()) if (child / "images.npy").is_file()]
    if not found:
        raise FormatError(f"`{folder}` holds no dataset. {EMBED}")
    return found


def _load(folder: Path) -> Labelled | Pairs | Search:
    images, texts = _rows(folder / "images.npy"), _rows(folder / "texts.npy")
    if images.ndim != 2 or texts.ndim not in (2, 3) or texts.shape[-1] != images.shape[-1]:
        raise FormatError(
            f"`{folder}` must hold images (m, d) and texts (n, d) or (t, n, d); got {images.shape} "
            f"and {texts.shape}"
        )
    drawn = np.sort(np.random.default_rng(0).permutation(len(images))[:_MOST_ROWS])
    if (folder / "labels.npy").is_file():
        texts = texts[None] if texts.ndim == 2 else texts
        labels = _array(folder / "labels.npy")
        right = labels.shape == images.shape[:1] and labels.dtype.kind in "iu"
        if not right or labels.min() < 0 or labels.max() >= texts.shape[1]:
            raise FormatError(
                f"`{folder / 'labels.npy'}` must hold one whole number from 0 to "
                f"{texts.shape[1] - 1} per image; got {labels.dtype} of shape {labels.shape} for "
                f"{len(images)} images"
            )
        return Labelled(
            folder.name, images[drawn], texts, labels[drawn],
            _names(folder / "classes.json", texts.shape[1], "class"),
            _names(folder / "templates.json", texts.shape[0], "template"),
        )  # fmt: skip
    if texts.ndim == 3:
        raise FormatError(f"`{folder}` holds texts for {len(texts)} templates but no labels.npy")
    if images.shape == texts.shape:
        _, first = np.unique(texts, axis=0, return_index=True)
        kept = np.sort(first)[:_MOST_ROWS]  # a text that comes twice cannot find both its images
        return Pairs(folder.name, images[kept], texts[kept])
    return Search(folder.name, images[drawn], np.unique(texts, axis=0)[:_MOST_ROWS])


def _reason_against(data: Labelled | Pairs | Search) -> str:
    """Return why a set takes part in no figure, or nothing."""
    if isinstance(data, Labelled):
        for texts in data.texts:
            _, first, count = np.unique(texts, axis=0, return_index=True, return_counts=True)
            if len(first) < len(texts):
                same = (texts == texts[first[count > 1][0]]).all(axis=1)
                names = [data.classes[i] for i in np.flatnonzero(same)]
                return f"{' and '.join(names)} have the same text"
        rate = float((_decided(data.images, data.texts[0]) == data.labels).mean())
        chance = float(np.bincount(data.labels).max()) / len(data.labels)
    elif isinstance(data, Pairs):
        own = np.arange(len(data.images))
        rate = min(
            float((_decided(data.images, data.texts) == own).mean()),
            float((_decided(data.texts, data.images) == own).mean()),
        )
        chance = 1.0 / len(own)
    else:
        return ""
    error = math.sqrt(chance * (1.0 - chance) / len(data.images))
    if rate <= chance + _ABOVE_CHANCE * error:
        return f"at chance level: {rate:.3f} of the decisions are right, and {chance:.3f} by chance"
    return ""


def _decided(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return np.asarray(nearest(queries, gallery, metric="cosine").indices[:, 0])


def _rows(path: Path) -> np.ndarray:
    """Return rows of unit length."""
    rows = _array(path)
    if rows.dtype.kind != "f":
        raise FormatError(f"`{path}` must hold floating-point embeddings; got {rows.dtype}")
    lengths = np.linalg.norm(rows.astype(np.float64), axis=-1)
    useless = ~np.isfinite(lengths) | (lengths == 0)
    if useless.any():
        raise FormatError(
            f"`{path}` holds {int(useless.sum())} row(s) that are zero, NaN or infinite; drop them"
        )
    scaled: np.ndarray = np.asarray(normalize_rows(rows))
    return scaled


def _array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot read `{path}`: {error}") from None
    return array


def _names(path: Path, count: int, kind: str) -> tuple[str, ...]:
    if path.is_file():
        names = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(names, list) and len(names) == count:
            return tuple(_short(str(name)) for name in names)
    return tuple(f"{kind} {i}" for i in range(count))


def _short(name: str) -> str:
    """Return a name as it may stand in a title: one line, printable, not too long."""
    text = shown(name)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _apart(names: Sequence[str]) -> list[str]:
    """Return short names that differ, since panels and lines are told apart by them."""
    short = [_short(name) for name in names]
    return [
        name if short.count(name) == 1 else f"{name} ({short[: i + 1].count(name)})"
        for i, name in enumerate(short)
    ]
