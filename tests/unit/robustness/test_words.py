"""The notation of noises: every label is read back, and what is no word gets one line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modgap
from modgap.errors import ArgumentError
from modgap.robustness.noise import (
    Bins,
    Bits,
    Codec,
    Dims,
    FaissCodec,
    Gaussian,
    Sign,
    Uniform,
    as_noises,
    parse,
)

sizes = st.floats(0, allow_infinity=False, allow_nan=False)
pairs = st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)).map(sorted).map(tuple)
ranges = st.sampled_from(["global", "dimension"]) | pairs.filter(lambda pair: pair[0] < pair[1])
flag = st.booleans()
random = {"side": st.sampled_from(["gallery", "queries"])}
stored = {"side": st.sampled_from(["gallery", "queries", "both"])}
turned = {**stored, "rotated": flag, "seed": st.integers(0, 2**63)}
noises = st.one_of(
    st.builds(Gaussian, sizes, relative=flag, **random),
    st.builds(Gaussian, sizes, relative=flag, before=flag),
    st.builds(Uniform, sizes, **random),
    st.builds(Bins, st.integers(2, 2**31), ranges, **turned),
    st.builds(Bits, st.integers(1, 16), ranges, **turned),
    st.builds(
        Bits, st.integers(1, 16), st.sampled_from(["global", "dimension"]), clipped=flag, **turned
    ),
    st.builds(Sign, lengths=flag, **turned),
    st.builds(Dims, st.integers(1, 10**6), **stored),
    st.builds(Codec, st.sampled_from(["int8", "uint8"]), ranges, **stored),
    st.builds(Codec, st.sampled_from(Codec.names), **stored),
    st.builds(FaissCodec, st.sampled_from(["SQ8", "OPQ16,PQ16", "ITQ64,LSH", "a:b"]), **stored),
)


@given(noise=noises)
def test_a_label_loses_nothing(noise):
    assert parse(noise.label) == noise
    assert parse(f" {noise.label} ") == noise


@given(noise=noises)
def test_a_repr_is_the_call_that_makes_it(noise):
    names = {name: getattr(modgap, name) for name in dir(modgap) if name[0].isupper()}
    assert eval(repr(noise), names) == noise


def test_labels_and_reprs_are_short():
    assert Gaussian(0.022).label == "gaussian:0.022"
    assert repr(Gaussian(0.022)) == "Gaussian(0.022)"
    assert repr(Gaussian(1, side="queries")) == "Gaussian(1.0, side='queries')"
    assert Gaussian(1).label == "gaussian:1"
    assert Bins(16).label == "bins:16"
    assert repr(Bins(16, "dimension")) == "Bins(16, range='dimension')"
    assert repr(Sign()) == "Sign()"


@pytest.mark.parametrize(
    ("word", "noise"),
    [
        ("gaussian:.5@queries", Gaussian(0.5, side="queries")),
        ("gaussian-variance:0.04", Gaussian(variance=0.04)),
        ("uniform:1e-3", Uniform(0.001)),
        ("bins:16:global", Bins(16)),
        ("bins:16:rotated:dimension@both", Bins(16, "dimension", rotated=True, side="both")),
        ("bins:4:-1,1", Bins(4, (-1.0, 1.0))),
        ("bits:4:clipped", Bits(4, clipped=True)),
        ("bits:4:lengths", Bits(4, lengths=True)),
        ("bits:2:seed=7:rotated", Bits(2, rotated=True, seed=7)),
        ("sign:lengths:rotated", Sign(rotated=True, lengths=True)),
        ("dims:128", Dims(128)),
        ("uint8:global@queries", Codec("uint8", "global", side="queries")),
        ("faiss:OPQ16,PQ16", FaissCodec("OPQ16,PQ16")),
        # What people type.
        ("Gaussian:0.1", Gaussian(0.1)),
        ("binary", Sign()),
        ("binary:rotated@both", Sign(rotated=True, side="both")),
        ("SQ8", Codec("int8")),
        ("fp16", Codec("float16")),
        ("bf16", Codec("bfloat16")),
        ("fp8@both", Codec("float8_e4m3", side="both")),
        ("pq64", FaissCodec("PQ64")),
        ("PQ8x4@both", FaissCodec("PQ8x4", side="both")),
        ("opq16", FaissCodec("OPQ16,PQ16")),
        ("matryoshka:64", Dims(64)),
    ],
)
def test_words(word, noise):
    assert parse(word) == noise


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "is not understood; write gaussian:SIGMA, uniform:W, bins:N, bits:B, sign"),
        ("@queries", "is not understood; write gaussian:SIGMA"),
        ("l2", "is not understood; write"),
        ("gausian:1@queries", "is not understood; did you mean 'gaussian:1'? Or write gaussian"),
        ("int4", "did you mean 'int8'?"),
        ("gaussian", "is not understood: gaussian needs a value"),
        ("gaussian:", "is not understood: '' is not a number"),
        ("gaussian:1,2", "is not understood: '1,2' is not a number"),
        ("gaussian:1:queries", "not 'queries'"),
        ("bins", "is not understood: bins needs a value"),
        ("bins:2.5", "is not understood: '2.5' is not an integer"),
        ("bins:8:row", "it takes global, dimension, LOW,HIGH, rotated, seed=N, not 'row'"),
        ("bins:8:dimensions", "not 'dimensions' (did you mean dimension?)"),
        ("bins:8:0,a", "is not understood: 'a' is not a number"),
        ("sign:rotate", "it takes rotated, lengths, seed=N, not 'rotate' (did you mean rotated?)"),
        ("sign:seed=x", "is not understood: 'x' is not an integer"),
        ("dims:1:2", "is not understood: it takes no more, not '2'"),
        ("faiss", "`factory` must name a FAISS codec"),
        # Values out of range.
        ("gaussian:-1", "`sigma` must be finite and in [0, inf]; got -1"),
        ("gaussian:nan", "`sigma` must be finite and in [0, inf]; got nan"),
        ("gaussian:1@both", "`side` must be one of gallery, queries; got 'both'"),
        ("gaussian:1@", "`side` must be one of gallery, queries; got ''"),
        ("bins:1", "`bins` must be between 2 and 2147483648; got 1"),
        ("bins:8:0,1,2", "`range` must be global, dimension, or a pair (low, high); got (0.0, 1"),
        ("bits:17", "`bits` must be between 1 and 16; got 17"),
        ("bits:4:0,1:clipped", "`range` is given by its ends, so `clipped` has nothing to choose"),
        ("sign:seed=-1", "`seed` must be at least 0; got -1"),
        ("int8:1,0", "`range` must go from low to high; got (1, 0)"),
        ("int8@left", "`side` must be one of gallery, queries, both; got 'left'"),
        ("float16:global", "`float16` has no range; leave `range` out"),
        ("dims:0", "`dims` must be at least 1; got 0"),
    ],
)
def test_what_is_no_word_gets_one_line(word, message):
    with pytest.raises(ArgumentError, match=re.escape(message)) as caught:
        parse(word)
    assert "\n" not in str(caught.value)


@given(word=st.text(max_size=20) | st.from_regex(r"[a-z:@,=0-9.]{0,20}", fullmatch=True))
def test_any_text_is_a_noise_or_one_line(word):
    try:
        noise = parse(word)
    except ArgumentError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        assert parse(noise.label) == noise


def test_one_noise_or_many_records_or_words():
    every = (Gaussian(0.1), Sign())
    assert as_noises(Gaussian(0.1)) == as_noises("gaussian:0.1") == every[:1]
    assert as_noises(["gaussian:0.1", Sign()]) == every
    assert as_noises(word for word in ("gauss:0.1", "binary")) == every
    assert as_noises([]) == ()
    for wrong in (0.1, [0.1], [None]):
        with pytest.raises(ArgumentError, match="must be noises or words for them"):
            as_noises(wrong)
