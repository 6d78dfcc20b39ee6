"""A code that cannot store the rows at hand: its figures are absent, and the other noises go on."""

from __future__ import annotations

import sys
import warnings
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import pytest

from modgap.cli import main
from modgap.errors import ArgumentError, CodeError, CodeWarning, MissingExtraError
from modgap.evaluation import ZeroShot, advise, evaluate
from modgap.evaluation.table import html_table
from modgap.robustness.kinds import Code
from modgap.robustness.noise import Bins, FaissCodec
from modgap.robustness.outcomes import stability

RNG = np.random.default_rng(5)
QUERIES, GALLERY = RNG.normal(size=(60, 12)) + 1.0, RNG.normal(size=(8, 12))
TASK = ZeroShot(QUERIES, GALLERY, RNG.integers(0, 8, 60), metric="ip")


@dataclass(frozen=True, repr=False)
class Picky(Code):
    """Stores rows of at least `width` coordinates as they are, others not at all."""

    word = "picky"

    width: int
    _: KW_ONLY
    side: str = "gallery"

    def apply(self, cloud: Any) -> Any:
        if cloud.shape[-1] < self.width:
            raise CodeError(f"picky:{self.width} cannot store {cloud.shape[-1]} coordinates")
        warnings.warn("picky has misgivings", CodeWarning, stacklevel=2)
        return cloud


def test_the_others_go_on_and_one_sentence_says_why() -> None:
    study = evaluate(TASK, ["none", "affine"], noises=[Picky(13), "bins:5"])
    alone = evaluate(TASK, ["none", "affine"], noises="bins:5")
    for row, same in zip(study, alone, strict=True):
        first, second = row.results
        assert first.failed == "picky:13 cannot store 12 coordinates"
        assert np.isnan(first.stability)
        assert second.retention == same.results[0].retention
        found = first.to_dict()
        figures = ("stability", "stability_stderr", "retention", "noisy_accuracy")
        assert [found[name] for name in figures] == [None] * 4
        assert found["failed"] == first.failed
        assert row.fragile(3) == same.fragile(3)  # under the first noise that there is
        with pytest.raises(ArgumentError, match=r"fragile under picky:13: picky:13 cannot store"):
            row.fragile(3, noise=Picky(13))
    assert study.best().label == alone.best().label
    assert study.failures == {"picky:13": "picky:13 cannot store 12 coordinates"}
    assert "<td>-</td>" in html_table(study)


@pytest.mark.parametrize("side", ["gallery", "queries", "both"])
def test_none_that_can_act_is_one_error(side: str) -> None:
    code = Picky(13, side=side)
    with pytest.raises(CodeError, match=r"^picky:13 cannot store 12 coordinates$"):
        evaluate(TASK, ["none", "affine"], noises=code)
    with pytest.raises(CodeError, match=r"^picky:13 cannot store 12 coordinates$"):
        stability(QUERIES, GALLERY, code, metric="ip")


def test_what_several_closers_store_is_encoded_once_and_warned_of_once() -> None:
    with pytest.warns(CodeWarning) as said:
        evaluate(TASK, ["none", "orthogonal", "affine"], noises=Picky(3))
    assert [str(one.message) for one in said] == ["picky has misgivings"]


def test_advice_leaves_it_out_and_says_so() -> None:
    found = advise(TASK, [Picky(13), Bins(5)])
    assert found.evidence["noises"] == ["bins:5"]
    assert any("picky:13 is left out: picky:13" in remark for remark in found.evidence["remarks"])
    assert found.method == advise(TASK, Bins(5)).method
    with pytest.raises(CodeError, match="picky:13 cannot store"):
        advise(TASK, Picky(13))


class TestFaiss:
    def test_a_codec_is_trained_once_per_stored_matrix(self, monkeypatch: Any) -> None:
        faiss = pytest.importorskip("faiss")
        trained, real = [], faiss.index_factory

        def counted(*args: Any) -> Any:
            trained.append(args)
            return real(*args)

        monkeypatch.setattr(faiss, "index_factory", counted)
        evaluate(TASK, ["none", "none:euclidean", "recenter"], noises="faiss:SQ8", draws=50)
        assert len(trained) == 2  # the gallery as it is, and recentred

    def test_the_command_line_shows_it_below_the_table(self, tmp_path: Any, capsys: Any) -> None:
        pytest.importorskip("faiss")
        for name, rows in (("q", QUERIES), ("g", GALLERY)):
            np.save(tmp_path / f"{name}.npy", rows)
        words = ["evaluate", "--queries", str(tmp_path / "q.npy"), "--gallery"]
        words += [str(tmp_path / "g.npy"), "--methods", "none", "--noise", "faiss:PQ5"]
        assert main([*words, "--noise", "sign"]) == 0
        out = capsys.readouterr().out
        assert "faiss:PQ5: FAISS cannot store 8 rows of dimension 12 as 'PQ5': The dim" in out
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("modgap: error: FAISS cannot store 8 rows")
        assert ".cpp" not in error
        assert error.count("\n") == 1

    def test_without_it_the_pip_command_is_named_before_any_work(self, monkeypatch: Any) -> None:
        monkeypatch.setitem(sys.modules, "faiss", None)
        with pytest.raises(MissingExtraError, match=r'pip install "modgap\[faiss\]"'):
            evaluate(TASK, "none", noises=["bins:5", FaissCodec("SQ8")])
