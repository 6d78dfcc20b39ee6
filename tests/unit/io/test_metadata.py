"""Names and pictures beside embeddings, in the layouts of clip-retrieval and of `modgap embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modgap.errors import FormatError
from modgap.io.metadata import read_metadata


def layout(folder: Path, shards: list[dict[str, list[Any]]], kind: str = "img_emb") -> Path:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("metadata", kind):
        (folder / name).mkdir(parents=True)
    for i, columns in enumerate(shards):
        rows = len(next(iter(columns.values())))
        np.save(folder / kind / f"{kind}_{i}.npy", np.zeros((rows, 2)))
        parquet.write_table(arrow.table(columns), folder / "metadata" / f"metadata_{i}.parquet")
    return folder / kind


def test_shards_are_in_order_of_their_numbers(tmp_path: Path) -> None:
    shards = [{"image_path": [f"a/b/{i}.jpg"], "thumbnail": [bytes([i])]} for i in range(11)]
    found = read_metadata(layout(tmp_path, shards), 11)
    assert found.names == [f"{i}.jpg" for i in range(11)]
    assert found.pictures == [bytes([i]) for i in range(11)]
    one = read_metadata(tmp_path / "img_emb" / "img_emb_10.npy", 1)
    assert one.names == ["10.jpg"]


def test_captions_name_texts_one_by_one(tmp_path: Path) -> None:
    shards = [{"caption": ["one", "three"], "captions": [["one", "two"], ["three"]]}]
    found = read_metadata(layout(tmp_path, shards, "text_emb"), 3)
    assert found.names == ["one", "two", "three"]
    assert found.pictures is None
    # as clip-retrieval writes it: a caption a row
    plain = layout(tmp_path / "plain", [{"caption": ["a", None, "x" * 10_000]}], "text_emb")
    names = read_metadata(plain, 3).names
    assert names is not None
    assert list(names[:2]) == ["a", ""]
    assert len(names[2]) == 160


def test_what_does_not_fit_gives_no_names(tmp_path: Path) -> None:
    folder = layout(tmp_path, [{"image_path": ["a", "b"]}])
    assert read_metadata(folder, 3).names is None
    assert read_metadata(tmp_path / "elsewhere.npy", 3).names is None
    (tmp_path / "metadata" / "metadata_0.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(FormatError, match=r"metadata_0\.parquet"):
        read_metadata(folder, 2)
