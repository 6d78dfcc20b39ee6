"""What other caption templates do to the answers of the first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modgap.evaluation.advice import Survey
from modgap.evaluation.study import Evaluator
from modgap.evaluation.tasks import Problem, Task
from modgap.report.words import brief

__all__ = ["reworded"]


def reworded(found: Survey, label: str) -> dict[str, Any] | None:
    """Return a row per caption template; None with one template.

    Parameters
    ----------
    found : Survey
    label : str
        The page's closer. The same closure for all templates (the reference's) and each template's
        own are both shown.
    """
    problem = found.drawn.problems[0]
    if not problem.rephrased:
        return None
    both = replace(found.plan, closers=("none", label), noises=(), paraphrase=True)
    shared = found.evaluator.study(both)
    flips = [{n.noise: 1 - n.stability for n in row.results} for row in shared]
    noises = tuple(noise for noise in found.noises if noise.side != "queries")[:1]
    rows = []
    for name, gallery in {problem.name: problem.gallery, **problem.rephrased}.items():
        reference = name == problem.name
        if reference:
            none, closed, gap = found.study["none"], found.study[label], found.study.gaps[0]
        else:
            task = Task(
                found.drawn.kind,
                found.drawn.metric,
                (Problem(name, problem.queries, gallery, problem.positives),),
            )
            own = Evaluator(task).study(replace(both, noises=noises, paraphrase=False))
            (none, closed), gap = own.rows, own.gaps[0]
        word = f"paraphrase:{name}"
        rows.append(
            {
                "template": brief(name),
                "reference": reference,
                "accuracy": none.clean_accuracy,
                "flips": flips[0].get(word, 0.0),
                "flips_closed": flips[1].get(word, 0.0),
                "gap": gap.centroid_gap,
                "before": none.under(noises[0]).retention if noises else None,
                "after": closed.under(noises[0]).retention if noises else None,
            }
        )
    return {"noise": noises[0].label if noises else None, "rows": rows}
