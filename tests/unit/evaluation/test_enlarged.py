"""How far apart closers store the items, and the noises that are fair to all of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from modgap import closers
from modgap.cli import main
from modgap.evaluation import ZeroShot, advise, evaluate

RNG = np.random.default_rng(2)
#: Items far from the origin beside their distances from each other: centring doubles what is stored.
QUERIES, GALLERY = RNG.normal(size=(50, 10)), RNG.normal(size=(7, 10)) + 1.5
TASK = ZeroShot(QUERIES, GALLERY, metric="cosine")


def spread(rows: Any) -> float:
    return float(np.sqrt(np.var(rows, axis=0).sum()))


def test_a_row_says_how_far_apart_it_stores_the_items() -> None:
    study = evaluate(TASK, ["none", "affine", "center"], noises=[])
    unit = GALLERY / np.linalg.norm(GALLERY, axis=1, keepdims=True)
    for row in study:
        stored = closers.fit(row.method, QUERIES, GALLERY).apply_gallery(GALLERY)
        assert row.enlarges == pytest.approx(spread(stored) / spread(unit), rel=1e-9)
        assert row.to_dict()["enlarges"] == row.enlarges
    assert study["affine"].enlarges == pytest.approx(1, rel=1e-9)
    assert study["center"].enlarges > 1.5
    one = ZeroShot(QUERIES, np.tile(GALLERY[:1], (3, 1)))
    assert evaluate(one, "none", noises=[])["none"].enlarges is None


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        ("gaussian:0.1", True),
        ("uniform:0.1", True),
        ("gaussian:0.1:relative", False),
        ("gaussian:0.1:before", False),
        ("bins:8", False),
    ],
)
def test_a_note_below_the_table_names_what_noise_of_a_fixed_size_flatters(
    noise: str, said: bool, tmp_path: Any, capsys: Any
) -> None:
    for name, rows in (("q", QUERIES), ("g", GALLERY)):
        np.save(tmp_path / f"{name}.npy", rows)
    inputs = ["--queries", str(tmp_path / "q.npy"), "--gallery", str(tmp_path / "g.npy")]
    words = ["evaluate", *inputs, "--draws", "3", "--folds", "2", "--noise", noise]
    assert main([*words, "--methods", "affine,center"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert ("against before: center " in out) == said
    assert (f"Noise of a fixed size ({noise}) flatters" in out) == said
    assert main([*words, "--methods", "affine"]) == 0  # nothing is enlarged, nothing is said
    assert "against before" not in capsys.readouterr().out
    assert main([*words, "--methods", "affine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["closers"][0]["noises"][0]["noise"]
    assert found == noise


def test_advice_takes_both_words() -> None:
    found = advise(TASK, ["gaussian:0.3:relative", "gaussian:0.1:before"], draws=5)
    assert found.evidence["noises"] == ["gaussian:0.3:relative", "gaussian:0.1:before"]


def test_on_real_embeddings(real_data: Any) -> None:
    images = real_data("caltech101_clip_vitb32", "images.npy").astype(np.float64)
    texts = real_data("caltech101_clip_vitb32", "texts.npy")[3].astype(np.float64)
    noises = ["gaussian:0.04", "gaussian:0.04:before", "gaussian:0.9:relative"]
    closers_ = ["none:ip", "recenter", "affine", "balanced", "center"]
    study = evaluate(ZeroShot(images, texts), closers_, noises=noises, draws=20)
    retention = {row.label: [result.retention for result in row.results] for row in study}
    assert study["center"].enlarges == pytest.approx(2.40, abs=0.01)
    # Before an exact map only what a projection leaves behind makes a difference.
    np.testing.assert_allclose(retention["recenter"], retention["none:ip"], atol=1e-6)
    assert retention["balanced"][1] == pytest.approx(retention["affine"][1], abs=2e-3)
    assert retention["affine"][1] == pytest.approx(retention["affine"][0], abs=1e-6)
    # The lead of `center` under noise of a fixed size is that of its size: .95 against .51, then
    # .71, or .95 against .92. The standard error of 20 draws is .02.
    assert retention["center"][0] > retention["none:ip"][0] + 0.35
    assert retention["center"][1] < retention["none:ip"][1] + 0.30
    assert retention["center"][2] < retention["none:ip"][2] + 0.10
    assert retention["affine"][2] > retention["none:ip"][2] + 0.05
