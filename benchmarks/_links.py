"""HNSW graphs of FAISS: search with counted work, their links, and what is measured and changed in them."""

from __future__ import annotations

from dataclasses import dataclass

import _sets
import faiss
import numpy as np

M = 16
DEGREE = 2 * M


@dataclass(frozen=True)
class Curve:
    """What a graph finds for its work, query by query: both (settings, queries)."""

    recall: np.ndarray
    work: np.ndarray

    def work_at(self, recall: float, chosen: np.ndarray | slice = slice(None)) -> float:
        """Return the distance computations a query takes on average for a mean recall.

        Between two settings logarithms of the work are interpolated; NaN where the first already finds
        more, or the last less.
        """
        found = self.recall[:, chosen].mean(axis=1)
        found = np.maximum.accumulate(found)
        logs = np.log(self.work[:, chosen].mean(axis=1))
        if not found[0] < recall <= found[-1]:
            return float("nan")
        return float(np.exp(np.interp(recall, found, logs)))


def build(rows: np.ndarray, *, order: np.ndarray, construction: int = 40) -> faiss.IndexHNSWFlat:
    """Return a graph by inner product of rows that are inserted in an order; node i is row order[i]."""
    index = faiss.IndexHNSWFlat(rows.shape[1], M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = construction
    index.add(np.ascontiguousarray(rows[order], dtype=np.float32))
    return index


def curve(
    index: faiss.IndexHNSWFlat,
    queries: np.ndarray,
    truth: np.ndarray,
    order: np.ndarray,
    settings: tuple[int, ...],
) -> Curve:
    """Return recall and counted distance computations at each efSearch."""
    stats = faiss.cvar.hnsw_stats
    recall, work = np.empty((2, len(settings), len(queries)))
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    for s, beam in enumerate(settings):
        index.hnsw.efSearch = beam
        found = np.empty((len(queries), truth.shape[1]), dtype=np.int64)
        for i in range(len(queries)):
            stats.reset()
            found[i] = index.search(queries[i : i + 1], truth.shape[1])[1][0]
            work[s, i] = stats.ndis
        recall[s] = _sets.share_found(truth, np.where(found < 0, -1, order[found]))
    return Curve(recall, work)


def read_links(index: faiss.IndexHNSWFlat) -> np.ndarray:
    """Return a copy of every node's links in the bottom layer, (n, 32), -1 where there are fewer."""
    every, starts = _layers(index)
    return every[starts[:, None] + np.arange(DEGREE)]


def with_links(index: faiss.IndexHNSWFlat, links: np.ndarray) -> faiss.IndexHNSWFlat:
    """Return a copy of a graph with other links in the bottom layer; -1 only after the last of a row."""
    other = faiss.clone_index(index)
    every, starts = _layers(other)
    every[starts[:, None] + np.arange(DEGREE)] = links
    return other


def with_rows(index: faiss.IndexHNSWFlat, rows: np.ndarray) -> faiss.IndexHNSWFlat:
    """Return a copy of a graph, its links untouched, in which the nodes hold other rows."""
    other = faiss.clone_index(index)
    storage = faiss.downcast_index(other.storage)
    held = faiss.rev_swig_ptr(storage.get_xb(), rows.size).reshape(rows.shape)
    held[:] = rows
    return other


def without(links: np.ndarray, doomed: np.ndarray) -> np.ndarray:
    """Return links less those marked in `doomed` (n, 32), those that stay moved to the front."""
    left = np.where(doomed, -1, links)
    return np.take_along_axis(left, np.argsort(left < 0, axis=1, kind="stable"), axis=1)


def _layers(index: faiss.IndexHNSWFlat) -> tuple[np.ndarray, np.ndarray]:
    """Return a view of all links, and where those of each node in the bottom layer begin."""
    neighbors = index.hnsw.neighbors
    every = faiss.rev_swig_ptr(neighbors.data(), neighbors.size())
    return every, faiss.vector_to_array(index.hnsw.offsets)[:-1].astype(np.int64)


def linked_answers(links: np.ndarray, truth: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return, for each query, the share of its exact nearest that another of them has a link to."""
    node = np.empty(len(order), dtype=np.int64)
    node[order] = np.arange(len(order))
    share = np.empty(len(truth))
    for i, answers in enumerate(node[truth]):
        share[i] = np.isin(answers, links[answers]).mean()
    return share


def mutual_nearness(rows: np.ndarray, truth: np.ndarray, k: int = DEGREE) -> np.ndarray:
    """Return, for each query, the share of pairs (a, b) of its exact nearest with b among a's k nearest.

    Nearest by inner product of the rows, which is how the graph chooses whom to link: a property of the
    rows alone, known before there is a graph.
    """
    asked, place = np.unique(truth, return_inverse=True)
    place = place.reshape(truth.shape)
    near = np.empty((len(asked), k), dtype=np.int64)
    for start in range(0, len(asked), 2048):
        part = asked[start : start + 2048]
        scores = rows[part] @ rows.T
        scores[np.arange(len(part)), part] = -np.inf
        near[start : start + 2048] = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    pairs = truth.shape[1] * (truth.shape[1] - 1)
    found = [
        (near[at][:, :, None] == own).sum() / pairs for at, own in zip(place, truth, strict=True)
    ]
    return np.array(found)


def hubness(rows: np.ndarray, asked: np.ndarray, k: int = 10) -> float:
    """Return the skewness of how often an item is among the k nearest of the items asked."""
    counts = np.zeros(len(rows))
    for start in range(0, len(asked), 2048):
        part = asked[start : start + 2048]
        scores = rows[part] @ rows.T
        scores[np.arange(len(part)), part] = -np.inf
        near = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        counts += np.bincount(near.ravel(), minlength=len(rows))
    off = counts - counts.mean()
    return float(np.mean(off**3) / np.mean(off**2) ** 1.5)


def descent_rank(
    index: faiss.IndexHNSWFlat, queries: np.ndarray, rows: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """Return how many items score higher than the one where a descent from the entry ends, (m,)."""
    index.hnsw.efSearch = 1
    ends = order[index.search(np.ascontiguousarray(queries, dtype=np.float32), 1)[1][:, 0]]
    scores = queries @ rows.T
    return np.asarray((scores > scores[np.arange(len(queries)), ends][:, None]).sum(axis=1))
