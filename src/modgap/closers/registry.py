"""The list of closers: what each takes, is fitted from, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

from modgap._core.checks import check_choice

__all__ = ["METHODS", "Method", "known_method"]


@dataclass(frozen=True)
class Method:
    """What a closer takes and promises.

    Attributes
    ----------
    name, summary : str
    takes : frozenset of str
        Which of "alpha", "n_components", "side", "reduce", "scale" it knows.
    needs : {"moments", "rows", "pairs"}
        What it is fitted from.
    source : str
        Key in docs/references.bib.
    """

    name: str
    summary: str
    takes: frozenset[str]
    needs: str
    source: str


def _method(
    name: str, summary: str, takes: str = "", needs: str = "moments", source: str = ""
) -> Method:
    return Method(name, summary, frozenset(takes.split()), needs, source)


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        _method("none", "leave both sides as they are"),
        _method("recenter", "subtract the gallery's mean from both sides"),
        _method(
            "orthogonal",
            "move one side along the part of the gap that is orthogonal to the gallery",
            takes="alpha n_components side",
            source="chowers2026gap",
        ),
        _method(
            "affine",
            "project the queries onto the affine hull of the gallery",
            takes="alpha n_components reduce",
        ),
        _method(
            "scaled",
            "project as affine does, and push the queries away from the sphere's centre",
            takes="n_components reduce scale",
            needs="rows",
        ),
        _method(
            "mean-shift",
            "move both sides half the gap towards each other and renormalise",
            takes="alpha",
            source="liang2022mind",
        ),
        _method(
            "center",
            "subtract each modality's own mean and renormalise",
            takes="alpha",
            source="grclip2025",
        ),
        _method("standardize", "z-score each modality and renormalise"),
        _method(
            "realign",
            "give the gallery the mean and the total variance of the queries on the sphere",
            needs="rows",
            source="yu2026realign",
        ),
        _method(
            "procrustes",
            "centre each modality and rotate the queries onto their partners",
            needs="pairs",
            source="schonemann1966",
        ),
        _method(
            "erase",
            "remove the direction that tells the modalities apart, with the least change (LEACE)",
            takes="alpha",
            source="belrose2023leace",
        ),
    )
}


def known_method(method: str) -> Method:
    """Return the method of this name."""
    return METHODS[check_choice(method, "method", tuple(METHODS))]
