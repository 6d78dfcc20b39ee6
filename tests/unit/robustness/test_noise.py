"""Noise and codecs: levels, number formats against torch and FAISS, and the command line's words."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modgap import closers
from modgap._core.arrays import to_numpy
from modgap.decisions.neighbors import nearest
from modgap.errors import ArgumentError, MissingExtraError
from modgap.robustness.noise import (
    Bins,
    Codec,
    FaissCodec,
    Gaussian,
    Uniform,
    parse,
    round_to_float,
)
from modgap.robustness.outcomes import stability

CODECS = ("int8", "uint8", "float16", "bfloat16", "float8_e4m3", "float8_e5m2", "sign")
DECODERS = [
    Bins(8),
    Bins(5, "dimension"),
    Bins(4, (-0.5, 1.5)),
    Codec("int8", (-1.0, 1.0)),
    *(Codec(name) for name in CODECS),
]


def host(x):
    return np.asarray(to_numpy(x))


def label(noise):
    return noise.label


@pytest.fixture
def cloud(rng):
    return rng.normal(size=(30, 6)) * np.array([1, 0.1, 3, 0.5, 1, 2]) + 0.3


class TestRandomNoise:
    @pytest.mark.parametrize("side", ["gallery", "queries"])
    def test_gaussian_draws_are_normal(self, side):
        noise = Gaussian(0.3, side=side)
        draw = noise.unit_draw(np.random.default_rng(0), (200, 500))
        assert draw.dtype == np.float32
        # 100,000 values: the mean and the mean square have standard errors .0032 and .0045.
        assert abs(draw.mean()) < 0.013
        assert abs((draw**2).mean() - 1) < 0.018
        assert noise.scale == 0.3

    def test_uniform_draws_fill_the_interval(self):
        draw = Uniform(0.2).unit_draw(np.random.default_rng(0), (200, 500))
        assert draw.dtype == np.float32
        assert -1 <= draw.min() < -0.9999
        assert 0.9999 < draw.max() <= 1
        # Variance 1/3; the mean square of 100,000 values has a standard error of .00094.
        assert abs((draw**2).mean() - 1 / 3) < 0.004

    def test_a_variance_is_the_square_of_sigma(self):
        assert Gaussian(variance=0.04).scale == pytest.approx(0.2, rel=1e-15)
        assert Gaussian(variance=0.04) == Gaussian(sigma=np.sqrt(0.04))
        with pytest.raises(ArgumentError, match="either `sigma` or `variance`; give exactly one"):
            Gaussian()
        with pytest.raises(ArgumentError, match="either `sigma` or `variance`; give exactly one"):
            Gaussian(0.1, variance=0.01)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Gaussian(-0.1), "`sigma` must be finite and in [0, inf]; got -0.1"),
            (lambda: Gaussian(np.nan), "`sigma` must be finite and in [0, inf]; got nan"),
            (lambda: Gaussian(np.inf), "`sigma` must be finite and in [0, inf]; got inf"),
            (lambda: Gaussian("big"), "`sigma` must be a number; got 'big'"),
            (lambda: Gaussian(variance=-1), "`variance` must be finite and in [0, inf]; got -1"),
            (lambda: Gaussian(0.1, side="both"), "`side` must be one of gallery, queries; got 'bo"),
            (lambda: Uniform(-1), "`half_width` must be finite and in [0, inf]; got -1"),
            (lambda: Uniform(1, side=""), "`side` must be one of gallery, queries; got ''"),
        ],
    )
    def test_values_out_of_range(self, make, message):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            make()


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
            ((8, "global", "all"), "`side` must be one of gallery, queries, both; got 'all'"),
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
            closure = closers.fit(method, images, texts)
            outcome = stability(images, texts, Bins(bins), closure=closure)
            assert outcome.estimator == "deterministic"
            assert outcome.stderr == 0
            assert outcome.stability.mean() == pytest.approx(figure, abs=5e-4)
            # All three are exact: their own decisions are those before closing.
            np.testing.assert_array_equal(outcome.stability, outcome.retention)


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
        np.testing.assert_array_equal(host(found)[:, 0], cast.to(torch.float64).numpy())

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
        found = host(Codec("sign").apply(to_xp(cloud)))
        np.testing.assert_array_equal(found, np.where(cloud > 0, 1.0, -1.0))

    @pytest.mark.parametrize("metric", ["euclidean", "ip", "cosine"])
    @pytest.mark.parametrize("width", [16, 64, 512])
    def test_rankings_are_hamming_distances_of_packed_bits(self, width, metric, rng):
        queries, gallery = rng.normal(size=(20, width)), rng.normal(size=(60, width))
        bits = [np.packbits(cloud > 0, axis=1) for cloud in (queries, gallery)]
        differ = np.unpackbits(bits[0][:, None] ^ bits[1][None], axis=2).sum(axis=2)
        expected = np.argsort(differ, axis=1, kind="stable")[:, :10]  # many ties: the lower index
        sign = Codec("sign")
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
        sign = Codec("sign")
        found = nearest(sign.apply(queries), sign.apply(gallery), k=10).scores
        # Each differing bit adds (1 - -1)^2 to the squared distance.
        np.testing.assert_allclose(found**2 / 4, distances, rtol=1e-13)

    def test_both_sides_are_stored_as_bits(self, rng):
        queries, gallery = rng.normal(size=(40, 16)), rng.normal(size=(10, 16))
        differ = ((queries > 0)[:, None] != (gallery > 0)[None]).sum(axis=2)
        before = nearest(queries, gallery).indices[:, 0]
        outcome = stability(queries, gallery, Codec("sign", side="both"))
        np.testing.assert_array_equal(outcome.stability, differ.argmin(axis=1) == before)


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
            (("int8", "dimension", "all"), "`side` must be one of gallery, queries, both"),
        ],
    )
    def test_settings_out_of_range(self, arguments, message):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            Codec(*arguments)


@pytest.mark.parametrize("noise", DECODERS, ids=label)
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

    @pytest.mark.parametrize("factory", ["SQ8", "SQ4", "PQ4x4", "SQfp16"])
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

    def test_an_empty_factory(self):
        with pytest.raises(ArgumentError, match="`factory` must name a FAISS codec"):
            FaissCodec("")


def test_without_faiss_the_extra_is_named(monkeypatch, rng):
    import sys

    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r'pip install "modgap\[faiss\]"'):
        FaissCodec("SQ8").apply(rng.normal(size=(5, 8)))


# Sizes that %g writes in full, so that the label holds all of them.
sizes = st.integers(0, 10**6).map(lambda v: v / 10**6)
ranges = st.sampled_from(["global", "dimension"]) | st.tuples(
    st.integers(-999, -1).map(lambda v: v / 100), st.integers(0, 999).map(lambda v: v / 100)
)
random_sides = st.sampled_from(["gallery", "queries"])
codec_sides = st.sampled_from(["gallery", "queries", "both"])
noises = st.one_of(
    st.builds(Gaussian, sizes, random_sides),
    st.builds(Uniform, sizes, random_sides),
    st.builds(Bins, st.integers(2, 2**31), ranges, codec_sides),
    st.builds(Codec, st.sampled_from(["int8", "uint8"]), ranges, codec_sides),
    st.builds(Codec, st.sampled_from(CODECS), side=codec_sides),
    st.builds(FaissCodec, st.sampled_from(["SQ8", "OPQ16,PQ16", "ITQ64,LSH", "a:b"]), codec_sides),
)


class TestParse:
    @given(noise=noises)
    def test_the_label_is_read_back(self, noise):
        assert parse(f"{noise.label}@{noise.side}") == noise
        if noise.side == "gallery":
            assert parse(noise.label) == noise

    @pytest.mark.parametrize(
        ("word", "noise"),
        [
            ("gaussian:0.022", Gaussian(0.022)),
            ("gaussian:.5@queries", Gaussian(0.5, side="queries")),
            ("gaussian-variance:0.04", Gaussian(variance=0.04)),
            ("uniform:1e-3", Uniform(0.001)),
            ("bins:16", Bins(16)),
            ("bins:16:global", Bins(16)),
            ("bins:16:dimension@both", Bins(16, "dimension", "both")),
            ("bins:4:-1,1", Bins(4, (-1.0, 1.0))),
            ("int8", Codec("int8")),
            ("uint8:global@queries", Codec("uint8", "global", "queries")),
            ("int8:-0.5,0.5", Codec("int8", (-0.5, 0.5))),
            ("float8_e4m3", Codec("float8_e4m3")),
            ("sign@both", Codec("sign", side="both")),
            ("faiss:OPQ16,PQ16", FaissCodec("OPQ16,PQ16")),
        ],
    )
    def test_words(self, word, noise):
        assert parse(word) == noise

    @pytest.mark.parametrize(
        "word",
        [
            "",
            "gauss:1",
            "gaussian",
            "gaussian:",
            "gaussian:a",
            "gaussian:1:2",
            "gaussian:1,2",
            "uniform:1:queries",
            "bins",
            "bins:",
            "bins:x",
            "bins:2.5",
            "bins:8:0,1,2",
            "bins:8:0,a",
            "bins:8:global:1",
            "float16:global",
            "sign:1",
            "faiss",
            "int4",
            "@queries",
        ],
    )
    def test_words_that_are_none(self, word):
        with pytest.raises(ArgumentError, match=re.escape(f"`noise` {word!r} is not understood")):
            parse(word)

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("gaussian:-1", "`sigma` must be finite and in [0, inf]; got -1"),
            ("gaussian:nan", "`sigma` must be finite and in [0, inf]; got nan"),
            ("gaussian:1@both", "`side` must be one of gallery, queries; got 'both'"),
            ("bins:1", "`bins` must be between 2 and 2147483648; got 1"),
            ("bins:8:row", "`range` must be one of global, dimension; got 'row'"),
            ("bins:8:1,0", "`range` must go from low to high; got (1, 0)"),
            ("int8:1,0", "`range` must go from low to high; got (1, 0)"),
            ("int8@left", "`side` must be one of gallery, queries, both; got 'left'"),
            ("faiss:", "`factory` must name a FAISS codec"),
        ],
    )
    def test_words_with_values_out_of_range(self, word, message):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            parse(word)

    @given(word=st.text(max_size=20))
    def test_any_text_is_a_noise_or_one_line(self, word):
        try:
            parse(word)
        except ArgumentError as error:
            assert "\n" not in str(error)  # noqa: PT017
