"""A sample of the hostile cases in every run; `hostile.py` runs them by the thousand."""

import random

import hostile
import pytest

#: Inside this process, and in processes of their own: what fits into 40 seconds on two cores.
INSIDE, OUTSIDE = 150, 6


def _sample():
    """Return cases of every family, the same in every run."""
    cases = hostile.select(3000, seed=0)
    own = [case for case in cases if isinstance(case, hostile.ProcessCase)]
    inside = [case for case in cases if not isinstance(case, hostile.ProcessCase)]
    chosen = [*random.Random(1).sample(inside, INSIDE), *random.Random(1).sample(own, OUTSIDE)]
    return [pytest.param(case, id=case.name[:60].encode("unicode_escape").decode()) for case in chosen]


@pytest.mark.parametrize("case", _sample())
def test_nothing_goes_wrong(case):
    assert hostile.run_case(case, seed=0) == []


def test_what_goes_wrong_is_seen(monkeypatch):
    """The checks can fail: a command that touches its input, breaks its rules, or never ends."""
    import time

    import modgap.cli

    def call(main):
        monkeypatch.setattr(modgap.cli, "main", main)
        case = hostile.Case("control", "control", lambda rng: [["measure", "q.npy", "g.npy"]])
        return [problem.partition(":")[0] for problem in hostile.run_case(case, seed=0)]

    def touching(words):
        with open("q.npy", "ab") as handle:
            handle.write(b"x")
        return 0

    monkeypatch.setattr(hostile, "LIMIT_S", 0.2)
    assert call(lambda words: 0) == []
    assert call(touching) == ["touched"]
    assert call(lambda words: 1) == ["code 1", "unclean"]
    assert call(lambda words: print("half an answer") or 2) == ["unclean", "unclean"]
    assert call(lambda words: time.sleep(9)) == ["hang"]
    assert call(lambda words: 1 / 0) == ["escaped"]
