"""The gap between two clouds as one record: every figure made when it is asked for, and once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from modgap._core.arrays import Array, Float
from modgap._core.checks import check_count, check_number
from modgap._core.clouds import Cloud
from modgap._core.json import plain, stamp
from modgap._core.moments import Moments
from modgap._core.opening import open_clouds, open_pairs
from modgap.decisions.metric import COSINE, EUCLIDEAN
from modgap.measures import centroids, distributions, matching, orthogonality, pairs
from modgap.measures.bits import GapInBits, bits_of_clouds
from modgap.measures.findings import Remark
from modgap.measures.look import look
from modgap.measures.shape import SHAPE, CloudShape, defined
from modgap.measures.words import as_html

__all__ = ["Gap", "GapCosines", "measure"]

_Figure = TypeVar("_Figure")

#: Figures that look at a sample of the rows where the clouds are larger than it.
SAMPLED = (
    "linear_separability",
    "difference_cosines",
    "relative_alignment",
    "hubness",
    "doubly_stochastic_deviation",
    "uniformity",
    "bits.reached",
)
#: Figures of two clouds in the order of the document.
FIGURES = (
    "centroid_gap",
    "squared_gap_per_dimension",
    "centroid_gap_floor",
    "centroid_cosine",
    "frechet_distance",
    "gap_variance_ratio",
    "residual_gap_curve",
    "paired_distance",
    "paired_cosine",
    "matched_mismatched_margin",
    "relative_modality_gap",
    "alignment",
    "linear_separability",
    "difference_cosines",
    "relative_alignment",
    "hubness",
    "doubly_stochastic_deviation",
)


@dataclass(frozen=True)
class GapCosines:
    """Cosines of each cloud's differences with the gap; None where a cloud has no two rows that differ.

    Attributes
    ----------
    queries, gallery : DifferenceCosines or None
    """

    queries: orthogonality.DifferenceCosines | None
    gallery: orthogonality.DifferenceCosines | None


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Gap:
    """The gap between two clouds: every measure of `modgap.measures` that applies to them.

    The input is checked once; both clouds have their moments taken in one pass and decomposed once,
    when a figure first needs it, whichever figures are asked for. A figure that these clouds do not
    have is None: measures of pairs without `paired`, the direction of a closed gap, the spread of a
    single row. The function of the same name says what a figure means, and why there is none.

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
    moments : pair of Moments, optional
        Of the queries and of the gallery, of the rows as they are measured, where they are there
        already: the pass and the decompositions are then shared with their owner.

    Attributes
    ----------
    queries, gallery : CloudShape
        The shape of each cloud: cone, rank, spread.

    Raises
    ------
    ArgumentError, DataError, ShapeError
        An option is out of range; the clouds do not fit together, do not pair, hold NaN or
        infinity, or a row to be normalised has no direction.

    Notes
    -----
    Cost of all figures: (m + n) d^2 + d^3, and with s = `sample` about 10 s^2 d; memory
    O(block + s d).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(50, 8))
    >>> gap = Gap(x + 1, x - 1, paired=True)
    >>> round(gap.centroid_gap, 2), round(gap.gallery.mean_cosine, 2), gap.gallery.rank
    (1.42, 0.52, 8)
    >>> gap
    Gap(50 queries, 50 items, 8 dimensions, paired, rows of unit length: centroid_gap=1.421)
    """

    queries: CloudShape
    gallery: CloudShape
    paired: bool
    normalize: bool
    temperature: float
    k: int
    sample: int
    seed: int

    def __init__(
        self,
        queries: Float[Array, "m d"],
        gallery: Float[Array, "n d"],
        *,
        paired: bool = False,
        normalize: bool = True,
        temperature: float = 0.02,
        k: int = 10,
        sample: int = 5000,
        seed: int = 0,
        moments: tuple[Moments, Moments] | None = None,
    ) -> None:
        temperature = check_number(temperature, "temperature", low=0.0, open_low=True)
        check_count(k, "k")
        check_count(sample, "sample", low=2)
        check_count(seed, "seed", low=0)
        open_both = open_pairs if paired else open_clouds
        clouds = open_both(
            queries,
            gallery,
            names=("queries", "gallery"),
            normalize=normalize,
            moments=moments or (None, None),
            whole=True,
        )
        shapes = [CloudShape(c, c if c.rows is None else c.sample(sample, seed)) for c in clouds]
        fields = {
            "queries": shapes[0],
            "gallery": shapes[1],
            "paired": bool(paired),
            "normalize": all(c.normalize for c in clouds),
            "temperature": temperature,
            "k": k,
            "sample": sample,
            "seed": seed,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_moments(cls, queries: Moments, gallery: Moments) -> Gap:
        """Return the gap between two clouds of which only the moments are known.

        Centroids, spectra and Gaussian distances need no more; figures of pairs of rows are None.

        Parameters
        ----------
        queries, gallery : Moments
            Of the rows as they are to be measured. They count as rows of unit length where the
            shortest and the longest of them are, up to rounding.

        Raises
        ------
        ShapeError
            The two have different widths.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> gap = Gap.from_moments(Moments.from_rows(x + [3.0, 0.0]), Moments.from_rows(x))
        >>> gap.centroid_gap, gap.gallery.rank, gap.linear_separability
        (3.0, 2, None)
        """
        return cls(queries, gallery)

    @property
    def dimension(self) -> int:
        """Embedding dimension d."""
        return self.gallery.cloud.width

    @property
    def _clouds(self) -> tuple[Cloud, Cloud]:
        return self.queries.cloud, self.gallery.cloud

    @property
    def _drawn(self) -> tuple[Cloud, Cloud]:
        return self.queries.drawn, self.gallery.drawn

    def _of_pairs(self, compute: Callable[[Cloud, Cloud], _Figure]) -> _Figure | None:
        return defined(lambda: compute(*self._clouds)) if self.paired else None

    @cached_property
    def gap_direction(self) -> Float[Array, " d"] | None:
        """The gap vector scaled to unit length, shape (d,); from the gallery to the queries."""
        return defined(lambda: centroids.gap_direction(*self._clouds))

    @cached_property
    def gap_vector(self) -> Float[Array, " d"]:
        """The gap vector g = mean(queries) - mean(gallery), shape (d,)."""
        return centroids.gap_vector(*self._clouds)

    @cached_property
    def centroid_gap(self) -> float:
        """Length of the gap."""
        return centroids.centroid_gap(*self._clouds)

    @cached_property
    def squared_gap_per_dimension(self) -> float:
        """The same squared, over d."""
        return centroids.squared_gap_per_dimension(*self._clouds)

    @cached_property
    def centroid_gap_floor(self) -> float | None:
        """The gap that sampling alone gives clouds of one true mean."""
        return defined(lambda: centroids.centroid_gap_floor(*self._clouds))

    @cached_property
    def centroid_cosine(self) -> float | None:
        """Cosine of the two means."""
        return defined(lambda: centroids.centroid_cosine(*self._clouds))

    @cached_property
    def frechet_distance(self) -> distributions.FrechetDistance:
        """Squared Fréchet distance of the clouds as Gaussians, and its split."""
        return distributions.frechet_distance(*self._clouds)

    @cached_property
    def gap_variance_ratio(self) -> orthogonality.GapVarianceRatio | None:
        """Variance of each cloud along the gap over its average variance per direction."""
        return defined(lambda: orthogonality.gap_variance_ratio(*self._clouds))

    @cached_property
    def residual_gap_curve(self) -> orthogonality.ResidualGapCurve | None:
        """Share of the gap outside the gallery's leading axes: 0, powers of two, and all of them."""
        ks = _few(self.gallery.rank)
        return defined(lambda: orthogonality.residual_gap_curve(*self._clouds, ks=ks))

    @cached_property
    def paired_distance(self) -> float | None:
        """Mean distance of the true pairs."""
        return self._of_pairs(pairs.paired_distance)

    @cached_property
    def paired_cosine(self) -> float | None:
        """Mean cosine of the true pairs."""
        return self._of_pairs(pairs.paired_cosine)

    @cached_property
    def matched_mismatched_margin(self) -> float | None:
        """Mean cosine of true pairs minus that of wrong ones."""
        return self._of_pairs(pairs.matched_mismatched_margin)

    @cached_property
    def relative_modality_gap(self) -> float | None:
        """Dissimilarity of true pairs against that within each modality, RMG."""
        return self._of_pairs(pairs.relative_modality_gap)

    @cached_property
    def alignment(self) -> float | None:
        """Mean squared distance of the true pairs."""
        return self._of_pairs(pairs.alignment)

    @cached_property
    def linear_separability(self) -> float | None:
        """Held-out balanced accuracy of a linear probe between the clouds."""
        return defined(
            lambda: distributions.linear_separability(*self._drawn, sample=None, seed=self.seed)
        )

    @cached_property
    def difference_cosines(self) -> GapCosines | None:
        """Cosines of each cloud's differences with the gap of all rows."""
        gap = self.gap_direction
        if gap is None or self.queries.cloud.rows is None:
            return None
        ours, theirs = self._drawn
        return GapCosines(
            defined(lambda: orthogonality.difference_cosines(ours, gap)),
            defined(lambda: orthogonality.difference_cosines(theirs, gap)),
        )

    @cached_property
    def relative_alignment(self) -> matching.RelativeAlignment | None:
        """Shares of the true pairs that are nearest neighbours across the modalities."""
        if not self.paired:
            return None
        metric = COSINE if self.normalize else EUCLIDEAN
        return defined(lambda: matching.relative_alignment(*self._drawn, metric=metric))

    @cached_property
    def hubness(self) -> matching.Hubness | None:
        """Skewness of how often items are found."""
        if self.gallery.rows < 2:
            return None
        metric = COSINE if self.normalize else EUCLIDEAN
        k = min(self.k, max(1, self.gallery.drawn.count // 2))
        return defined(lambda: matching.hubness(*self._drawn, k=k, metric=metric))

    @cached_property
    def doubly_stochastic_deviation(self) -> matching.DoublyStochasticDeviation | None:
        """How far the softmax matrices are from doubly stochastic."""
        return defined(
            lambda: matching.doubly_stochastic_deviation(*self._drawn, temperature=self.temperature)
        )

    @cached_property
    def bits(self) -> GapInBits | None:
        """Bits a coordinate that the gap costs a stored code; see `gap_in_bits`."""
        metric = COSINE if self.normalize else EUCLIDEAN
        return defined(
            lambda: bits_of_clouds(*self._clouds, metric, sample=self.sample, seed=self.seed)
        )

    @cached_property
    def remarks(self) -> tuple[Remark, ...]:
        """What to know about the data before reading any of it; see `look`. Needs the rows."""
        if any(cloud.rows is None for cloud in self._clouds):
            return ()
        metric = COSINE if self.normalize else EUCLIDEAN
        return look(*self._clouds, paired=self.paired, metric=metric, seed=self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Return every figure as one JSON-able dictionary; absent ones are None.

        Keys are the names of the figures; the shape of each cloud lies under "queries" and
        "gallery". "schema" and "modgap" are the version of the names and of the package, "inputs"
        the arrays that were measured, "remarks" what to know about them, "sample" how many rows the
        measures listed in its "measures" used.
        """
        sides = {"queries": self.queries, "gallery": self.gallery}
        return {
            **stamp(),
            "inputs": {side: _input(shape.cloud) for side, shape in sides.items()},
            "seed": self.seed,
            "rows": {side: shape.rows for side, shape in sides.items()},
            "dimension": self.dimension,
            "paired": self.paired,
            "normalize": self.normalize,
            "remarks": plain(self.remarks),
            **{name: plain(getattr(self, name)) for name in FIGURES},
            "bits": None if self.bits is None else self.bits.to_dict(),
            **{
                side: {name: plain(getattr(shape, name)) for name in SHAPE}
                for side, shape in sides.items()
            },
            "sample": {
                "measures": list(SAMPLED),
                "limit": self.sample,
                "seed": self.seed,
                **{side: shape.drawn.count for side, shape in sides.items()},
            },
        }

    def table(self) -> list[dict[str, Any]]:
        """Return every figure as a row {"figure", "value"}; parts of a record as "name.part".

        All but the spectrum of the bits, a list as long as the rows are wide.
        """
        document = self.to_dict()
        parts = {name: document[name] for name in (*FIGURES, "bits", "queries", "gallery")}
        if parts["bits"] is not None:
            parts["bits"] = {k: v for k, v in parts["bits"].items() if k != "spectrum"}
        return [{"figure": name, "value": value} for name, value in _flat(parts, "")]

    @property
    def title(self) -> str:
        """What was measured, in one line."""
        lengths = "rows of unit length" if self.normalize else "rows as they are"
        return (
            f"{self.queries.rows} queries, {self.gallery.rows} items, {self.dimension} dimensions"
            f"{', paired' if self.paired else ''}, {lengths}"
        )

    def __repr__(self) -> str:
        """Return one line: what was measured, and the length of the gap."""
        return f"Gap({self.title}: centroid_gap={self.centroid_gap:.3f})"

    def _repr_html_(self) -> str:
        """Return the main figures as a table for a notebook."""
        return as_html(self)


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
) -> Gap:
    """Return the gap between two clouds, with every measure that applies to them.

    Figures are computed when they are asked for; `measure(a, b).to_dict()` asks for all of them.
    Parameters, errors and cost are those of `Gap`.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(50, 8))
    >>> found = measure(x + 1, x - 1, paired=True)
    >>> round(found.centroid_gap, 2), round(found.gallery.mean_cosine, 2)
    (1.42, 0.52)
    """
    return Gap(
        queries,
        gallery,
        paired=paired,
        normalize=normalize,
        temperature=temperature,
        k=k,
        sample=sample,
        seed=seed,
    )


def _input(cloud: Cloud) -> dict[str, Any]:
    """Return shape and dtype of a cloud as it came in."""
    dtype = None if cloud.rows is None else str(cloud.rows.dtype).rpartition(".")[2]
    return {"shape": [cloud.count, cloud.width], "dtype": dtype}


def _flat(parts: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the figures of nested records with the path of their names."""
    if isinstance(parts, dict | list):
        for key, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
            yield from _flat(part, f"{path}.{key}" if path else str(key))
    else:
        yield path, parts


def _few(rank: int) -> list[int]:
    """Return 0, the powers of two below the rank, and the rank."""
    return sorted({0, rank, *(2**e for e in range(rank.bit_length()) if 2**e < rank)})
