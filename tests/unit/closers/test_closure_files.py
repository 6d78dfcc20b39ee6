"""The file of a closure: all of it comes back, and nothing that is no pair of maps passes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modgap.closers import Closure
from modgap.closers.files import FIELDS, FORMAT_VERSION, read_closure, write_closure
from modgap.closers.maps import AffineMap
from modgap.errors import FormatError

D, R, E = 5, 2, 3


def maps(rng):
    """Maps to D dimensions that have every part, one part, or none."""
    tall, wide = rng.normal(size=(D, R)), rng.normal(size=(R, D))
    center, shift = rng.normal(size=D), rng.normal(size=D)
    return {
        "identity": AffineMap(D),
        "unit only": AffineMap(D, normalize_output=True),
        "shift": AffineMap(D, shift=shift, normalize_input=True),
        "number": AffineMap(D, scale=2.5, shift=shift),
        "project": AffineMap(D, center, tall, wide, residual=False),
        "all": AffineMap(D, center, tall, wide, rng.uniform(0.5, 2, size=D), shift),
    }


def closure_of(rng, first="all", second="shift", **settings):
    made = maps(rng)
    return Closure("affine", made[first], made[second], **settings)


def rewrite(path, change_header=None, change_tensors=None):
    """Write the file again with other contents."""
    from safetensors import numpy as files
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as handle:
        header = json.loads(handle.metadata()["modgap"])
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    header = header if change_header is None else change_header(header)
    tensors = tensors if change_tensors is None else change_tensors(tensors)
    text = header if isinstance(header, str) else json.dumps(header)
    files.save_file(tensors, path, metadata={"modgap": text})


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("first", "second"),
        [("identity", "identity"), ("all", "identity"), ("unit only", "project"),
         ("number", "shift"), ("project", "all")],
    )  # fmt: skip
    def test_a_file_holds_all_of_a_closure(self, first, second, rng, tmp_path):
        closure = closure_of(
            rng,
            first=first,
            second=second,
            metric="cosine",
            comparison="ip",
            bound=1e-9,
            resolution=1e-7,
            gain=4.0,
            alpha=0.25,
            n_components=3,
            rank=4,
            info={"gap": 0.5, "note": "ünïcode"},
        )
        loaded = read_closure(write_closure(closure, tmp_path / "one.safetensors"))
        assert {name: getattr(loaded, name) for name in FIELDS} == {
            name: getattr(closure, name) for name in FIELDS
        }
        z = rng.normal(size=(6, D)).astype(np.float32)
        np.testing.assert_array_equal(loaded.apply_queries(z), closure.apply_queries(z))
        np.testing.assert_array_equal(loaded.apply_gallery(z), closure.apply_gallery(z))
        assert loaded.queries.is_affine == closure.queries.is_affine
        assert loaded.queries.is_identity == closure.queries.is_identity

    def test_maps_that_reduce(self, rng, tmp_path):
        sides = [AffineMap(D, left=rng.normal(size=(D, R)), residual=False) for _ in range(2)]
        loaded = read_closure(write_closure(Closure("affine", *sides), tmp_path / "c.safetensors"))
        z = rng.normal(size=(6, D))
        np.testing.assert_array_equal(loaded.apply_queries(z), sides[0](z))

    def test_the_methods_of_a_closure_do_the_same(self, rng, tmp_path):
        path = closure_of(rng, alpha=0.5).save(tmp_path / "one.safetensors")
        assert Closure.load(str(path)).alpha == 0.5

    def test_saving_takes_the_place_of_an_older_file(self, rng, tmp_path):
        path = tmp_path / "one.safetensors"
        write_closure(closure_of(rng, alpha=0.5), path)
        write_closure(closure_of(rng, alpha=0.75), str(path))
        assert read_closure(path).alpha == 0.75
        assert [p.name for p in tmp_path.iterdir()] == ["one.safetensors"]

    def test_the_header_names_its_version(self, rng, tmp_path):
        from safetensors import safe_open

        path = write_closure(closure_of(rng), tmp_path / "one.safetensors")
        with safe_open(path, framework="numpy") as handle:
            header = json.loads(handle.metadata()["modgap"])
        assert header["format_version"] == FORMAT_VERSION
        assert header["queries"]["width"] == D

    def test_a_folder_that_is_missing_gets_no_file(self, rng, tmp_path):
        with pytest.raises(FormatError, match="cannot write"):
            write_closure(closure_of(rng), tmp_path / "absent" / "one.safetensors")
        assert list(tmp_path.iterdir()) == []


class TestNoClosure:
    @pytest.fixture
    def path(self, rng, tmp_path):
        return write_closure(closure_of(rng, second="all"), tmp_path / "one.safetensors")

    def test_missing(self, tmp_path):
        with pytest.raises(FormatError, match=r"no file or folder at `.*absent\.safetensors`"):
            read_closure(tmp_path / "absent.safetensors")

    def test_a_folder(self, tmp_path):
        with pytest.raises(FormatError, match="is a folder, and a file is expected"):
            read_closure(tmp_path)

    @pytest.mark.parametrize("length", [7, 40, -8])
    def test_truncated(self, path, length):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(FormatError, match=r"is no readable \.safetensors file"):
            read_closure(path)

    def test_from_elsewhere_in_a_type_numpy_does_not_know(self, tmp_path):
        torch = pytest.importorskip("torch")
        from safetensors.torch import save_file

        path = tmp_path / "model.safetensors"
        save_file({"weight": torch.zeros((2, 2), dtype=torch.bfloat16)}, path)
        with pytest.raises(FormatError, match="no closure of modgap; write one with modgap close"):
            read_closure(path)


class TestTampered:
    @pytest.fixture
    def path(self, rng, tmp_path):
        return write_closure(closure_of(rng, second="all"), tmp_path / "one.safetensors")

    def test_of_a_later_format(self, path):
        rewrite(path, lambda header: {**header, "format_version": 99})
        with pytest.raises(
            FormatError, match="closure format 99; this modgap reads format 2: upgr"
        ):
            read_closure(path)

    def test_of_the_format_that_had_a_flag_and_no_bound(self, path):
        new = ("bound", "resolution", "gain")

        def older(header):
            kept = {name: value for name, value in header.items() if name not in new}
            return {**kept, "format_version": 1, "exact": True}

        rewrite(path, older)
        with pytest.raises(FormatError, match=r"closure format 1, which .* reads format 2: fit it"):
            read_closure(path)

    @pytest.mark.parametrize(
        "header",
        [
            [],
            {},
            {"format_version": "new"},
            {"format_version": True},
            {"format_version": float("inf")},
            {"format_version": float("nan")},
            {"format_version": 10**30},
            '{"format_version": ' + "9" * 5000 + "}",
            '{"format_version": 1, "info": ' + '{"a":' * 100_000 + "0" + "}" * 100_001,
            "{",
        ],
        ids=lambda header: str(header)[:30],
    )
    def test_a_header_that_is_none(self, path, header):
        rewrite(path, lambda _: header)
        with pytest.raises(FormatError, match="has a damaged closure header"):
            read_closure(path)

    @pytest.mark.parametrize("key", [*FIELDS, "queries", "gallery"])
    def test_a_header_without_a_part(self, path, key):
        rewrite(path, lambda header: {k: v for k, v in header.items() if k != key})
        with pytest.raises(FormatError, match=f"is a damaged closure file.*{key}"):
            read_closure(path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("method", 3),
            ("metric", "manhattan"),
            ("comparison", None),
            ("bound", "small"),
            ("bound", -1.0),
            ("gain", None),
            ("alpha", "1"),
            ("alpha", float("nan")),
            ("alpha", 10**400),
            ("n_components", [3]),
            ("n_components", -1),
            ("rank", 2.5),
            ("rank", True),
            ("info", 5),
            ("queries", [1]),
        ],
        ids=lambda value: str(value)[:12],
    )
    def test_a_setting_of_another_kind(self, path, key, value):
        rewrite(path, lambda header: {**header, key: value})
        with pytest.raises(FormatError, match=f"is a damaged closure file .`{key}` ") as caught:
            read_closure(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("key", "value"),
        [("width", 0), ("width", 10**18), ("width", None), ("residual", 1), ("residual", False)],
    )
    def test_a_map_of_another_kind(self, rng, tmp_path, key, value):
        path = write_closure(closure_of(rng, first="identity"), tmp_path / "one.safetensors")
        rewrite(path, lambda h: {**h, "queries": {**h["queries"], key: value}})
        with pytest.raises(FormatError, match="is a damaged closure file"):
            read_closure(path)

    @pytest.mark.parametrize("part", ["center", "left", "right", "scale", "shift"])
    def test_a_part_of_another_width(self, path, part):
        key = f"gallery.{part}"
        rewrite(path, change_tensors=lambda t: {**t, key: np.zeros((D + 1,) * t[key].ndim)})
        with pytest.raises(FormatError, match=rf"damaged closure file.*gallery\.{part}"):
            read_closure(path)

    @pytest.mark.parametrize(
        ("tensors", "said"),
        [
            ({"gallery.shift": np.full(D, np.nan)}, r"gallery\.shift holds NaN"),
            ({"gallery.left": np.full((D, R), np.inf)}, r"gallery\.left holds NaN or inf"),
            ({"gallery.shift": np.zeros(D, dtype=np.int64)}, r"gallery\.shift holds int64"),
            ({"gallery.left": np.zeros(())}, r"gallery\.left has shape \(\)"),
            # Linear parts that are not square, where the identity is to be added or nothing is.
            (
                {"gallery.right": np.zeros((R, E)), "gallery.shift": np.zeros(E),
                 "gallery.scale": np.ones(E)},
                "gallery adds the identity to a map from 5 to 3",
            ),
            (
                {f"{side}.{part}": value for side in ("queries", "gallery")
                 for part, value in (("right", np.zeros((R, E))), ("shift", np.zeros(E)),
                                     ("scale", np.ones(E)))},
                "queries adds the identity to a map from 5 to 3",
            ),
        ],
    )  # fmt: skip
    def test_tensors_that_make_no_map(self, path, tensors, said):
        rewrite(path, change_tensors=lambda t: {**t, **tensors})
        with pytest.raises(FormatError, match=rf"damaged closure file \(({said})"):
            read_closure(path)

    def test_a_second_factor_alone(self, path):
        rewrite(path, change_tensors=lambda t: {k: v for k, v in t.items() if k != "gallery.left"})
        with pytest.raises(FormatError, match=r"damaged closure file \(gallery\.right|no linear"):
            read_closure(path)


class TestSummary:
    """What a closure remembers of its rows is read back, or the file is damaged; none is no mistake."""

    @pytest.fixture
    def path(self, rng, tmp_path):
        from modgap import closers

        closure = closers.fit("recenter", rng.normal(size=(9, D)) + 1, rng.normal(size=(8, D)))
        return write_closure(closure, tmp_path / "one.safetensors")

    def test_it_comes_back(self, path):
        summary = read_closure(path).summary
        assert (summary.queries.count, summary.gallery.count) == (9, 8)
        assert summary.axes.shape == (D, D)
        assert summary.bits > 0

    def test_files_of_before_have_none(self, path):
        rewrite(path, lambda header: {k: v for k, v in header.items() if k != "fit"})
        assert read_closure(path).summary is None

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("fit.axes", np.zeros((D + 1, 2)), r"fit\.axes holds float64"),
            ("fit.axes", np.zeros(()), r"fit\.axes holds float64"),
            ("fit.queries.mean", np.zeros(D, np.int64), r"fit\.queries\.mean holds int64"),
            ("fit.gallery.within", np.full((D, D), np.nan), r"fit\.gallery\.within holds NaN"),
            ("fit.gallery.within", None, "no 'fit.gallery.within'"),
        ],
    )
    def test_tensors_that_are_none(self, path, key, value, said):
        def change(tensors):
            return {k: v for k, v in {**tensors, key: value}.items() if v is not None}

        rewrite(path, change_tensors=change)
        with pytest.raises(FormatError, match=rf"damaged closure file \({said}"):
            read_closure(path)

    @pytest.mark.parametrize(
        "stated", [3, {}, {"bits": "x", "queries": {"count": 1, "variance": 1.0}},
                   {"bits": None, "queries": {"count": -1, "variance": 1.0}}]
    )  # fmt: skip
    def test_a_header_that_is_none(self, path, stated):
        rewrite(path, lambda header: {**header, "fit": stated})
        with pytest.raises(FormatError, match="damaged closure file"):
            read_closure(path)

    def test_of_a_mixed_collection(self, rng, tmp_path):
        from modgap import closers

        items = {"image": rng.normal(size=(8, D)), "text": rng.normal(size=(7, D)) + 2}
        made = closers.calibrate(rng.normal(size=(9, D)), items)
        path = write_closure(made, tmp_path / "mixed.safetensors")
        found = read_closure(path).summaries
        assert {name: each.gallery.count for name, each in found.items()} == {"image": 8, "text": 7}
        np.testing.assert_array_equal(found["text"].axes, made.summaries["text"].axes)
        rewrite(path, lambda header: {k: v for k, v in header.items() if k != "fits"})
        assert read_closure(path).summaries == {}
        for fits in (3, {"image": 3}, {"sound": {}}):
            rewrite(path, lambda header, fits=fits: {**header, "fits": fits})
            with pytest.raises(FormatError, match="damaged closure file"):
                read_closure(path)
