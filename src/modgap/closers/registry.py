"""The list of closers: what each takes, is fitted from, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modgap.decisions.metric import INNER_PRODUCT, Metric, as_metric

__all__ = ["METHODS", "Method"]


@dataclass(frozen=True)
class Method:
    """What a closer takes and promises.

    Attributes
    ----------
    name, summary : str
    takes : frozenset of str
        Which of "alpha", "n_components", "side", "reduce", "scale", "compare", "rotation", "shrinkage"
        it knows.
    needs : {"moments", "rows", "pairs"}
        What it is fitted from.
    held_out : bool
        Whether the queries that it was fitted to may not judge it: it may change answers, or it is
        made for these queries.
    moves_off_sphere : bool
        Whether unit rows leave the sphere, so that their cosines are compared as inner products.
    comparison : str, optional
        The one way in which its mapped rows can be compared.
    source : str
        Key in docs/references.bib.
    """

    name: str
    summary: str
    takes: frozenset[str]
    needs: str = "moments"
    source: str = ""
    held_out: bool = False
    moves_off_sphere: bool = False
    comparison: str | None = None

    def compared_by(self, metric: Metric) -> Metric:
        """Return how its mapped rows are compared unless another comparison is asked for."""
        if self.comparison is not None:
            return as_metric(self.comparison)
        if self.moves_off_sphere and metric.needs_directions:
            return INNER_PRODUCT
        return metric


def _exact(name: str, summary: str, *, takes: str = "", **more: Any) -> Method:
    """Return a closer that keeps every decision, given all of the gallery's components."""
    return Method(name, summary, frozenset(takes.split()), moves_off_sphere=True, **more)


def _approximate(name: str, summary: str, *, takes: str = "", **more: Any) -> Method:
    return Method(name, summary, frozenset(takes.split()), held_out=True, **more)


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("none", "leave both sides as they are", frozenset({"compare"})),
        _exact("recenter", "subtract the gallery's mean from both sides", takes="compare"),
        _exact(
            "orthogonal",
            "move one side along the part of the gap that is orthogonal to the gallery",
            takes="alpha n_components side compare",
            source="chowers2026gap",
        ),
        _exact(
            "affine",
            "project the queries onto the affine hull of the gallery",
            takes="alpha n_components reduce compare",
        ),
        _exact(
            "scaled",
            "project as affine does, and push the queries away from the sphere's centre",
            takes="n_components reduce scale",
            comparison="euclidean",
        ),
        _exact(
            "balanced",
            "give both sides the same second moments, halfway each",
            takes="alpha n_components reduce rotation shrinkage",
            held_out=True,
            comparison="ip",
            source="olkin1982distance",
        ),
        _approximate(
            "mean-shift",
            "move both sides half the gap towards each other and renormalise",
            takes="alpha",
            source="liang2022mind",
        ),
        _approximate(
            "center",
            "subtract each modality's own mean and renormalise",
            takes="alpha",
            source="grclip2025",
        ),
        _approximate("standardize", "z-score each modality and renormalise"),
        _approximate(
            "realign",
            "give the gallery the mean and the total variance of the queries on the sphere",
            needs="rows",
            source="yu2026realign",
        ),
        _approximate(
            "procrustes",
            "centre each modality and rotate the queries onto their partners",
            needs="pairs",
            source="schonemann1966",
        ),
        _approximate(
            "erase",
            "remove the direction that tells the modalities apart, with the least change (LEACE)",
            takes="alpha",
            source="belrose2023leace",
        ),
    )
}
