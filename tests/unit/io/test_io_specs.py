import os
from pathlib import Path

import numpy as np
import pytest
from io_files import save

from modgap.errors import ArgumentError, FormatError
from modgap.io import open_source, parse_spec, read_array
from modgap.io import source as source_module

CLOUD = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)


def test_a_plain_path_has_no_key(tmp_path):
    path = save(tmp_path / "x.npy", emb=CLOUD)
    assert parse_spec(path) == (path, None)
    assert parse_spec(str(path)) == (path, None)


def test_an_existing_path_with_a_colon_is_not_split(tmp_path):
    (tmp_path / "run").mkdir()  # tempting
    path = save(tmp_path / "run:3.npy", emb=CLOUD)
    assert parse_spec(str(path)) == (path, None)
    np.testing.assert_array_equal(read_array(path), CLOUD)
    keyed = save(tmp_path / "run:3.npz", a=CLOUD, b=CLOUD * 2)
    assert parse_spec(f"{keyed}:b") == (keyed, "b")
    np.testing.assert_array_equal(read_array(f"{keyed}:b"), CLOUD * 2)


def test_a_key_may_hold_a_colon(tmp_path):
    path = save(tmp_path / "x.npz", **{"a:b": CLOUD, "c": CLOUD})
    assert parse_spec(f"{path}:a:b") == (path, "a:b")
    np.testing.assert_array_equal(read_array(f"{path}:a:b"), CLOUD)


def test_a_given_key_leaves_the_path_whole(tmp_path):
    assert parse_spec("a.npz:b", "c") == (Path("a.npz:b"), "c")


@pytest.mark.parametrize("text", ["C:\\data\\x.npy", "C:/data/x.npy"])
def test_a_drive_letter_is_not_split(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "C").mkdir()
    assert parse_spec(text) == (Path(text), None)


def test_a_drive_letter_keeps_its_key():
    assert parse_spec("C:\\data\\x.npz:emb") == (Path("C:\\data\\x.npz"), "emb")


def test_a_folder_of_one_letter_is_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "C").mkdir()
    assert parse_spec("C:img_emb") == (Path("C"), "img_emb")
    monkeypatch.setattr(source_module.os, "name", "nt")
    monkeypatch.setattr(source_module, "Path", str)
    assert parse_spec("C:img_emb") == ("C:img_emb", None)


def test_a_missing_file_is_named_without_its_key():
    with pytest.raises(FormatError, match=r"no file or folder at `nowhere/x\.npz`; check the path"):
        open_source("nowhere/x.npz:emb")
    with pytest.raises(FormatError, match=r"no file or folder at `nowhere:emb`"):
        open_source("nowhere:emb")


def test_an_empty_input_or_key_is_refused(tmp_path):
    path = save(tmp_path / "x.npz", emb=CLOUD)
    with pytest.raises(FormatError, match="got an empty one"):
        parse_spec("")
    with pytest.raises(FormatError, match=r"x\.npz:` ends in an empty key"):
        parse_spec(f"{path}:")


@pytest.mark.parametrize("spec", [None, 3, b"x.npy", np.zeros(2)])
def test_what_is_no_path_is_refused(spec):
    with pytest.raises(ArgumentError, match=r"an input must be a path"):
        parse_spec(spec)


def test_bytes_paths_are_refused():
    class Odd:
        def __fspath__(self):
            return os.fsencode("x.npy")

    with pytest.raises(ArgumentError, match="got bytes"):
        parse_spec(Odd())


def test_blocks_need_a_row(tmp_path):
    source = open_source(save(tmp_path / "x.npy", emb=CLOUD))
    with pytest.raises(ArgumentError, match="`rows` must be at least 1; got 0"):
        next(source.blocks(0))
