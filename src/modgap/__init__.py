"""Measure, explain and close the modality gap of embedding models, and prove what that does.

    import modgap

    sample = modgap.load_sample()                           # or your own arrays: (m, d) and (n, d)
    queries, gallery = sample.images, sample.texts[0]       # what searches, and what is searched

    modgap.measure(queries, gallery)                        # measure: how large the gap is, and which way
    modgap.paper.theory.gap_orthogonality(gallery, queries) # explain: the paper's theory, as functions

    closure = modgap.fit("affine", queries, gallery)        # close: a pair of maps ...
    closure.exact                                           # ... that says whether an answer can change
    task = modgap.ZeroShot(queries, gallery, sample.labels)
    study = modgap.evaluate(task, ["none", "affine"], noises=[modgap.Gaussian(0.02)])
    modgap.advise(task)                                     # prove: what closing does on your own data

    closure.save("closure.safetensors")                     # serve: later, anywhere, without the data
    modgap.load("closure.safetensors").apply_queries(queries)

Arrays are NumPy's, PyTorch's, CuPy's or JAX's, and results follow them. Cosine is the metric unless
another is asked for. A room holds what belongs together: `measures`, `closers`, `decisions`,
`robustness`, `evaluation`, `index`, `paper`, `io`, `report`, `samples`, `errors`. Two more are imported by
name, since they need an extra: `modgap.nn` (layers of PyTorch), `modgap.sklearn` (an estimator).

Names are imported when they are first used, so `import modgap` costs next to nothing.
"""

from importlib.metadata import version

import lazy_loader

__version__ = version("modgap")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
