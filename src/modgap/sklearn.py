"""A closer as an estimator of scikit-learn: `GapCloser`, for pipelines, grids and `set_output`.

    from modgap.sklearn import GapCloser

    closer = GapCloser("affine").fit(queries, gallery=gallery)
    closer.transform(queries), closer.transform_gallery(gallery)

Needs the extra `sklearn`. What is fitted is the `Closure` that `modgap.fit` returns, in `closure_`.
"""

from __future__ import annotations

from typing import Any

from modgap._core.arrays import Array, Float
from modgap._core.extras import require
from modgap.closers import Closure, fit
from modgap.errors import ArgumentError

require("sklearn", "sklearn")

from sklearn.base import (  # noqa: E402 - only where it is installed
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

__all__ = ["GapCloser"]


class GapCloser(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Close the gap between queries and a gallery; `transform` maps the queries.

    Parameters
    ----------
    method : str
        A key of `modgap.closers.METHODS`; a comparison may follow, as in "affine:ip".
    metric, alpha, n_components, side, reduce, scale, compare, rotation, shrinkage
        As `modgap.fit` takes them.

    Attributes
    ----------
    closure_ : Closure
        Both fitted maps, and what they promise: `closure_.exact`, `closure_.save(path)`.
    n_features_in_ : int
        Embedding dimension d.
    feature_names_in_ : ndarray (d,) of str
        Only where the queries came with names.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> queries, gallery = rng.normal(size=(20, 8)) + 3, rng.normal(size=(5, 8))
    >>> closer = GapCloser("affine", reduce=True).fit(queries, gallery=gallery)
    >>> closer.transform(queries).shape, closer.transform_gallery(gallery).shape
    ((20, 4), (5, 4))
    """

    def __init__(
        self,
        method: str = "affine",
        *,
        metric: str = "cosine",
        alpha: float | None = None,
        n_components: int | float | str | None = None,
        side: str | None = None,
        reduce: bool = False,
        scale: float | None = None,
        compare: str | None = None,
        rotation: int | str | None = None,
        shrinkage: float | None = None,
    ) -> None:
        self.method = method
        self.metric = metric
        self.alpha = alpha
        self.n_components = n_components
        self.side = side
        self.reduce = reduce
        self.scale = scale
        self.compare = compare
        self.rotation = rotation
        self.shrinkage = shrinkage

    def fit(
        self,
        X: Float[Array, "m d"],
        y: object = None,
        *,
        gallery: Float[Array, "n d"] | None = None,
    ) -> GapCloser:
        """Fit both maps.

        Parameters
        ----------
        X : array (m, d)
            The queries.
        y : ignored
            There because pipelines hand it in.
        gallery : array (n, d)
            The items that are searched. It must be given; where a modality searches itself, that is
            `X` once more.

        Raises
        ------
        ArgumentError
            `gallery` is missing, or an option is one that `modgap.fit` refuses.
        ValueError
            An array is no finite matrix, or the two have different widths.
        """
        if gallery is None:
            raise ArgumentError(
                "`gallery` must be given to fit: the items that are searched, shape (n, d), for "
                "example fit(queries, gallery=texts), or in a pipeline gapcloser__gallery=texts"
            )
        queries = self._rows(X, reset=True)
        self.closure_: Closure = fit(
            queries=queries, gallery=self._rows(gallery), **self.get_params()
        )
        return self

    def transform(self, X: Float[Array, "m d"]) -> Float[Array, "m e"]:
        """Return the queries after closing, shape (m, e), in the dtype of `X`, float32 at least."""
        check_is_fitted(self)
        return self.closure_.apply_queries(self._rows(X))

    def transform_gallery(self, X: Float[Array, "n d"]) -> Float[Array, "n e"]:
        """Return the gallery after closing, shape (n, e), in the dtype of `X`, float32 at least."""
        check_is_fitted(self)
        return self.closure_.apply_gallery(self._rows(X))

    def _rows(self, rows: Array, *, reset: bool = False) -> Array:
        dtypes = ["float64", "float32", "float16"]
        return validate_data(self, rows, reset=reset, dtype=dtypes)

    @property
    def _n_features_out(self) -> int:
        return self.closure_.queries.output_width

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
