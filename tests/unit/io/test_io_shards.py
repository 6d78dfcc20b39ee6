import numpy as np
import pytest
from io_files import save

from modgap.errors import DataError, FormatError, ShapeError
from modgap.io import open_source, read_array


def cloud(rows, seed=0, width=4):
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def fill(folder, kind, count, *, suffix=".npy", rows=3, **more):
    folder.mkdir(parents=True, exist_ok=True)
    arrays = [cloud(rows + i, i) for i in range(count)]
    for i, array in enumerate(arrays):
        save(folder / f"{kind}_{i}{suffix}", emb=array, **more)
    return np.concatenate(arrays)


def test_shards_follow_their_numbers_not_their_names(tmp_path):
    whole = fill(tmp_path, "img_emb", 12)
    source = open_source(tmp_path)
    assert [shard.name for shard in source.shards] == [f"img_emb_{i}.npy" for i in range(12)]
    assert [shard.rows for shard in source.shards] == list(range(3, 15))
    assert source.shape == whole.shape
    assert source.rows == len(whole)
    np.testing.assert_array_equal(source.read(), whole)
    np.testing.assert_array_equal(np.concatenate(list(source.blocks(5))), whole)
    assert source.describe() == {
        "path": str(tmp_path),
        "format": "npy",
        "key": None,
        "shape": [102, 4],
        "dtype": "float32",
        "shards": 12,
    }


def test_the_layout_of_clip_retrieval(tmp_path):
    images = fill(tmp_path / "img_emb", "img_emb", 2)
    texts = fill(tmp_path / "text_emb", "text_emb", 3)
    fill(tmp_path / "metadata", "metadata", 2, suffix=".parquet")
    np.testing.assert_array_equal(read_array(f"{tmp_path}:img_emb"), images)
    np.testing.assert_array_equal(read_array(f"{tmp_path}:text_emb"), texts)
    np.testing.assert_array_equal(read_array(tmp_path / "img_emb"), images)
    wanted = (
        r"holds shards of 3 kinds: `img_emb`, `metadata`, `text_emb`; choose one with `.*:KIND`"
    )
    with pytest.raises(FormatError, match=wanted):
        open_source(tmp_path)


def test_kinds_side_by_side_in_one_folder(tmp_path):
    images = fill(tmp_path, "img_emb", 2)
    fill(tmp_path, "text_emb", 2)
    np.testing.assert_array_equal(read_array(f"{tmp_path}:img_emb"), images)
    with pytest.raises(FormatError, match=r"2 kinds: `img_emb`, `text_emb`"):
        open_source(tmp_path)
    with pytest.raises(FormatError, match=r"no shards `audio`; it holds `img_emb`, `text_emb`$"):
        open_source(f"{tmp_path}:audio")


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".safetensors"])
def test_a_key_within_the_shards(tmp_path, suffix):
    other = cloud(1)[:0]
    folder = tmp_path / "one"
    folder.mkdir()
    arrays = [cloud(3, 1), cloud(4, 2)]
    for i, array in enumerate(arrays):
        save(folder / f"metadata_{i}{suffix}", a=array, b=array + 1)
    whole = np.concatenate(arrays)
    assert other.size == 0
    np.testing.assert_array_equal(read_array(f"{folder}:b"), whole + 1)
    np.testing.assert_array_equal(read_array(f"{folder}:metadata:a"), whole)
    fill(folder, "img_emb", 1)
    np.testing.assert_array_equal(read_array(f"{folder}:metadata:b"), whole + 1)
    with pytest.raises(FormatError, match=rf"metadata_0\{suffix}` has no key `c`; it holds `a`"):
        open_source(f"{folder}:metadata:c")


def test_one_kind_in_two_formats_is_told_apart_by_suffix(tmp_path):
    whole = fill(tmp_path, "emb", 2)
    fill(tmp_path, "emb", 2, suffix=".npz")
    with pytest.raises(FormatError, match=r"2 kinds: `emb\.npy`, `emb\.npz`"):
        open_source(tmp_path)
    np.testing.assert_array_equal(read_array(f"{tmp_path}:emb.npy"), whole)


@pytest.mark.parametrize(
    "names",
    [
        ["img_emb_000.npy", "img_emb_001.npy"],
        ["0.npy", "1.npy"],
        ["part-00000-of-00002.npy", "part-00001-of-00002.npy"],
        ["emb_7.npy", "emb_8.npy"],
    ],
)
def test_other_ways_to_number(tmp_path, names):
    for i, name in enumerate(names):
        save(tmp_path / name, emb=cloud(2, i))
    np.testing.assert_array_equal(read_array(tmp_path), np.concatenate([cloud(2, 0), cloud(2, 1)]))


def test_hidden_and_foreign_files_are_passed_over(tmp_path):
    whole = fill(tmp_path, "emb", 2)
    (tmp_path / ".emb_2.npy.abc.tmp.npy").write_bytes(b"half")
    (tmp_path / ".emb_5.npy").write_bytes(b"half")
    (tmp_path / "modgap.json").write_text("{}")
    (tmp_path / "notes_3.md").write_text("x")
    np.testing.assert_array_equal(read_array(tmp_path), whole)


def test_a_hole_in_the_numbering_names_the_missing_shard(tmp_path):
    fill(tmp_path, "emb", 4)
    (tmp_path / "emb_2.npy").unlink()
    wanted = r"lacks shard 2: after `emb_1\.npy` comes `emb_3\.npy`; add the missing file"
    with pytest.raises(FormatError, match=wanted):
        open_source(tmp_path)


def test_a_missing_end_shows_where_the_names_count(tmp_path):
    save(tmp_path / "part-0-of-3.npy", emb=cloud(2))
    with pytest.raises(FormatError, match=r"has 1 of the 3 shards that `part-0-of-3\.npy` counts"):
        open_source(tmp_path)


def test_two_files_of_one_number(tmp_path):
    save(tmp_path / "emb_1.npy", emb=cloud(2))
    save(tmp_path / "emb_01.npy", emb=cloud(2))
    with pytest.raises(FormatError, match=r"number 1: `emb_01\.npy` and `emb_1\.npy`"):
        open_source(tmp_path)


def test_the_same_kind_here_and_in_a_folder(tmp_path):
    fill(tmp_path, "emb", 1)
    fill(tmp_path / "emb", "emb", 1)
    with pytest.raises(FormatError, match=r"holds `emb` shards twice: `.*emb_0\.npy` and"):
        open_source(f"{tmp_path}:emb")


def test_widths_must_agree(tmp_path):
    save(tmp_path / "emb_0.npy", emb=cloud(2, width=4))
    save(tmp_path / "emb_1.npy", emb=cloud(2, width=5))
    wanted = (
        r"`emb_0\.npy` has width 4 \(shape \(2, 4\)\), `emb_1\.npy` has width 5 \(shape \(2, 5\)\)"
    )
    with pytest.raises(ShapeError, match=wanted):
        open_source(tmp_path)


def test_types_may_differ_among_floats_only(tmp_path):
    save(tmp_path / "emb_0.npy", emb=cloud(2).astype(np.float16))
    save(tmp_path / "emb_1.npy", emb=cloud(2).astype(np.float64))
    source = open_source(tmp_path)
    assert source.dtype == np.float64
    assert {block.dtype for block in source.blocks(1)} == {np.dtype(np.float64)}
    assert [shard.dtype for shard in source.shards] == [np.float16, np.float64]
    save(tmp_path / "emb_2.npy", emb=np.ones((2, 4), dtype=np.int8))
    with pytest.raises(DataError, match=r"`emb_0\.npy` holds float16, `emb_2\.npy` holds int8"):
        open_source(tmp_path)


def test_shards_of_labels_are_one_axis(tmp_path):
    save(tmp_path / "labels_0.npy", emb=np.arange(3))
    save(tmp_path / "labels_1.npy", emb=np.arange(4))
    source = open_source(tmp_path)
    assert source.shape == (7,)
    np.testing.assert_array_equal(source.read(), [0, 1, 2, 0, 1, 2, 3])


def test_templates_come_unsharded(tmp_path):
    save(tmp_path / "emb_0.npy", emb=np.zeros((2, 3, 4)))
    assert open_source(tmp_path).shape == (2, 3, 4)
    save(tmp_path / "emb_1.npy", emb=np.zeros((2, 3, 4)))
    with pytest.raises(ShapeError, match=r"emb_0\.npy` has shape \(2, 3, 4\); shards must have"):
        open_source(tmp_path)


def test_an_empty_folder_and_one_without_shards(tmp_path):
    with pytest.raises(FormatError, match=r"the folder `.*` is empty; shards like"):
        open_source(tmp_path)
    (tmp_path / "readme.md").write_text("x")
    with pytest.raises(FormatError, match=r"holds no shards like `img_emb_0\.npy`; modgap reads"):
        open_source(tmp_path)
    path = save(tmp_path / "emb.npy", emb=cloud(2))
    with pytest.raises(FormatError, match=rf"name the file itself, for example `{path}`"):
        open_source(tmp_path)
