"""Images and texts in one collection: what a search shows of each, before `calibrate` and after."""

import modgap

sample = modgap.load_sample()
task = sample.mixed()  # 300 images ask for 700 images and 170 texts

print(f"{'closer':16}{'right first':>12}{'texts in ten':>14}{'lists kept':>12}")
for row in modgap.evaluate(task, ["none", "center", "calibrate"], noises=[]):
    assert row.recall is not None
    assert row.shares is not None
    assert row.lists is not None
    kept = min(row.lists.values())
    print(f"{row.label:16}{row.recall['1']:12.3f}{row.shares['10']['text']:14.1%}{kept:12.3f}")
print(modgap.advise(task).text)

# To serve: one map for each modality of the collection, the queries as they are.
problem = task.problems[0]
assert problem.modalities is not None
kinds: list[str] = problem.modalities.tolist()
parts = {kind: problem.gallery[rows] for kind, rows in problem.by_modality().items()}
closure = modgap.closers.calibrate(problem.queries, parts)
stored = closure.apply_gallery(problem.gallery, kinds)
first = closure.apply_queries(problem.queries[:1])
found = modgap.nearest(first, stored, k=5, metric="ip").indices[0]
print("the first image finds:", ", ".join(kinds[i] for i in found))
