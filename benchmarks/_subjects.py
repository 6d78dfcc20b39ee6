"""What is measured, by the names of the modules here: the one list of them."""

from __future__ import annotations

#: Speed, in the order of the table of docs/speed.md.
SPEED = (
    "stability_sweep",
    "moments",
    "apply",
    "neighbors",
    "streaming",
    "closing",
    "scaling",
    "startup",
    "evaluating",
    "reporting",
    "encoding",
    "four_engines",
)
#: Quality, as the pages have it that speak of it.
QUALITY = (
    "codes",
    "peers",
    "graphs",
    "fitting",
    "better_maps",
    "bits",
    "mixed",
    "signs",
    "engines",
    "large",
    "guides",
    "training",
)
#: What wants a GPU; left out where there is none, unless asked for by name.
DEVICE = ("gpu",)
SUBJECTS = SPEED + QUALITY + DEVICE
