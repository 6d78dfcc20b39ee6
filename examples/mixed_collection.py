"""Images and texts in one collection: what a search shows of each, before `calibrate` and after."""

import numpy as np

import modgap

sample = modgap.load_sample()
classes = np.arange(len(sample.classes))
texts = sample.texts[1:].reshape(-1, sample.texts.shape[-1])
items = np.concatenate([sample.images[300:], texts])
labels = np.concatenate([sample.labels[300:], np.tile(classes, len(sample.texts) - 1)])
kinds = ["image"] * 700 + ["text"] * len(texts)
task = modgap.MixedRetrieval(
    sample.images[:300],
    items,
    kinds,
    labels=(sample.labels[:300], labels),
    query_modalities="image",
)

print(f"{'closer':16}{'right first':>12}{'texts in ten':>14}{'lists kept':>12}")
for row in modgap.evaluate(task, ["none", "center", "calibrate"], noises=[]):
    assert row.recall is not None
    assert row.shares is not None
    assert row.lists is not None
    kept = min(row.lists.values())
    print(f"{row.label:16}{row.recall['1']:12.3f}{row.shares['10']['text']:14.1%}{kept:12.3f}")

closure = modgap.closers.calibrate(
    sample.images[:300], {"image": sample.images[300:], "text": texts}
)
stored = closure.apply_gallery(items, kinds)
found = modgap.nearest(closure.apply_queries(sample.images[:1]), stored, k=5, metric="ip").indices[
    0
]
print(
    "\nthe first image finds:", ", ".join(f"{kinds[i]} {sample.classes[labels[i]]}" for i in found)
)
