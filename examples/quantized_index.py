"""An index in few bits: what a code still finds of the exact ten nearest, before closing and after."""

from pathlib import Path
from tempfile import TemporaryDirectory

import modgap

sample = modgap.load_sample()
task = sample.search()  # 1,000 images that span all 128 dimensions, asked with 180 texts
codes = ["sign:lengths", "bits:2:clipped", "bits:2:clipped:lengths", "bits:4:clipped:lengths"]

# Each text is judged by a map that was fitted to the others.
study = modgap.evaluate(task, ["none", "recenter", "balanced"], noises=codes)

print("recall@10 of the exact ten nearest")
print(f"{'':10}{'no code':>9}" + "".join(f"{code:>24}" for code in codes))
for row in study:
    recalls = [(result.recall or {})["10"] for result in row.results]
    kept = (row.kept or {})["10"]
    print(f"{row.label:10}{kept:9.3f}" + "".join(f"{recall:24.3f}" for recall in recalls))
print(modgap.advise(task, codes).text)

# To serve: both sides go through the map, and inner products are what they were but for a constant.
with TemporaryDirectory() as folder:
    path = study["balanced"].closure.save(Path(folder) / "closure.safetensors")
    closure = modgap.load(path)
queries, gallery = task.problems[0].queries, task.problems[0].gallery
stored = closure.apply_gallery(gallery)  # to be written into the index
found = modgap.nearest(closure.apply_queries(queries), stored, k=10, metric="ip").indices
exact = modgap.nearest(queries, gallery, k=10).indices
print("the ten nearest at full precision are the same:", bool((found == exact).all()))
