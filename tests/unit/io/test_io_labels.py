import json

import numpy as np
import pytest
from io_files import KEYED, save

from modgap.errors import DataError, FormatError, ShapeError
from modgap.io import read_labels, read_strings


@pytest.mark.parametrize("suffix", [".npy", *KEYED])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_labels_of_array_files(tmp_path, suffix, dtype):
    path = save(tmp_path / f"x{suffix}", labels=np.array([3, 0, 2], dtype=dtype))
    labels, classes = read_labels(path)
    assert labels.dtype == np.int64
    assert labels.tolist() == [3, 0, 2]
    assert classes is None


@pytest.mark.parametrize("suffix", KEYED)
def test_the_only_integers_beside_a_cloud_are_the_labels(tmp_path, suffix):
    cloud = np.zeros((3, 2), dtype=np.float32)
    path = save(tmp_path / f"x{suffix}", emb=cloud, labels=np.arange(3))
    assert read_labels(path).labels.tolist() == [0, 1, 2]
    assert read_labels(f"{path}:labels").labels.tolist() == [0, 1, 2]
    assert read_labels(path, key="labels").labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.txt", "3\n0\n-2\n"),
        ("x.txt", "\ufeff3\r\n0\r\n-2\r\n\r\n"),
        ("x.csv", "3\n0\n-2\n"),
        ("x.csv", "label\n3\n0\n-2\n"),
        ("x.csv", "id,label\n8,3\n9,0\n7,-2\n"),
        ("x.json", "[3, 0, -2]"),
    ],
)
def test_integers_in_text(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text.encode())
    labels, classes = read_labels(path)
    assert labels.dtype == np.int64
    assert labels.tolist() == [3, 0, -2]
    assert classes is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.txt", "cat\nbig dog\ncat\n"),
        ("x.csv", "cat\nbig dog\ncat\n"),
        ("x.csv", 'n,class\n1,cat\n2,"big dog"\n3,cat\n'),
        ("x.json", '["cat", "big dog", "cat"]'),
    ],
)
def test_names_in_text_are_numbered(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    labels, classes = read_labels(path)
    assert labels.tolist() == [1, 0, 1]
    assert classes == ("big dog", "cat")
    again = read_labels(path, classes=["cat", "bird", "big dog"])
    assert again.labels.tolist() == [0, 2, 0]
    assert again.classes == ("cat", "bird", "big dog")
    with pytest.raises(DataError, match=r"entry 0 is `cat`, which is none of the 1 classes \(`a`"):
        read_labels(path, classes=["a"])


def test_a_key_chooses_the_column_or_the_field(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "x.json").write_text('{"train": [1], "test": [2, 3]}')
    assert read_labels(f"{tmp_path}/x.csv:b").labels.tolist() == [2, 4]
    assert read_labels(f"{tmp_path}/x.json:test").labels.tolist() == [2, 3]
    assert read_labels(tmp_path / "x.json", key="train").labels.tolist() == [1]
    with pytest.raises(FormatError, match=r"several columns; choose one with `.*:COLUMN` of `a`"):
        read_labels(tmp_path / "x.csv")
    with pytest.raises(FormatError, match=r"no single column `c`; .* of `a`, `b`"):
        read_labels(tmp_path / "x.csv", key="c")
    with pytest.raises(FormatError, match=r"several fields; .* of `train`, `test`"):
        read_labels(tmp_path / "x.json")
    with pytest.raises(FormatError, match=r"no field `dev`; choose one"):
        read_labels(f"{tmp_path}/x.json:dev")


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("x.txt", "3\ncat\n", "mixes integers and names: entry 0 is 3, entry 1 is 'cat'"),
        ("x.json", '["cat", 3]', "mixes integers and names: entry 0 is 'cat', entry 1 is 3"),
        ("x.json", "[1, 2.5]", "entry 1 is 2.5, neither an integer nor a class name"),
        ("x.json", "[true]", "entry 0 is True, neither"),
        ("x.json", "[1, null]", "entry 1 is None, neither"),
        ("x.json", "[99999999999999999999]", "needs over 64 bits"),
        ("x.json", "[]", "is an empty list"),
        ("x.json", "3", "must be a JSON list; got int"),
        ("x.txt", "\n \n", "holds only blanks"),
        ("x.txt", "1\n\n2\n", "line 2 is blank"),
        ("x.csv", "\n\n", "holds only blanks"),
        ("x.csv", "label\n", "has a header and no rows"),
        ("x.csv", "a,label\n1,2\n3\n", "row 1 has 1 cells or a blank one; it must have 2"),
    ],
)
def test_text_that_is_no_labels(tmp_path, name, text, wanted):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=wanted.replace("(", r"\(")):
        read_labels(path)


def test_arrays_that_are_no_labels(tmp_path):
    path = save(tmp_path / "x.npy", emb=np.array([1.0, 2.5]))
    with pytest.raises(DataError, match=r"labels must be integers; .*x\.npy` row 1 is 2\.5"):
        read_labels(path)
    save(path, emb=np.array([1.0, np.nan]))
    with pytest.raises(DataError, match=r"row 1 is nan"):
        read_labels(path)
    save(path, emb=np.array([2**63], dtype=np.uint64))
    with pytest.raises(DataError, match=r"must fit 64 bits; .* holds 9223372036854775808"):
        read_labels(path)
    save(path, emb=np.zeros((4, 1), dtype=np.int64))
    with pytest.raises(ShapeError, match=r"labels must have shape \(rows,\); .* \(4, 1\)"):
        read_labels(path)


def test_strings(tmp_path):
    names = ["a photo of a {}", "eine Tür"]
    (tmp_path / "x.json").write_text(json.dumps(names), encoding="utf-8")
    (tmp_path / "x.txt").write_bytes("\ufeffa photo of a {}\r\neine Tür\r\n".encode())
    (tmp_path / "y.json").write_text(json.dumps({"templates": names, "n": 2}))
    assert read_strings(tmp_path / "x.json") == names
    assert read_strings(tmp_path / "x.txt") == names
    assert read_strings(f"{tmp_path}/y.json:templates") == names
    with pytest.raises(DataError, match=r"y\.json:n` must be a JSON list; got int"):
        read_strings(f"{tmp_path}/y.json:n")


def test_what_is_no_strings(tmp_path):
    (tmp_path / "x.json").write_text('["a", 3]')
    with pytest.raises(DataError, match=r"x\.json` entry 1 is 3, no string"):
        read_strings(tmp_path / "x.json")
    (tmp_path / "x.txt").write_bytes(b"abc\xff\n")
    with pytest.raises(FormatError, match=r"no UTF-8 text: byte 0xff at position 3"):
        read_strings(tmp_path / "x.txt")
    (tmp_path / "x.csv").write_text("a\n")
    with pytest.raises(FormatError, match=r"must be a \.json list .* its suffix is `\.csv`"):
        read_strings(tmp_path / "x.csv")
    with pytest.raises(FormatError, match=r"no file or folder at `.*missing\.json`"):
        read_strings(tmp_path / "missing.json")
