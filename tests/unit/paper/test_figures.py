"""The paper's figures: files, finite numbers, and findings that follow from the numbers."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modgap._core.json import plain
from modgap.charts import theme
from modgap.errors import ArgumentError, FormatError, MissingExtraError, SimulationWarning
from modgap.paper.figures import (
    FIGURES,
    Figure,
    Labelled,
    Pairs,
    Search,
    Sources,
    draw,
    find_sources,
    make,
    page,
)
from modgap.paper.figures import figure01 as first
from modgap.paper.figures import figure02 as second
from modgap.paper.figures import figure05 as fifth
from modgap.paper.figures import figure07 as seventh
from modgap.paper.figures.latex import latex
from modgap.paper.figures.record import (
    CONTRADICTED,
    SUPPORTED,
    UNTESTED,
    Case,
    Estimate,
    Finding,
    findings,
)
from modgap.paper.figures.runs import Tuning
from modgap.paper.figures.sources import Excluded

pytest.importorskip("vl_convert", reason="the extra `report` is not installed")

#: The simulated ones, shorter.
SHORT: dict[int, dict[str, Any]] = {
    4: {"pairs": 20, "stages": (0, 20, 60)},
    5: {
        "plane": replace(fifth.PLANE, n=30),
        "settings": replace(fifth.RUN, n=20),
        "stages": (0, 12, 60),
        "starts": (0, 1),
    },
    6: {"pairs": 20, "stages": (0, 20, 60)},
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
    return Sources((labelled,), (pairs,), (Search("searched", unit[0], unit[0][::5] + 0.01),))


@pytest.mark.parametrize("number", sorted(FIGURES))
def test_every_figure_says_something_of_every_claim(number: int, sources: Sources) -> None:
    kept = plain(vars(sources.labelled[0]))
    figure = draw(number, sources, **SHORT.get(number, {}))
    assert figure.number == number
    assert len({f.claim for f in figure.findings}) >= 2
    for found in figure.findings:
        assert found.verdict in (SUPPORTED, CONTRADICTED, UNTESTED)
        assert all(found.evidence)
        if found.verdict != UNTESTED:
            assert any(c.isdigit() for c in " ".join(found.evidence))
    numbers = plain(figure.numbers)
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    for name, rows in figure.tables.items():
        assert rows, f"nothing in the table {name}"
        assert all(not isinstance(v, dict | list | tuple) for row in rows for v in row.values())
    assert figure.chart.to_dict()["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    assert plain(vars(sources.labelled[0])) == kept  # inputs unchanged


def test_what_is_drawn_at_random_is_the_same_every_time(sources: Sources) -> None:
    one, two = (plain(draw(10, sources).numbers) for _ in range(2))
    assert one == two


def verdicts(figure: Figure) -> dict[str, str]:
    return {found.claim: found.verdict for found in figure.findings}


class TestFiles:
    def test_all_of_a_figure(self, tmp_path: Path) -> None:
        done: list[int] = []
        made = make([3], tmp_path / "new" / "out", progress=done.append)
        (entry,), folder = made.to_dict()["figures"], tmp_path / "new" / "out"
        assert done == [1]
        assert {path.name for path in folder.iterdir()} == {
            *entry["files"],
            "index.html",
            "figures.md",
            "figures.tex",
        }
        stored = json.loads((folder / "figure03.json").read_text(encoding="utf-8"))
        assert stored["findings"] == entry["findings"]
        assert stored["schema"] == made.to_dict()["schema"]
        assert stored["numbers"]["temperature"] == 0.1
        assert (folder / "figure03.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "figure03.pdf").read_bytes().startswith(b"%PDF")
        light, dark = (
            (folder / f"figure03{kind}.svg").read_text(encoding="utf-8") for kind in ("", "_dark")
        )
        assert light.startswith("<svg")
        assert 'fill="white"' in light
        assert dark != light
        for ink in ("white", theme.INK, theme.QUERIES, theme.GALLERY):
            assert f'"{ink}"' not in dark
        shown = (folder / "index.html").read_text(encoding="utf-8")
        for name in (*entry["files"], "figures.tex"):
            assert f'"{name}"' in shown
        assert "width=\\textwidth]{figure03.pdf}" in (folder / "figures.tex").read_text("utf-8")
        with (folder / "figure03_losses.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["name"] for row in rows][:2] == ["no gap", "a gap"]
        assert float(rows[1]["loss"]) == stored["numbers"]["scenes"][1]["loss"]

    def test_the_page_shows_what_others_wrote_as_text(self) -> None:
        hostile = '<script>alert("x")</script> | "quoted"'
        found = Finding(hostile, SUPPORTED, (hostile, "2"))
        figure = Figure(
            3, hostile, hostile, (found,), {}, {"table": []}, None, (hostile,), (hostile,)
        )
        shown = page.index([figure], [Excluded(hostile, hostile)])
        assert "<script" not in shown
        assert "<script" not in page.markdown([figure], [Excluded(hostile, hostile)])
        assert r"\textless{}script\textgreater{}" in latex([figure])
        assert shown.count("&lt;script&gt;") >= 8
        table = page.markdown([figure], [Excluded(hostile, hostile)])
        (row,) = (line for line in table.splitlines() if line.startswith("| 3 |"))
        assert row.replace("\\|", "").count("|") == 5

    def test_the_page_of_the_docs_says_what_is_so(self) -> None:
        """Figures 3 and 7 need no data but the sample, so their rows must be there as they are."""
        text = (Path(__file__).parents[3] / "docs" / "figures.md").read_text(encoding="utf-8")
        fresh = page.markdown([draw(3, Sources(()))]).splitlines()
        rows = [line for line in fresh if line.startswith("| 3 |")]
        assert len(rows) == 3
        assert all(row in text for row in rows)
        assert page.READING in text
        for number in FIGURES:
            assert f"\n| {number} |" in text


class TestTuning:
    def test_what_is_set_is_what_runs(self) -> None:
        tuning = Tuning(temperature=0.05, rate=0.003, seed=1)
        with pytest.warns(SimulationWarning, match="overshoot along it"):
            figure = draw(4, Sources(()), tuning=tuning, **SHORT[4])
        assert "temperature 0.05, step 0.003 n, seed 1" in figure.sources[0]
        assert figure.numbers["rate"] == 0.003
        # tau^2 / (2 (g^2 + tau)), g the gap at the start
        gap = figure.numbers["ends"]["open space"]["start"]["gap"]
        assert figure.numbers["longest_rate"] == pytest.approx(0.05**2 / (2 * (gap**2 + 0.05)))
        assert any("overshoot along it" in note for note in figure.notes)

    def test_a_run_that_is_kept_warns_again(self) -> None:
        for _ in range(2):
            with pytest.warns(SimulationWarning, match="overshoot along it"):
                figure = draw(6, Sources(()), tuning=Tuning(rate=0.004), **SHORT[6])
            assert any("overshoot along it" in note for note in figure.notes)
        usual = draw(6, Sources(()), tuning=Tuning(), **SHORT[6])
        assert not usual.notes
        assert usual.numbers != figure.numbers

    def test_starts_follow_the_seed(self) -> None:
        figure = draw(5, Sources(()), tuning=Tuning(seed=7), **SHORT[5])
        assert [event["seed"] for event in figure.numbers["usual"]] == [7, 8]

    def test_a_temperature_at_which_no_partner_is_well_ahead(self) -> None:
        figure = draw(3, Sources(()), tuning=Tuning(temperature=5.0))
        assert figure.numbers["temperature"] == 5.0
        assert figure.findings[0].verdict == UNTESTED

    @pytest.mark.parametrize(
        ("numbers", "setting", "message"),
        [
            ([8, 9], {"temperature": 1.0}, "`temperature` is of the simulated figures, 3 to 6"),
            ([3], {"rate": 0.1}, "`rate` is of the simulated figures, 4 to 6"),
            ([4], {"rate": -1.0}, "`rate` must be finite and in"),
            ([4], {"seed": -1}, "`seed` must be"),
        ],
    )
    def test_what_cannot_be_set(
        self, numbers: list[int], setting: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(ArgumentError, match=message):
            make(numbers, tmp_path / "out", **setting)
        assert not (tmp_path / "out").exists()


class TestFindings:
    def test_one_row_for_each_verdict(self) -> None:
        cases = [
            Case("a", True, "1"),
            Case("b", False, "2"),
            Case("c", True, "3"),
            Case("", None, "4"),
        ]
        assert findings("it is so", cases) == (
            Finding("it is so", SUPPORTED, ("a: 1", "c: 3")),
            Finding("it is so", CONTRADICTED, ("b: 2",)),
            Finding("it is so", UNTESTED, ("4",)),
        )
        assert findings("it is so", [], "no data") == (Finding("it is so", UNTESTED, ("no data",)),)

    def test_a_difference_counts_beyond_two_standard_errors(self) -> None:
        values = np.array([0.0, 1.0, 1.0, 1.0])
        seen = Estimate.of(values)
        assert (seen.value, seen.stderr) == (0.75, values.std(ddof=1) / 2)
        assert [seen.beyond(b) for b in (0.2, 0.5, 1.3)] == [True, None, False]
        assert Estimate(0.0, 0.0).beyond() is None  # nothing moved: nothing can be told
        assert f"{seen:+.2f}" == "+0.75 ± 0.25"
        assert Estimate.of(np.array([1.0])).beyond() is None  # one query has no spread


class TestFirst:
    def test_the_views_turn_and_nothing_else(self, rng: np.random.Generator) -> None:
        points = rng.normal(size=(9, 3))
        for azimuth in (0, 30, 120):
            turned = first._turned(points, azimuth)
            # a rotation of float64 coordinates: a few units in the last place
            np.testing.assert_allclose(turned @ turned.T, points @ points.T, atol=1e-14)
        across, up, near = first._turned(np.eye(3), 0).T
        assert across.tolist() == pytest.approx([1, 0, 0])
        assert up[2] > 0.9 * np.cos(np.radians(first._ELEVATION))
        assert near[1] < 0  # the second axis points away from the reader


class TestSecond:
    def test_texts_move_alone(self, sources: Sources) -> None:
        figure, data = draw(2, sources), sources.labelled[0]
        (row,) = (
            r for r in figure.tables["accuracy"]
            if (r["dataset"], r["line"], r["alpha"]) == ("made", "a photo of {}", 0.0)
        )  # fmt: skip
        decided = np.argmax(data.images @ data.texts[0].T, axis=1)
        assert row["accuracy"] == pytest.approx(float((decided == data.labels).mean()))
        assert row["change"] == 0.0

    def test_the_best_of_many_alphas_gains_nothing_by_chance(self) -> None:
        """All alphas are equally good: the best one looks better on the queries it was chosen by."""
        rng = np.random.default_rng(3)
        zero, gains, errors, naive = 4, [], [], []
        for _ in range(40):
            right = (rng.random((17, 200)) < 0.6).astype(float)
            _, gain = second._held_out_gain(right, zero)
            gains.append(gain.value)
            errors.append(gain.stderr)
            naive.append(right.mean(axis=1).max() - right[zero].mean())
        # five standard errors of the mean of 40
        assert abs(np.mean(gains)) < 5 * np.mean(errors) / np.sqrt(40)
        assert np.mean(naive) > 0.05


def test_the_gap_is_seen_only_where_partners_are_not_well_ahead() -> None:
    figure = draw(3, Sources(()))
    scenes = {scene["name"]: scene for scene in figure.numbers["scenes"]}
    assert scenes["a larger gap"]["aligned"]
    assert scenes["a larger gap"]["loss"] < 1e-3
    assert not scenes["a gap, two partners swapped"]["aligned"]
    assert scenes["partners nearest, by little"]["aligned"]
    assert list(verdicts(figure).values()) == [SUPPORTED, CONTRADICTED, SUPPORTED]


class TestSeventh:
    def test_the_plane_agrees_with_sampling(self) -> None:
        rng = np.random.default_rng(5)
        figure = draw(7, Sources(()))
        query = np.array([2.0, seventh.HEIGHT])
        labels = figure.numbers["labels"] + rng.normal(scale=seventh.SIGMA, size=(20_000, 2, 2))
        distance = np.linalg.norm(labels - query, axis=2)
        flipped = float((distance[:, 1] < distance[:, 0]).mean())
        # four standard errors of 20,000 draws
        assert figure.numbers["flips"][3] == pytest.approx(flipped, abs=4 * 0.5 / np.sqrt(20_000))
        assert [f.verdict for f in figure.findings] == [SUPPORTED, UNTESTED]

    def test_a_boundary_is_equally_far_from_both_labels(self) -> None:
        rng = np.random.default_rng(0)
        noise = rng.normal(scale=seventh.SIGMA, size=(seventh._LINES, 2, 2))
        rows = seventh._boundaries()
        for row in rows:
            labels = seventh._LABELS + noise[row["line"]]
            away = np.linalg.norm(labels - [row["a"], row["b"]], axis=1)
            assert away[0] == pytest.approx(away[1], rel=1e-9)

    def test_two_labels_of_one_text_are_no_pair(self, sources: Sources) -> None:
        data = sources.labelled[0]
        texts = data.texts.copy()
        texts[:, 1] = texts[:, 0] * np.float32(1 + 1e-7)
        (found,) = draw(7, Sources((replace(data, texts=texts),))).numbers["real"]
        assert set(found["classes"]) != {"a", "b"}
        alone = replace(data, texts=texts[:, :2], labels=data.labels % 2, classes=("a", "b"))
        assert draw(7, Sources((alone,))).findings[-1].verdict == UNTESTED


def test_the_robustness_figure_on_the_sample() -> None:
    sources = find_sources()
    figure = draw(8, sources, alphas=(0.0, 0.5, 1.0, 2.0))
    found = list(verdicts(figure).values())
    # by inner product the same move hurts, and other models are not at hand
    assert found == [SUPPORTED, SUPPORTED, SUPPORTED, CONTRADICTED, UNTESTED]
    (data,) = figure.numbers["datasets"]
    at = data["sigmas"][1]
    # the integral's accuracy
    assert at["start"].value == pytest.approx(0.95383, abs=1e-4)
    assert at["closed"].value == pytest.approx(0.96377, abs=1e-4)
    scores = sources.labelled[0].images @ sources.labelled[0].texts[0].T
    noise = at["sigma"] * np.random.default_rng(0).normal(size=(100, *scores.shape))
    kept = (scores + noise).argmax(axis=2) == scores.argmax(axis=1)  # unit rows, so noise as it is
    # four standard errors of 100 draws of 1,000 queries, no two draws alike
    error = kept.mean(axis=1).std(ddof=1) / np.sqrt(100)
    assert at["inner_product"].value == pytest.approx(kept.mean(), abs=4 * error)


class TestSources:
    def test_what_a_folder_holds(self, tmp_path: Path, sources: Sources) -> None:
        data, pairs = sources.labelled[0], sources.pairs[0]
        rng = np.random.default_rng(2)
        twice = np.vstack([pairs.texts[:1], pairs.texts[:-1]])
        close = pairs.images + 0.01 * rng.normal(size=pairs.images.shape)
        close[1] = close[0]
        for name, arrays in (
            ("far", {"images": data.images, "texts": data.images[:7]}),
            ("mine", {"images": 3 * data.images, "texts": data.texts[0], "labels": data.labels}),
            ("pairs", {"images": pairs.images, "texts": close}),
            ("random", {"images": pairs.images, "texts": twice[::-1]}),
            ("same", {"images": data.images, "texts": data.texts[0][[0, 1, 2, 3, 0]],
                      "labels": data.labels}),
        ):  # fmt: skip
            (tmp_path / name).mkdir()
            for key, array in arrays.items():
                np.save(tmp_path / name / f"{key}.npy", array)
        (tmp_path / "same" / "classes.json").write_text('["cat", "b", "c", "d", "tomcat"]')
        found = find_sources(tmp_path)
        assert [d.name for d in found.labelled] == ["mine", "sample (CIFAR-10)"]
        np.testing.assert_allclose(np.linalg.norm(found.labelled[0].images, axis=1), 1, rtol=1e-12)
        assert found.labelled[0].texts.shape == (1, 5, 128)
        assert [(d.name, len(d.images)) for d in found.pairs] == [
            ("pairs", 19)
        ]  # a text came twice
        assert [(d.name, d.images.shape, d.texts.shape) for d in found.searches] == [
            ("far", (60, 128), (7, 128))
        ]
        assert [one.name for one in found.excluded] == ["random", "same"]
        assert found.excluded[0].reason.startswith("at chance level: 0.0")
        assert found.excluded[1].reason == "cat and tomcat have the same text"

    def test_names_are_short_printable_and_apart(self, tmp_path: Path, sources: Sources) -> None:
        data = sources.labelled[0]
        for name in ("\u202ex\n", "n" * 99 + "1", "n" * 99 + "2", "sample (CIFAR-10)"):
            (tmp_path / name).mkdir()
            arrays = {"images": data.images, "texts": data.texts[0], "labels": data.labels}
            for key, array in arrays.items():
                np.save(tmp_path / name / f"{key}.npy", array)
            names = ["<b>", "c" * 10_000, "\x1b[1m", "d", "e"]
            (tmp_path / name / "classes.json").write_text(json.dumps(names), encoding="utf-8")
        found = find_sources(tmp_path).labelled
        titles = [d.name for d in found]
        assert len(set(titles)) == len(titles) == 5
        every = [*titles, *(name for d in found for name in d.classes)]
        assert all(name.isprintable() and len(name) < 70 for name in every)

    def test_a_gallery_that_spans_all_is_told(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(1)
        images = rng.normal(size=(30, 8))
        (tmp_path / "wide").mkdir()
        np.save(tmp_path / "wide" / "images.npy", images)
        np.save(tmp_path / "wide" / "texts.npy", images + 0.1 * rng.normal(size=(30, 8)))
        figure = draw(9, replace(find_sources(tmp_path), labelled=()))
        assert any("the gallery spans all 8 dimensions" in note for note in figure.notes)

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"images": np.eye(4), "texts": np.eye(5)}, r"must hold images \(m, d\) and texts"),
            ({"images": np.eye(4), "texts": np.ones((2, 3, 4))}, "but no labels.npy"),
            ({"images": np.zeros((2, 4)), "texts": np.eye(4)}, r"holds 2 row\(s\) that are zero"),
            ({"images": np.full((2, 4), np.nan), "texts": np.eye(4)}, r"2 row\(s\) .* NaN"),
            ({"images": np.eye(4, dtype=int), "texts": np.eye(4)}, "must hold floating-point"),
            ({"images": np.eye(4), "texts": np.eye(4), "labels": np.arange(3)}, "per image; got"),
            (
                {"images": np.eye(4), "texts": np.eye(4), "labels": np.arange(1, 5)},
                "from 0 to 3 per",
            ),
        ],
    )
    def test_arrays_that_do_not_fit(
        self, arrays: dict[str, np.ndarray], message: str, tmp_path: Path
    ) -> None:
        (tmp_path / "one").mkdir()
        for key, array in arrays.items():
            np.save(tmp_path / "one" / f"{key}.npy", array)
        with pytest.raises(FormatError, match=message):
            find_sources(tmp_path)

    def test_folders_and_files_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match=r"`numbers` must lie between 1 and 10; got \[11\]"):
            make([11], tmp_path)
        with pytest.raises(FormatError, match="is no folder"):
            make([3], tmp_path, data=tmp_path / "absent")
        with pytest.raises(FormatError, match="holds no dataset"):
            make([3], tmp_path, data=tmp_path)
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "images.npy").write_bytes(b"no array")
        with pytest.raises(FormatError, match="cannot read"):
            make([3], tmp_path, data=tmp_path)
        (tmp_path / "file").write_text("x", encoding="utf-8")
        with pytest.raises(FormatError, match="cannot make the folder"):
            make([3], tmp_path / "file" / "out", data=None)

    def test_no_folder_is_read_that_nobody_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        beside = tmp_path / "shared" / "data" / "one"
        beside.mkdir(parents=True)
        np.save(beside / "images.npy", np.eye(4))
        np.save(beside / "texts.npy", np.eye(4))
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        monkeypatch.setenv("MODGAP_TEST_DATA", str(beside.parent))
        assert [d.name for d in find_sources().all()] == ["sample (CIFAR-10)"]
        assert [d.name for d in find_sources("../shared/data").pairs] == ["one"]  # it could be read


def test_without_the_extra_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(module: str, extra: str) -> Any:
        raise MissingExtraError(f'this needs the package `{module}`; pip install "modgap[{extra}]"')

    monkeypatch.setattr("modgap.charts.theme.require", absent)
    with pytest.raises(MissingExtraError, match=r"modgap\[report\]"):
        make([3], tmp_path / "out")
    assert not (tmp_path / "out").exists()
