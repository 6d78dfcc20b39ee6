"""Data of any size: fit a closure to a stream in one pass, and apply it to another."""

from collections.abc import Iterator

import numpy as np

import modgap

sample = modgap.load_sample()


def batches(rows: np.ndarray, size: int = 200) -> Iterator[np.ndarray]:
    """Yield the rows as a reader of shards would."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


queries = modgap.Moments.from_blocks(batches(sample.images))
gallery = modgap.Moments.from_blocks(batches(sample.texts[0]), precision="float64")
closure = modgap.fit_moments("affine", queries, gallery)

before = after = 0.0
for batch in batches(sample.images):
    before = before + batch.sum(axis=0)
    after = after + closure.apply_queries(batch).sum(axis=0)
texts = closure.apply_gallery(sample.texts[0]).mean(axis=0)
print("gap before", round(float(np.linalg.norm(before / 1000 - sample.texts[0].mean(axis=0))), 3))
print("gap after ", round(float(np.linalg.norm(after / 1000 - texts)), 3))
