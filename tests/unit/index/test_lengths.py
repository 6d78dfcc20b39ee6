"""Lengths as signs: what they count, what they leave alone, what they win."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

import modgap
from modgap.errors import ArgumentError, DataError
from modgap.index import LengthBits, Served


@pytest.fixture(scope="module")
def served() -> tuple[Served, np.ndarray, np.ndarray]:
    """The sample under `balanced`, fitted to half of the captions; the other half; the images."""
    sample = modgap.load_sample()
    texts = sample.texts.reshape(-1, 128)
    texts = texts[np.random.default_rng(0).permutation(len(texts))]
    known, unseen = texts[:90], texts[90:]
    plain = Served(modgap.fit("balanced", known, sample.images))
    return plain.with_lengths(known, sample.images), unseen, sample.images


def signs(rows: np.ndarray) -> np.ndarray:
    return np.where(rows > 0, 1.0, -1.0)


def recall(scores: np.ndarray, truth: np.ndarray) -> float:
    found = np.argsort(-scores, axis=1, kind="stable")[:, : truth.shape[1]]
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]))


def test_the_signs_of_a_row_count_its_length() -> None:
    lengths = LengthBits(bits=4, top=np.log(8.0), step=np.log(2.0), weight=0.5)
    rows = np.outer([0.0, 0.1, 1.0, 2.0, 4.0, 8.0, 100.0], [0.6, 0.8])
    counts = (lengths.gallery(rows)[:, 2:] > 0).sum(axis=1)
    assert counts.tolist() == [0, 0, 1, 2, 3, 4, 4]
    # Behind a row's own numbers, the positive ones first.
    assert signs(lengths.gallery(rows))[3, 2:].tolist() == [1, 1, -1, -1]
    np.testing.assert_array_equal(lengths.gallery(rows)[:, :2], rows.astype(np.float32))
    asked = lengths.queries(rows[2:4])
    np.testing.assert_allclose(asked[:, 2:], [[0.5] * 4, [1.0] * 4], rtol=1e-6)


def test_codes_of_signs_find_what_they_find_with_a_float_a_row(
    served: tuple[Served, np.ndarray, np.ndarray],
) -> None:
    """32 signs are 4 bytes: most of what a length in float32, by which scores are multiplied, gains."""
    longer, unseen, images = served
    truth = modgap.nearest(unseen, images, k=10).indices
    asked, stored = longer.queries(unseen), longer.gallery(images)
    bare, codes = asked[:, :128], signs(stored[:, :128])
    norms = np.linalg.norm(stored[:, :128], axis=1)
    for full, half in ((asked, bare), (signs(asked), signs(bare))):  # queries as numbers, as signs
        without = recall(half @ codes.T, truth)
        ideal = recall((half @ codes.T) * norms, truth)
        found = recall(full @ signs(stored).T, truth)
        # Measured: .35, .70 and .65 for numbers, .33, .60 and .54 for signs.
        assert found > without + 0.6 * (ideal - without)
    nothing = recall(signs(unseen) @ signs(images).T, truth)
    assert recall(signs(asked) @ signs(stored).T, truth) > nothing + 0.05


def test_float_scores_stay(served: tuple[Served, np.ndarray, np.ndarray]) -> None:
    longer, unseen, images = served
    asked, stored = longer.queries(unseen).astype(float), longer.gallery(images).astype(float)
    scores, before = asked @ stored.T, asked[:, :128] @ stored[:, :128].T
    bound = np.linalg.norm(asked[:, :128], axis=1)[:, None] * np.linalg.norm(
        stored[:, :128], axis=1
    )
    # Below the rounding of a product of 128 terms in float32.
    assert np.abs((scores - before) / bound).max() < 128 * 2**-24


def test_four_numbers_are_all_there_is_to_keep(
    served: tuple[Served, np.ndarray, np.ndarray],
) -> None:
    longer, unseen, _ = served
    assert longer.lengths is not None
    numbers = asdict(longer.lengths)
    assert list(numbers) == ["bits", "top", "step", "weight"]
    again = Served(longer.closure, lengths=LengthBits(**numbers))
    np.testing.assert_array_equal(again.queries(unseen), longer.queries(unseen))


def test_rows_of_one_length_get_one_count() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    lengths = LengthBits.of(rows[:5], rows)
    added = signs(lengths.gallery(rows)[:, 8:])
    assert (added == added[0]).all()


def test_what_cannot_be_learnt_from() -> None:
    rows = np.ones((4, 3))
    with pytest.raises(DataError, match="all zeros and has no direction"):
        LengthBits.of(rows, np.zeros((4, 3)))
    with pytest.raises(ArgumentError, match="`bits` must be at least 1; got 0"):
        LengthBits.of(rows, rows, bits=0)
    sample = modgap.load_sample()
    pair = sample.images[:50], sample.texts[0]
    closure = modgap.fit("recenter", *pair, metric="euclidean")
    with pytest.raises(ArgumentError, match="lengths count by inner product, and `recenter` is"):
        Served(closure).with_lengths(*pair)
    affine = Served(modgap.fit("affine", *pair)).with_lengths(*pair)
    with pytest.raises(ArgumentError, match="written beside the items; leave out `existing`"):
        Served(affine.closure, existing=True, lengths=affine.lengths)
