"""Hostile bytes in every format: a sane array or an error of modgap, and nothing else."""

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from modgap.errors import ModgapError
from modgap.io import open_source, parse_spec, read_array, read_labels, read_strings

CLOUD = np.random.default_rng(0).standard_normal((11, 4)).astype(np.float32)
#: Ways to write one cloud; the suffix is what follows the last hyphen.
KINDS = (
    "plain-npy",
    "fortran-npy",
    "stored-npz",
    "packed-npz",
    "two-safetensors",
    "bf16-safetensors",
    "list-parquet",
    "fixed-parquet",
    "zstd-parquet",
    "file-arrow",
    "stream-arrow",
    "lz4-arrow",
    "zip-pt",
    "old-pt",
)
QUICK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
#: The kind of file is drawn too, so there are more examples.
MANY = settings(QUICK, max_examples=4 * settings().max_examples)
kinds = st.sampled_from(KINDS)


def _save_table(path, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    value = pa.float32()
    lists = pa.list_(value, 4) if kind == "fixed" else pa.list_(value)
    table = pa.table({"id": list(range(11)), "emb": pa.array(CLOUD.tolist(), type=lists)})
    if path.suffix == ".parquet":
        compression = "ZSTD" if kind == "zstd" else "NONE"
        pq.write_table(table, path, row_group_size=4, compression=compression)
        return
    options = pa.ipc.IpcWriteOptions(compression="lz4" if kind == "lz4" else None)
    new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with new(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=4)


@cache
def valid(name):
    """Return the bytes of a sound file."""
    import safetensors.numpy
    import safetensors.torch
    import torch

    kind, suffix = name.split("-")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{suffix}"
        if suffix == "npy":
            np.save(path, np.asfortranarray(CLOUD) if kind == "fortran" else CLOUD)
        elif suffix == "npz":
            {"stored": np.savez, "packed": np.savez_compressed}[kind](path, emb=CLOUD, id=range(11))
        elif name == "two-safetensors":
            safetensors.numpy.save_file({"emb": CLOUD, "id": np.arange(11)}, path)
        elif name == "bf16-safetensors":
            safetensors.torch.save_file({"emb": torch.from_numpy(CLOUD).bfloat16()}, path)
        elif suffix == "pt":
            tensors = {"emb": torch.from_numpy(CLOUD), "id": torch.arange(11)}
            torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
        else:
            _save_table(path, kind)
        return path.read_bytes()


def outcome(folder, name, content):
    """Read hostile bytes in every way; return the array or None, anything else is a failure."""
    path = folder / f"x.{name.split('-')[-1]}"
    path.write_bytes(content)
    try:
        source = open_source(path)
        array = source.read()
        blocks = list(source.blocks(3))
    except ModgapError as error:
        check_message(error)
        return None
    assert array.shape == source.shape
    assert array.dtype == source.dtype
    assert array.dtype.kind in "fiub"
    assert array.ndim in (1, 2, 3)
    assert array.size > 0
    assert sum(len(block) for block in blocks) == source.rows
    flat = array.reshape(source.rows, -1)
    assert np.concatenate(blocks).reshape(flat.shape).tobytes() == flat.tobytes()
    return array


def check_message(error):
    text = str(error)
    assert text.isprintable()
    assert 20 < len(text) < 3000


@pytest.mark.parametrize("name", KINDS)
def test_the_sound_files_are_sound(tmp_path, name):
    array = outcome(tmp_path, name, valid(name))
    assert array is not None
    if name != "bf16-safetensors":
        np.testing.assert_array_equal(array, CLOUD)


@MANY
@given(name=kinds, content=st.binary(max_size=300))
def test_random_bytes(tmp_path, name, content):
    outcome(tmp_path, name, content)


@MANY
@given(name=kinds, content=st.binary(max_size=120), data=st.data())
def test_random_bytes_after_a_sound_beginning(tmp_path, name, content, data):
    sound = valid(name)
    cut = data.draw(st.integers(0, min(200, len(sound))))
    outcome(tmp_path, name, sound[:cut] + content)


@MANY
@given(name=kinds, data=st.data())
def test_truncations(tmp_path, name, data):
    sound = valid(name)
    cut = data.draw(st.integers(0, len(sound) - 1))
    array = outcome(tmp_path, name, sound[:cut])
    # An Arrow stream has no end that must be there: what is left of it is a shorter stream.
    if array is not None and name != "stream-arrow":
        np.testing.assert_array_equal(array, CLOUD)  # only padding at the end was lost


@MANY
@given(name=kinds, data=st.data())
def test_bit_flips(tmp_path, name, data):
    content = bytearray(valid(name))
    places = st.integers(0, 8 * len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place // 8] ^= 1 << (place % 8)
    outcome(tmp_path, name, bytes(content))


@MANY
@given(name=kinds, data=st.data())
def test_bytes_put_in_and_taken_out(tmp_path, name, data):
    content = valid(name)
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, min(len(content), start + 40)))
    outcome(tmp_path, name, content[:start] + data.draw(st.binary(max_size=40)) + content[stop:])


@MANY
@given(
    suffix=st.sampled_from(["txt", "csv", "json"]),
    content=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)),
)
def test_text_files(tmp_path, suffix, content):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    try:
        labels, classes = read_labels(path)
        assert labels.dtype == np.int64
        assert labels.ndim == 1
        assert len(labels)
        assert classes is None or labels.max() < len(classes)
    except ModgapError as error:
        check_message(error)
    try:
        assert all(isinstance(text, str) for text in read_strings(path))
    except ModgapError as error:
        check_message(error)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
documents = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner)
)


@QUICK
@given(document=documents, key=st.none() | st.text(max_size=3))
def test_json_documents(tmp_path, document, key):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    for read in (read_labels, read_strings):
        try:
            assert len(read(path, key=key))
        except ModgapError as error:
            check_message(error)


@QUICK
@example(spec="\0")
@example(spec="\ud800:x")
@example(spec=":")
@example(spec="a" * 5000)
@example(spec=".:")
@example(spec="C:")
@given(spec=st.text(st.characters(), max_size=40) | st.text("./:\\aCnpyz0*~", max_size=20))
def test_specs(tmp_path, monkeypatch, spec):
    assume(
        not spec.startswith(("/", "~")) and ".." not in spec
    )  # other folders may hold embeddings
    monkeypatch.chdir(tmp_path)
    for call in (read_array, read_labels, read_strings):
        with pytest.raises(ModgapError) as caught:
            call(spec)
        check_message(caught.value)
    try:
        path, key = parse_spec(spec)
    except ModgapError as error:
        check_message(error)
    else:
        assert key != ""
        assert isinstance(path, Path)
