"""The figures of Chowers et al. (2026), redrawn from simulations and from the data at hand.

    from modgap.paper.figures import make
    make([4, 8], "figures")          # figure04.svg, .png, .json, .csv, ..., and index.html

Each figure is a function of the data alone: numbers and tables first, then a chart of these tables,
and for each sub-claim of the paper whether they support it, contradict it, or cannot tell.
"""

from modgap.paper.figures.making import FIGURES, Drawn, draw, make
from modgap.paper.figures.record import Figure, Finding
from modgap.paper.figures.sources import Labelled, Pairs, Search, Sources, find_sources

__all__ = [
    "FIGURES",
    "Drawn",
    "Figure",
    "Finding",
    "Labelled",
    "Pairs",
    "Search",
    "Sources",
    "draw",
    "find_sources",
    "make",
]
