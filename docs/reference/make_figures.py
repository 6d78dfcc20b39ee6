"""Write docs/figures.md from the figures, on the data in a folder.

python docs/reference/make_figures.py ../shared/data
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from modgap.paper.figures import make

PAGE = Path(__file__).parents[1] / "figures.md"
HEAD = """# The paper's figures, on the data at hand

`modgap figures --out figures --data FOLDER` draws figures 1 to 10 of the paper from simulations, from the
embeddings in the folder, and from the sample that ships; each comes as SVG, PDF and PNG, with its
tables as CSV and its numbers as JSON. This page is what it found for CLIP ViT-B/16 on MS-COCO (500
pairs), CLIP ViT-B/32 on Caltech-101 and on 2,000 photos, OpenCLIP ViT-B/32 on CIFAR-10, and the
sample. Models and data that are not at hand are named below, with what to embed and how.
`docs/reference/make_figures.py` writes it.

"""


def main(data: str) -> None:
    """Draw all figures in a folder of their own, and keep the table."""
    with tempfile.TemporaryDirectory() as folder:
        make(None, folder, data=data)
        PAGE.write_text(HEAD + (Path(folder) / "figures.md").read_text("utf-8"), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
