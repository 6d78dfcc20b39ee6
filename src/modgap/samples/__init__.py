"""The small embeddings that ship with the package; README.md beside this file is their card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np

from modgap.evaluation.tasks import MixedRetrieval, ZeroShot

__all__ = ["Sample", "load_sample"]

FILE = "cifar10_dual_encoder.safetensors"


@dataclass(frozen=True)
class Sample:
    """Images and class texts of CIFAR-10 under 18 caption templates.

    Attributes
    ----------
    images : ndarray (1000, 128), float32
    texts : ndarray (18, 10, 128), float32
    labels : ndarray (1000,), int64
    classes, templates : list of str
    """

    images: np.ndarray
    texts: np.ndarray
    labels: np.ndarray
    classes: list[str]
    templates: list[str]

    def task(self, *, template: int | None = 0, metric: str = "cosine") -> ZeroShot:
        """Return zero-shot classification with one caption template, or with all (None)."""
        return ZeroShot(
            self.images,
            self.texts,
            self.labels,
            metric=metric,
            template=template,
            templates=self.templates,
        )

    def search(self, *, metric: str = "cosine") -> ZeroShot:
        """Return text-to-image search: the 180 texts are the queries, the images the gallery.

        The images span the space, as those of a real index do. What is right is what full precision
        finds: there are no labels.
        """
        return ZeroShot(self.texts.reshape(-1, self.texts.shape[-1]), self.images, metric=metric)

    def mixed(self, *, metric: str = "cosine") -> MixedRetrieval:
        """Return search in a mixed collection: 300 images ask for 700 others and 170 texts.

        Right is whatever shows or names the class of the image that asks.
        """
        texts = self.texts[1:].reshape(-1, self.texts.shape[-1])
        named = np.tile(np.arange(len(self.classes)), len(self.texts) - 1)
        return MixedRetrieval(
            self.images[:300],
            np.concatenate([self.images[300:], texts]),
            ["image"] * 700 + ["text"] * len(texts),
            labels=(self.labels[:300], np.concatenate([self.labels[300:], named])),
            query_modalities="image",
            metric=metric,
        )


def load_sample() -> Sample:
    """Return the sample.

    Examples
    --------
    >>> sample = load_sample()
    >>> sample.images.shape, sample.texts.shape, sample.classes[0]
    ((1000, 128), (18, 10, 128), 'airplane')
    """
    from safetensors import safe_open

    with (
        as_file(files("modgap.samples") / FILE) as path,
        safe_open(path, framework="numpy") as handle,
    ):
        header = handle.metadata()
        arrays = {name: handle.get_tensor(name) for name in ("images", "texts", "labels")}
    names = {key: json.loads(header[key]) for key in ("classes", "templates")}
    return Sample(**arrays, **names)
