"""How the clouds find each other: partners, hubs, and the balance of the two softmax matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from modgap._core.arrays import Array, Float, namespace, to_numpy
from modgap._core.checks import check_count, check_number
from modgap._core.clouds import Cloud, squared_distances, tile_slices
from modgap._core.opening import open_clouds, open_pairs
from modgap.decisions.metric import EUCLIDEAN, Metric, as_metric
from modgap.decisions.neighbors import search
from modgap.errors import ArgumentError
from modgap.measures.softmax import softmax_masses

__all__ = [
    "DoublyStochasticDeviation",
    "Hubness",
    "RelativeAlignment",
    "doubly_stochastic_deviation",
    "hubness",
    "relative_alignment",
]

#: Items that any search here finds at least: ten cost hardly more than one, and hubness and partners
#: of the same clouds then share one search.
_LEAST_FOUND = 10


@dataclass(frozen=True)
class RelativeAlignment:
    """Shares of the true pairs whose partners are nearest neighbours across the modalities.

    Attributes
    ----------
    a_to_b : float
        Share of rows of `a` whose nearest row of `b` is their partner, in [0, 1].
    b_to_a : float
        The same from `b` to `a`.
    mutual : float
        Share of pairs for which both hold; at most the smaller of the two.
    rows : int
        Pairs looked at. One in `rows` is right by chance.
    """

    a_to_b: float
    b_to_a: float
    mutual: float
    rows: int


@dataclass(frozen=True)
class Hubness:
    """How unevenly the items of a gallery are found.

    Attributes
    ----------
    skewness : float
        Of the items' k-occurrences; positive where a few items, hubs, are near to very many queries.
    k : int
        How many items each query finds.
    """

    skewness: float
    k: int


@dataclass(frozen=True)
class DoublyStochasticDeviation:
    """How unevenly the two softmax matrices give out their mass.

    Attributes
    ----------
    gallery_max, gallery_mean : float
        Largest and mean |S_k - 1|, S_k the mass that gallery item k gets from the queries'
        softmaxes over the gallery, in units of the mean item's. Between 0 and n - 1.
    queries_max, queries_mean : float
        The same for the mass that each query gets from the items' softmaxes over the queries.
        Between 0 and m - 1.
    temperature : float
        Of the softmaxes.
    """

    gallery_max: float
    gallery_mean: float
    queries_max: float
    queries_mean: float
    temperature: float


def relative_alignment(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    *,
    metric: str = "cosine",
    sample: int | None = None,
    seed: int = 0,
) -> RelativeAlignment:
    """Return the shares of true pairs that are each other's nearest neighbours across modalities.

    The first two are recall at 1 in both directions. They fall as n grows, so compare only equal
    numbers of pairs. Each row has one partner: where an image has several captions, or an item
    comes twice, only the row's own number counts as right.

    Parameters
    ----------
    a, b : array (n, d), floating
        Row i of `a` belongs to row i of `b`.
    metric : {"cosine", "euclidean", "ip"}
        Cosine, the default, compares unit rows; the other two take the rows as they are.
    sample : int, optional
        Use this many pairs, drawn without replacement; None for all.
    seed : int
        Seed of the draw.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        The metric is unknown, the clouds do not pair row by row, hold NaN or infinity, or have zero
        rows under cosine.

    Notes
    -----
    Cost: 2 n^2 d, memory O(block).

    Examples
    --------
    >>> import numpy as np
    >>> a = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    >>> relative_alignment(a, np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]))  # doctest: +ELLIPSIS
    RelativeAlignment(a_to_b=0.66..., b_to_a=0.66..., mutual=0.66..., rows=3)
    """
    metric = as_metric(metric)
    first, second = (
        cloud.sample(sample, seed)
        for cloud in open_pairs(a, b, normalize=False, directions=metric.needs_directions)
    )
    own = np.arange(first.count)
    forward = _found(first, second, 1, metric)[:, 0] == own
    backward = _found(second, first, 1, metric)[:, 0] == own
    return RelativeAlignment(
        a_to_b=float(forward.mean()),
        b_to_a=float(backward.mean()),
        mutual=float((forward & backward).mean()),
        rows=first.count,
    )


def hubness(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    *,
    k: int = 10,
    metric: str = "cosine",
    sample: int | None = None,
    seed: int = 0,
) -> Hubness:
    """Return the skewness of how often gallery items are among the k nearest of a query.

    Positive where a few items, hubs, are near to very many queries; 0 where all items are found
    equally often (also where each is found by every query: k = n). It depends on m, n and k, so
    compare equal ones. Classes that are truly more frequent among the queries look like hubs.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    k : int
        1 <= k <= n.
    metric : {"cosine", "euclidean", "ip"}
    sample : int, optional
        Use this many rows of each cloud, drawn without replacement; None for all.
    seed : int
        Seed of the draw.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        k or the metric is out of range, the clouds do not fit together, hold NaN or infinity, or
        have zero rows under cosine.

    Notes
    -----
    mean((N - mean N)^3) / std(N)^3 over the items' k-occurrences N (Radovanovic, Nanopoulos &
    Ivanovic, "Hubs in space", 2010). Cost: m n d, memory O(block).

    Examples
    --------
    >>> import numpy as np
    >>> queries = np.array([[1.0, 0.1], [1.0, -0.1], [1.0, 0.0], [0.1, 1.0]])
    >>> gallery = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(hubness(queries, gallery, k=1).skewness, 4)
    0.3818
    """
    metric = as_metric(metric)
    ours, theirs = (
        cloud.sample(sample, seed)
        for cloud in open_clouds(
            queries, gallery, normalize=False, directions=metric.needs_directions
        )
    )
    k = check_count(k, "k", high=theirs.count)
    found = _found(ours, theirs, k, metric)[:, :k]
    counts = np.bincount(found.reshape(-1), minlength=theirs.count)
    return Hubness(_skewness(counts.astype(np.float64)), k)


def doubly_stochastic_deviation(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    *,
    temperature: float = 0.02,
    metric: str = EUCLIDEAN,
    normalize: bool = True,
    sample: int | None = None,
    seed: int = 0,
) -> DoublyStochasticDeviation:
    """Return how far the two softmax matrices between the clouds are from doubly stochastic.

    Each softmax sums to one over its own side; doubly stochastic matrices do over the other side
    as well. There, the gradient along a direction in which both clouds are constant vanishes, and
    the gap freezes. Small values say that the loss no longer pulls at the gap, not that the gap is
    small.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    temperature : float
        > 0. The default with squared distances of unit rows equals inner products over 0.01, the
        scale of 100 at which CLIP stops.
    metric : {"euclidean", "ip"}
        Logits -|x_k - y_i|^2 / temperature or x_k.y_i / temperature.
    normalize : bool
        Scale the rows to unit length first.
    sample : int, optional
        Use this many rows of each cloud, drawn without replacement; None for all.
    seed : int
        Seed of the draw; paired clouds stay paired.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        The temperature or metric is out of range, the clouds do not fit together, hold NaN or
        infinity, or a row to be normalised has no direction.

    Notes
    -----
    With Q(k, i) the softmax over the items k for a fixed query i, S_k = (n / m) sum_i Q(k, i); the
    other side likewise. The factor n / m makes 1 the even share where m and n differ; for pairs it
    is 1 (Chowers et al., 2026, theorem 3.2 and figure 6). Two passes over tiles, log-sum-exp
    throughout. Cost: 4 m n d, memory O(block + m + n).

    Examples
    --------
    >>> import numpy as np
    >>> found = doubly_stochastic_deviation(np.eye(2), np.array([[1.0, 0.0], [1.0, 0.0]]))
    >>> found.gallery_max, found.queries_max
    (0.0, 1.0)
    """
    temperature = check_number(temperature, "temperature", low=0.0, open_low=True)
    metric = as_metric(metric)
    if metric.needs_directions:
        raise ArgumentError("`metric` must be euclidean or ip; for cosine normalise the rows first")
    ours, theirs = (
        cloud.sample(sample, seed) for cloud in open_clouds(queries, gallery, normalize=normalize)
    )
    tiles = partial(_logit_tiles, ours, theirs, temperature, metric)
    of_queries, of_items = (to_numpy(masses) for masses in softmax_masses(tiles))
    gallery_off = np.abs(of_items / of_items.mean() - 1)
    queries_off = np.abs(of_queries / of_queries.mean() - 1)
    return DoublyStochasticDeviation(
        gallery_max=float(gallery_off.max()),
        gallery_mean=float(gallery_off.mean()),
        queries_max=float(queries_off.max()),
        queries_mean=float(queries_off.mean()),
        temperature=temperature,
    )


def _logit_tiles(
    queries: Cloud, gallery: Cloud, temperature: float, metric: Metric
) -> Iterator[tuple[slice, slice, Array]]:
    """Yield the (m, n) logits tile by tile."""
    center = gallery.center.mean
    xp = namespace(center)
    # Distances do not depend on the origin; near the gallery's mean they are most precise.
    origin = center if metric.is_distance else xp.zeros_like(center)
    for rows in tile_slices(queries.count):
        left = queries.block(rows) - origin
        for columns in tile_slices(gallery.count):
            right = gallery.block(columns) - origin
            if metric.is_distance:
                yield rows, columns, -squared_distances(left, right) / temperature
            else:
                yield rows, columns, xp.matmul(left, right.T) / temperature


def _found(queries: Cloud, gallery: Cloud, k: int, metric: Metric) -> np.ndarray:
    """Return the nearest items of each query, k of them or more; one search for all who ask."""
    known = queries.remember(("nearest", gallery, metric), list[np.ndarray])
    if not known or known[-1].shape[1] < k:
        k = min(max(k, _LEAST_FOUND), gallery.count)
        known.append(to_numpy(search(queries.rows, gallery.rows, k, metric).indices))
    return known[-1]


def _skewness(values: np.ndarray) -> float:
    """Return the skewness of a population, 0 where it does not vary."""
    centred = values - values.mean()
    spread = float(np.sqrt(np.mean(centred**2)))
    return 0.0 if spread == 0 else float(np.mean(centred**3)) / spread**3
