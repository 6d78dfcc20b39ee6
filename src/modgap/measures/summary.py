"""All measures of two clouds as one plain dictionary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from modgap._core.arrays import Array, Float
from modgap._core.checks import check_clouds, check_count, check_number, check_paired
from modgap._core.clouds import cloud_moments, length, moments_center, squared_length, subsample
from modgap._core.moments import Moments
from modgap.errors import DataError, ShapeError
from modgap.measures import centroids, distributions, matching, orthogonality, pairs
from modgap.measures import cloud as geometry

__all__ = ["measure"]

_Figure = TypeVar("_Figure")

#: Measures that look at a sample of the rows where the clouds are larger than it.
SAMPLED = (
    "linear_separability",
    "difference_cosines",
    "relative_alignment",
    "hubness",
    "doubly_stochastic_deviation",
    "uniformity",
)


def measure(
    queries: Float[Array, "m d"],
    gallery: Float[Array, "n d"],
    *,
    paired: bool = False,
    normalize: bool = True,
    temperature: float = 0.02,
    k: int = 10,
    sample: int = 5000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return every measure that applies to two clouds, as one JSON-able dictionary.

    Keys are the names of this package's functions; the geometry of each cloud lies under "queries"
    and "gallery". A figure that these clouds do not have is None: the measures of pairs without
    `paired`, the direction of a closed gap, the spread of a single row.

    Parameters
    ----------
    queries : array (m, d), floating
    gallery : array (n, d), floating
    paired : bool
        Row i of the queries belongs to row i of the gallery.
    normalize : bool
        Scale the rows to unit length first. Cosines are of unit rows always.
    temperature : float
        For `doubly_stochastic_deviation` with squared distances, > 0.
    k : int
        For `hubness`; lowered to half the gallery where that is smaller.
    sample : int
        Most rows of each cloud, >= 2, that measures over pairs of rows and the linear probe look
        at, drawn without replacement (the same pairs from both clouds when `paired`). All others
        use every row.
    seed : int
        Seed of the draw.

    Returns
    -------
    dict
        "rows", "dimension", "paired", "normalize": what was measured; "sample": how many rows the
        measures listed in its "measures" used; then the figures.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        An option is out of range; the clouds do not fit together, do not pair, hold NaN or
        infinity, or a row to be normalised has no direction.

    Notes
    -----
    Cost: (m + n) d^2 + d^3, and with s = `sample` about 10 s^2 d; memory O(block + s d).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(50, 8))
    >>> found = measure(x + 1, x - 1, paired=True)
    >>> round(found["centroid_gap"], 2), round(found["gallery"]["mean_cosine"], 2)
    (1.42, 0.52)
    """
    check_number(temperature, "temperature", low=0.0, open_low=True)
    check_count(k, "k")
    check_count(sample, "sample", low=2)
    check_count(seed, "seed", low=0)
    check = check_paired if paired else check_clouds
    queries, gallery = check(
        queries, gallery, names=("queries", "gallery"), zero_rows=not normalize
    )
    ours = cloud_moments(queries, normalize=normalize)
    theirs = cloud_moments(gallery, normalize=normalize)
    drawn_queries = subsample(queries, sample, seed)
    drawn_gallery = subsample(gallery, sample, seed)
    return {
        "rows": {"queries": ours.count, "gallery": theirs.count},
        "dimension": ours.width,
        "paired": paired,
        "normalize": normalize,
        **_of_moments(ours, theirs),
        **_of_pairs(queries, gallery, paired, normalize),
        "linear_separability": _defined(
            lambda: distributions.linear_separability(
                drawn_queries, drawn_gallery, normalize=normalize, sample=None, seed=seed
            )
        ),
        "difference_cosines": _of_differences(
            drawn_queries, drawn_gallery, ours, theirs, normalize
        ),
        **_of_matching(drawn_queries, drawn_gallery, paired, normalize, temperature, k),
        "queries": _of_cloud(queries, drawn_queries, ours, normalize),
        "gallery": _of_cloud(gallery, drawn_gallery, theirs, normalize),
        "sample": {
            "measures": list(SAMPLED),
            "limit": sample,
            "seed": seed,
            "queries": int(drawn_queries.shape[0]),
            "gallery": int(drawn_gallery.shape[0]),
        },
    }


def _of_moments(queries: Moments, gallery: Moments) -> dict[str, Any]:
    """Return the measures that means and scatters determine."""
    ours, theirs = moments_center(queries), moments_center(gallery)
    gap = queries.mean - gallery.mean
    return {
        "centroid_gap": length(gap),
        "squared_gap_per_dimension": squared_length(gap) / queries.width,
        "centroid_gap_floor": (
            centroids.gap_floor(ours, theirs) if min(ours.count, theirs.count) > 1 else None
        ),
        "centroid_cosine": _defined(lambda: centroids.center_cosine(ours, theirs)),
        "frechet_distance": _record(lambda: distributions.frechet_of(queries, gallery)),
        "gap_variance_ratio": _record(lambda: orthogonality.variance_ratio_of(queries, gallery)),
        "residual_gap_curve": _record(
            lambda: orthogonality.residual_curve_of(
                centroids.direction_of(ours, theirs), gallery, _few(gallery.full_axes.rank)
            )
        ),
    }


def _of_pairs(a: Array, b: Array, paired: bool, normalize: bool) -> dict[str, Any]:
    """Return the measures of true pairs that need one pass over them."""
    measures: dict[str, Callable[[], float]] = {
        "paired_distance": lambda: pairs.paired_distance(a, b, normalize=normalize),
        "paired_cosine": lambda: pairs.paired_cosine(a, b),
        "matched_mismatched_margin": lambda: pairs.matched_mismatched_margin(a, b),
        "relative_modality_gap": lambda: pairs.relative_modality_gap(a, b),
        "alignment": lambda: pairs.alignment(a, b, normalize=normalize),
    }
    return {name: _defined(compute) if paired else None for name, compute in measures.items()}


def _of_differences(
    queries: Array, gallery: Array, ours: Moments, theirs: Moments, normalize: bool
) -> dict[str, Any] | None:
    """Return the cosines of each cloud's differences with the gap of all rows."""
    gap = _defined(lambda: centroids.direction_of(moments_center(ours), moments_center(theirs)))
    if gap is None:
        return None
    return {
        "queries": _record(
            lambda: orthogonality.difference_cosines(queries, gap, normalize=normalize)
        ),
        "gallery": _record(
            lambda: orthogonality.difference_cosines(gallery, gap, normalize=normalize)
        ),
    }


def _of_matching(
    queries: Array, gallery: Array, paired: bool, normalize: bool, temperature: float, k: int
) -> dict[str, Any]:
    """Return the measures that compare every query with every item."""
    metric = "cosine" if normalize else "euclidean"
    k = min(k, max(1, int(gallery.shape[0]) // 2))
    found: dict[str, Any] = {"relative_alignment": None, "hubness": None}
    if paired:
        found["relative_alignment"] = asdict(
            matching.relative_alignment(queries, gallery, metric=metric)
        )
    if gallery.shape[0] > 1:
        skewness = matching.hubness(queries, gallery, k=k, metric=metric)
        found["hubness"] = {"skewness": skewness, "k": k}
    deviation = matching.doubly_stochastic_deviation(
        queries, gallery, temperature=temperature, normalize=normalize
    )
    found["doubly_stochastic_deviation"] = {**asdict(deviation), "temperature": temperature}
    return found


def _of_cloud(x: Array, drawn: Array, moments: Moments, normalize: bool) -> dict[str, Any]:
    """Return the geometry of one cloud."""
    return {
        "average_norm": geometry.average_norm(x),
        "mean_cosine": _defined(lambda: geometry.mean_cosine(x)),
        "total_variance": moments.total_variance,
        "rank": moments.full_axes.rank,
        "effective_rank": _defined(lambda: geometry.effective_rank_of(moments)),
        "participation_ratio": _defined(lambda: geometry.participation_ratio_of(moments)),
        "uniformity": _defined(lambda: geometry.uniformity(drawn, normalize=normalize)),
    }


def _few(rank: int) -> list[int]:
    """Return 0, the powers of two below the rank, and the rank."""
    return sorted({0, rank, *(2**e for e in range(rank.bit_length()) if 2**e < rank)})


def _defined(compute: Callable[[], _Figure]) -> _Figure | None:
    """Return a figure, or None where these clouds do not have it (0/0, one row, no direction)."""
    try:
        return compute()
    except (DataError, ShapeError):
        return None


def _record(compute: Callable[[], Any]) -> dict[str, Any] | None:
    """Return a small record as a dictionary with lists, or None where it is undefined."""
    found = _defined(compute)
    if found is None:
        return None
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(found).items()
    }
