"""Published statistics: the moments of a model's queries and gallery, which closers can be fitted to.

    ModelStatistics.of_rows(queries, gallery, model="clip-vit-b32").save("clip.safetensors")
    ModelStatistics.load("clip.safetensors").fit("balanced")

Moments alone leave: counts, means, second moments, the least and the largest length. No row does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.arrays import Array, Float, dtype_eps, to_numpy
from modgap._core.checks import check_clouds
from modgap._core.moments import Moments
from modgap.closers._fields import distance, field, mapping, text, whole
from modgap.closers._transport import merged, pieces_of
from modgap.closers.closure import Closure
from modgap.decisions.metric import COSINE, Metric, as_metric
from modgap.errors import ArgumentError, FormatError

__all__ = ["ModelStatistics"]

#: Version of the file layout; readers refuse every other.
_VERSION = 1
_KEY = "modgap_statistics"
#: Plain numbers of `Moments`, which stand in the header.
_NUMBERS = ("eps", "product_eps", "shortest", "longest", "radius")
_MOST_PIECES = 64


@dataclass(frozen=True, eq=False)
class ModelStatistics:
    """Moments of a model's queries and gallery, with its name and a card.

    Attributes
    ----------
    model : str
        What made the rows: a name, and where that is not enough a revision.
    queries : tuple of Moments
        In up to three pieces, on which `balanced` chooses its shrinkage as on rows.
    gallery : Moments
        Products in float64.
    metric : Metric
        Rows were taken as it sees them: by cosine, at unit length.
    card : str
        What the rows were, who made them and what for: text that whoever fits should read.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> queries, gallery = rng.normal(size=(60, 4)) + 1, rng.normal(size=(50, 4))
    >>> found = ModelStatistics.of_rows(queries, gallery, model="a model")
    >>> found.counts, found.fit("balanced").exact
    ((60, 50), True)
    """

    model: str
    queries: tuple[Moments, ...]
    gallery: Moments
    metric: Metric = COSINE
    card: str = ""

    @classmethod
    def of_rows(
        cls,
        queries: Float[Array, "m d"],
        gallery: Float[Array, "n d"],
        *,
        model: str,
        metric: str = "cosine",
        card: str = "",
    ) -> ModelStatistics:
        """Return the statistics of two clouds. Cost: (m + n) d^2.

        Parameters
        ----------
        queries : array (m, d), floating
        gallery : array (n, d), floating
        model, card : str
        metric : {"cosine", "ip", "euclidean"}
            By cosine rows are taken at unit length; ip and euclidean take them as they are, and what is
            made for one serves the other.

        Raises
        ------
        ArgumentError, DataError, ShapeError
            The model has no name; the clouds do not fit together, hold NaN, or have zero rows.
        """
        seen = as_metric(metric)
        queries, gallery = check_clouds(queries, gallery, zero_rows=not seen.needs_directions)
        pieces = (
            replace(part, eps=max(part.eps, dtype_eps(queries)))
            for part in pieces_of(seen.prepare(queries))
        )
        items = Moments.from_rows(seen.prepare(gallery), precision="float64")
        items = replace(items, eps=max(items.eps, dtype_eps(gallery)))
        return cls(model, tuple(map(_on_host, pieces)), _on_host(items), seen, card)

    def __post_init__(self) -> None:
        """Raise an ArgumentError for a model without a name."""
        if not self.model.strip():
            raise ArgumentError("`model` must name what made the rows; got an empty text")

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of queries and of items."""
        return sum(part.count for part in self.queries), self.gallery.count

    @property
    def width(self) -> int:
        """Embedding dimension d."""
        return self.gallery.width

    @property
    def remarks(self) -> tuple[str, ...]:
        """What whoever publishes or uses these should know: sides of few rows."""
        return tuple(
            f"the {name} are {count} rows in {self.width} dimensions: their moments span what the rows "
            "span, and of very few rows they tell much"
            for name, count in zip(("queries", "gallery items"), self.counts, strict=True)
            if count <= self.width
        )

    def fit(self, method: str = "balanced", **options: Any) -> Closure:
        """Return the closure that `closers.fit` would from the rows, of closers that need moments only.

        Parameters
        ----------
        method : str
        **options
            As `closers.fit` takes them; `metric` may be ip or euclidean for rows taken as they are.

        Raises
        ------
        ArgumentError
            As `closers.fit_moments`; also a metric that takes rows in another way.
        """
        from modgap.closers import fit_moments

        metric = as_metric(options.pop("metric", self.metric))
        self.check_metric(metric)
        closure = fit_moments(method, self.queries, self.gallery, metric=metric, **options)
        return replace(closure, info={**closure.info, "model": self.model})

    def check_metric(self, metric: Metric) -> None:
        """Raise an ArgumentError if a metric takes rows in another way than these were taken."""
        if metric.needs_directions == self.metric.needs_directions:
            return
        taken = "at unit length" if self.metric.needs_directions else "as they are"
        others = "ip or euclidean" if metric.needs_directions else "cosine"
        raise ArgumentError(
            f"these are moments of rows {taken}, which is not how {metric} takes them; ask for "
            f"{others}, or write them anew from the rows"
        )

    def merge(self, other: ModelStatistics) -> ModelStatistics:
        """Return the statistics of the rows of both; the cards follow each other.

        Raises
        ------
        ArgumentError
            They are of two models, or of rows taken in two ways.
        ShapeError
            They have different widths.
        """
        if self.model != other.model:
            raise ArgumentError(
                f"statistics of two models, {self.model!r} and {other.model!r}, do not merge: their spaces "
                "have nothing in common"
            )
        other.check_metric(self.metric)
        pairs = zip_longest(self.queries, other.queries)
        pieces = [merged([part for part in pair if part is not None]) for pair in pairs]
        cards = list(dict.fromkeys(card for card in (self.card, other.card) if card))
        return replace(
            self,
            queries=tuple(pieces),
            gallery=self.gallery.merge(other.gallery),
            card="\n\n".join(cards),
        )

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, which appears whole or not at all; return its path.

        Raises
        ------
        FormatError
            The folder is missing or cannot be written, or the disk is full.
        """
        import safetensors.numpy

        import modgap
        from modgap.io.atomic import atomic_path

        sides = {f"queries {i}": part for i, part in enumerate(self.queries)}
        sides["gallery"] = self.gallery
        header: dict[str, Any] = {
            "format_version": _VERSION,
            "modgap": modgap.__version__,
            "model": self.model,
            "card": self.card,
            "metric": str(self.metric),
            "pieces": len(self.queries),
        }
        tensors: dict[str, np.ndarray] = {}
        lower = np.tril_indices(self.width)
        for name, part in sides.items():
            header[name] = {"count": part.count} | {key: getattr(part, key) for key in _NUMBERS}
            tensors[f"{name}.mean"] = np.ascontiguousarray(to_numpy(part.mean), np.float64)
            tensors[f"{name}.scatter"] = np.ascontiguousarray(to_numpy(part.scatter)[lower])
        content = safetensors.numpy.save(tensors, metadata={_KEY: json.dumps(header)})
        target = Path(path)
        with atomic_path(target) as temporary:
            temporary.write_bytes(content)
        return target

    @classmethod
    def load(cls, path: str | Path) -> ModelStatistics:
        """Return the statistics in a file that `save` wrote.

        Raises
        ------
        FormatError
            The file is missing, broken, from elsewhere, or of another format version; or what it holds
            are no moments: shapes that do not meet, NaN, negative variances.
        """
        from modgap.io._guard import one_line, shown

        header, tensors = _read_file(Path(path))
        try:
            pieces = field(header, "pieces", whole)
            if not 1 <= pieces <= _MOST_PIECES:
                raise ValueError(f"`pieces` must lie in [1, {_MOST_PIECES}], got {pieces}")
            queries = tuple(_moments(header, tensors, f"queries {i}") for i in range(pieces))
            gallery = _moments(header, tensors, "gallery")
            if {part.width for part in queries} != {gallery.width}:
                raise ValueError("its sides have different dimensions")
            return cls(
                field(header, "model", text),
                queries,
                gallery,
                field(header, "metric", as_metric),
                field(header, "card", text),
            )
        except (KeyError, TypeError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else one_line(error)
            raise FormatError(
                f"`{shown(path)}` is a damaged file of statistics ({what}); get or write it again"
            ) from None


def _on_host(moments: Moments) -> Moments:
    return replace(moments, mean=to_numpy(moments.mean), scatter=to_numpy(moments.scatter))


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the tensors of a file of statistics of a version that is known."""
    from safetensors import safe_open

    from modgap.io._guard import check_file, reading, shown

    check_file(path)
    with reading(path, "safetensors"), safe_open(path, framework="numpy") as handle:
        metadata = handle.metadata() or {}
        if _KEY not in metadata:
            kind = "a closure of modgap" if "modgap" in metadata else "a safetensors file"
            raise FormatError(
                f"`{shown(path)}` is {kind}, but no file of statistics; write one with modgap stats write"
            )
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    try:
        header = mapping(json.loads(metadata[_KEY]))
        version = whole(header["format_version"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise FormatError(f"`{shown(path)}` has a damaged header; get or write it again") from None
    if version != _VERSION:
        raise FormatError(
            f"`{shown(path)}` has statistics of format {version}; this modgap reads format {_VERSION}"
        )
    return header, tensors


def _moments(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], name: str) -> Moments:
    """Return the moments of one side or piece, its parts checked against each other."""
    stated = field(header, name, mapping)
    mean, packed = tensors[f"{name}.mean"], tensors[f"{name}.scatter"]
    width = len(mean) if mean.ndim == 1 else 0
    for part, value, shape in (
        ("mean", mean, (width,)),
        ("scatter", packed, (width * (width + 1) // 2,)),
    ):
        if value.dtype != np.float64 or value.shape != shape or width == 0:
            raise ValueError(
                f"{name}.{part} holds {value.dtype} {value.shape}, not float64 {shape}"
            )
        if not np.isfinite(value).all():
            raise ValueError(f"{name}.{part} holds NaN or infinity")
    scatter = np.zeros((width, width))
    scatter[np.tril_indices(width)] = packed
    scatter = scatter + np.tril(scatter, -1).T
    if np.diagonal(scatter).min() < 0:
        raise ValueError(f"{name}.scatter has a negative variance")
    count = field(stated, "count", whole)
    if count < 1:
        raise ValueError(f"{name} has {count} rows")
    numbers = {key: field(stated, key, distance) for key in _NUMBERS}
    return Moments(count=count, mean=mean, scatter=scatter, **numbers)
