"""The figures of Chowers et al. (2026), redrawn from simulations and from the data at hand.

    from modgap.paper.figures import make
    make([4, 8], "figures")          # figure04.svg, .png, .json, .md, ..., and index.html

Each figure is a function of the data alone: numbers first, then a chart of these numbers, and a
verdict on the paper's claim that is computed from them.
"""

from modgap.paper.figures.making import FIGURES, make
from modgap.paper.figures.record import Figure
from modgap.paper.figures.sources import Labelled, Pairs, Sources, find_sources

__all__ = ["FIGURES", "Figure", "Labelled", "Pairs", "Sources", "find_sources", "make"]
