"""Exports run where they are meant to run: no function here knows modgap."""

import json

import numpy as np


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_formula(rows, part):
    """The formula of the files, in float32."""
    z = unit(rows) if part["normalize_input"] else rows
    z = z - part["center"]
    out = part["offset"]
    if "matrix" in part:
        out = out + z @ part["matrix"]
    if "left" in part:
        out = out + z @ part["left"] @ part["right"]
    if "diagonal" in part:
        out = out + z * part["diagonal"]
    return unit(out) if part["normalize_output"] else out


def numpy_alone(path, rows, side):
    with np.load(path) as file:
        parts = {key.partition(".")[2]: file[key] for key in file if key.startswith(side + ".")}
    return by_formula(rows, parts)


def plain_json(path, rows, side):
    part = json.loads(path.read_text())["sides"][side]
    arrays = {
        key: np.asarray(value, np.float32) for key, value in part.items() if isinstance(value, list)
    }
    return by_formula(rows, {**part, **arrays})


def onnx_runtime(path, rows, side):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    (closed,) = session.run(None, {"rows": rows})
    return closed


def plain_faiss(path, rows, side):
    import faiss

    index = faiss.read_index(str(path))  # held, for its chain goes with it
    for i in range(index.chain.size()):
        rows = faiss.downcast_VectorTransform(index.chain.at(i)).apply(rows)
    return rows


def plain_torch(path, rows, side):
    import torch
    from safetensors.torch import load_file

    part = {
        key.partition(".")[2]: value
        for key, value in load_file(path).items()
        if key.startswith(side + ".")
    }
    z = torch.from_numpy(rows)
    if part["normalize_input"]:
        z = torch.nn.functional.normalize(z, dim=-1)
    z = z - part["center"]
    out = part["offset"].expand(len(rows), -1)
    if "matrix" in part:
        out = out + z @ part["matrix"]
    if "left" in part:
        out = out + z @ part["left"] @ part["right"]
    if "diagonal" in part:
        out = out + z * part["diagonal"]
    if part["normalize_output"]:
        out = torch.nn.functional.normalize(out, dim=-1)
    return out.numpy()


def postgres(path, rows, side, connection):
    """Run the script, then its function on every row."""
    connection.execute(path.read_text())
    texts = [str(row.tolist()) for row in rows]
    name = f"{path.stem}_{side}"
    found = connection.execute(
        f"SELECT {name}(row::vector)::real[] FROM unnest(%s::text[]) WITH ORDINALITY AS all_rows(row, i)"
        " ORDER BY i",
        [texts],
    ).fetchall()
    return np.asarray([row for (row,) in found], np.float32)


RUNTIMES = {
    "npz": numpy_alone,
    "json": plain_json,
    "onnx": onnx_runtime,
    "faiss": plain_faiss,
    "torch": plain_torch,
}
