"""Class names in caption templates, as one gallery a template."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from modgap.encode.encoder import Encoder
from modgap.encode.ensembles import encode_classes, ensemble
from modgap.io.atomic import atomic_path
from modgap.io.manifest import make_folder
from modgap.io.writers import write_array

__all__ = ["CLASS_FILES", "embed_classes"]

#: What is written, which may lie in one folder with the embeddings of pictures.
CLASS_FILES = ("texts.npy", "ensemble.npy", "classes.json", "templates.json")


def embed_classes(
    encoder: Encoder, classes: Sequence[str], templates: Sequence[str], out: str | os.PathLike[str]
) -> dict[str, str]:
    """Write class texts into a folder and return the names of the files.

    `texts.npy` (t, c, d) holds one gallery a template; `ensemble.npy` (c, d) one row a class, the mean of
    its templates (see `ensemble`), where there are several; `classes.json` and `templates.json` the words.

    Parameters
    ----------
    encoder : Encoder
    classes : sequence of str, c
    templates : sequence of str, t
        Each with `{}` where the class goes.
    out : path
        Folder, made if need be.

    Raises
    ------
    ArgumentError
        A template without `{}`, or no classes.
    DataError
        The templates of a class point in opposite directions.
    FormatError
        The folder cannot be written.
    """
    rows = encode_classes(encoder, classes, templates)
    folder = Path(out)
    make_folder(folder)
    write_array(folder / "texts.npy", rows)
    found = {"class_texts": "texts.npy", "classes": "classes.json", "templates": "templates.json"}
    if len(rows) > 1:
        write_array(folder / "ensemble.npy", ensemble(rows))
        found["class_ensemble"] = "ensemble.npy"
    for name, words in (("classes", classes), ("templates", templates)):
        with atomic_path(folder / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(list(words), ensure_ascii=False), encoding="utf-8")
    return found
