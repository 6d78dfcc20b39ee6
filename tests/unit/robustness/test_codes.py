"""Codes: levels, bits, signs, number formats, against NumPy, torch and FAISS."""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modgap import closers
from modgap._core.arrays import to_numpy
from modgap.decisions.neighbors import nearest
from modgap.errors import ArgumentError, CodeWarning, MissingExtraError
from modgap.robustness import faiss_codec
from modgap.robustness.noise import Bins, Bits, Codec, Dims, FaissCodec, Sign, round_to_float
from modgap.robustness.outcomes import stability

CODES = [
    Bins(8),
    Bins(5, "dimension"),
    Bins(4, (-0.5, 1.5)),
    Bins(8, rotated=True),
    Bits(3),
    Bits(2, "dimension", clipped=True, rotated=True),
    Sign(),
    Sign(rotated=True, lengths=True),
    Dims(4),
    Codec("int8", (-1.0, 1.0)),
    *(Codec(name) for name in Codec.names),
]


def host(x):
    return np.asarray(to_numpy(x))


def label(noise):
    return noise.label


@pytest.fixture
def cloud(rng):
    return rng.normal(size=(30, 6)) * np.array([1, 0.1, 3, 0.5, 1, 2]) + 0.3


class TestBins:
    @pytest.mark.parametrize("bins", [2, 3, 8, 256])
    def test_every_value_goes_to_its_nearest_level(self, bins, to_xp, cloud):
        levels = np.linspace(cloud.min(), cloud.max(), bins)
        nearest_level = levels[np.abs(cloud[..., None] - levels).argmin(axis=-1)]
        x = to_xp(cloud)
        found = Bins(bins).apply(x)
        assert type(found) is type(x)
        # Levels are low + i * step here and linspace there.
        np.testing.assert_allclose(host(found), nearest_level, rtol=1e-14, atol=1e-15)
        np.testing.assert_array_equal(host(x), cloud)

    def test_both_ends_are_levels(self, cloud):
        found = Bins(7).apply(cloud)
        assert found.min() == cloud.min()
        assert found.max() == pytest.approx(cloud.max(), rel=1e-15)
        assert len(np.unique(found)) <= 7

    def test_the_range_of_each_dimension(self, cloud):
        found = Bins(5, "dimension").apply(cloud)
        for column, stored in zip(cloud.T, found.T, strict=True):
            levels = np.linspace(column.min(), column.max(), 5)
            expected = levels[np.abs(column[:, None] - levels).argmin(axis=1)]
            np.testing.assert_allclose(stored, expected, rtol=1e-14, atol=1e-15)

    def test_a_given_range_takes_values_outside_to_its_ends(self, cloud):
        found = Bins(3, (0.0, 1.0)).apply(cloud)
        assert set(np.unique(found)) == {0.0, 0.5, 1.0}
        assert (found[cloud > 1] == 1).all()
        assert (found[cloud < 0] == 0).all()

    def test_a_constant_coordinate_stays(self, cloud):
        cloud = cloud.copy()
        cloud[:, 2] = 0.7
        np.testing.assert_array_equal(Bins(4, "dimension").apply(cloud)[:, 2], 0.7)
        np.testing.assert_array_equal(Bins(4).apply(np.full((3, 2), 0.7)), 0.7)

    def test_templates_share_one_range(self, rng):
        stack = rng.normal(size=(2, 5, 3))
        for rule in ("global", "dimension"):
            found = Bins(6, rule).apply(stack)
            expected = Bins(6, rule).apply(stack.reshape(10, 3)).reshape(stack.shape)
            np.testing.assert_array_equal(found, expected)

    @given(
        hnp.arrays(np.float64, (6, 3), elements=st.floats(-1e3, 1e3)),
        st.integers(2, 300),
        st.sampled_from(["global", "dimension"]),
    )
    def test_no_value_moves_by_more_than_half_a_step_and_a_second_pass_moves_none(
        self, x, bins, rule
    ):
        found = Bins(bins, rule).apply(x)
        axis = None if rule == "global" else 0
        step = (x.max(axis=axis) - x.min(axis=axis)) / (bins - 1)
        assert (np.abs(found - x) <= step / 2 + 1e-12 * np.abs(x).max()).all()
        np.testing.assert_allclose(
            Bins(bins, rule).apply(found), found, atol=1e-12 * (1 + np.abs(x).max())
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((1,), "`bins` must be between 2 and 2147483648; got 1"),
            ((2.5,), "`bins` must be an integer; got 2.5"),
            ((8, "row"), "`range` must be one of global, dimension; got 'row'"),
            ((8, (1.0, 0.0)), "`range` must go from low to high; got (1, 0)"),
            ((8, (0.0, 0.0)), "`range` must go from low to high; got (0, 0)"),
            ((8, (0.0, np.inf)), "`range` must be finite"),
            ((8, (0.0, 0.5, 1.0)), "`range` must be global, dimension, or a pair (low, high)"),
            ((8, None), "`range` must be global, dimension, or a pair (low, high); got None"),
        ],
    )
    def test_settings_out_of_range(self, arguments, message):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            Bins(*arguments)

    @pytest.mark.parametrize(
        ("bins", "figures"), [(8, (0.323, 0.568, 0.992)), (16, (0.907, 0.919, 0.998))]
    )
    def test_caltech(self, bins, figures, real_data):
        # An independent prototype's figures, to their three digits: codecs have no sampling error.
        images = real_data("caltech101_clip_vitb32", "images.npy")
        texts = real_data("caltech101_clip_vitb32", "texts.npy")[3]
        for method, figure in zip(("none", "orthogonal", "affine"), figures, strict=True):
            closure = closers.fit(method, images, texts, metric="euclidean")
            outcome = stability(images, texts, Bins(bins), closure=closure, metric="euclidean")
            assert outcome.estimator == "deterministic"
            assert outcome.stderr == 0
            assert outcome.stability.mean() == pytest.approx(figure, abs=5e-4)
            # All three are exact: their own decisions are those before closing.
            np.testing.assert_array_equal(outcome.stability, outcome.retention)


class TestBits:
    @pytest.mark.parametrize("rule", ["global", "dimension", (-1.0, 2.0)])
    @pytest.mark.parametrize("bits", [1, 2, 8])
    def test_every_value_goes_to_the_middle_of_its_cell(self, bits, rule, to_xp, cloud):
        found = host(Bits(bits, rule).apply(to_xp(cloud)))
        for column, stored in zip(cloud.T, found.T, strict=True):
            low, high = {"global": (cloud.min(), cloud.max())}.get(
                rule, (column.min(), column.max()) if isinstance(rule, str) else rule
            )
            edges = np.linspace(low, high, 2**bits + 1)
            cell = np.clip(np.searchsorted(edges, column, side="right") - 1, 0, 2**bits - 1)
            middles = (edges[:-1] + edges[1:]) / 2
            # A value on an edge, within rounding, may fall to either side: none with this seed.
            np.testing.assert_allclose(stored, middles[cell], rtol=1e-12, atol=1e-13)

    def test_no_value_moves_by_more_than_half_a_cell(self, cloud):
        step = np.abs(Bits(3, "dimension").apply(cloud) - cloud) / np.ptp(cloud, axis=0)
        assert step.max() <= 1 / 16 + 1e-12

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_a_clipped_range_has_the_least_error(self, bits):
        x = np.random.default_rng(0).normal(size=(2000, 20)) + 3
        error = np.mean((Bits(bits, clipped=True).apply(x) - x) ** 2)
        other = [
            np.mean((Bits(bits, (3 - width, 3 + width)).apply(x) - x) ** 2)
            for width in np.linspace(1, 5, 81)
        ]
        assert error < 1.02 * min(other)  # the search goes in steps of 6 %
        # Max (1960), table 2; the tails leave the mean of 40,000 squares an error of about 1.5 %.
        best = {1: 0.3634, 2: 0.1188, 4: 0.01154}.get(bits, error)
        assert error == pytest.approx(best, rel=0.05)
        assert np.mean((Bits(bits).apply(x) - x) ** 2) > 1.05 * error

    def test_a_length_kept_makes_the_product_with_the_row_itself_right(self, to_xp, rng):
        x = rng.normal(size=(50, 12)) * np.geomspace(0.01, 100, 50)[:, None]
        x[7] = 0
        for code in (
            Bits(2, lengths=True),
            Bits(3, "dimension", clipped=True, rotated=True, lengths=True),
        ):
            found = host(code.apply(to_xp(x)))
            np.testing.assert_allclose((found * x).sum(axis=1), (x**2).sum(axis=1), rtol=1e-10)
            # Long rows and short ones come back alike: without lengths all share one range.
            errors = np.linalg.norm(found - x, axis=1)[x.any(axis=1)]
            lengths = np.linalg.norm(x, axis=1)[x.any(axis=1)]
            assert (errors < 0.8 * lengths).all()
        plain = host(Bits(2).apply(to_xp(x)))
        assert np.linalg.norm(plain[0] - x[0]) > 10 * np.linalg.norm(x[0])

    def test_a_row_whose_code_points_away_from_it_stays_as_it_was_read(self):
        read = Bits(1, (0.0, 1.0), lengths=True).apply(np.array([[-3.0, -4.0]]))
        np.testing.assert_array_equal(read, [[0.25, 0.25]])

    def test_clipping_is_chosen_for_each_dimension(self, rng):
        x = rng.normal(size=(500, 4)) * np.array([1e-3, 1, 100, 1])
        x[:, 3] = rng.uniform(size=500)  # nothing to gain
        clipped = Bits(2, "dimension", clipped=True).apply(x)
        full = Bits(2, "dimension").apply(x)
        errors = [((found - x) ** 2).mean(axis=0) for found in (clipped, full)]
        assert (errors[0][:3] < 0.8 * errors[1][:3]).all()
        assert 0.9 * errors[1][3] < errors[0][3] <= errors[1][3]

    def test_a_clipped_range_is_learnt_from_part_of_many_rows(self, rng, monkeypatch):
        from modgap.robustness import ranges

        x = rng.normal(size=(3000, 8))
        whole = np.mean((Bits(2, clipped=True).apply(x) - x) ** 2)
        monkeypatch.setattr(ranges, "_SAMPLE", 100)
        assert np.mean((Bits(2, clipped=True).apply(x) - x) ** 2) < 1.02 * whole

    def test_a_constant_coordinate_stays(self):
        for clipped in (False, True):
            code = Bits(2, "dimension", clipped=clipped)
            np.testing.assert_array_equal(code.apply(np.full((4, 2), 0.3)), 0.3)


class TestRotated:
    """A code of rotated rows: rotate, code, rotate back. An orthogonal matrix of our own checks it."""

    @pytest.mark.parametrize(
        "code", [Bins(6), Bits(2, clipped=True), Sign(), Sign(lengths=True)], ids=label
    )
    def test_it_is_the_code_of_the_rotated_rows(self, code, to_xp, cloud):
        normal = np.random.default_rng(5).standard_normal((6, 6))
        q, r = np.linalg.qr(normal)
        turn = q * np.sign(np.diag(r))
        np.testing.assert_allclose(turn @ turn.T, np.eye(6), atol=1e-12)
        expected = code.apply(cloud @ turn) @ turn.T
        found = dataclasses.replace(code, rotated=True, seed=5).apply(to_xp(cloud))
        # No value of this cloud lies within rounding of the edge of a cell.
        np.testing.assert_allclose(host(found), expected, rtol=1e-10, atol=1e-10)

    def test_seeds_turn_otherwise(self, cloud):
        codes = [Sign(rotated=True, seed=seed).apply(cloud) for seed in (0, 0, 1)]
        np.testing.assert_array_equal(codes[0], codes[1])
        assert np.abs(codes[0] - codes[2]).max() > 0.1

    def test_a_rotation_ruins_the_signs_of_rows_that_are_not_centred(self, rng):
        # All rows share a large coordinate: alone it costs one bit, rotated it decides all of them.
        gallery = rng.normal(size=(300, 64))
        queries = gallery + 0.5 * rng.normal(size=gallery.shape)
        gallery[:, 0] += 40
        right = {}
        for code in (Sign(), Sign(rotated=True)):
            found = nearest(queries, code.apply(gallery), metric="ip").indices[:, 0]
            right[code] = (found == np.arange(300)).mean()
        assert right[Sign()] > 0.9 > 0.7 > right[Sign(rotated=True)]


class TestDims:
    def test_the_first_coordinates_stay(self, to_xp, cloud):
        found = host(Dims(2).apply(to_xp(cloud)))
        np.testing.assert_array_equal(found[:, :2], cloud[:, :2])
        np.testing.assert_array_equal(found[:, 2:], 0)
        np.testing.assert_array_equal(Dims(6).apply(cloud), cloud)

    @pytest.mark.parametrize("metric", ["euclidean", "ip", "cosine"])
    def test_the_gallery_alone_ranks_as_if_both_were_cut(self, metric, rng):
        queries, gallery = rng.normal(size=(20, 8)), rng.normal(size=(50, 8))
        found = nearest(queries, Dims(3).apply(gallery), k=50, metric=metric).indices
        cut = nearest(queries[:, :3], gallery[:, :3], k=50, metric=metric).indices
        np.testing.assert_array_equal(found, cut)

    def test_more_than_there_are(self, cloud):
        with pytest.raises(ArgumentError, match="at most the rows' width; got 7 for width 6"):
            Dims(7).apply(cloud)


FLOATS = {
    "float16": ("float16", 10, -14, 65504.0),
    "bfloat16": ("bfloat16", 7, -126, 3.3895313892515355e38),
    "float8_e4m3": ("float8_e4m3fn", 3, -6, 448.0),
    "float8_e5m2": ("float8_e5m2", 2, -14, 57344.0),
}


def hard_values(mantissa, least, largest):
    """Ties, halves of ties, neighbours of powers of two, subnormal numbers, the largest one."""
    exponents = np.arange(least - mantissa - 2, np.floor(np.log2(largest)))
    grid = np.concatenate([2.0**exponents, 3 * 2.0 ** (exponents - 1)])
    steps = np.array([0, 0.25, 0.5, 0.75, 1, 1.5, 2.5]) * 2.0**-mantissa
    ties = (grid[:, None] * (1 + steps)).ravel()
    beside = np.concatenate([np.nextafter(ties, 0), ties, np.nextafter(ties, np.inf)])
    random = np.random.default_rng(0).normal(size=3000) * 10 ** np.linspace(-6, 1, 3000)
    values = np.concatenate([beside, -beside, random, [0.0, largest, -largest]])
    values = values.astype(np.float32).astype(np.float64)  # what torch is given
    return values[np.abs(values) <= largest]


@pytest.mark.parametrize("name", FLOATS)
class TestNumberFormats:
    def test_values_are_rounded_as_torch_rounds_them(self, name, to_xp):
        torch = pytest.importorskip("torch")
        torch_name, mantissa, least, largest = FLOATS[name]
        values = hard_values(mantissa, least, largest)
        cast = torch.tensor(values, dtype=torch.float32).to(getattr(torch, torch_name))
        found = Codec(name).apply(to_xp(values.reshape(-1, 1)))
        np.testing.assert_array_equal(host(found)[:, 0], np.asarray(cast.to(torch.float64).cpu()))

    def test_values_beyond_the_largest_saturate(self, name):
        largest = FLOATS[name][3]
        # Where 1.1 times the largest lies beyond float32 it does in float64 too, harmlessly.
        found = Codec(name).apply(np.array([[1.1 * largest, -3 * largest]]))
        np.testing.assert_array_equal(found, [[largest, -largest]])

    def test_a_second_pass_changes_nothing(self, name, rng):
        once = Codec(name).apply(rng.normal(size=(20, 4)))
        np.testing.assert_array_equal(Codec(name).apply(once), once)

    @given(values=hnp.arrays(np.float64, 20, elements=st.floats(-400, 400)))
    def test_errors_stay_below_half_a_unit(self, name, values):
        _, mantissa, least, largest = FLOATS[name]
        found = round_to_float(values, mantissa=mantissa, least_exponent=least, largest=largest)
        size = np.maximum(np.abs(values), 2.0**least)
        assert (np.abs(found - values) <= size * 2.0 ** -(mantissa + 1)).all()


def test_float16_is_numpy_s():
    values = hard_values(10, -14, 65504.0)
    found = Codec("float16").apply(values[:, None])[:, 0]
    np.testing.assert_array_equal(found, values.astype(np.float16).astype(np.float64))


class TestSign:
    def test_one_bit_a_coordinate(self, to_xp, cloud):
        cloud = cloud.copy()
        cloud[0, :3] = 0.0, -0.0, 1e-300
        found = host(Sign().apply(to_xp(cloud)))
        np.testing.assert_array_equal(found, np.where(cloud > 0, 1.0, -1.0))

    @pytest.mark.parametrize("metric", ["euclidean", "ip", "cosine"])
    @pytest.mark.parametrize("width", [16, 64, 512])
    def test_rankings_are_hamming_distances_of_packed_bits(self, width, metric, rng):
        queries, gallery = rng.normal(size=(20, width)), rng.normal(size=(60, width))
        bits = [np.packbits(cloud > 0, axis=1) for cloud in (queries, gallery)]
        differ = np.unpackbits(bits[0][:, None] ^ bits[1][None], axis=2).sum(axis=2)
        expected = np.argsort(differ, axis=1, kind="stable")[:, :10]  # many ties: the lower index
        sign = Sign()
        for dtype in (np.float32, np.float64):
            y, x = (sign.apply(cloud.astype(dtype)) for cloud in (queries, gallery))
            found = nearest(y, x, k=10, metric=metric).indices
            if metric == "cosine":  # |x| = sqrt(width) is rounded, and with it the ties
                found = np.take_along_axis(differ, found, axis=1)
                np.testing.assert_array_equal(found, np.take_along_axis(differ, expected, axis=1))
            else:
                np.testing.assert_array_equal(found, expected)

    def test_faiss_binary_index_finds_the_same_distances(self, rng):
        faiss = pytest.importorskip("faiss")
        queries, gallery = rng.normal(size=(20, 64)), rng.normal(size=(60, 64))
        index = faiss.IndexBinaryFlat(64)
        index.add(np.packbits(gallery > 0, axis=1))
        distances, _ = index.search(np.packbits(queries > 0, axis=1), 10)
        sign = Sign()
        found = nearest(sign.apply(queries), sign.apply(gallery), k=10, metric="euclidean").scores
        # Each differing bit adds (1 - -1)^2 to the squared distance.
        np.testing.assert_allclose(found**2 / 4, distances, rtol=1e-13)

    def test_both_sides_are_stored_as_bits(self, rng):
        queries, gallery = rng.normal(size=(40, 16)), rng.normal(size=(10, 16))
        differ = ((queries > 0)[:, None] != (gallery > 0)[None]).sum(axis=2)
        before = nearest(queries, gallery, metric="euclidean").indices[:, 0]
        outcome = stability(queries, gallery, Sign(side="both"), metric="euclidean")
        np.testing.assert_array_equal(outcome.stability, differ.argmin(axis=1) == before)


class TestLengths:
    """One number a row: the multiple of the signs whose product with the row is its squared length."""

    def test_products_with_the_row_itself_are_kept(self, to_xp, cloud):
        found = host(Sign(lengths=True).apply(to_xp(cloud)))
        np.testing.assert_array_equal(np.sign(found), np.where(cloud > 0, 1, -1))
        size = np.abs(found)
        np.testing.assert_allclose(size, size[:, :1].repeat(6, axis=1), rtol=1e-12)
        products = (found * cloud).sum(axis=1)
        np.testing.assert_allclose(products, (cloud**2).sum(axis=1), rtol=1e-12)

    def test_a_zero_row_stays_zero(self):
        np.testing.assert_array_equal(Sign(lengths=True).apply(np.zeros((2, 3))), 0)

    @pytest.mark.parametrize(
        ("code", "figure"),
        [(Sign(), 0.358), (Sign(lengths=True), 0.376), (Bits(2, "dimension"), 0.471),
         (Bits(4, "dimension"), 0.833)],
        ids=str,
    )  # fmt: skip
    def test_real_photos(self, code, figure, real_data):
        # recall@10 of an independent prototype, on another half of the texts: 601 queries of ten
        # items each; two halves differ by .01.
        images = real_data("photos_clip_vitb32", "images.npy")
        texts = real_data("photos_clip_vitb32", "texts.npy")[::2]
        true = nearest(texts, images, k=10, metric="ip").indices
        found = nearest(texts, code.apply(images), k=10, metric="ip").indices
        recall = (found[:, :, None] == true[:, None, :]).any(axis=2).mean()
        assert recall == pytest.approx(figure, abs=0.02)


class TestInt8:
    @pytest.mark.parametrize("rows", [50, 1000])
    def test_values_come_back_as_faiss_decodes_them(self, rows, rng):
        faiss = pytest.importorskip("faiss")
        cloud = (rng.normal(size=(rows, 32)) * rng.uniform(0.01, 3, size=32)).astype(np.float32)
        index = faiss.IndexScalarQuantizer(32, faiss.ScalarQuantizer.QT_8bit)
        index.train(cloud)
        decoded = index.sa_decode(index.sa_encode(cloud))
        for name in ("int8", "uint8"):
            found = Codec(name).apply(cloud)
            assert found.dtype == np.float32
            step = np.ptp(cloud, axis=0) / 255
            apart = np.abs(found - decoded) / step
            # FAISS finds the code in float32: a value within rounding of an edge may fall on its
            # other side. Everything else agrees but for the rounding of the decoded value.
            other = apart > 0.5
            assert other.mean() < 1e-3
            assert apart[~other].max() < 1e-3
            assert apart.max() < 1.001

    def test_the_factory_string_gives_the_same(self, rng):
        pytest.importorskip("faiss")
        cloud = rng.normal(size=(100, 8)).astype(np.float32)
        found, other = Codec("int8").apply(cloud), FaissCodec("SQ8").apply(cloud)
        assert np.isclose(found, other, atol=1e-5).mean() > 0.999

    def test_on_every_library(self, to_xp, cloud):
        x = to_xp(cloud)
        found = Codec("int8").apply(x)
        assert type(found) is type(x)
        np.testing.assert_allclose(host(found), Codec("int8").apply(cloud), rtol=1e-13)

    def test_a_constant_coordinate_stays(self):
        np.testing.assert_array_equal(Codec("int8").apply(np.full((4, 2), 0.3)), 0.3)

    def test_a_given_range(self):
        found = Codec("uint8", (0.0, 255.0)).apply(np.array([[-3.0, 0.2, 7.9, 255.0, 400.0]]))
        np.testing.assert_array_equal(found, [[0.5, 0.5, 7.5, 255.5, 255.5]])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("int4",), "`name` must be one of int8, uint8, float16"),
            (("float16", "global"), "`float16` has no range; leave `range` out"),
            (("int8", "row"), "`range` must be one of global, dimension; got 'row'"),
            (("int8", (1.0, -1.0)), "`range` must go from low to high; got (1, -1)"),
        ],
    )
    def test_settings_out_of_range(self, arguments, message):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            Codec(*arguments)


@pytest.mark.parametrize("noise", CODES, ids=label)
class TestEveryDecoder:
    def test_device_dtype_and_shape_follow(self, noise, to_other_device, cloud):
        there = to_other_device(cloud)
        found = noise.apply(there)
        assert found.device == there.device
        assert found.shape == cloud.shape
        for dtype in (np.float16, np.float32):
            assert noise.apply(cloud.astype(dtype)).dtype == dtype

    def test_bfloat16(self, noise, cloud):
        torch = pytest.importorskip("torch")
        x = torch.tensor(cloud, dtype=torch.bfloat16)
        found = noise.apply(x)
        assert found.dtype == torch.bfloat16
        # Rounded to eight bits once more, relative to the largest value of about 8.
        expected = noise.apply(host(x).astype(np.float64))
        np.testing.assert_allclose(host(found), expected, rtol=2**-8, atol=1e-6)

    def test_any_layout_is_only_read(self, noise, cloud):
        wide = np.zeros((60, 12))
        wide[::2, ::2] = cloud
        wide.flags.writeable = False
        for view in (wide[::2, ::2], np.asfortranarray(cloud)):
            np.testing.assert_array_equal(noise.apply(view), noise.apply(cloud))


class TestFaissCodec:
    @pytest.fixture(autouse=True)
    def _needs_faiss(self):
        pytest.importorskip("faiss")

    @pytest.mark.parametrize("factory", ["SQ8", "SQ4", "PQ4x2", "SQfp16"])
    def test_values_are_stored_and_read_back(self, factory, rng):
        cloud = rng.normal(size=(200, 8)).astype(np.float32)
        found = FaissCodec(factory).apply(cloud)
        assert found.shape == cloud.shape
        assert found.dtype == np.float32
        assert 0 < np.abs(found - cloud).max() < 3

    def test_float64_and_torch_keep_their_kind(self, rng):
        torch = pytest.importorskip("torch")
        cloud = rng.normal(size=(100, 8))
        assert FaissCodec("SQ8").apply(cloud).dtype == np.float64
        found = FaissCodec("SQ8").apply(torch.asarray(cloud))
        assert found.dtype == torch.float64

    def test_what_faiss_cannot_store_is_one_line(self, rng):
        cloud = rng.normal(size=(5, 8)).astype(np.float32)
        message = "FAISS cannot store 5 rows of dimension 8 as 'nonsense'"
        with pytest.raises(ArgumentError, match=message) as caught:
            FaissCodec("nonsense").apply(cloud)
        assert "\n" not in str(caught.value)

    def test_its_warnings_become_one_of_ours(self, rng, capfd):
        cloud = rng.normal(size=(100, 4)).astype(np.float32)
        with pytest.warns(CodeWarning, match="FAISS trains PQ2x2 on 100 rows and wants") as said:
            FaissCodec("PQ2x2").apply(cloud)
        assert len(said) == 1
        assert "at least 156 training points" in str(said[0].message)
        assert capfd.readouterr().err == ""

    def test_what_others_write_meanwhile_comes_out_afterwards(self, capfd):
        with faiss_codec.native_warnings() as said:
            os.write(2, b"WARNING one\nprogress 3/7\nWARNING two\n")
        assert said == ["one", "two"]
        assert capfd.readouterr().err == "progress 3/7\n"

    def test_a_process_without_standard_error(self, monkeypatch):
        def closed(_):
            raise OSError("bad file descriptor")

        monkeypatch.setattr(os, "dup", closed)
        with faiss_codec.native_warnings() as said:
            pass
        assert said == []

    def test_no_name(self):
        for factory in ("", "SQ8 ", "SQ8@queries"):
            with pytest.raises(ArgumentError, match="`factory` must name a FAISS codec"):
                FaissCodec(factory)


def test_without_faiss_the_extra_is_named(monkeypatch, rng):
    import sys

    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r'pip install "modgap\[faiss\]"'):
        FaissCodec("SQ8").apply(rng.normal(size=(5, 8)))
