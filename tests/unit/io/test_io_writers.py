import errno
import os

import numpy as np
import pytest

from modgap.errors import DataError, FormatError, ShapeError
from modgap.io import read_array, write_array
from modgap.io.writers import array_writer

CLOUD = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("shape", [(9, 4), (9,), (3, 3, 4)])
def test_what_is_written_is_read(tmp_path, suffix, dtype, shape):
    if suffix == ".parquet" and len(shape) == 3:
        pytest.skip("Parquet takes no three axes")
    array = (CLOUD.reshape(-1)[: np.prod(shape)].reshape(shape) * 10).astype(dtype)
    path = write_array(tmp_path / f"x{suffix}", array)
    got = read_array(path)
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)
    assert os.listdir(tmp_path) == [f"x{suffix}"]


def test_the_formats_own_libraries_read_it(tmp_path):
    import pyarrow.parquet as pq
    import safetensors.numpy

    np.testing.assert_array_equal(np.load(write_array(tmp_path / "x.npy", CLOUD)), CLOUD)
    tensors = safetensors.numpy.load_file(write_array(tmp_path / "x.safetensors", CLOUD, key="t"))
    np.testing.assert_array_equal(tensors["t"], CLOUD)
    table = pq.read_table(write_array(tmp_path / "x.parquet", CLOUD))
    assert table.column_names == ["embedding"]
    np.testing.assert_array_equal(np.stack(table["embedding"].to_pylist()), CLOUD)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
def test_odd_memory_layouts(tmp_path, suffix):
    for array in (np.asfortranarray(CLOUD), CLOUD[::2], CLOUD.astype(">f4"), CLOUD[:, ::-1]):
        got = read_array(write_array(tmp_path / f"x{suffix}", array))
        assert got.dtype.isnative
        np.testing.assert_array_equal(got, array)


def test_values_in_safetensors_are_aligned(tmp_path):
    for length in range(1, 10):
        path = write_array(tmp_path / "x.safetensors", CLOUD, key="k" * length)
        header = int.from_bytes(path.read_bytes()[:8], "little")
        assert header % 8 == 0
        np.testing.assert_array_equal(read_array(path), CLOUD)


def test_tensors_and_lists_are_taken(tmp_path):
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(
        read_array(write_array(tmp_path / "x.npy", torch.from_numpy(CLOUD))), CLOUD
    )
    assert read_array(write_array(tmp_path / "y.npy", [[1.0, 2.0]])).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("name", "array", "error", "wanted"),
    [
        ("x.npz", CLOUD, FormatError, r"its suffix is `\.npz`; modgap writes \.npy, \.safetensors"),
        ("x", CLOUD, FormatError, "its suffix is ``"),
        ("x.npy", np.float32(3), ShapeError, r"with data in it; got \(\)"),
        ("x.npy", CLOUD[:0], ShapeError, r"got \(0, 4\)"),
        ("x.npy", CLOUD.reshape(3, 3, 2, 2), ShapeError, r"got \(3, 3, 2, 2\)"),
        ("x.parquet", CLOUD.reshape(3, 3, 4), ShapeError, r"cannot hold three axes, got \(3, 3, 4"),
        ("x.npy", np.array(["a"]), DataError, "real numbers up to 64 bits; got <U1"),
        ("x.npy", np.array([None]), DataError, "got object"),
        ("x.npy", CLOUD * 1j, DataError, "got complex"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, array, error, wanted):
    with pytest.raises(error, match=wanted):
        write_array(tmp_path / name, array)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"cannot write `.*nowhere.*x\.npy`: No such file"):
        write_array(tmp_path / "nowhere" / "x.npy", CLOUD)


def test_fewer_rows_than_promised_leave_no_file(tmp_path):
    (tmp_path / "x.npy").touch()
    writer = array_writer(tmp_path / "x.npy", (9, 4), CLOUD.dtype)
    with (
        pytest.raises(ShapeError, match=r"`x\.npy` was to have 9 rows; it was given 5"),
        writer as w,
    ):
        w(CLOUD[:5])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
def test_a_full_disk_is_an_error_of_the_system(tmp_path, suffix):
    (tmp_path / f"x{suffix}").symlink_to("/dev/full")
    big = np.zeros((5000, 64), dtype=np.float32)
    with (
        pytest.raises(OSError, match="No space left") as caught,
        array_writer(tmp_path / f"x{suffix}", big.shape, big.dtype) as write,
    ):
        write(big)
    assert caught.value.errno == errno.ENOSPC


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    from modgap.io import writers

    path = write_array(tmp_path / "x.npy", CLOUD)

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writers.np.lib.format, "write_array_header_1_0", fail)
    with pytest.raises(FormatError, match=r"cannot write `.*x\.npy`: No space left on device"):
        write_array(path, CLOUD + 1)
    np.testing.assert_array_equal(read_array(path), CLOUD)
    assert os.listdir(tmp_path) == ["x.npy"]
