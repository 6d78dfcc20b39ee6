"""Every statement on data: true ones pass on the sample and on real sets, false ones fail."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modgap
from modgap.cli import main
from modgap.closers import AffineMap, Closure
from modgap.errors import ArgumentError, ClosureError, DataError, ShapeError
from modgap.paper import Check, Verification, verify
from modgap.paper.verifying import balancing, certifying, deciding, keeping, training
from modgap.paper.verifying.ground import Ground, ground_of


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries about the items that they belong to, and a gap."""
    rng = np.random.default_rng(0)
    gallery, labels = rng.normal(size=(7, 20)), np.arange(50) % 7
    return gallery[labels] + 0.5 * rng.normal(size=(50, 20)) + 1.0, gallery, labels


@pytest.fixture(scope="module")
def ground(clouds: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Ground:
    return ground_of(
        *clouds,
        paired=False,
        metric="cosine",
        temperature=0.05,
        sigma=0.05,
        draws=200,
        seed=0,
    )


@pytest.fixture(scope="module")
def found(clouds: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Verification:
    return verify(*clouds)


@pytest.fixture(scope="module")
def false_closure(clouds: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Closure:
    """A closure that claims to keep every answer, and moves one item."""
    queries, gallery, _ = clouds
    true = modgap.fit("recenter", queries, gallery)
    scale = np.ones(20)
    scale[0] = 0.9
    return replace(true, gallery=AffineMap(20, scale=scale, normalize_input=True))


def outcomes(found: Verification) -> dict[str, str]:
    return {check.name: check.verdict for check in found.checks}


#: What does not apply to any real set: their clouds are wide, and the gap is not orthogonal to them.
NEVER = {"Theorem 3.1, as the data lies", "Assumption 3.3"}


class TestWhatIsTruePasses:
    def test_on_the_sample(self) -> None:
        sample = modgap.load_sample()
        found = verify(sample.images, sample.texts[0], sample.labels)
        assert found.passed, found.failed
        idle = {name for name, verdict in outcomes(found).items() if verdict == "does not apply"}
        assert idle <= {*NEVER, "Theorem 3.2, as the data lies"}
        assert len(found.checks) == 47

    def test_on_class_texts(self, real_data: Any) -> None:
        folder = "caltech101_clip_vitb32"
        texts = real_data(folder, "texts.npy")[3]
        found = verify(
            real_data(folder, "images.npy")[:300],
            texts,
            real_data(folder, "labels.npy")[:300],
            draws=60,
        )
        assert found.passed, found.failed
        assert found["Closure affine"].verdict == "passes"

    def test_on_pairs_by_distance(self, real_data: Any) -> None:
        folder = "coco_clip_vitb16"
        found = verify(
            real_data(folder, "images.npy")[:100],
            real_data(folder, "texts.npy")[:100],
            paired=True,
            metric="euclidean",
            draws=60,
        )
        assert found.passed, found.failed
        assert "inner product" in found["The gap in bits"].reason

    def test_at_full_rank_it_says_what_does_not_apply(self, rng: np.random.Generator) -> None:
        found = verify(rng.normal(size=(40, 6)) + 1, rng.normal(size=(30, 6)))
        assert found.passed, found.failed
        assert found["Theorem 3.5"].verdict == "does not apply"
        assert "r = d" in found["Theorem 3.5"].reason
        assert "labels" in found["Theorem 3.1"].reason
        assert found["Closure balanced"].verdict == "passes"

    def test_items_that_rounding_alone_tells_apart(self, rng: np.random.Generator) -> None:
        found = verify(rng.normal(size=(40, 6)), 1e15 + rng.normal(size=(30, 6)))
        assert found.passed, found.failed
        assert "nearly so" in found["Equal second moments"].reason

    def test_what_is_rare_applies_where_it_is_so(self, rng: np.random.Generator) -> None:
        """Tight clouds, flat along a gap that is orthogonal to them."""
        clouds = 1e-4 * rng.normal(size=(2, 30, 9))
        clouds -= clouds.mean(axis=1, keepdims=True)
        clouds[:, :, 0] = [[0.0], [1.0]]
        found = verify(*clouds, paired=True, metric="euclidean", temperature=1.0)
        assert found.passed, found.failed
        assert {found[name].verdict for name in NEVER} == {"passes"}
        assert found["Growth rate, shared, along"].verdict == "does not apply"


def wrong(scale: float, function: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """Return a theory function whose named results are off by a factor."""

    def patched(*args: Any, **kwargs: Any) -> Any:
        true = function(*args, **kwargs)
        if not names:
            return true * scale
        return replace(true, **{name: getattr(true, name) * scale for name in names})

    return patched


class TestWhatIsFalseFails:
    @pytest.mark.parametrize(
        ("part", "module", "name", "fields", "check"),
        [
            (training, "theory", "contrastive_gradient", ("x",), "The gradient"),
            (training, "theory", "sigmoid_gradient", ("y",), "The sigmoid gradient"),
            (training, "theory", "tight_cluster_gradient", ("first_order",), "Theorem 3.1"),
            (training, "theory", "mode_rates", ("shared_across",), "Growth rate, shared, across"),
            (
                training,
                "theory",
                "frozen_direction",
                ("predicted_x", "predicted_y"),
                "Theorem 3.2, Euclidean",
            ),
            (training, "theory", "gap_drift", ("predicted",), "What the gap loses"),
            (training, "theory", "sphere_pull", ("log_temperature",), "On the sphere"),
            (
                deciding,
                "theory",
                "decision_invariance",
                ("predicted_change",),
                "Theorem 3.5, any direction",
            ),
            (deciding, None, "win_probability", (), "Stability, Euclidean"),
            (certifying, None, "certified_radius", (), "Certificates, Euclidean"),
            (certifying, None, "certified_radius", (), "Certificates, inner product"),
            (certifying, None, "lift_queries", (), "Lifting"),
            (balancing, None, "water_filling", (), "Rate-distortion"),
            (balancing, None, "spectrum_of", (), "The least noise"),
            (balancing, None, "spectrum_of", (), "Fewer coordinates"),
            (balancing, None, "gap_in_bits", ("one_range",), "The gap in bits"),
            (
                balancing,
                None,
                "gap_in_bits",
                ("range_per_dimension",),
                "The gap in bits, a range each",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) and value[0].isupper() else "",
    )
    def test_a_formula_that_is_off_by_a_tenth(
        self,
        part: Any,
        module: str | None,
        name: str,
        fields: tuple[str, ...],
        check: str,
        ground: Ground,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        home = part if module is None else getattr(part, module)
        true = getattr(home, name)
        if name == "gap_in_bits":

            def patched(*args: Any, **kwargs: Any) -> Any:
                bits = true(*args, **kwargs)
                code = getattr(bits, fields[0])
                return replace(bits, **{fields[0]: replace(code, cost=1.1 * code.cost)})
        else:
            patched = wrong(1.1, true, *fields)
        monkeypatch.setattr(home, name, patched)
        assert seen(part.checks(ground), check).verdict == "fails"
        monkeypatch.undo()
        assert seen(part.checks(ground), check).verdict == "passes"

    def test_a_closure_that_moves_an_answer(
        self,
        clouds: tuple[np.ndarray, np.ndarray, np.ndarray],
        false_closure: Closure,
        ground: Ground,
    ) -> None:
        queries, gallery, _ = clouds
        true = modgap.fit("recenter", queries, gallery)
        one, two = (
            c for c in keeping.checks(ground, [true, false_closure]) if c.name.startswith("Given")
        )
        assert (one.verdict, two.verdict) == ("passes", "fails")
        assert two.residual is not None
        assert two.residual > 0.01

    def test_a_direction_that_is_not_outside_the_gallery(self, ground: Ground) -> None:
        """With one axis forgotten, g' is not orthogonal to the gallery any more."""
        lame = replace(ground)
        lame.__dict__["axes"] = ground.axes[:, 1:]
        verdicts = {check.name: check.verdict for check in deciding.checks(lame)}
        assert verdicts["Theorem 3.5"] == verdicts["The rank limit"] == "fails"

    def test_a_walk_away_from_the_gallery_called_nearer(self, ground: Ground) -> None:
        rng = np.random.default_rng(0)
        steady = rng.random((400, 1, 5)) < np.array([0.9, 0.5])[None, :, None]
        falling = np.array([[2.0] * 5, [1.0] * 5])
        told = deciding._ordered("a", "b", "c", ground, falling, steady)
        assert (told.verdict, told.observation) == ("fails", 5.0)
        assert deciding._ordered("a", "b", "c", ground, falling[::-1], steady).verdict == "passes"

    def test_what_is_no_number(self) -> None:
        check = Check("a", "b", "c", 1.0, np.nan, np.nan, 1.0, "", "")
        assert (check.passed, check.verdict) == (False, "fails")


def seen(checks: Iterator[Check], name: str) -> Check:
    """The check of a name; what comes after it is not made."""
    return next(check for check in checks if check.name == name)


class TestRecords:
    def test_all_is_said(self, found: Verification) -> None:
        names = [check.name for check in found.checks]
        assert len(names) == len(set(names))
        for check in found.checks:
            assert check.statement
            assert check.source
            assert check.reason
            assert bool(check.observed_by) == (check.passed is not None)

    def test_as_a_document(self, found: Verification) -> None:
        document = found.to_dict()
        assert json.loads(json.dumps(document, allow_nan=False)) == document
        assert document["passed"] is True
        assert sum(document["counts"].values()) == len(found.checks)
        assert document["data"]["queries"] == 50
        assert document["checks"][0]["verdict"] == "passes"

    def test_is_the_same_every_time(
        self, clouds: tuple[np.ndarray, np.ndarray, np.ndarray], found: Verification
    ) -> None:
        assert verify(*clouds).to_dict() == found.to_dict()

    def test_an_unknown_name(self, found: Verification) -> None:
        with pytest.raises(KeyError, match="Theorem 9"):
            found["Theorem 9"]


class TestMistakes:
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"gallery": np.ones((1, 20))}, ShapeError, "`gallery` must have at least 2 rows"),
            ({"queries": np.ones((1, 20))}, ShapeError, "`queries` must have at least 2 rows"),
            ({"paired": True}, ArgumentError, "`labels` and `paired`"),
            ({"labels": None, "paired": True}, ShapeError, "must pair row by row"),
            ({"labels": np.full(50, 9)}, DataError, r"`labels` must lie in \[0, 7\)"),
            ({"sigma": 0}, ArgumentError, "`sigma`"),
            ({"draws": 3}, ArgumentError, "`draws` must be at least 20"),
        ],
    )
    def test_is_told(
        self,
        change: dict[str, Any],
        error: type[Exception],
        message: str,
        clouds: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        given = dict(zip(("queries", "gallery", "labels"), clouds, strict=True)) | change
        with pytest.raises(error, match=message):
            verify(given.pop("queries"), given.pop("gallery"), **given)

    def test_a_closure_of_another_metric(
        self, clouds: tuple[np.ndarray, np.ndarray, np.ndarray], false_closure: Closure
    ) -> None:
        with pytest.raises(ClosureError, match="fitted for metric 'cosine'"):
            verify(*clouds, metric="ip", closures=[false_closure])


class TestCommand:
    @pytest.fixture
    def files(
        self,
        clouds: tuple[np.ndarray, np.ndarray, np.ndarray],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> list[str]:
        monkeypatch.chdir(tmp_path)
        for name, array in zip(("y", "x", "labels"), clouds, strict=True):
            np.save(f"{name}.npy", array)
        Path("names.txt").write_text("\n".join(f"n{i}" for i in clouds[2]), encoding="utf-8")
        Path("classes.txt").write_text("\n".join(f"n{i}" for i in range(7)), encoding="utf-8")
        return ["verify", "y.npy", "x.npy", "--labels", "labels.npy"]

    def test_the_table(self, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*files, "--out", "table.csv"]) == 0
        out = capsys.readouterr().out
        assert "statements that apply here pass" in out
        assert "Does not apply: Assumption 3.3" in out
        assert max(map(len, out.split("\n\n")[0].splitlines())) <= 80
        with Path("table.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 47
        assert rows[0]["verdict"] == "passes"

    def test_documents(
        self, files: list[str], capsys: pytest.CaptureFixture[str], found: Verification
    ) -> None:
        assert main([*files, "--json", "--out", "found.json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document == found.to_dict()
        assert json.loads(Path("found.json").read_text(encoding="utf-8")) == document
        named = [*files[:-1], "names.txt", "--classes", "classes.txt", "--csv"]
        assert main(named) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [row["name"] for row in rows] == [check.name for check in found.checks]
        assert float(rows[0]["prediction"]) == found.checks[0].prediction  # the same pairs

    def test_a_failure_is_exit_code_1(
        self, files: list[str], false_closure: Closure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        false_closure.save("false.safetensors")
        assert main([*files, "--closure", "false.safetensors"]) == 1
        assert "Fails: Given closure 1, recenter" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["y.npy"], "give both QUERIES and GALLERY"),
            (["--paired"], "need QUERIES and GALLERY before them"),
            (["--template", "99"], "between 0 and 17 for the sample"),
            (["y.npy", "x.npy", "--labels", "names.txt"], "with --classes FILE"),
            (["y.npy", "x.npy", "--classes", "names.txt"], "`--classes` names what --labels"),
            (["y.npy", "x.npy", "--labels", "labels.npy", "--paired"], "give one of them"),
            (["y.npy", "x.npy", "--json", "--csv"], "give one of them"),
            (["y.npy", "x.npy", "--out", "a.txt"], "must end in .csv or .json"),
            (["y.npy", "nowhere.npy"], "nowhere.npy"),
        ],
    )
    def test_a_mistake_is_exit_code_2(
        self,
        files: list[str],
        words: list[str],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert main(["verify", *words]) == 2
        assert message in capsys.readouterr().err
