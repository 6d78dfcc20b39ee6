"""The figures for a paper of one's own: each PDF in a LaTeX environment, with what it says as caption."""

from __future__ import annotations

from collections.abc import Sequence

from modgap.paper.figures.page import file_name
from modgap.paper.figures.record import CONTRADICTED, SUPPORTED, UNTESTED, Figure

__all__ = ["latex"]

_HEAD = r"""% Figures of modgap, for \input{figures.tex}; needs \usepackage{graphicx}.
% Drawn to span both columns: texts are 5 to 7 points high at \textwidth.
"""
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_",
    "%": r"\%", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


def latex(figures: Sequence[Figure]) -> str:
    """Return one figure environment each: the drawing, the claim, and what became of its parts."""
    return _HEAD + "".join(_environment(figure) for figure in figures)


def _environment(figure: Figure) -> str:
    caption = [f"{figure.title}. The paper: {figure.claim}."]
    for verdict in (SUPPORTED, CONTRADICTED, UNTESTED):
        parts = dict.fromkeys(f.claim for f in figure.findings if f.verdict == verdict)
        if parts:
            caption.append(f"{verdict.capitalize()}: {'; '.join(parts)}.")
    return (
        "\n\\begin{figure*}\n  \\centering\n"
        f"  \\includegraphics[width=\\textwidth]{{{file_name(figure, 'pdf')}}}\n"
        f"  \\caption{{{_escaped(' '.join(caption))}}}\n"
        f"  \\label{{fig:modgap-{figure.number:02d}}}\n\\end{{figure*}}\n"
    )


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
