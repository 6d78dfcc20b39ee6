"""Embeddings kept by content: what was encoded once is not encoded again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from modgap.datasets.collection import Collection
from modgap.encode.class_texts import embed_classes
from modgap.encode.encoder import Encoder
from modgap.encode.job import embed
from modgap.io.manifest import combine

__all__ = ["cache_folder", "embed_cached"]

#: Environment variable with the folder of the cache.
VARIABLE = "MODGAP_CACHE"


def cache_folder() -> Path:
    """Return the folder of the cache: MODGAP_CACHE, or `modgap` in the user's cache folder."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "modgap"


def embed_cached(
    encoder: Encoder,
    collection: Collection,
    *,
    classes: Sequence[str] | None = None,
    templates: Sequence[str] = ("a photo of a {}.",),
    digest: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, str]:
    """Return paths of a collection's embeddings, encoded now or before; a stopped run goes on.

    The folder's name is a digest of the encoder's card and of all items, texts and pictures, so that
    neither another model nor a changed picture is taken for this one. Give the collection's `digest`
    where it is known: making it reads every picture.

    Returns
    -------
    dict
        Of those that there are: `img_emb`, `text_emb`, `owners`, `labels`, `classes`, `metadata`;
        with `classes` also `class_texts` (t, c, d).

    Raises
    ------
    DataError, FormatError, ModelError
        As `embed` and `embed_classes`.
    """
    content = combine(
        encoder.card.fingerprint, encoder.batch, collection.kind, digest or collection.digest()
    )
    folder = cache_folder() / "embeddings" / content[:32]
    done = embed(encoder, collection, folder, thumbnails=True, progress=progress)
    files = {name: str(folder / path) for name, path in done.files.items()}
    files["metadata"] = str(folder / "metadata")
    if classes is not None:
        key = combine(encoder.card.fingerprint, *classes, "", *templates)
        texts = cache_folder() / "classes" / key[:32]
        if not (texts / "templates.json").is_file():  # written last
            embed_classes(encoder, classes, templates, texts)
        files |= {"class_texts": str(texts / "texts.npy"), "classes": str(texts / "classes.json")}
    return files
