"""Closures of mixed collections: one map for the queries, and one for each modality of the gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap._core.arrays import Array, Float, asarray_like, namespace
from modgap._core.checks import check_choice, check_cloud
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.errors import ClosureError, ShapeError

if TYPE_CHECKING:
    from modgap.closers.summary import FitSummary

__all__ = ["MixedClosure", "by_modality", "several_maps"]


@dataclass(frozen=True, eq=False)
class _SeveralMaps(AffineMap):
    """Stands where other closures have their one gallery map, and says which ones there are."""

    names: tuple[str, ...] = ()

    def __call__(self, rows: Array) -> Array:
        """Raise a ClosureError: a modality must be named."""
        raise ClosureError(
            f"this closure maps each modality of a mixed gallery on its own ({', '.join(self.names)}); "
            "say which one the rows are"
        )


@dataclass(frozen=True, eq=False)
class MixedClosure(Closure):
    """A closure whose gallery holds several modalities, each with a map of its own.

    It promises no answer (`exact` is False): how the modalities are merged is what it is meant to change.
    What `calibrate` makes keeps every ranking within a modality; `center` and `standardize` do not.

    Attributes
    ----------
    galleries : mapping of str to AffineMap
        By modality.
    scales : mapping of str to float
        What `calibrate` divided each modality by; empty for other methods.
    summaries : mapping of str to FitSummary
        By modality, low moments of the rows of the fit; empty where they are not known.

    Examples
    --------
    >>> import numpy as np
    >>> from modgap import closers
    >>> rng = np.random.default_rng(0)
    >>> images, texts, queries = (rng.normal(size=(9, 4)) + k for k in (3, 0, 0))
    >>> closure = closers.calibrate(queries, {"image": images, "text": texts})
    >>> closure.apply_gallery(images, "image").shape
    (9, 4)
    """

    galleries: Mapping[str, AffineMap] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    summaries: Mapping[str, FitSummary] = field(default_factory=dict, repr=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of `galleries`."""
        return tuple(self.galleries)

    def apply_gallery(
        self, gallery: Float[Array, "n d"], modality: str | Sequence[str] | None = None
    ) -> Float[Array, "n e"]:
        """Return items after closing, shape (n, e); checks the input first.

        Parameters
        ----------
        gallery : array (n, d), floating
        modality : str, or sequence of n str
            Of all the rows, or of each.

        Raises
        ------
        ArgumentError, ClosureError, ShapeError
            No modality is named, or none that the closure was fitted to.
        DataError
            The rows hold NaN, or have no direction where one is needed.
        """
        if modality is None:
            return self.gallery(gallery)
        first = next(iter(self.galleries.values()))
        rows = check_cloud(gallery, "gallery", zero_rows=not first.normalize_input)
        if isinstance(modality, str):
            check_choice(modality, "modality", self.modalities)
            return self.galleries[modality](rows)
        names = np.asarray(modality)
        if names.shape != (rows.shape[0],):
            raise ShapeError(
                f"`modality` must name one modality, or one per row of `gallery`; got {names.shape} "
                f"for {rows.shape[0]} rows"
            )
        return by_modality(self.galleries, rows, names)

    def then(self, other: Closure) -> MixedClosure:
        """Return the closure that applies this one first, such as `balanced` of the mapped items.

        Raises
        ------
        ClosureError
            `other` was fitted for another comparison, or a normalisation stands between the two.
        """
        other.check_metric(self.comparison)
        galleries = {name: each.then(other.gallery) for name, each in self.galleries.items()}
        return replace(
            self,
            method=f"{self.method}+{other.method}",
            queries=self.queries.then(other.queries),
            galleries=galleries,
            gallery=several_maps(galleries),
            comparison=other.comparison,
            gain=self.gain * other.gain,
            summaries={},
        )

    def to(self, device: Any, dtype: Any = None) -> Any:
        """Return the maps as layers of PyTorch on a device; see `modgap.nn.MixedClosureModule`.

        Raises
        ------
        MissingExtraError
            PyTorch is not installed.
        """
        from modgap.nn import MixedClosureModule

        return MixedClosureModule(self, dtype=dtype).to(device)


def several_maps(galleries: Mapping[str, AffineMap]) -> AffineMap:
    """Return what stands in the place of the one gallery map: it names the others when it is called."""
    width = next(iter(galleries.values())).width
    return _SeveralMaps(width, names=tuple(galleries))


def by_modality(maps: Mapping[str, AffineMap], rows: Array, names: np.ndarray) -> Array:
    """Return rows mapped by the map of each one's modality, in their order.

    Raises
    ------
    ArgumentError
        A row has a modality that there is no map for.
    """
    found, places = [], []
    xp = namespace(rows)
    for name in dict.fromkeys(names.tolist()):
        check_choice(name, "modality", tuple(maps))
        place = np.flatnonzero(names == name)
        places.append(place)
        found.append(maps[name](xp.take(rows, asarray_like(place, rows), axis=0)))
    back = np.argsort(np.concatenate(places), kind="stable")
    return xp.take(xp.concat(found, axis=0), asarray_like(back, rows), axis=0)
