"""The paper's figures: files, finite numbers, verdicts that follow from the numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modgap._core.json import plain
from modgap.errors import ArgumentError, FormatError, MissingExtraError
from modgap.paper.figures import FIGURES, Figure, Labelled, Pairs, Sources, find_sources, make
from modgap.paper.figures import figure02 as second
from modgap.paper.figures import figure03 as third
from modgap.paper.figures import figure04 as fourth
from modgap.paper.figures import figure05 as fifth
from modgap.paper.figures import figure07 as seventh
from modgap.paper.figures import figure08 as eighth
from modgap.paper.figures.record import judge, words

pytest.importorskip("vl_convert", reason="the extra `report` is not installed")

#: The simulated ones, shorter.
SHORT: dict[int, dict[str, Any]] = {
    4: {"settings": replace(fourth.PAPER_RUN, n=20), "stages": (0, 20, 60)},
    5: {"plane": replace(fifth.PLANE, n=30), "run": replace(fifth.RUN, n=20, steps=60)},
    6: {"settings": replace(fourth.PAPER_RUN, n=20), "stages": (0, 20, 60)},
}


@pytest.fixture(scope="module")
def sources() -> Sources:
    """Small clouds with a gap: what a figure makes of them is checked, not what they mean."""
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(5, 128))
    labels = np.arange(60) % 5
    gap = 3 * rng.normal(size=128) / 4
    images = texts[labels] + gap + 0.4 * rng.normal(size=(60, 128))
    several = np.stack([texts, texts + 0.3 * rng.normal(size=texts.shape)])
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (images, several)]
    names = tuple("abcde")
    labelled = Labelled("made", unit[0], unit[1], labels, names, ("a photo of {}", "{}"))
    pairs = Pairs("paired", unit[0][:20], unit[0][20:40])
    return Sources((labelled,), (pairs,))


def draw(number: int, sources: Sources) -> Figure:
    made: Figure = import_module(FIGURES[number]).figure(sources, **SHORT.get(number, {}))
    return made


@pytest.mark.parametrize("number", sorted(FIGURES))
def test_every_figure_has_a_verdict_and_finite_numbers(number: int, sources: Sources) -> None:
    kept = plain(vars(sources.labelled[0]))
    figure = draw(number, sources)
    assert figure.number == number
    assert figure.holds in (True, False, "partly", None)
    assert figure.verdict.endswith(".")
    assert any(c.isdigit() for c in figure.verdict)
    numbers = plain(figure.numbers)
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    assert None not in _leaves(
        {k: v for k, v in numbers.items() if k not in ("settled_at", "path")}
    )
    spec = figure.chart.to_dict()
    assert spec["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    assert plain(vars(sources.labelled[0])) == kept  # inputs unchanged
    again = draw(number, sources)
    assert (again.verdict, plain(again.numbers)) == (figure.verdict, numbers)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def test_make_writes_all_files(tmp_path: Path) -> None:
    done: list[int] = []
    entries = make([3, 8], tmp_path / "new" / "out", progress=done.append)
    folder = tmp_path / "new" / "out"
    assert done == [1, 1]
    assert [entry["figure"] for entry in entries] == [3, 8]
    for entry in entries:
        for name in entry["files"]:
            assert (folder / name).stat().st_size > 200
        stored = json.loads((folder / entry["files"][2]).read_text(encoding="utf-8"))
        assert stored["verdict"] == entry["verdict"]
        assert stored["numbers"]
    assert (folder / "figure03.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "figure08.svg").read_text(encoding="utf-8").startswith("<svg")
    index = (folder / "index.html").read_text(encoding="utf-8")
    assert "figure03.svg" in index
    assert "figure08.svg" in index
    assert "figure01.svg" not in index


def test_the_robustness_figure_holds_on_the_sample() -> None:
    sample = Sources(find_sources_of_sample())
    figure = eighth.figure(sample, alphas=(0.0, 0.5, 1.0, 2.0))
    assert figure.holds is True
    line = figure.numbers["datasets"][0]["stability"][1]
    # the integral's accuracy
    assert line[0] == pytest.approx(0.95383, abs=1e-4)
    assert line[2] == pytest.approx(0.96377, abs=1e-4)
    assert line[3] < line[2]


def find_sources_of_sample() -> tuple[Labelled, ...]:
    return tuple(data for data in find_sources().labelled if data.name.startswith("sample"))


def test_the_plane_of_two_labels_agrees_with_sampling() -> None:
    rng = np.random.default_rng(5)
    figure = seventh.figure(Sources(()))
    query = np.array([2.0, seventh.HEIGHT])
    labels = figure.numbers["labels"] + rng.normal(scale=seventh.SIGMA, size=(20_000, 2, 2))
    distance = np.linalg.norm(labels - query, axis=2)
    flipped = float((distance[:, 1] < distance[:, 0]).mean())
    # four standard errors of 20,000 draws
    assert figure.numbers["flips"][3] == pytest.approx(flipped, abs=4 * 0.5 / np.sqrt(20_000))
    assert figure.holds is True


def test_the_gap_is_seen_only_where_partners_are_not_well_ahead() -> None:
    figure = third.figure(Sources(()))
    scenes = {scene["name"]: scene for scene in figure.numbers["scenes"]}
    assert scenes["a larger gap"]["aligned"]
    assert scenes["a larger gap"]["loss"] < 1e-3
    assert not scenes["a gap, two partners swapped"]["aligned"]
    assert scenes["a gap, two partners swapped"]["loss"] > 5
    near = scenes["partners nearest, by little"]
    assert near["aligned"]
    assert near["loss"] > 0.1
    assert figure.holds == "partly"


def test_the_gap_figure_moves_texts_only(sources: Sources) -> None:
    figure = second.figure(sources)
    lines = {(line["dataset"], line["line"]): line for line in figure.numbers["lines"]}
    data = sources.labelled[0]
    zero = second.ALPHAS.index(0.0)
    decided = np.argmax(data.images @ data.texts[0].T, axis=1)
    plain_accuracy = float((decided == data.labels).mean())
    assert lines[("made", "a photo of {}")]["accuracy"][zero] == pytest.approx(plain_accuracy)


def test_a_verdict_follows_its_parts() -> None:
    assert judge([True, True]) is True
    assert judge([False]) is False
    assert judge([True, False]) == "partly"
    assert judge([]) is None
    assert [words(v) for v in (True, False, "partly", None)] == [
        "holds here", "does not hold here", "holds in part", "cannot be told from the data at hand",
    ]  # fmt: skip


def test_data_of_the_user(tmp_path: Path, sources: Sources) -> None:
    data, pairs = sources.labelled[0], sources.pairs[0]
    for name, arrays in (
        ("mine", {"images": data.images, "texts": data.texts[0], "labels": data.labels}),
        ("pairs", {"images": pairs.images, "texts": pairs.texts}),
        ("mine_untrained", {"images": data.images, "texts": data.images}),
    ):
        (tmp_path / name).mkdir()
        for key, array in arrays.items():
            np.save(tmp_path / name / f"{key}.npy", array)
    found = find_sources(tmp_path)
    assert found.labelled[0].name == "mine"
    assert found.labelled[0].texts.shape == (1, 5, 128)
    assert [d.name for d in found.pairs] == ["pairs"]


def test_a_gallery_that_spans_all_is_told_on_the_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / "wide").mkdir()
    for key in ("images", "texts"):
        np.save(tmp_path / "wide" / f"{key}.npy", rng.normal(size=(30, 8)))
    (entry,) = make([9], tmp_path / "out", data=tmp_path)
    assert any("the gallery spans all 8 dimensions" in need for need in entry["needs"])


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"`numbers` must lie between 1 and 10; got \[11\]"):
        make([11], tmp_path)
    with pytest.raises(FormatError, match="is no folder"):
        make([3], tmp_path, data=tmp_path / "absent")
    with pytest.raises(FormatError, match="holds no dataset"):
        make([3], tmp_path, data=tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "images.npy").write_bytes(b"no array")
    (tmp_path / "broken" / "texts.npy").write_bytes(b"no array")
    with pytest.raises(FormatError, match="cannot read"):
        make([3], tmp_path, data=tmp_path)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(FormatError, match="cannot make the folder"):
        make([3], tmp_path / "file" / "out", data=None)


def test_without_the_extra_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(module: str, extra: str) -> Any:
        raise MissingExtraError(f'this needs the package `{module}`; pip install "modgap[{extra}]"')

    monkeypatch.setattr("modgap.charts.theme.require", absent)
    with pytest.raises(MissingExtraError, match=r"modgap\[report\]"):
        make([3], tmp_path / "out")
    assert not (tmp_path / "out").exists()
