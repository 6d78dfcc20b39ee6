"""Claims of exactness on data where they once were wrong: offsets, raw lengths, half precision."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from modgap.closers import fit
from modgap.decisions.neighbors import nearest
from modgap.errors import ClosureWarning

D = 512


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def caltech(real_data):
    return (
        real_data("caltech101_clip_vitb32", "images.npy"),
        real_data("caltech101_clip_vitb32", "texts.npy")[3],
    )


@pytest.fixture
def coco(real_data):
    return tuple(real_data("coco_clip_vitb16", f"{side}.npy") for side in ("images", "texts"))


def changed(closure, queries, gallery):
    """How many answers change, and by which margin the clearest of them was won before."""
    found = nearest(queries, gallery, metric=closure.metric).indices[:, 0]
    y, x = closure.apply_queries(queries), closure.apply_gallery(gallery)
    after = nearest(y, x, metric=closure.comparison).indices[:, 0]
    wide = queries.astype(np.float64), gallery.astype(np.float64)
    if closure.metric == "cosine":
        wide = unit(wide[0]), unit(wide[1])
    between = wide[1][found] - wide[1][after]
    about = wide[0]
    if closure.metric == "euclidean":
        about = about - (wide[1][found] + wide[1][after]) / 2
    margins = np.einsum("ij,ij->i", about, between)
    return int((found != after).sum()), float(margins.max())


class TestScaled:
    def test_far_from_the_origin(self, caltech):
        # The spread of lengths was measured against lengths of 1e4, not against the hull's radius.
        y, x = (side + np.float32(1e4 / np.sqrt(D)) for side in caltech)
        closure = fit("scaled", y, x, metric="euclidean")
        assert closure.exact
        assert changed(closure, y, x)[0] == 0

    @pytest.mark.parametrize("forth", [True, False])
    def test_rows_that_are_nearly_of_one_length(self, forth, coco):
        # Lengths vary by 1e-3, so the sphere's centre is another one. 3 and 4 of 500 answers changed.
        y, x = coco if forth else coco[::-1]
        closure = fit("scaled", y, x, metric="euclidean")
        assert closure.exact
        count, margin = changed(closure, y, x)
        assert count <= 1
        assert margin <= closure.resolution

    def test_affinely_independent_rows_of_any_length(self, coco):
        lengths = np.random.default_rng(0).uniform(0.5, 2, size=(2, 500, 1))
        y, x = coco[0] * lengths[0], coco[1] * lengths[1]
        closure = fit("scaled", y, x, metric="euclidean")
        assert closure.exact
        assert changed(closure, y, x) == (0, 0.0)

    def test_more_rows_than_a_sphere_holds(self, rng):
        y, x = rng.normal(size=(200, 6)), rng.normal(size=(40, 6))
        with pytest.warns(ClosureWarning, match="lie on no common sphere"):
            closure = fit("scaled", y, x, metric="euclidean")
        assert not closure.exact
        assert changed(closure, y, x)[0] > 0


class TestRank:
    @pytest.fixture
    def halves(self, rng):
        """255 rows of float16, as class texts are stored, with 100 added to one coordinate."""
        gallery = unit(rng.normal(size=(255, D)) * np.linspace(0.2, 0.01, D))
        queries = 0.5 * unit(rng.normal(size=(400, D))) + gallery[rng.integers(0, 255, 400)]
        away = np.where(np.arange(D) == 3, 100.0, 0.0)
        return (queries + away).astype(np.float16), (gallery + away).astype(np.float16)

    @pytest.mark.parametrize("method", ["affine", "orthogonal"])
    @pytest.mark.parametrize("metric", ["ip", "euclidean"])
    def test_an_offset_of_one_coordinate_hides_no_direction(self, method, metric, halves):
        closure = fit(method, *halves, metric=metric)  # rank 45 and agreement .46, once
        assert closure.rank == 254
        assert changed(closure, *halves)[0] == 0

    def test_what_an_offset_swallowed_is_no_promise(self, caltech):
        # At 1e6 float32 steps by a sixteenth: three directions were kept, and the claim with them.
        y, x = (side + np.float32(1e6) for side in (caltech[0][:200], caltech[1]))
        for metric in ("euclidean", "cosine"):
            for method in ("orthogonal", "affine", "scaled"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ClosureWarning)
                    closure = fit(method, y, x, metric=metric)
                assert changed(closure, y, x)[0] > 20
                assert not closure.exact

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_the_dtype_of_the_rows_sets_the_noise_under_cosine_too(self, dtype, rng):
        low = unit(rng.normal(size=(400, 50)) @ rng.normal(size=(50, D))).astype(dtype)
        queries = unit(rng.normal(size=(20, D))).astype(dtype)
        closure = fit("affine", queries, low)
        assert closure.rank == 50  # not 399
        # What rounding to halves put outside is left out, and counted.
        assert closure.exact == (dtype == "float32")

    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    @pytest.mark.parametrize(
        ("folder", "side"),
        [
            ("coco_clip_vitb16", "images"),
            ("coco_clip_vitb16", "texts"),
            ("caltech101_clip_vitb32", "texts"),
            ("cifar10_openclip_vitb32_laion2b", "texts"),
        ],
    )
    def test_real_galleries_lose_no_direction_and_get_none(self, folder, side, dtype, real_data):
        x = real_data(folder, f"{side}.npy")
        x = x[-1] if x.ndim == 3 else x
        assert fit("recenter", x[:1].astype(dtype), x.astype(dtype)).rank == len(x) - 1
        # The same rows within fewer directions, far above what rounding brings: no more come back.
        mean = x.mean(axis=0, dtype=np.float64)
        left, sizes, right = np.linalg.svd(x - mean, full_matrices=False)
        fewer = len(x) // 3
        flat = ((left[:, :fewer] * sizes[:fewer]) @ right[:fewer] + mean).astype(dtype)
        assert fit("recenter", flat[:1], flat, metric="euclidean").rank == fewer

    def test_copies_add_no_rank(self, caltech):
        x = caltech[1]
        assert fit("recenter", x[:1], np.concatenate([x, x, x[:5]])).rank == 37
