import os

import numpy as np
import pytest
from io_files import KEYED, SUFFIXES, save, save_table

from modgap.io import open_source, read_array

CLOUD = np.random.default_rng(0).standard_normal((23, 5)).astype(np.float32)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".feather", ".pth"])
def test_every_format_gives_back_the_array(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    save(path if suffix != ".pth" else tmp_path / "y.pt", emb=CLOUD)
    if suffix == ".pth":
        (tmp_path / "y.pt").rename(path)
    source = open_source(path)
    assert source.shape == (23, 5)
    assert source.dtype == np.float32
    assert (source.rows, source.width) == (23, 5)
    got = source.read()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, CLOUD)
    np.testing.assert_array_equal(read_array(path), CLOUD)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rows", [1, 4, 22, 23, 1000])
def test_blocks_end_to_end_are_the_array(tmp_path, suffix, rows):
    source = open_source(save(tmp_path / f"x{suffix}", emb=CLOUD))
    blocks = list(source.blocks(rows))
    assert all(1 <= len(block) <= rows for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), CLOUD)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int64"])
def test_types_stay_as_they_are(tmp_path, suffix, dtype):
    array = (CLOUD * 10).astype(dtype)
    source = open_source(save(tmp_path / f"x{suffix}", emb=array))
    assert source.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(source.read(), array)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".pt"])
@pytest.mark.parametrize("rows", [3, 100])
def test_a_gallery_per_template_is_streamed_template_by_template(tmp_path, suffix, rows):
    array = np.arange(2 * 7 * 3, dtype=np.float32).reshape(2, 7, 3)
    source = open_source(save(tmp_path / f"x{suffix}", emb=array))
    assert (source.shape, source.rows, source.width) == ((2, 7, 3), 14, 3)
    np.testing.assert_array_equal(source.read(), array)
    blocks = list(source.blocks(rows))
    assert [len(block) for block in blocks] == ([3, 3, 1] * 2 if rows == 3 else [7, 7])
    np.testing.assert_array_equal(np.concatenate(blocks), array.reshape(14, 3))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_axis_holds_labels(tmp_path, suffix):
    labels = np.arange(23)
    source = open_source(save(tmp_path / f"x{suffix}", labels=labels))
    assert (source.shape, source.rows, source.width) == ((23,), 23, 1)
    np.testing.assert_array_equal(source.read(), labels)
    np.testing.assert_array_equal(np.concatenate(list(source.blocks(10))), labels)


@pytest.mark.parametrize("suffix", KEYED)
def test_a_key_chooses_the_array(tmp_path, suffix):
    path = save(tmp_path / f"x{suffix}", a=CLOUD, b=CLOUD + 1)
    np.testing.assert_array_equal(read_array(f"{path}:b"), CLOUD + 1)
    np.testing.assert_array_equal(read_array(path, key="a"), CLOUD)
    assert open_source(f"{path}:b").describe() == {
        "path": str(path),
        "format": suffix[1:],
        "key": "b",
        "shape": [23, 5],
        "dtype": "float32",
        "shards": 1,
    }


@pytest.mark.parametrize("suffix", KEYED)
def test_the_only_cloud_among_other_arrays_needs_no_key(tmp_path, suffix):
    path = save(tmp_path / f"x{suffix}", labels=np.arange(23), emb=CLOUD, score=CLOUD[:, 0].copy())
    source = open_source(path)
    assert source.key == "emb"
    np.testing.assert_array_equal(source.read(), CLOUD)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("shape", [(23, 5), (2, 7, 3)])
def test_column_order_is_read_by_rows(tmp_path, suffix, shape):
    array = np.asfortranarray(np.random.default_rng(1).standard_normal(shape))
    assert not array.flags.c_contiguous
    source = open_source(save(tmp_path / f"x{suffix}", emb=array))
    np.testing.assert_array_equal(source.read(), array)
    blocks = list(source.blocks(4))
    assert all(block.flags.c_contiguous for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), array.reshape(-1, shape[-1]))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_foreign_byte_order_comes_back_native(tmp_path, suffix):
    source = open_source(save(tmp_path / f"x{suffix}", emb=CLOUD.astype(">f4")))
    assert source.dtype == np.dtype("=f4")
    assert source.read().dtype.isnative
    np.testing.assert_array_equal(source.read(), CLOUD)
    np.testing.assert_array_equal(next(source.blocks()), CLOUD)


def test_a_compressed_archive_is_streamed(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", emb=CLOUD)
    np.testing.assert_array_equal(
        np.concatenate(list(open_source(tmp_path / "x.npz").blocks(5))), CLOUD
    )


def test_npy_and_safetensors_are_mapped_read_only(tmp_path):
    for suffix in (".npy", ".safetensors"):
        array = read_array(save(tmp_path / f"x{suffix}", emb=CLOUD))
        assert type(array) is np.ndarray
        assert not array.flags.writeable
        assert not array.flags.owndata


def test_large_blocks_are_mapped_and_equal_small_ones(tmp_path, monkeypatch):
    from modgap.io import _shard

    source = open_source(save(tmp_path / "x.npy", emb=CLOUD))
    small = list(source.blocks(6))
    assert all(block.flags.writeable for block in small)
    monkeypatch.setattr(_shard, "_READ_BYTES", 0)
    mapped = list(source.blocks(6))
    assert not any(block.flags.writeable for block in mapped)
    np.testing.assert_array_equal(np.concatenate(mapped), np.concatenate(small))


def test_a_short_read_is_continued(tmp_path, monkeypatch):
    from modgap.io import _shard

    block = np.empty((2, 3), dtype=np.float32)
    wanted = np.arange(6, dtype=np.float32)
    pieces = [wanted.tobytes()[:5], wanted.tobytes()[5:]]

    def readinto(view):
        piece = pieces.pop(0)
        view[: len(piece)] = piece
        return len(piece)

    _shard._fill(block, readinto)
    np.testing.assert_array_equal(block.reshape(-1), wanted)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bfloat16_is_widened_exactly(tmp_path, suffix):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(CLOUD).to(torch.bfloat16)
    path = tmp_path / f"x{suffix}"
    if suffix == ".pt":
        torch.save(tensor, path)
    else:
        import safetensors.torch

        safetensors.torch.save_file({"emb": tensor}, path)
    source = open_source(path)
    wanted = tensor.to(torch.float32).numpy()
    assert source.dtype == np.float32
    assert not np.array_equal(wanted, CLOUD)  # bfloat16 did round
    np.testing.assert_array_equal(source.read(), wanted)
    np.testing.assert_array_equal(np.concatenate(list(source.blocks(4))), wanted)


def test_a_bare_tensor_and_a_parameter_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.from_numpy(CLOUD), tmp_path / "x.pt")
    torch.save(torch.nn.Parameter(torch.from_numpy(CLOUD.T.copy())).T, tmp_path / "y.pt")
    assert open_source(tmp_path / "x.pt").key is None
    np.testing.assert_array_equal(read_array(tmp_path / "x.pt"), CLOUD)
    np.testing.assert_array_equal(read_array(tmp_path / "y.pt"), CLOUD)


def test_the_old_layout_of_torch_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pt"
    torch.save(torch.from_numpy(CLOUD), path, _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(read_array(path), CLOUD)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", ["list", "large_list", "fixed"])
def test_list_columns_of_every_type(tmp_path, suffix, kind):
    pa = pytest.importorskip("pyarrow")
    value = pa.float32()
    types = {"list": pa.list_(value), "large_list": pa.large_list(value)}
    column = pa.array(CLOUD.tolist(), type=types.get(kind, pa.list_(value, 5)))
    table = pa.table({"id": list(range(23)), "name": ["x"] * 23, "emb": column})
    path = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, path, row_group_size=9)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=9)
    source = open_source(path)
    assert (source.key, source.shape) == ("emb", (23, 5))
    np.testing.assert_array_equal(np.concatenate(list(source.blocks(4))), CLOUD)


def test_an_arrow_stream_and_a_compressed_feather_are_read(tmp_path):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"emb": pa.array(CLOUD.tolist(), type=pa.list_(pa.float32()))})
    with pa.ipc.new_stream(tmp_path / "x.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(tmp_path / "x.feather", table.schema, options=options) as writer:
        writer.write_table(table)
    np.testing.assert_array_equal(read_array(tmp_path / "x.arrow"), CLOUD)
    np.testing.assert_array_equal(read_array(tmp_path / "x.feather"), CLOUD)


def test_a_sliced_column_keeps_its_rows(tmp_path):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"emb": pa.array(CLOUD.tolist(), type=pa.list_(pa.float32(), 5))}).slice(6, 9)
    with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    np.testing.assert_array_equal(read_array(tmp_path / "x.arrow"), CLOUD[6:15])


def test_parquet_reads_only_the_chosen_column(tmp_path):
    path = tmp_path / "x.parquet"
    save_table(path, {"emb": CLOUD, "label": np.arange(23)})
    np.testing.assert_array_equal(read_array(f"{path}:label"), np.arange(23))


def test_a_source_travels_to_another_process(tmp_path):
    import pickle

    for suffix in SUFFIXES:
        source = open_source(save(tmp_path / f"x{suffix}", emb=CLOUD))
        again = pickle.loads(pickle.dumps(source))
        assert again == source
        np.testing.assert_array_equal(again.read(), CLOUD)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc to see memory")
def test_streaming_a_file_does_not_hold_it(tmp_path):
    path = tmp_path / "x.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype="f4", shape=(60_000, 512))
    array[:] = 1.0
    array.flush()
    del array
    total = path.stat().st_size / 2**20

    def resident():
        with open("/proc/self/statm") as handle:
            return int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    source = open_source(path)
    for rows in (512, 16_384):  # read, and mapped
        before = peak = resident()
        for block in source.blocks(rows):
            block.sum()
            peak = max(peak, resident())
        assert peak - before < 0.7 * total
    before = resident()
    whole = source.read()
    whole.sum()
    assert resident() - before > 0.9 * total  # the measure sees a file that is held
