"""Class texts as rows: one gallery a template, or all templates of a class as one row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modgap._core.arrays import Array, Float, namespace, normalize_rows, row_norms, working_float
from modgap._core.checks import check_cloud
from modgap.datasets.prompts import class_texts
from modgap.encode.encoder import Encoder
from modgap.errors import ArgumentError, DataError

__all__ = ["encode_classes", "encode_ensemble", "ensemble"]

#: Length of a mean of unit rows below which it has no direction of its own.
_LEAST = 1e-6


def encode_classes(
    encoder: Encoder, classes: Sequence[str], templates: Sequence[str]
) -> np.ndarray:
    """Return float32 rows (t, c, d) of every class in every template, one gallery a template.

    Raises
    ------
    ArgumentError
        None of one of them, or a template without `{}`.
    """
    rows = encoder.encode_texts(class_texts(classes, templates))
    return rows.reshape(len(templates), len(classes), encoder.dimension)


def encode_ensemble(encoder: Encoder, texts: Sequence[Sequence[str]]) -> np.ndarray:
    """Return float32 rows (c, d): the ensemble of each class's texts, of which it may have any number.

    Raises
    ------
    ArgumentError
        A class has no text.
    DataError
        The texts of a class point in opposite directions.
    """
    counts = [0 if isinstance(own, str) else len(own) for own in texts]
    if not counts or 0 in counts:
        raise ArgumentError(
            "`texts` must hold at least one text for each class, in a list of its own"
        )
    rows = normalize_rows(encoder.encode_texts([text for own in texts for text in own]))
    ends = np.cumsum(counts)
    return np.concatenate(
        [ensemble(rows[end - n : end, None, :]) for end, n in zip(ends, counts, strict=True)]
    )


def ensemble(rows: Float[Array, "t c d"]) -> Float[Array, "c d"]:
    """Return one unit row per class: the mean of its unit rows over the templates, at unit length again.

    As Radford et al. (2021, section 3.1.4) do it. By cosine the score of a class is then the mean of its
    templates' scores over the length of their mean, so a class whose templates disagree is not held back.

    Parameters
    ----------
    rows : array (t, c, d), floating

    Raises
    ------
    DataError
        A row has no direction, or the rows of a class cancel out.

    Examples
    --------
    >>> ensemble(np.array([[[1.0, 0.0]], [[0.0, 2.0]]])).round(4).tolist()
    [[0.7071, 0.7071]]
    """
    rows = check_cloud(rows, "rows", ndim=3, zero_rows=False)
    xp = namespace(rows)
    mean = xp.mean(normalize_rows(working_float(rows)), axis=0)
    lengths = row_norms(mean)
    if not bool(xp.all(lengths >= _LEAST)):
        place = int(xp.argmin(lengths))
        raise DataError(f"the rows of class {place} cancel out; they have no direction in common")
    return normalize_rows(mean)
