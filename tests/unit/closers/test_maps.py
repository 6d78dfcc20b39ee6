"""Affine maps and closures: apply, compose, stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modgap._core.arrays import to_numpy
from modgap.closers.closure import Closure
from modgap.closers.maps import AffineMap
from modgap.decisions.metric import COSINE, EUCLIDEAN
from modgap.errors import ClosureError, ShapeError

D, R, E = 5, 2, 3


def host(x):
    return np.asarray(to_numpy(x))


def unit(x):
    norms = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(norms > 0, norms, 1)


def parts(rng):
    """Every part that a map may have."""
    return {
        "center": rng.normal(size=D),
        "left": rng.normal(size=(D, R)),
        "right": rng.normal(size=(R, D)),
        "scale": rng.uniform(0.5, 2, size=D),
        "shift": rng.normal(size=D),
    }


def all_maps(rng):
    p = parts(rng)
    tall = rng.normal(size=(D, D))  # two steps would cost more than the one matrix
    return {
        "identity": AffineMap(D),
        "shift": AffineMap(D, shift=p["shift"]),
        "center": AffineMap(D, center=p["center"]),
        "scale": AffineMap(D, center=p["center"], scale=p["scale"], shift=p["shift"]),
        "number": AffineMap(D, scale=2.5, shift=p["shift"]),
        "narrow": AffineMap(D, center=p["center"], left=p["left"], residual=False),
        "square": AffineMap(D, center=p["center"], left=tall, residual=False),
        "project": AffineMap(D, p["center"], p["left"], p["right"], residual=False),
        "residual": AffineMap(D, p["center"], p["left"], p["right"]),
        "full rank": AffineMap(D, p["center"], tall, tall.T, p["scale"], p["shift"]),
        "all": AffineMap(D, **p),
        "all by a number": AffineMap(D, **{**p, "scale": 0.7}),
        "to another width": AffineMap(
            D, p["center"], p["left"], rng.normal(size=(R, E)), rng.normal(size=E), residual=False
        ),
        "unit in": AffineMap(D, shift=p["shift"], normalize_input=True),
        "unit out": AffineMap(D, **p, normalize_output=True),
        "unit both": AffineMap(D, **p, normalize_input=True, normalize_output=True),
        "unit only": AffineMap(D, normalize_output=True),
    }


NAMES = tuple(all_maps(np.random.default_rng(0)))


AFFINE = tuple(n for n, one in all_maps(np.random.default_rng(0)).items() if one.is_affine)


@pytest.fixture(params=NAMES)
def fitted(request, rng):
    return all_maps(rng)[request.param]


def by_definition(fitted, z):
    """Row by row, straight from the definition in the docstring."""
    rows = []
    for row in np.asarray(z, dtype=np.float64).reshape(-1, fitted.width):
        row = unit(row) if fitted.normalize_input else row
        centred = row if fitted.center is None else row - fitted.center
        moved = centred if fitted.residual else np.zeros(fitted.output_width)
        if fitted.left is not None:
            coordinates = [float(np.sum(centred * column)) for column in fitted.left.T]
            back = np.array(coordinates)
            if fitted.right is not None:
                back = sum(c * line for c, line in zip(coordinates, fitted.right, strict=True))
            moved = moved + back
        if fitted.scale is not None:
            moved = fitted.scale * moved
        if fitted.shift is not None:
            moved = moved + fitted.shift
        rows.append(unit(moved) if fitted.normalize_output else moved)
    return np.array(rows).reshape(*np.shape(z)[:-1], -1)


class TestApply:
    def test_every_part_acts_as_defined(self, fitted, rng):
        z = rng.normal(size=(7, D))
        found = fitted(z)
        assert found.shape == (7, fitted.output_width)
        # Sums of a dozen products of order one, in another order.
        np.testing.assert_allclose(found, by_definition(fitted, z), rtol=1e-12, atol=1e-13)

    @pytest.mark.parametrize("name", ["shift", "project", "all", "unit both"])
    def test_on_every_library(self, name, xp, to_xp, rng):
        fitted = all_maps(rng)[name]
        z = rng.normal(size=(7, D))
        x = to_xp(z)
        found = fitted(x)
        assert type(found) is type(x)
        assert found.dtype == xp.float64
        np.testing.assert_allclose(host(found), by_definition(fitted, z), rtol=1e-12, atol=1e-13)
        np.testing.assert_array_equal(host(x), z)

    def test_the_result_lies_on_the_device_of_the_input(self, fitted, to_other_device, rng):
        z = rng.normal(size=(7, D))
        there = to_other_device(z)
        found = fitted(there)
        assert found.device == there.device
        np.testing.assert_allclose(host(found), by_definition(fitted, z), rtol=1e-12, atol=1e-13)

    @pytest.mark.parametrize(("dtype", "close"), [("float16", 2e-2), ("float32", 1e-5)])
    def test_floats_keep_their_dtype_and_halves_come_back_in_full(self, fitted, dtype, close, rng):
        z = rng.normal(size=(7, D)).astype(dtype)
        found = fitted(z)
        assert found.dtype == np.float32
        # Values up to about 10: ten roundings of the narrow type.
        np.testing.assert_allclose(found, by_definition(fitted, z), rtol=close, atol=close)

    def test_bfloat16_comes_back_in_full(self, fitted, rng):
        torch = pytest.importorskip("torch")
        z = torch.tensor(rng.normal(size=(7, D)), dtype=torch.bfloat16)
        found = fitted(z)
        assert found.dtype == torch.float32
        expected = by_definition(fitted, host(z))
        np.testing.assert_allclose(host(found), expected, rtol=1e-1, atol=1e-1)

    def test_inputs_of_any_layout_are_only_read(self, fitted, rng):
        wide = rng.normal(size=(14, 2 * D))
        before = wide.copy()
        views = [wide[::2, ::2], np.asfortranarray(wide[::2, ::2]), wide[::2, ::2].copy()]
        views[2].flags.writeable = False
        for view in views:
            expected = by_definition(fitted, view)
            np.testing.assert_allclose(fitted(view), expected, rtol=1e-12, atol=1e-13)
        np.testing.assert_array_equal(wide, before)

    def test_stacks_of_galleries_are_mapped_row_by_row(self, fitted, rng):
        stack = rng.normal(size=(2, 3, D))
        found = fitted(stack)
        assert found.shape == (2, 3, fitted.output_width)
        np.testing.assert_allclose(found, by_definition(fitted, stack), rtol=1e-12, atol=1e-13)

    def test_a_zero_row_normalises_to_zero_not_to_nan(self):
        assert AffineMap(D, normalize_output=True)(np.zeros((1, D))).tolist() == [[0.0] * D]

    def test_a_stream_is_mapped_block_by_block(self, fitted, rng):
        z = rng.normal(size=(9, D))
        seen = []

        def blocks():
            for start in (0, 4, 8):
                seen.append(start)
                yield z[start : start + 4]

        stream = fitted.stream(blocks())
        assert seen == []  # nothing is read before it is asked for
        first = next(stream)
        assert seen == [0]
        found = np.concatenate([first, *stream])
        np.testing.assert_allclose(found, fitted(z), rtol=1e-12, atol=1e-13)

    def test_another_width_is_refused(self, fitted):
        with pytest.raises(ClosureError, match=r"of dimension 5; got rows of dimension 4"):
            fitted(np.ones((2, 4)))


class TestMatrix:
    @pytest.mark.parametrize("fitted", AFFINE, indirect=True)
    def test_matrix_and_offset_are_the_map(self, fitted, rng):
        z = rng.normal(size=(7, D))
        product = z if fitted.matrix is None else z @ fitted.matrix
        np.testing.assert_allclose(product + fitted.offset, fitted(z), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(fitted(np.zeros((1, D)))[0], fitted.offset, atol=1e-13)

    def test_what_is_affine_and_what_is_identity(self, rng):
        maps = all_maps(rng)
        assert [name for name, one in maps.items() if one.is_identity] == ["identity"]
        assert {n for n, one in maps.items() if not one.is_affine} == {
            "unit in",
            "unit out",
            "unit both",
            "unit only",
        }

    def test_the_identity_copies_nothing(self, rng):
        z = rng.normal(size=(2, D))
        assert AffineMap(D)(z) is z


class TestThen:
    def test_composed_is_one_after_the_other(self, fitted, rng):
        z = rng.normal(size=(7, D))
        for other in all_maps(np.random.default_rng(1)).values():
            between = fitted.normalize_output or other.normalize_input
            if fitted.output_width != other.width:
                with pytest.raises(ShapeError, match=r"a map to dimension \d .* one from 5"):
                    fitted.then(other)
            elif between and not (fitted.is_identity or other.is_identity):
                with pytest.raises(ClosureError, match="normalisation between them"):
                    fitted.then(other)
            else:
                found = fitted.then(other)
                assert (found.width, found.output_width) == (D, other.output_width)
                np.testing.assert_allclose(found(z), other(fitted(z)), rtol=1e-11, atol=1e-12)


def closure_of(rng, **settings):
    maps = all_maps(rng)
    first, second = maps[settings.pop("first", "all")], maps[settings.pop("second", "shift")]
    return Closure("affine", first, second, **settings)


class TestClosure:
    def test_each_side_has_its_map(self, to_xp, rng):
        closure = closure_of(rng)
        z = rng.normal(size=(3, D))
        np.testing.assert_allclose(
            host(closure.apply_queries(to_xp(z))), closure.queries(z), rtol=1e-12, atol=1e-13
        )
        np.testing.assert_allclose(
            host(closure.apply_gallery(to_xp(z))), closure.gallery(z), rtol=1e-12, atol=1e-13
        )

    def test_then_is_exact_only_if_both_are(self, rng):
        promise = {"metric": EUCLIDEAN, "comparison": EUCLIDEAN, "bound": 1e-12, "resolution": 1e-9}
        first = closure_of(rng, **promise, gain=2.0, alpha=0.5, n_components=2, rank=4)
        second = closure_of(np.random.default_rng(1), **promise)
        z = rng.normal(size=(3, D))
        both = first.then(second)
        assert both.exact
        assert (both.bound, both.gain) == (pytest.approx(1.5e-12), 2.0)
        assert both.method == "affine+affine"
        assert both.alpha is None
        assert both.n_components is None
        np.testing.assert_allclose(
            both.apply_queries(z), second.apply_queries(first.apply_queries(z)), rtol=1e-11
        )
        np.testing.assert_allclose(
            both.apply_gallery(z), second.apply_gallery(first.apply_gallery(z)), rtol=1e-11
        )
        assert not first.then(replace(second, bound=None)).exact
        assert not replace(first, bound=1.0).then(second).exact

    def test_then_follows_the_comparison_of_the_first(self, rng):
        moved = closure_of(rng, metric=COSINE, comparison=EUCLIDEAN)
        euclidean = closure_of(rng, metric=EUCLIDEAN, comparison=EUCLIDEAN)
        both = moved.then(euclidean)
        assert (both.metric, both.comparison) == ("cosine", "euclidean")
        with pytest.raises(ClosureError, match=r"fitted for metric 'cosine'.*under 'euclidean'"):
            moved.then(moved)

    def test_another_metric_is_refused(self, rng):
        closure = closure_of(rng, metric="ip", comparison="ip")
        closure.check_metric("ip")
        with pytest.raises(ClosureError, match="metric 'ip' and is used under 'cosine'"):
            closure.check_metric("cosine")
