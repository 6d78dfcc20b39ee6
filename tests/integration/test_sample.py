"""The sample that ships: its size, its card, and what it must show."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from modgap import load_sample
from modgap.decisions.neighbors import nearest
from modgap.measures import centroid_gap

ROOT = Path(__file__).parents[2]


def test_it_is_small_balanced_and_of_unit_length() -> None:
    folder = files("modgap.samples")
    size = sum(len(entry.read_bytes()) for entry in folder.iterdir() if entry.is_file())
    assert size <= 1_000_000
    sample = load_sample()
    assert np.bincount(sample.labels).tolist() == [100] * 10
    assert sample.texts.shape == (len(sample.templates), len(sample.classes), 128)
    for cloud in (sample.images, sample.texts):
        assert np.allclose(np.linalg.norm(cloud, axis=-1), 1, atol=1e-5)


def test_it_has_a_gap_and_classifies() -> None:
    sample = load_sample()
    for texts in sample.texts:
        decided = nearest(sample.images, texts).indices[:, 0]
        assert (decided == sample.labels).mean() >= 0.55
        assert centroid_gap(sample.images, texts) > 0.3


def test_templates_flip_some_decisions() -> None:
    sample = load_sample()
    decided = [nearest(sample.images, texts).indices[:, 0] for texts in sample.texts]
    assert max((decided[0] != other).mean() for other in decided[1:]) > 0.02


def test_the_card_agrees_with_the_arrays() -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    done = subprocess.run(
        [sys.executable, str(ROOT / "training" / "make_sample.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
