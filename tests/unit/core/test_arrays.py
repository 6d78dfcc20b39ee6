"""The array helpers against plain NumPy, on every library."""

from __future__ import annotations

import numpy as np
import pytest

from modgap._core import arrays as _arrays
from modgap.errors import DataError


def host(x):
    return np.asarray(_arrays.to_numpy(x))


class TestConversions:
    def test_values_go_to_the_host_and_back(self, xp, to_xp, rng):
        values = rng.normal(size=(3, 4))
        x = to_xp(values)
        assert _arrays.is_array(x)
        assert isinstance(_arrays.to_numpy(x), np.ndarray)
        np.testing.assert_array_equal(host(x), values)
        back = _arrays.asarray_like(values, x)
        assert type(back) is type(x)
        assert back.dtype == xp.float64
        np.testing.assert_array_equal(host(back), values)

    def test_a_host_array_is_not_copied(self, rng):
        values = rng.normal(size=(3, 4))
        assert _arrays.to_numpy(values) is values
        assert _arrays.as_float64(values) is values

    def test_float64_follows_the_library(self, xp, to_xp):
        assert _arrays.float64(xp) == xp.float64
        narrow = to_xp(np.ones((2, 2), dtype=np.float32))
        wide = _arrays.as_float64(narrow)
        assert wide.dtype == xp.float64
        assert narrow.dtype == xp.float32

    def test_lists_and_strings_are_no_arrays(self):
        assert not _arrays.is_array([[1.0]])
        assert not _arrays.is_array("x")
        assert not _arrays.is_array(None)

    def test_an_array_on_another_device_comes_to_the_host(self, to_other_device, rng):
        values = rng.normal(size=(2, 3))
        there = to_other_device(values)
        np.testing.assert_array_equal(host(there), values)
        back = _arrays.asarray_like(values, there)
        assert _arrays.device(back) == _arrays.device(there)

    @pytest.mark.parametrize("view", ["reversed", "read-only", "transposed", "scalar"])
    def test_views_of_any_kind_come_to_every_library(self, view, to_xp, rng):
        values = rng.normal(size=(3, 4))
        values.flags.writeable = view != "read-only"
        values = {"reversed": values[:, ::-1], "transposed": values.T, "scalar": values[0, 0]}.get(
            view, values
        )
        found = _arrays.asarray_like(values, to_xp(np.ones(2)))
        np.testing.assert_array_equal(host(found), values)

    def test_torch_parameters_and_bfloat16_come_to_the_host(self):
        torch = pytest.importorskip("torch")
        parameter = torch.nn.Parameter(torch.tensor([[1.0, 2.5]]))
        np.testing.assert_array_equal(host(parameter), [[1.0, 2.5]])
        half = torch.tensor([1.0, 0.375], dtype=torch.bfloat16)
        found = _arrays.to_numpy(half)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [1.0, 0.375])

    @pytest.mark.parametrize(
        ("name", "worked_in", "eps"),
        [
            ("float16", "float32", 2.0**-10),
            ("float32", "float32", 2.0**-23),
            ("float64", "float64", 2.0**-52),
        ],
    )
    def test_products_are_made_in_float32_or_wider(self, name, worked_in, eps):
        x = np.ones((2, 2), dtype=name)
        assert _arrays.working_float(x).dtype == np.dtype(worked_in)
        assert _arrays.dtype_eps(x) == eps

    def test_bfloat16_has_its_own_rounding_unit(self):
        torch = pytest.importorskip("torch")
        x = torch.ones((2, 2), dtype=torch.bfloat16)
        assert _arrays.dtype_eps(x) == torch.finfo(torch.bfloat16).eps
        assert _arrays.working_float(x).dtype == torch.float32

    def test_jax_in_32_bits_is_refused_with_the_switch(self):
        jax = pytest.importorskip("jax")
        before = jax.config.jax_enable_x64
        jax.config.update("jax_enable_x64", False)
        try:
            with pytest.raises(DataError, match=r"jax\.config\.update\(\"jax_enable_x64\", True\)"):
                _arrays.float64(jax.numpy)
        finally:
            jax.config.update("jax_enable_x64", before)


class TestRows:
    def test_norms_and_directions(self, to_xp, rng):
        values = rng.normal(size=(5, 4))
        values[2] = 0
        norms = np.linalg.norm(values, axis=1)
        x = to_xp(values)
        np.testing.assert_allclose(host(_arrays.row_norms(x)), norms, rtol=1e-15)
        unit = host(_arrays.normalize_rows(x))
        np.testing.assert_array_equal(unit[2], 0)  # no NaN: a zero row stays zero
        np.testing.assert_allclose(np.linalg.norm(unit, axis=1), [1, 1, 0, 1, 1], rtol=1e-15)
        np.testing.assert_allclose(unit * norms[:, None], values, atol=1e-15)
        np.testing.assert_array_equal(host(x), values)

    def test_normalize_rows_takes_stacks(self, rng):
        stack = rng.normal(size=(2, 3, 4))
        unit = _arrays.normalize_rows(stack)
        np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1, rtol=1e-15)

    @pytest.mark.parametrize("shape", [(3,), (2, 3)])
    def test_gathered_rows_are_fancy_indexing(self, shape, to_xp, rng):
        values, rows = rng.normal(size=(6, 4)), rng.integers(0, 6, size=shape)
        found = _arrays.gather_rows(to_xp(values), to_xp(rows))
        np.testing.assert_array_equal(host(found), values[rows])

    @pytest.mark.parametrize("weighted", [False, True])
    def test_bincount_is_numpy_s(self, weighted, to_xp, rng):
        indices = rng.integers(0, 5, size=30)
        weights = rng.normal(size=30) if weighted else None
        found = _arrays.bincount(to_xp(indices), None if weights is None else to_xp(weights), 8)
        expected = np.bincount(indices, weights=weights, minlength=8)
        assert found.shape == (8,)
        np.testing.assert_allclose(host(found), expected, rtol=1e-14, atol=1e-14)

    @pytest.mark.parametrize(
        ("rows", "row_elements", "elements", "lengths"),
        [
            (10, 3, 9, [3, 3, 3, 1]),
            (10, 3, 2, [1] * 10),  # a row larger than a block still gets its turn
            (4, 3, 1000, [4]),
            (0, 3, 9, []),
            (5, 0, 2, [2, 2, 1]),
        ],
    )
    def test_blocks_cover_every_row_once(self, rows, row_elements, elements, lengths):
        slices = list(_arrays.block_slices(rows, row_elements, elements=elements))
        assert [part.stop - part.start for part in slices] == lengths
        covered = [i for part in slices for i in range(part.start, part.stop)]
        assert covered == list(range(rows))


class TestStackRows:
    @pytest.mark.parametrize("step", [1, 3, 10])
    def test_blocks_become_one_array(self, step, to_xp, rng):
        rows = rng.normal(size=(10, 4))
        parts = (to_xp(rows[i : i + step]) for i in range(0, 10, step))
        np.testing.assert_array_equal(host(_arrays.stack_rows(parts, 10)), rows)
