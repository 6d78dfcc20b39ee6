"""What the core refuses, and what it says: the argument, the rule, the values seen, the fix."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from modgap import closers
from modgap._core.arrays import to_numpy
from modgap._core.moments import Moments, cross_scatter
from modgap.closers.closure import Closure
from modgap.decisions.certificates import certified_radius
from modgap.decisions.neighbors import margins, nearest, nearest_candidates
from modgap.errors import ArgumentError, ClosureError, ClosureWarning, DataError, ShapeError
from modgap.robustness.integral import candidate_win_probability, win_probability
from modgap.robustness.noise import Bins, Gaussian, Uniform
from modgap.robustness.outcomes import stability

Y = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.5, 0.2, 0.1]])
X = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 2.0], [2.0, 0.0, 1.0]])


def fitted(method, **options):
    def fit(queries, gallery):
        return closers.fit(method, queries, gallery, **options)

    fit.__name__ = f"fit {method}"
    return fit


def wins(queries, gallery):
    targets = np.zeros(len(queries), int)
    return win_probability(queries, gallery, targets, [0.1], metric="euclidean")


def certify(queries, gallery):
    return certified_radius(queries, gallery, metric="euclidean")


def noisy(noise):
    def measure(queries, gallery):
        return stability(queries, gallery, noise, draws=2)

    measure.__name__ = f"stability {noise.label}"
    return measure


#: Everything that takes queries and a gallery.
TWO_CLOUDS = [
    nearest,
    margins,
    wins,
    certify,
    noisy(Gaussian(0.1)),
    noisy(Uniform(0.1)),
    noisy(Bins(4)),
    *(fitted(method) for method in closers.METHODS if method != "procrustes"),
]
#: The same under cosine, where rows need a direction.
BY_COSINE = [
    lambda y, x: nearest(y, x, metric="cosine"),
    lambda y, x: margins(y, x, metric="cosine"),
    lambda y, x: certified_radius(y, x, metric="cosine", side="queries"),
    lambda y, x: stability(y, x, Gaussian(0.1), metric="cosine", draws=2),
    *(fitted(method, metric="cosine") for method in closers.METHODS if method != "procrustes"),
]


def named(function):
    return function.__name__


def refuses(error, message):
    return pytest.raises(error, match=re.escape(message))


@pytest.fixture(autouse=True)
def _no_closure_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClosureWarning)  # these clouds are too small for a gap
        yield


BROKEN = np.where(np.arange(3)[:, None] >= 1, np.nan, X)

#: One pair of clouds for every rule, and what is said of it.
BAD_CLOUDS = [
    (
        (Y, np.ones((2, 5))),
        ShapeError,
        "`queries` and `gallery` must share their last axis (the embedding dimension d); "
        "got (4, 3) and (2, 5)",
    ),
    ((Y, np.ones((2, 3, 3))), ShapeError, "`gallery` must have shape (rows, d); got (2, 3, 3)"),
    ((Y, X[:0]), ShapeError, "`gallery` must have at least 1 row(s); got shape (0, 3)"),
    ((Y[:0], X), ShapeError, "`queries` must have at least 1 row(s); got shape (0, 3)"),
    (
        (Y, BROKEN),
        DataError,
        "`gallery` row 1 (of 2 such rows) holds NaN or infinity; drop or repair it",
    ),
    (
        (Y, X.astype(np.int64)),
        DataError,
        "`gallery` must hold floating-point embeddings; got int64",
    ),
    (("images.npy", X), DataError, "`queries` must be an array of floats; got str"),
]


@pytest.mark.parametrize("function", TWO_CLOUDS, ids=named)
def test_no_door_is_open(function):
    for clouds, error, message in BAD_CLOUDS:
        with refuses(error, message) as caught:
            function(*clouds)
        assert "\n" not in str(caught.value)


class TestTheDoor:
    """Every way to be no cloud, at one of the doors: all have the same lock."""

    @pytest.mark.parametrize("shape", [(), (3,), (2, 3, 3), (1, 1, 1, 3)])
    def test_a_cloud_has_two_axes(self, shape):
        with refuses(ShapeError, f"`gallery` must have shape (rows, d); got {shape}"):
            nearest(Y, np.ones(shape))

    def test_it_has_columns(self):
        with refuses(ShapeError, "`queries` must have at least one column; got shape (4, 0)"):
            nearest(Y[:, :0], X[:, :0])

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_are_finite(self, value):
        with refuses(DataError, "`gallery` row 1 (of 2 such rows) holds NaN or infinity"):
            nearest(Y, np.where(np.isnan(BROKEN), value, X))

    def test_float16_that_overflowed_says_so(self):
        with np.errstate(over="ignore"):
            broken = (X * 1e5).astype(np.float16)
        message = "holds NaN or infinity; drop or repair it; float16 overflows above 65504"
        with refuses(DataError, message):
            nearest(Y.astype(np.float16), broken)

    @pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, complex, object, str])
    def test_values_are_floats(self, dtype):
        broken = X.astype(dtype)
        message = f"`gallery` must hold floating-point embeddings; got {broken.dtype}"
        with refuses(DataError, message):
            nearest(Y, broken)

    @pytest.mark.parametrize("value", ["images.npy", {"a": 1}, [[1.0, 2.0], [1.0]]])
    def test_what_is_no_array_at_all(self, value):
        message = f"`queries` must be an array of floats; got {type(value).__name__}"
        with refuses(DataError, message):
            nearest(value, X)

    def test_masked_values_are_not_dropped_in_silence(self):
        with refuses(DataError, "`queries` must have no masked values; fill them"):
            nearest(np.ma.masked_array(Y, Y > 1), X)

    def test_libraries_are_not_mixed(self):
        torch = pytest.importorskip("torch")
        message = "`queries` and `gallery` must be arrays of one library; got torch and numpy"
        with refuses(DataError, message):
            nearest(torch.asarray(Y), X)


@pytest.mark.parametrize("function", TWO_CLOUDS, ids=named)
class TestWhatIsAccepted:
    """No error, and the same answer as from plain float64."""

    def numbers(self, result):
        if isinstance(result, Closure):
            return np.concatenate([result.apply_queries(Y), result.apply_gallery(X)])
        for name in ("scores", "stability"):
            result = getattr(result, name, result)
        return np.asarray(to_numpy(result))

    def assert_same(self, function, queries, gallery, close=1e-9):
        found = self.numbers(function(queries, gallery))
        np.testing.assert_allclose(found, self.numbers(function(Y, X)), atol=close)

    def test_lists(self, function):
        self.assert_same(function, Y.tolist(), X.tolist())

    def test_fortran_order_strided_and_reversed_views(self, function):
        wide = np.zeros((8, 6))
        wide[::2, ::2] = Y
        self.assert_same(function, wide[::2, ::2], np.asfortranarray(X))
        self.assert_same(function, np.ascontiguousarray(Y[::-1, ::-1])[::-1, ::-1], X)

    def test_read_only_and_memory_mapped(self, function, tmp_path):
        np.save(tmp_path / "y.npy", Y)
        mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
        locked = X.copy()
        locked.flags.writeable = False
        self.assert_same(function, mapped, locked)

    def test_other_floats_than_the_machine_s(self, function):
        self.assert_same(function, Y.astype(">f8"), X.astype(">f8"))
        self.assert_same(function, Y.astype(np.longdouble), X.astype(np.longdouble))

    def test_one_item(self, function):
        assert np.asarray(self.numbers(function(Y, X[:1]))).shape[0] > 0

    def test_rows_that_are_all_equal(self, function):
        found = self.numbers(function(Y, X[[0, 0, 0]]))
        assert not np.isnan(found).any()

    def test_inputs_are_only_read(self, function):
        queries, gallery = Y.copy(), X.copy()
        function(queries, gallery)
        np.testing.assert_array_equal(queries, Y)
        np.testing.assert_array_equal(gallery, X)


@pytest.mark.parametrize("function", BY_COSINE, ids=lambda f: f.__name__)
class TestCosine:
    def test_rows_need_a_direction(self, function):
        message = (
            "`gallery` row 1 (of 2 such rows) is all zeros and has no direction; drop it, "
            "or choose a metric that needs none"
        )
        with refuses(DataError, message):
            function(Y, X * np.array([[1], [0], [0]]))
        with refuses(DataError, "`queries` row 3 (of 1 such rows) is all zeros"):
            function(Y * np.array([[1], [1], [1], [0]]), X)

    def test_rows_need_no_unit_length(self, function):
        lengths = np.array([[0.1], [7.0], [300.0]])
        one, other = function(Y, X), function(Y, X * lengths)
        if isinstance(one, Closure):
            found = other.apply_gallery(X * lengths)
            np.testing.assert_allclose(found, one.apply_gallery(X), atol=1e-9)
        elif hasattr(one, "indices"):
            np.testing.assert_array_equal(one.indices, other.indices)
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-12)
        elif not hasattr(one, "stability"):  # noise of one size does matter to longer rows
            np.testing.assert_allclose(one, other, atol=1e-12)


class TestClosuresElsewhere:
    @pytest.mark.parametrize("method", closers.METHODS)
    def test_on_embeddings_of_another_width(self, method):
        closure = closers.fit(method, X, X)
        message = "this map was fitted for embeddings of dimension 3; got rows of dimension 4"
        for apply in (closure.apply_queries, closure.apply_gallery):
            with refuses(ClosureError, message):
                apply(np.ones((2, 4)))

    def test_under_another_metric(self):
        closure = closers.fit("recenter", Y, X, metric="cosine")
        message = (
            "this closure was fitted for metric 'cosine' and is used under 'ip'; fit it again with "
            "metric='ip'"
        )
        with refuses(ClosureError, message):
            stability(Y, X, Gaussian(0.1), metric="ip", closure=closure)

    def test_on_rows_that_are_none(self):
        closure = closers.fit("recenter", Y, X, metric="cosine")
        with refuses(DataError, "`queries` row 0 (of 1 such rows) is all zeros"):
            closure.apply_queries(np.zeros((1, 3)))
        with refuses(DataError, "`gallery` row 1 (of 1 such rows) holds NaN or infinity"):
            closure.apply_gallery(np.array([[1.0, 2, 3], [np.nan, 0, 0]]))
        with refuses(ShapeError, "`queries` must have shape (rows, d) or (t, rows, d); got (3,)"):
            closure.apply_queries(Y[0])
        with refuses(ShapeError, "`queries` must have at least 1 row(s); got shape (0, 3)"):
            closure.apply_queries(Y[:0])


class TestFewRows:
    def test_more_components_than_rows(self):
        message = (
            "`n_components` is 3, but the cloud of 3 rows has only 2 directions; ask for at most 2, "
            'or "all"'
        )
        for method in ("orthogonal", "affine"):
            with refuses(ArgumentError, message):
                closers.fit(method, Y, X, n_components=3)

    def test_unpaired_rows(self):
        message = "`queries` and `gallery` must pair row by row; got 4 and 3 rows"
        with refuses(ShapeError, message):
            closers.fit("procrustes", Y, X)
        with refuses(ShapeError, "`a` and `b` must pair row by row; got 4 and 3 rows"):
            cross_scatter(Y, X)

    def test_moments_of_nothing(self):
        with refuses(ShapeError, "`x` must have at least 1 row(s); got shape (0, 3)"):
            Moments.from_rows(Y[:0])
        with refuses(ShapeError, "`blocks` must hold at least one block of rows; got none"):
            Moments.from_blocks(iter(()))
        with refuses(ArgumentError, "`precision` must be one of input, float64; got 'half'"):
            Moments.from_rows(Y, precision="half")


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "error", "message"),
        [
            ([0, 1], ShapeError, "`labels` must have one entry per row of `queries`; got 2 for 4"),
            ([0, 1, 2, 3], DataError, "`labels` must lie in [0, 3); got values from 0 to 3"),
            ([0, 1, 2, -1], DataError, "`labels` must lie in [0, 3); got values from -1 to 2"),
            ([0, 1, 2, 0.5], DataError, "`labels` must hold integer indices; got float64"),
            ([0, 1, 2, np.nan], DataError, "`labels` must hold integer indices; got float64"),
            ([0, 1, 2, np.inf], DataError, "`labels` must hold integer indices; got float64"),
            ([0, 1, 2, 1e30], DataError, "`labels` must lie in [0, 3); got values from 0 to 1e+30"),
            (["a"] * 4, DataError, "`labels` must hold integer indices; got <U1"),
            ([True] * 4, DataError, "`labels` must hold integer indices; got bool"),
            ([[0], [1], [2], [0]], ShapeError, "`labels` must have shape (rows,); got (4, 1)"),
        ],
    )
    def test_labels_that_do_not_fit(self, labels, error, message):
        with refuses(error, message):
            stability(Y, X, Gaussian(0.1), labels=labels)

    def test_whole_numbers_in_floats_will_do(self):
        found = stability(Y, X, Gaussian(0.1), labels=[0.0, 1.0, 2.0, 0.0])
        assert found.accuracy is not None


class TestCandidates:
    def test_sets_belong_to_queries(self):
        sets = np.stack([X] * 3)
        message = (
            "`candidates` must hold one set per query, shape (m, c, d); got (3, 3, 3) for 4 queries"
        )
        with refuses(ShapeError, message):
            nearest_candidates(Y, sets)
        with refuses(ShapeError, message):
            candidate_win_probability(Y, sets, np.zeros(4, int), [0.1], metric="euclidean")

    def test_every_row_of_a_set_counts(self):
        sets = np.stack([X] * 4)
        sets[2, 1] = np.nan
        with refuses(DataError, "`candidates` row 7 (of 1 such rows) holds NaN or infinity"):
            nearest_candidates(Y, sets)


def test_jax_in_32_bits_is_told_how_to_switch():
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        for call in (closers.fit, nearest):
            arguments = (jax.numpy.asarray(Y), jax.numpy.asarray(X))
            arguments = ("recenter", *arguments) if call is closers.fit else arguments
            with refuses(DataError, 'jax.config.update("jax_enable_x64", True)'):
                call(*arguments)
    finally:
        jax.config.update("jax_enable_x64", before)


class TestMappedRows:
    """A map's output has its input's dtype, so whole numbers would come back cut."""

    closure = closers.fit("recenter", X + 0.25, X + 0.5, metric="euclidean")

    @pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
    def test_integers_are_refused_and_not_cut(self, dtype):
        rows = np.ones((2, X.shape[1]), dtype=dtype)
        for side in (self.closure.queries, self.closure.gallery):
            with pytest.raises(DataError, match=f"`rows` must hold floating.*{rows.dtype}"):
                side(rows)

    def test_lists_of_whole_numbers_are_taken_as_floats(self):
        rows = np.arange(2 * X.shape[1]).reshape(2, -1)
        for side in (self.closure.queries, self.closure.gallery):
            np.testing.assert_array_equal(side(rows.tolist()), side(rows.astype(float)))
        assert (self.closure.queries(rows.tolist()) % 1 != 0).any()

    def test_a_number_is_no_row(self):
        with pytest.raises(ShapeError, match=r"`rows` must have shape \(..., d\); got a single"):
            self.closure.queries(1.5)
