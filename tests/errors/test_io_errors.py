"""Every bad input ends in one line that says what, where, and the fix."""

import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from modgap._core.extras import require
from modgap.errors import DataError, FormatError, MissingExtraError, ModgapError, ShapeError
from modgap.io import open_source, read_array, read_labels, read_strings

CLOUD = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet", ".arrow", ".pt")
KEYED = SUFFIXES[1:]


def save(path, **arrays):
    import pyarrow as pa
    import pyarrow.parquet as pq
    import safetensors.numpy
    import torch

    if path.suffix == ".npy":
        np.save(path, *arrays.values())
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        safetensors.numpy.save_file(arrays, path)
    elif path.suffix == ".pt":
        torch.save({key: torch.from_numpy(array) for key, array in arrays.items()}, path)
    else:
        table = pa.table({k: pa.array(list(a) if a.ndim > 1 else a) for k, a in arrays.items()})
        if path.suffix == ".parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
    return path


def message(error, call, *args, **options):
    """Return what the call says when it fails: one line, whole, of the expected class."""
    with pytest.raises(error) as caught:
        call(*args, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) > 20
    assert caught.value.__cause__ is None
    return text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    wanted = f"no file or folder at `{path}`; check the path"
    assert message(FormatError, open_source, path) == wanted
    assert message(FormatError, open_source, f"{path}:emb") == wanted
    assert message(FormatError, open_source, path / "deeper.npy").startswith("no file or folder at")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".txt", ".csv", ".json"])
def test_zero_bytes(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.touch()
    wanted = f"`{path}` is empty (0 bytes); write or download it again"
    assert message(FormatError, read_labels, path) == wanted
    if suffix in SUFFIXES:
        assert message(FormatError, open_source, path) == wanted


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".txt", ".csv", ".json"])
def test_a_folder_where_a_file_is_expected(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.mkdir()
    assert message(FormatError, open_source, path) == (
        f"the folder `{path}` is empty; shards like `img_emb_0.npy` are expected in it"
    )
    if suffix in (".txt", ".json"):
        assert message(FormatError, read_strings, path) == (
            f"`{path}` is a folder, and a file is expected here; name the file"
        )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_a_truncated_file(tmp_path, suffix, share):
    path = save(tmp_path / f"x{suffix}", emb=CLOUD)
    np.testing.assert_array_equal(read_array(path), CLOUD)
    os.truncate(path, int(path.stat().st_size * share))
    text = message(FormatError, read_array, path)
    assert text.startswith(f"`{path}")
    assert text.endswith("write or download it again")
    assert "is cut short" in text or f"is no readable {suffix} file (" in text


def test_a_truncated_npy_counts_its_bytes(tmp_path):
    path = save(tmp_path / "x.npy", emb=CLOUD)
    os.truncate(path, 500)
    assert message(FormatError, open_source, path) == (
        f"`{path}` is cut short: shape (40, 6) of float32 needs 1088 bytes, the file has 500; "
        "write or download it again"
    )


@pytest.mark.parametrize(
    ("suffix", "other"), [(a, b) for a in SUFFIXES for b in SUFFIXES if a != b]
)
def test_a_file_under_another_formats_name(tmp_path, suffix, other):
    path = save(tmp_path / f"x{other}", emb=CLOUD).rename(tmp_path / f"y{suffix}")
    text = message(ModgapError, open_source, path)
    assert f"y{suffix}`" in text
    if (suffix, other) == (".npy", ".parquet"):
        assert text == (
            f"`{path}` is no readable .npy file (the magic string is not correct; expected "
            "b'\\x93NUMPY', got b'PAR1\\x15\\x04'); it begins like a .parquet file, so rename or "
            "convert it; write or download it again"
        )


@pytest.mark.parametrize("name", ["x.bin", "x", "x.pkl", "x.csv", "x.npy.gz"])
def test_an_unknown_suffix(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x93NUMPY etc")
    text = message(FormatError, open_source, path)
    assert text == (
        f"`{path}` has the unknown suffix `{path.suffix}`; modgap reads .npy, .npz, .safetensors, "
        ".parquet, .arrow, .feather, .pt, .pth and folders of shards; it begins like a .npy file, "
        "so rename or convert it"
    )


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "x.npy")
    text = message(FormatError, open_source, tmp_path / "x.npy")
    assert text.endswith("is no regular file (a pipe or a device); save it to a file first")


@pytest.mark.parametrize("suffix", KEYED)
def test_a_key_that_is_not_there(tmp_path, suffix):
    path = save(tmp_path / f"x{suffix}", a=CLOUD, b=np.arange(40))
    text = message(FormatError, open_source, f"{path}:c")
    assert text.startswith(f"`{path}` has no key `c`; it holds `")
    assert "`a` (40, " in text
    assert "`b` (40,) int64" in text


@pytest.mark.parametrize("suffix", KEYED)
def test_several_arrays_and_no_key(tmp_path, suffix):
    path = save(tmp_path / f"x{suffix}", a=CLOUD, b=CLOUD[:, :2].copy())
    text = message(FormatError, open_source, path)
    assert text.startswith(f"`{path}` holds 2 arrays; choose one with `{path}:KEY`: `a` (40, ")
    if suffix in (".npz", ".safetensors", ".pt"):
        assert text.endswith("`a` (40, 6) float32, `b` (40, 2) float32")


def test_many_arrays_are_not_all_listed(tmp_path):
    path = save(tmp_path / "x.npz", **{f"a{i}": CLOUD for i in range(300)})
    assert message(FormatError, open_source, path).endswith("`a11` (40, 6) float32 and 288 more")


def test_a_key_for_a_file_without_keys(tmp_path):
    import torch

    path = save(tmp_path / "x.npy", emb=CLOUD)
    assert message(FormatError, open_source, f"{path}:emb") == (
        f"`{path}` is one array without keys; drop `:emb`"
    )
    torch.save(torch.zeros(2, 3), tmp_path / "x.pt")
    assert "x.pt` is one tensor without keys; drop `:emb`" in message(
        FormatError, open_source, f"{tmp_path}/x.pt:emb"
    )
    (tmp_path / "x.txt").write_text("1\n")
    assert "x.txt` is one list without keys; drop `:emb`" in message(
        FormatError, read_labels, f"{tmp_path}/x.txt:emb"
    )


class Evil:
    """Unpickling this makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_nothing_is_unpickled(tmp_path):
    import torch

    trap = tmp_path / "trap"
    array = np.array([Evil(trap)], dtype=object)
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    np.savez(tmp_path / "x.npz", a=array, allow_pickle=True)
    torch.save({"a": torch.zeros(2, 2), "b": Evil(trap)}, tmp_path / "x.pt")
    (tmp_path / "y.pt").write_bytes(pickle.dumps(Evil(trap)))
    (tmp_path / "y.npy").write_bytes(pickle.dumps(Evil(trap)))
    for name in ("x.npy", "x.npz:a", "x.pt", "x.pt:a", "y.pt", "y.npy"):
        text = message(FormatError, read_array, f"{tmp_path}/{name}")
        assert not trap.exists()
        if name.startswith("x.np"):
            assert "holds Python objects, which modgap never unpickles; save plain numbers" in text
        elif name.startswith("x.pt"):
            assert "holds more than tensors, which modgap never unpickles (" in text
            assert "save the tensor alone with torch.save(tensor, path)" in text
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert trap.exists()  # the trap works


@pytest.mark.parametrize(
    ("thing", "wanted"),
    [
        ([1, 2], "holds a list, no tensor"),
        ("text", "holds a str, no tensor"),
        ({"a": {"b": None}}, "holds a dict under 'a', no tensor under a name"),
        ({"a": 3.0}, "holds a float under 'a'"),
        ({}, "holds no array; write it again"),
    ],
)
def test_torch_files_of_other_things(tmp_path, thing, wanted):
    import torch

    torch.save(thing, tmp_path / "x.pt")
    assert wanted in message(FormatError, open_source, tmp_path / "x.pt")


def test_tensors_that_are_no_rows_of_numbers(tmp_path):
    import torch

    path = tmp_path / "x.pt"
    torch.save({3: torch.zeros(2, 2)}, path)
    assert "holds a Tensor under 3, no tensor under a name" in message(
        FormatError, open_source, path
    )
    torch.save(torch.zeros(2, 2).to_sparse(), path)
    assert "sparse, quantized or empty tensor; save tensor.to_dense()" in message(
        ModgapError, open_source, path
    )
    torch.save(torch.zeros(2, 2, dtype=torch.complex64), path)
    assert "holds complex64 values, no array of numbers" in message(DataError, open_source, path)
    torch.save(torch.zeros(2, 2).to(torch.float8_e4m3fn), path)
    assert "holds float8_e4m3fn values" in message(DataError, open_source, path)


@pytest.mark.parametrize(
    ("array", "error", "wanted"),
    [
        (np.float32(3), ShapeError, "is a single number, shape (); it must have shape (rows,)"),
        (np.zeros((2, 2, 2, 2)), ShapeError, "is an array of 4 axes, shape (2, 2, 2, 2)"),
        (np.zeros((0, 4)), ShapeError, "has no rows: its shape is (0, 4)"),
        (np.zeros((4, 0)), ShapeError, "has no columns: its shape is (4, 0)"),
        (np.zeros((2, 0, 4)), ShapeError, "has no rows: its shape is (2, 0, 4)"),
        (np.zeros(0), ShapeError, "has no rows: its shape is (0,)"),
        (np.array(["a"]), DataError, "holds text (<U1), no embeddings"),
        (np.zeros(3, dtype="V2"), DataError, "raw bytes (|V2), as NumPy saves bfloat16; save it"),
        (np.zeros(3, dtype=[("a", "f4")]), DataError, "holds [('a', '<f4')]; save it as float16"),
        (np.zeros(3, dtype=complex), DataError, "holds complex128; save it as float16, float32"),
        (np.zeros(3, dtype=np.longdouble), DataError, "save it as float16, float32 or float64"),
        (np.zeros(3, dtype="M8[s]"), DataError, "holds datetime64[s]; save it as"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_that_are_no_embeddings(tmp_path, suffix, array, error, wanted):
    path = save(tmp_path / f"x{suffix}", a=array)
    where = f"`{path}:a`" if suffix == ".npz" else f"`{path}`"
    text = message(error, open_source, path)
    assert text.startswith(where)
    assert wanted in text


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".parquet", ".arrow"])
def test_no_rows_in_other_formats(tmp_path, suffix):
    path = save(tmp_path / f"x{suffix}", a=np.zeros(0, dtype=np.float32))
    assert f"{path}:a` has no rows: its shape is (0,)" in message(ShapeError, open_source, path)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize(
    ("rows", "error", "wanted"),
    [
        ([[1.0, 2.0]] * 9 + [[3.0]], ShapeError, "row 9 has 1 values, the first row has 2; all"),
        ([[1.0, 2.0]] * 4 + [None], DataError, "row 4 is null; drop or fill such rows"),
        ([None, [1.0, 2.0]], DataError, "row 0 is null; drop or fill such rows"),
        ([[1.0, 2.0]] * 3 + [[1.0, None]], DataError, "row 3 holds a null; drop or fill"),
        ([1.0, None], DataError, "row 1 is null"),
        (["a", "b"], DataError, "a column of string, no array of numbers; choose a numeric one"),
        ([["a"], ["b"]], DataError, "holds a column of list<"),
        ([[[1.0]], [[2.0]]], DataError, "holds a column of list<"),
    ],
)
def test_columns_that_are_no_clouds(tmp_path, suffix, rows, error, wanted):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, table = tmp_path / f"x{suffix}", pa.table({"emb": rows})
    if suffix == ".parquet":
        pq.write_table(table, path, row_group_size=2)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    for call in (read_array, lambda spec: list(open_source(spec).blocks(3))):
        text = message(error, call, path)
        assert f"`{path}:emb`" in text
        assert wanted in text


@pytest.mark.parametrize("wild", [2**30, -7])
def test_wild_offsets_in_an_arrow_file(tmp_path, wild):
    path = save(tmp_path / "x.arrow", emb=CLOUD)
    content = path.read_bytes()
    sound = (6).to_bytes(4, "little") + (12).to_bytes(4, "little") + (18).to_bytes(4, "little")
    assert content.count(sound) == 1
    broken = sound[:4] + wild.to_bytes(4, "little", signed=True) + sound[8:]
    path.write_bytes(content.replace(sound, broken))
    text = message(FormatError, read_array, path)
    assert text.startswith(f"`{path}` is no readable .arrow file (")
    assert "ffset" in text


def test_lists_without_values(tmp_path):
    path = save(tmp_path / "x.parquet", emb=np.zeros((2, 0), dtype=np.float32))
    assert f"`{path}:emb` has no columns: its shape is (2, 0)" in message(
        ShapeError, open_source, path
    )


def test_columns_of_one_name(tmp_path):
    import pyarrow as pa

    table = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    text = message(FormatError, open_source, tmp_path / "x.arrow")
    assert text.endswith("x.arrow` has several columns named `a`; rename them")


def test_feather_of_the_first_version(tmp_path):
    (tmp_path / "x.feather").write_bytes(b"FEA1" + bytes(40))
    text = message(FormatError, open_source, tmp_path / "x.feather")
    assert "is a Feather file of version 1, which is deprecated" in text


def test_archives_with_more_than_arrays(tmp_path):
    path = save(tmp_path / "x.npz", a=CLOUD)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")
    np.testing.assert_array_equal(read_array(path), CLOUD)
    text = message(DataError, open_source, f"{path}:readme.txt")
    assert "x.npz:readme.txt` holds something else than an array" in text
    with zipfile.ZipFile(path, "w"):
        pass
    assert "x.npz` holds no array" in message(FormatError, open_source, path)


def npy_header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999999999), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 4, }\n",
        "{'descr': '<f4', 'fortran_order': False, }\n",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (4, 4), }\n",
        "__import__('os').system('false')\n",
        "(" * 400 + ")" * 400 + "\n",
        "'\\d'\n",
        "\n",
    ],
)
def test_hostile_npy_headers(tmp_path, header):
    (tmp_path / "x.npy").write_bytes(npy_header(header) + bytes(64))
    text = message(ModgapError, open_source, tmp_path / "x.npy")
    assert text.startswith(f"`{tmp_path}/x.npy`")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", npy_header(header) + bytes(64))
    (tmp_path / "x.npz").write_bytes(buffer.getvalue())
    assert f"`{tmp_path}/x.npz" in message(ModgapError, open_source, tmp_path / "x.npz")


def test_an_unknown_npy_version(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x09\x00" + bytes(64))
    assert "(unknown .npy version 9.0)" in message(FormatError, open_source, tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["x.json", "x.txt", "x.csv"])
def test_text_that_is_not_utf8(tmp_path, name):
    (tmp_path / name).write_bytes('["Tür"]'.encode("latin-1"))
    wanted = f"`{tmp_path / name}` is no UTF-8 text: byte 0xfc at position 3; save it as UTF-8"
    assert message(FormatError, read_labels, tmp_path / name) == wanted


def test_json_that_does_not_parse(tmp_path):
    (tmp_path / "x.json").write_text('["a",')
    wanted = "x.json` is no readable .json file (Expecting value: line 1 column 6 (char 5))"
    assert wanted in message(FormatError, read_strings, tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[" * 100_000)
    assert "is no readable .json file" in message(FormatError, read_strings, tmp_path / "x.json")


def test_permission_denied(tmp_path, monkeypatch):
    """The tests may run as root, who may read everything: the refusal is simulated."""
    from pathlib import Path

    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.json").write_text("[1]")
    for suffix in SUFFIXES:
        path = save(tmp_path / f"x{suffix}", emb=CLOUD)
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda *args: False)
            assert message(FormatError, open_source, path) == (
                f"`{path}` cannot be read: permission denied; change its mode or owner"
            )
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        patch.setattr(Path, "read_bytes", refuse)
        assert "permission denied" in message(FormatError, open_source, tmp_path / "x.npy")
        assert "permission denied" in message(FormatError, read_labels, tmp_path / "x.json")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        assert message(FormatError, open_source, tmp_path) == (
            f"`{tmp_path}` cannot be listed: permission denied; change its mode or owner"
        )


@pytest.mark.parametrize(
    "name", ["a\nb.npy", "a\tb.npy", "a\x1b[31mb.npy", "\udcff.npy", "x" * 5000 + ".npy", "a\0.npy"]
)
def test_odd_names_stay_on_one_line(tmp_path, name):
    message(FormatError, open_source, f"{tmp_path}/{name}")
    message(FormatError, open_source, f"{name}:key")


def test_a_loop_of_links(tmp_path):
    (tmp_path / "x.npy").symlink_to(tmp_path / "x.npy")
    assert "x.npy` is no usable path: " in message(FormatError, open_source, tmp_path / "x.npy")


def test_more_memory_than_there_is(tmp_path, monkeypatch):
    from modgap.io import _shard

    path = save(tmp_path / "x.npz", emb=CLOUD)
    source = open_source(path)

    def refuse(*args, **options):
        raise MemoryError

    monkeypatch.setattr(_shard.np, "empty", refuse)
    assert "asks for more memory than there is" in message(FormatError, source.read)


def test_a_file_that_changes_under_way(tmp_path):
    for suffix in SUFFIXES:
        path = save(tmp_path / f"x{suffix}", emb=CLOUD)
        source = open_source(path)
        os.truncate(path, path.stat().st_size // 2)
        message(FormatError, source.read)
        message(FormatError, lambda source=source: list(source.blocks()))
        path.unlink()
        message(FormatError, source.read)


@pytest.mark.parametrize(
    ("suffix", "module", "extra"),
    [(".parquet", "pyarrow", "data"), (".arrow", "pyarrow", "data"), (".pt", "torch", "torch")],
)
def test_a_missing_package_names_the_command(tmp_path, monkeypatch, suffix, module, extra):
    path = save(tmp_path / f"x{suffix}", emb=CLOUD)
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("modgap._core.extras.importlib.import_module", missing)
    wanted = f'this needs the package `{module}`; pip install "modgap[{extra}]"'
    assert message(MissingExtraError, open_source, path) == wanted


def test_an_old_torch_is_refused(tmp_path, monkeypatch):
    import torch

    path = save(tmp_path / "x.pt", emb=CLOUD)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
    text = message(MissingExtraError, open_source, path)
    assert text.startswith("torch 2.5.1+cu121 can be made to run code by a .pt file")
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    open_source(path)


def test_require_tells_missing_from_broken(tmp_path, monkeypatch):
    assert require("numpy.linalg", "data").__name__ == "numpy.linalg"
    text = message(MissingExtraError, require, "no_such_package.part", "data")
    assert text == 'this needs the package `no_such_package`; pip install "modgap[data]"'
    (tmp_path / "broken_package.py").write_text("import no_such_dependency")
    (tmp_path / "failing_package.py").write_text("raise ImportError('line one\\nline two')")
    monkeypatch.syspath_prepend(tmp_path)
    assert message(MissingExtraError, require, "broken_package", "data") == (
        "`broken_package` is installed but cannot be imported (No module named "
        "'no_such_dependency'); pip install \"modgap[data]\""
    )
    assert "(line one); pip" in message(MissingExtraError, require, "failing_package", "data")


def test_importing_io_loads_no_heavy_package():
    code = (
        "import sys, {module}\n"
        "print([m for m in ('torch', 'pyarrow', 'jax', 'pandas', 'scipy') if m in sys.modules])"
    )

    def loaded(module):
        script = [sys.executable, "-c", code.format(module=module)]
        return subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()

    assert loaded("modgap.io") == "[]"
    assert loaded("pyarrow") == "['pyarrow']"  # the measure sees a package that is loaded
