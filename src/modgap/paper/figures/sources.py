"""Where figures get real embeddings: a folder of the user's, and the sample that ships.

A folder holds one sub-folder a dataset, with `images.npy` (m, d) and `texts.npy`. With `labels.npy`
(m,) it is zero-shot classification, texts (n, d) or (t, n, d), names in `classes.json` and
`templates.json`; without labels, row i of both belongs together. Sub-folders whose name ends in
`_untrained` are left out: an untrained network takes no decisions worth keeping.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modgap.errors import FormatError
from modgap.evaluation.tasks import PairedRetrieval, ZeroShot
from modgap.samples import load_sample

__all__ = ["EMBED", "Labelled", "Pairs", "Sources", "find_sources"]

#: What to do where a dataset or model is missing.
EMBED = (
    "Embed images and texts with the model, save them as images.npy (m, d) and texts.npy "
    "((n, d), or (t, n, d) for t caption templates) with labels.npy (m,) in a folder of their own, "
    "and pass the folder above it as `data` (modgap figures --data FOLDER)."
)
_MOST_ROWS = 2000


@dataclass(frozen=True)
class Labelled:
    """Zero-shot classification: images, texts (t, n, d), labels, names."""

    name: str
    images: np.ndarray
    texts: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    templates: tuple[str, ...]

    def task(self, template: int = 0) -> ZeroShot:
        """Return the task under one caption template; the others are its rephrasings."""
        return ZeroShot(
            self.images,
            self.texts,
            self.labels,
            metric="euclidean",
            template=template,
            templates=self.templates,
        )


@dataclass(frozen=True)
class Pairs:
    """Image-text pairs: row i of both belongs together."""

    name: str
    images: np.ndarray
    texts: np.ndarray

    def task(self) -> PairedRetrieval:
        """Return retrieval in both directions."""
        return PairedRetrieval(self.images, self.texts, metric="euclidean", names=("image", "text"))


@dataclass(frozen=True)
class Sources:
    """All data at hand."""

    labelled: tuple[Labelled, ...]
    pairs: tuple[Pairs, ...] = ()

    def first(self) -> Labelled | Pairs:
        """Return the richest cloud of each modality: pairs if there are any."""
        return self.pairs[0] if self.pairs else self.labelled[0]


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
    folder = None if data is None else Path(data)
    labelled: list[Labelled] = []
    pairs: list[Pairs] = []
    if folder is not None:
        if not folder.is_dir():
            raise FormatError(f"`{folder}` is no folder; name one with a sub-folder per dataset")
        for child in sorted(folder.iterdir()):
            if (child / "images.npy").is_file() and not child.name.endswith("_untrained"):
                found = _load(child)
                (labelled if isinstance(found, Labelled) else pairs).append(found)  # type: ignore[arg-type]
        if not labelled and not pairs:
            raise FormatError(f"`{folder}` holds no dataset. {EMBED}")
    sample = load_sample()
    labelled.append(
        Labelled(
            "sample (CIFAR-10, small dual encoder)", sample.images, sample.texts, sample.labels,
            tuple(sample.classes), tuple(sample.templates),
        )
    )  # fmt: skip
    return Sources(tuple(labelled), tuple(pairs))


def _load(folder: Path) -> Labelled | Pairs:
    images, texts = _array(folder / "images.npy"), _array(folder / "texts.npy")
    if not (folder / "labels.npy").is_file():
        rows = min(len(images), _MOST_ROWS)
        if images.shape != texts.shape:
            raise FormatError(
                f"`{folder}` has no labels.npy, so row i of images and texts must belong together; "
                f"got {images.shape} and {texts.shape}"
            )
        return Pairs(folder.name, images[:rows], texts[:rows])
    labels = _array(folder / "labels.npy")
    texts = texts[None] if texts.ndim == 2 else texts
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:_MOST_ROWS])
    return Labelled(
        folder.name, images[chosen], texts, labels[chosen],
        _names(folder / "classes.json", texts.shape[1], "class"),
        _names(folder / "templates.json", texts.shape[0], "template"),
    )  # fmt: skip


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
            return tuple(str(name) for name in names)
    return tuple(f"{kind} {i}" for i in range(count))
