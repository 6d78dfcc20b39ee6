"""The checks of `modgap doctor`: small, seeded, and each able to fail."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def run_checks() -> Iterator[tuple[str, bool, str]]:
    """Yield the name of each check, whether it passed, and what was seen."""
    for name, check in CHECKS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                passed, seen = check()
        except Exception as error:  # a check that breaks is a check that fails
            passed, seen = False, f"{type(error).__name__}: {error}"
        yield name, passed, seen


def _clouds() -> tuple[Any, Any]:
    """Return 40 queries and 12 items in 16 dimensions with a gap between them."""
    import numpy as np

    rng = np.random.default_rng(7)
    gallery = rng.normal(size=(12, 16)) / 4 - 0.25
    queries = gallery[rng.integers(0, 12, 40)] + rng.normal(size=(40, 16)) / 4 + 0.5
    return queries, gallery


def _decisions(queries: Any, gallery: Any, metric: str) -> Any:
    from modgap.decisions.neighbors import nearest

    return nearest(queries, gallery, metric=metric).indices[:, 0]


def fit_every_closer() -> tuple[bool, str]:
    """Fit every closer: both sides map to finite values."""
    import numpy as np

    from modgap import closers

    queries, gallery = _clouds()
    queries = queries[:12]  # procrustes takes pairs
    broken = []
    for method in closers.METHODS:
        closure = closers.fit(method, queries, gallery)
        mapped = closure.apply_queries(queries), closure.apply_gallery(gallery)
        if not all(np.isfinite(side).all() for side in mapped):
            broken.append(method)
    return (
        not broken,
        f"broken: {', '.join(broken)}" if broken else f"{len(closers.METHODS)} fitted",
    )


def exact_closers_keep_decisions() -> tuple[bool, str]:
    """Hold exact closures to their promise, under each metric; see others break it."""
    from modgap import closers

    queries, gallery = _clouds()
    kept = changed = 0
    for metric in ("euclidean", "ip", "cosine"):
        before = _decisions(queries, gallery, metric)
        for method in ("recenter", "orthogonal", "affine", "center"):
            closure = closers.fit(method, queries, gallery, metric=metric)
            mapped = closure.apply_queries(queries), closure.apply_gallery(gallery)
            same = bool((_decisions(*mapped, closure.comparison) == before).all())
            if closure.exact and not same:
                return False, f"{method} under {metric} changed a decision"
            kept += closure.exact
            changed += not same
    return changed > 0, f"{kept} exact closures kept all, {changed} others changed some"


def exact_stability_against_sampling() -> tuple[bool, str]:
    """Compare the exact integral: within 4 standard errors of 400 draws."""
    import numpy as np

    from modgap.robustness.noise import Gaussian
    from modgap.robustness.outcomes import stability

    queries, gallery = _clouds()
    outcome = stability(queries, gallery, Gaussian(0.1), metric="euclidean")
    exact = float(outcome.stability.mean())
    rng = np.random.default_rng(11)
    before = _decisions(queries, gallery, "euclidean")
    shares = [
        float(np.mean(_decisions(queries, moved, "euclidean") == before))
        for moved in (gallery + 0.1 * rng.normal(size=gallery.shape) for _ in range(400))
    ]
    mean, error = float(np.mean(shares)), float(np.std(shares)) / 20
    near = abs(exact - mean) <= 4 * error
    seen = f"{outcome.estimator} {exact:.3f}, sampled {mean:.3f} +- {error:.3f}"
    return near and outcome.estimator == "exact", seen


def closures_survive_saving() -> tuple[bool, str]:
    """Save and load a closure: it maps as before, to the bit."""
    import numpy as np

    from modgap import closers
    from modgap.closers.closure import Closure

    queries, gallery = _clouds()
    closure = closers.fit("affine", queries, gallery)
    with tempfile.TemporaryDirectory() as folder:
        loaded = Closure.load(closure.save(Path(folder) / "closure.safetensors"))
    same = np.array_equal(closure.apply_queries(queries), loaded.apply_queries(queries))
    return same and loaded.exact == closure.exact, "saved, loaded, applied"


def temporary_folder_is_writable() -> tuple[bool, str]:
    """Write a file where the system keeps temporary ones."""
    with tempfile.NamedTemporaryFile() as handle:
        handle.write(b"modgap")
    return True, tempfile.gettempdir()


def sample_is_there() -> tuple[bool, str]:
    """Read the sample that ships with the package."""
    from modgap.samples import load_sample

    sample = load_sample()
    return len(sample.classes) == sample.texts.shape[1], f"{sample.images.shape[0]} images"


CHECKS: dict[str, Callable[[], tuple[bool, str]]] = {
    "every closer fits": fit_every_closer,
    "exact closers keep every decision": exact_closers_keep_decisions,
    "exact stability agrees with sampling": exact_stability_against_sampling,
    "closures survive saving": closures_survive_saving,
    "temporary folder is writable": temporary_folder_is_writable,
    "the sample is there": sample_is_there,
}
