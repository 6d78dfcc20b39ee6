"""scalable-vs beside the engines: its graph (Vamana) over floats, and LeanVec's matrices as a closure.

The codes of the package (LVQ) run on Intel's processors alone and are left out elsewhere; the matrices
and the graph run anywhere. LeanVec is its matrices and LVQ after them, and rescoring on the floats is what
its second level does.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from modgap.closers import AffineMap, Closure
from modgap.decisions.metric import COSINE, INNER_PRODUCT
from modgap.index.engine import Found

WINDOWS = (10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320)
#: Codes by name: bits a coordinate, and bits of what they leave.
LVQ = {"LVQ8": (8, 0), "LVQ4x8": (4, 8), "LVQ4": (4, 0)}


def _is_intel() -> bool:
    info = Path("/proc/cpuinfo")
    return info.exists() and "GenuineIntel" in info.read_text(encoding="utf-8")


class Svs:
    """The graph of scalable-vs, 32 links a node, by inner product."""

    name = "svs"
    codecs = {  # noqa: RUF012
        "Vamana": "a graph over floats, 32 links a node",
        **{
            f"Vamana,{code}": f"the same over {code}: bits a coordinate, and of what is left"
            for code in (LVQ if _is_intel() else ())
        },
    }

    def check(self) -> None:
        """scalable-vs is one of the benchmark's own needs."""

    def build(self, rows: np.ndarray, codec: str, *, seed: int, folder: Path) -> SvsIndex:
        import svs

        settings = svs.VamanaBuildParameters(graph_max_degree=32, window_size=100, alpha=0.95)
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        stored, size = rows, 4.0 * rows.shape[1]
        code = codec.partition(",")[2]
        if code:
            path = str(folder / "rows.fvecs")
            svs.write_vecs(rows, path)
            source = svs.VectorDataLoader(path, svs.DataType.float32, dims=rows.shape[1])
            primary, residual = LVQ[code]
            stored = svs.LVQLoader(source, primary=primary, residual=residual)
            size = rows.shape[1] * (primary + residual) / 8 + 4  # and a range, two half floats
        index = svs.Vamana.build(settings, stored, svs.DistanceType.MIP, num_threads=1)
        return SvsIndex(index, size)


class SvsIndex:
    """A graph that stands; it counts no distances, so work is its time."""

    efforts = WINDOWS

    def __init__(self, index: object, size: float) -> None:
        self._index = index
        self.bytes_per_vector = size

    def search(self, queries: np.ndarray, k: int, effort: int | None = None) -> Found:
        self._index.search_window_size = max(effort or WINDOWS[-1], k)
        start = time.perf_counter()
        rows, _ = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        return Found(
            np.asarray(rows).astype(np.int64), (time.perf_counter() - start) / len(queries)
        )

    def close(self) -> None:
        self._index = None


def leanvec(known: np.ndarray, items: np.ndarray, k: int) -> Closure:
    """Return LeanVec-OOD's matrices (Tepper et al. 2023), as scalable-vs fits them, as a closure."""
    import svs

    of_items, of_queries = svs.compute_leanvec_matrices(items, known, k)
    sides = [
        AffineMap(
            items.shape[1], left=each.astype(np.float64), residual=False, normalize_input=True
        )
        for each in (of_queries, of_items)
    ]
    return Closure(f"LeanVec-OOD {k}", *sides, metric=COSINE, comparison=INNER_PRODUCT)
