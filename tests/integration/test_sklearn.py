"""`GapCloser` before scikit-learn's own judges, and against the closure it wraps."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pandas
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import modgap
from modgap.errors import ArgumentError, ClosureError
from modgap.sklearn import GapCloser


class OneCloud(GapCloser):
    """Searches its own rows: the checks know of one cloud, so it is handed in twice."""

    def fit(self, X, y=None):
        return super().fit(X, gallery=X)


def failures_that_are_right(estimator):
    """The checks that ask for what this estimator refuses on purpose, and why."""
    reasons = {
        "check_fit2d_1sample": "sets n_components=1, and one item has no direction: refused, with "
        "that reason instead of a word on the number of samples"
    }
    if estimator.metric == "cosine":
        reasons["check_estimators_dtypes"] = (
            "its integers hold a row of zeros, which has no cosine to anything"
        )
        reasons["check_fit2d_1feature"] = "by cosine all items of one feature are one: no direction"
    if estimator.method == "center":
        for name in (
            "check_dont_overwrite_parameters",
            "check_fit2d_1feature",
            "check_fit2d_predict1d",
            "check_methods_sample_order_invariance",
            "check_methods_subset_invariance",
        ):
            reasons[name] = "sets n_components, which this method has not: refused"
    return reasons


@pytest.mark.filterwarnings("ignore::modgap.errors.ClosureWarning")  # one cloud has no gap
@parametrize_with_checks(
    [OneCloud("affine"), OneCloud("center", metric="euclidean")],
    expected_failed_checks=failures_that_are_right,
)
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


@pytest.fixture
def clouds(rng):
    return rng.normal(size=(30, 8)) + 2, rng.normal(size=(5, 8))


def test_it_is_the_closure_that_fit_returns(clouds):
    queries, gallery = clouds
    options = {"metric": "euclidean", "alpha": 0.5}
    closer = GapCloser("orthogonal", **options).fit(queries, gallery=gallery)
    closure = modgap.fit("orthogonal", queries, gallery, **options)
    assert closer.closure_.exact
    np.testing.assert_array_equal(closer.transform(queries), closure.apply_queries(queries))
    np.testing.assert_array_equal(closer.transform_gallery(gallery), closure.apply_gallery(gallery))


def test_it_takes_what_fit_takes():
    # An option that `fit` gains is to be handed through here too.
    own = inspect.signature(GapCloser).parameters
    options = inspect.signature(modgap.fit).parameters
    assert set(own) == set(options) - {"queries", "gallery"}
    for name in set(own) - {"method"}:
        assert (own[name].kind, own[name].default) == (options[name].kind, options[name].default)


def test_a_missing_gallery_is_named_with_the_fix(clouds):
    with pytest.raises(ArgumentError, match=r"`gallery` must be given to fit: .*fit\(queries, g"):
        GapCloser().fit(clouds[0])


def test_bad_clouds_are_refused_in_scikit_learn_s_words(clouds):
    queries, gallery = clouds
    with pytest.raises(ValueError, match="has 7 features, but GapCloser is expecting 8 features"):
        GapCloser().fit(queries, gallery=gallery[:, :7])
    gallery[2, 3] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        GapCloser().fit(queries, gallery=gallery)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_dtype_of_the_rows_stays_but_halves_widen(clouds, dtype):
    queries, gallery = (cloud.astype(dtype) for cloud in clouds)
    closer = GapCloser().fit(queries, gallery=gallery)
    wide = "float32" if dtype == "float16" else dtype
    assert closer.transform(queries).dtype == wide
    assert closer.transform_gallery(gallery).dtype == wide


def test_settings_and_fits_survive_copies(clouds):
    queries, gallery = clouds
    closer = GapCloser("affine", reduce=True, n_components=3).fit(queries, gallery=gallery)
    assert not hasattr(clone(closer), "closure_")
    assert clone(closer).get_params() == closer.get_params()
    again = pickle.loads(pickle.dumps(closer))
    np.testing.assert_array_equal(again.transform(queries), closer.transform(queries))
    assert again.closure_.metric.needs_directions  # a metric is more than its name


def test_names_of_features(clouds):
    queries, gallery = clouds
    frame = pandas.DataFrame(queries, columns=[f"x{i}" for i in range(8)])
    items = pandas.DataFrame(gallery, columns=frame.columns)
    closer = GapCloser(reduce=True).set_output(transform="pandas").fit(frame, gallery=items)
    assert list(closer.feature_names_in_) == list(frame.columns)
    found = closer.transform(frame)
    assert list(found.columns) == [f"gapcloser{i}" for i in range(4)]
    assert list(found.index) == list(frame.index)


def test_in_a_pipeline_and_a_grid(clouds, rng):
    queries, gallery = clouds
    labels = np.arange(30) % 3
    steps = make_pipeline(GapCloser(), KNeighborsClassifier(3))
    search = GridSearchCV(steps, {"gapcloser__n_components": [1, 2]}, cv=3)
    search.fit(queries, labels, gapcloser__gallery=gallery)
    assert search.best_estimator_[0].closure_.n_components in (1, 2)
    assert search.predict(queries).shape == (30,)


def test_rows_of_another_width_are_refused_after_the_fit(clouds):
    queries, gallery = clouds
    closer = GapCloser().fit(queries, gallery=gallery)
    with pytest.raises(ValueError, match="has 5 features, but GapCloser is expecting 8"):
        closer.transform(queries[:, :5])
    with pytest.raises(ClosureError, match="dimension 8"):
        closer.closure_.apply_queries(queries[:, :5])
