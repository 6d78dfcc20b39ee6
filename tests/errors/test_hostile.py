"""A sample of the hostile cases in every run; `hostile.py` runs them by the thousand."""

import random
import signal
import time

import hostile

#: Inside this process, and in processes of their own: what fits into some five seconds.
INSIDE, OUTSIDE = 25, 1
#: Cases that once went wrong, each for a reason of its own.
MENDED = (
    "both sides: 1e+60 added, affine, ip",
    "both sides: float32 times 1e+12, recenter, euclidean",
    "both sides: float32 times 1e+12, erase, ip",
    "places: apply, out is loop",
)


def test_nothing_goes_wrong():
    """One test, since a case apart costs more to set up than to run; it names what fails."""
    every = {case.label: case for case in hostile.every_case()}
    cases = hostile.select(3000, seed=0)
    own = [case for case in cases if case.family in ("streams", "limits", "environments")]
    inside = [case for case in cases if not isinstance(case, hostile.ProcessCase)]
    chosen = [*random.Random(1).sample(inside, INSIDE), *random.Random(1).sample(own, OUTSIDE)]
    chosen += [every[label] for label in MENDED]
    assert {case.label: found for case in chosen if (found := hostile.run_case(case, seed=0))} == {}


def test_what_goes_wrong_is_seen(monkeypatch):
    """The checks can fail: a command that touches its input, breaks its rules, or never ends."""
    import modgap.cli

    def call(main):
        monkeypatch.setattr(modgap.cli, "main", main)
        case = hostile.Case("control", "control", lambda rng: [["measure", "q.npy", "g.npy"]])
        return [problem.partition(":")[0] for problem in hostile.run_case(case, seed=0)]

    def touching(words):
        with open("q.npy", "ab") as handle:
            handle.write(b"x")
        return 0

    def busy(words):
        while True:
            pass

    monkeypatch.setattr(hostile, "LIMIT_S", 0.1)
    assert call(lambda words: 0) == []
    assert call(touching) == ["touched"]
    assert call(lambda words: 1) == ["code 1", "unclean"]
    assert call(lambda words: print("half an answer") or 2) == ["unclean", "unclean"]
    assert call(lambda words: time.sleep(9)) == ["hang"]
    assert call(busy) == ["hang"]
    assert call(lambda words: 1 / 0) == ["escaped"]
    assert signal.getitimer(signal.ITIMER_REAL)[0] == signal.getitimer(signal.ITIMER_PROF)[0] == 0
