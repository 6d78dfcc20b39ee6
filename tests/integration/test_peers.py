"""Other packages that compute the same, on the same real embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from modgap import closers
from modgap._core.moments import Moments, principal_axes
from modgap.decisions.neighbors import nearest
from modgap.robustness.noise import Codec, FaissCodec, Sign


@pytest.fixture(scope="module")
def coco(real_data):
    return tuple(
        real_data("coco_clip_vitb16", name).astype(np.float64)
        for name in ("images.npy", "texts.npy")
    )


@pytest.fixture(scope="module")
def caltech(real_data):
    return (
        real_data("caltech101_clip_vitb32", "images.npy").astype(np.float64),
        real_data("caltech101_clip_vitb32", "texts.npy")[3].astype(np.float64),
    )


class TestConceptErasure:
    def test_erase_is_leace_of_the_modality(self, coco):
        torch = pytest.importorskip("torch")
        leace = pytest.importorskip("concept_erasure")
        images, texts = coco
        both = torch.tensor(np.concatenate(coco))
        label = torch.tensor(np.repeat([[0.0], [1.0]], len(images), axis=0))
        # Plain LEACE: their shrinkage, trace constraint and singular value cut-off are additions.
        fitter = leace.LeaceFitter.fit(
            both, label, shrinkage=False, constrain_cov_trace=False, svd_tol=1e-9
        )
        erased = fitter.eraser(both).numpy()
        closure = closers.fit("erase", images, texts, metric="euclidean")
        # A covariance of 512 dimensions with a condition number of 1e4 is inverted by both.
        np.testing.assert_allclose(closure.apply_queries(images), erased[:500], atol=1e-10)
        np.testing.assert_allclose(closure.apply_gallery(texts), erased[500:], atol=1e-10)

    def test_what_is_erased_is_lost_to_a_linear_probe(self, coco):
        linear = pytest.importorskip("sklearn.linear_model")
        images, texts = coco
        label = np.repeat([0, 1], len(images))
        closure = closers.fit("erase", images, texts, metric="euclidean")
        erased = np.concatenate([closure.apply_queries(images), closure.apply_gallery(texts)])
        # Unpenalised least squares is the probe that LEACE is proved against: it is left with the mean.
        probe = linear.LinearRegression().fit(erased, label)
        np.testing.assert_allclose(probe.predict(erased), 0.5, atol=1e-6)
        before = linear.LinearRegression().fit(np.concatenate(coco), label)
        assert (np.round(before.predict(np.concatenate(coco))) == label).all()


class TestScikitLearn:
    def test_axes_are_principal_components(self, caltech):
        decomposition = pytest.importorskip("sklearn.decomposition")
        texts = caltech[1]
        pca = decomposition.PCA(37, svd_solver="full").fit(texts)
        found = principal_axes(Moments.from_rows(texts, precision="float64"))
        assert found.rank == 37
        np.testing.assert_allclose(
            found.variances / (len(texts) - 1), pca.explained_variance_, rtol=1e-9
        )
        # Each side squares or not: the smallest of 37 directions lose some digits.
        np.testing.assert_allclose(
            np.abs(np.sum(found.axes * pca.components_.T, axis=0)), 1, atol=1e-8
        )

    def test_affine_projects_as_pca_does(self, caltech):
        decomposition = pytest.importorskip("sklearn.decomposition")
        images, texts = caltech
        pca = decomposition.PCA(37, svd_solver="full").fit(texts)
        closure = closers.fit("affine", images, texts, metric="euclidean")
        expected = pca.inverse_transform(pca.transform(images)) - texts.mean(axis=0)
        np.testing.assert_allclose(closure.apply_queries(images), expected, atol=1e-11)
        reduced = closers.fit("affine", images, texts, reduce=True, metric="euclidean")
        signs = np.sign(np.sum(reduced.queries.left * pca.components_.T, axis=0))
        np.testing.assert_allclose(
            reduced.apply_queries(images) * signs, pca.transform(images), atol=1e-9
        )

    @pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
    def test_a_share_of_the_variance_is_as_many_components(self, share, caltech):
        decomposition = pytest.importorskip("sklearn.decomposition")
        pca = decomposition.PCA(share, svd_solver="full").fit(caltech[1])
        closure = closers.fit("orthogonal", *caltech, n_components=share, metric="euclidean")
        assert closure.n_components == pca.n_components_

    def test_scatter_is_the_empirical_covariance(self, coco):
        covariance = pytest.importorskip("sklearn.covariance")
        expected = covariance.EmpiricalCovariance().fit(coco[0]).covariance_
        found = Moments.from_blocks(np.array_split(coco[0], 7), precision="float64")
        np.testing.assert_allclose(found.covariance, expected, atol=1e-15)

    def test_standardize_is_the_standard_scaler_then_the_sphere(self, caltech):
        preprocessing = pytest.importorskip("sklearn.preprocessing")
        closure = closers.fit("standardize", *caltech, metric="euclidean")
        sides = (closure.apply_queries, closure.apply_gallery)
        for apply, cloud in zip(sides, caltech, strict=True):
            scaled = preprocessing.StandardScaler().fit_transform(cloud)
            expected = preprocessing.normalize(scaled)
            np.testing.assert_allclose(apply(cloud), expected, atol=1e-11)

    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    def test_nearest_neighbours(self, metric, coco):
        search = pytest.importorskip("sklearn.neighbors")
        images, texts = coco
        index = search.NearestNeighbors(n_neighbors=10, algorithm="brute", metric=metric).fit(
            images
        )
        distances, indices = index.kneighbors(texts)
        found = nearest(texts, images, k=10, metric=metric)
        np.testing.assert_array_equal(found.indices, indices)
        scores = found.scores if metric == "euclidean" else 1 - found.scores
        np.testing.assert_allclose(scores, distances, atol=1e-7)  # theirs go through squares


class TestScipy:
    def test_procrustes_finds_their_rotation(self, coco):
        linalg = pytest.importorskip("scipy.linalg")
        images, texts = coco
        y, x = images - images.mean(axis=0), texts - texts.mean(axis=0)
        closure = closers.fit("procrustes", images, texts, metric="euclidean")
        turn = linalg.orthogonal_procrustes(y, x)[0]
        found = closure.apply_queries(images)
        # 500 centred pairs leave 13 of 512 dimensions to chance; what lies along the texts is not.
        np.testing.assert_allclose(found @ x.T, y @ turn @ x.T, atol=1e-9)
        assert np.sum((found - x) ** 2) == pytest.approx(np.sum((y @ turn - x) ** 2), rel=1e-12)


class TestFaiss:
    @pytest.fixture(autouse=True)
    def faiss(self):
        return pytest.importorskip("faiss")

    @pytest.mark.parametrize("metric", ["euclidean", "ip"])
    def test_flat_indexes_find_the_same(self, metric, faiss, coco):
        images, texts = (cloud.astype(np.float32) for cloud in coco)
        index = faiss.IndexFlatL2(512) if metric == "euclidean" else faiss.IndexFlatIP(512)
        index.add(images)
        scores, indices = index.search(texts, 5)
        found = nearest(texts, images, k=5, metric=metric)
        # Theirs are float32: a neighbour may change places with one 1e-6 behind.
        assert (found.indices == indices).mean() > 0.999
        own = found.scores**2 if metric == "euclidean" else found.scores
        np.testing.assert_allclose(own, scores, atol=2e-6)

    def test_int8_is_their_eight_bit_quantizer(self, faiss, coco):
        for cloud in coco:
            rows = cloud.astype(np.float32)
            index = faiss.IndexScalarQuantizer(512, faiss.ScalarQuantizer.QT_8bit)
            index.train(rows)
            decoded = index.sa_decode(index.sa_encode(rows))
            found = Codec("int8").apply(rows)
            apart = np.abs(found - decoded) / (np.ptp(rows, axis=0) / 255)
            # Codes are found in float32 there: values at an edge may fall to its other side.
            assert (apart > 0.5).mean() < 1e-3
            assert apart.max() < 1.001
            np.testing.assert_allclose(FaissCodec("SQ8").apply(rows), decoded)

    def test_answers_from_their_index_are_those_from_the_codec(self, faiss, coco):
        images, texts = (cloud.astype(np.float32) for cloud in coco)
        index = faiss.IndexScalarQuantizer(512, faiss.ScalarQuantizer.QT_8bit)
        index.train(images)
        index.add(images)
        theirs = index.search(texts, 1)[1]
        ours = nearest(texts, Codec("int8").apply(images), metric="euclidean").indices
        assert (theirs == ours).mean() > 0.995

    def test_sign_bits_are_their_binary_index(self, faiss, coco):
        images, texts = coco
        index = faiss.IndexBinaryFlat(512)
        index.add(np.packbits(images > 0, axis=1))
        distances, _ = index.search(np.packbits(texts > 0, axis=1), 5)
        sign = Sign()
        found = nearest(sign.apply(texts), sign.apply(images), k=5, metric="euclidean").scores
        np.testing.assert_allclose(found**2 / 4, distances, rtol=1e-12)

    def test_half_floats_are_theirs(self, faiss, coco):
        rows = coco[0].astype(np.float32)
        np.testing.assert_array_equal(
            Codec("float16").apply(rows), FaissCodec("SQfp16").apply(rows)
        )
