"""A caller's program: mypy checks it strictly with the package (pyproject), and a test runs it."""

from typing import assert_type

import numpy as np

import modgap
from modgap.closers import Closure
from modgap.robustness import Outcome


def main() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(20, 6)) + 1, rng.normal(size=(4, 6))
    labels = rng.integers(0, 4, size=20)

    closure = modgap.fit("affine", queries, gallery=gallery)
    assert_type(closure, Closure)
    assert_type(closure.exact, bool)
    assert_type(modgap.EUCLIDEAN.words, str)

    outcome = modgap.stability(queries, gallery, modgap.Gaussian(0.1), closure=closure)
    assert_type(outcome, Outcome)

    task = modgap.ZeroShot(queries, gallery, labels)
    study = modgap.evaluate(task, ["none", closure.method], noises=[modgap.Bins(16)])
    assert_type(study, modgap.Study)
    assert_type(modgap.advise(task), modgap.Advice)

    print(
        modgap.__version__, modgap.paper.theory.mode_rates(0.5, temperature=0.1, n=8).shared_along
    )


if __name__ == "__main__":
    main()
