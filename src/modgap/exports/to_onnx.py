"""ONNX: one graph a map, rows (n, d) to rows (n, e), float32, any number of rows.

Opset 13 (2020, IR version 7): every operator here is in it, so that all runtimes of the last years take the
file; nothing newer would be used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modgap._core.extras import require
from modgap.closers.closure import Closure
from modgap.exports.form import Form, Side, describe

__all__ = ["IR_VERSION", "OPSET", "write"]

OPSET = 13
IR_VERSION = 7
#: Least length to divide by: a row of zeros stays one.
_TINY = float(np.finfo(np.float32).tiny)


def write(path: Path, sides: Sequence[Side], closure: Closure, name: str) -> None:
    """Write the graph of one side; method, metric, comparison and version are its metadata."""
    onnx: Any = require("onnx", "onnx")
    helper: Any = require("onnx.helper", "onnx")
    (side,) = sides
    form = side.form
    graph = _Graph(helper, require("onnx.numpy_helper", "onnx"))
    graph.build(form)
    rows, closed = (
        helper.make_tensor_value_info(word, onnx.TensorProto.FLOAT, ["n", width])
        for word, width in (("rows", form.width), ("closed", form.output_width))
    )
    model = helper.make_model(
        helper.make_graph(graph.nodes, side.name, [rows], [closed], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="modgap",
        doc_string=f"{side.name} of a closure of modgap",
    )
    about = describe(closure) | {"side": side.name, "modality": side.modality or ""}
    helper.set_model_props(
        model,
        {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in about.items()
        },
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


class _Graph:
    """Nodes and constants, in the order in which they are added."""

    def __init__(self, helper: Any, arrays: Any) -> None:
        self._helper, self._arrays = helper, arrays
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def build(self, form: Form) -> None:
        """Add the nodes from "rows" to "closed"."""
        at = self._unit("rows") if form.normalize_input else "rows"
        if form.center.any():
            at = self._node("Sub", at, self._constant("center", form.center))
        terms = []
        if form.matrix is not None:
            terms.append(self._node("MatMul", at, self._constant("matrix", form.matrix)))
        if form.left is not None and form.right is not None:
            low = self._node("MatMul", at, self._constant("left", form.left))
            terms.append(self._node("MatMul", low, self._constant("right", form.right)))
        if form.scale is not None:
            terms.append(self._node("Mul", at, self._constant("diagonal", form.scale)))
        at = terms[0] if terms else at
        for term in terms[1:]:
            at = self._node("Add", at, term)
        if form.offset.any():
            at = self._node("Add", at, self._constant("offset", form.offset))
        if form.normalize_output:
            at = self._unit(at)
        self.nodes.append(self._helper.make_node("Identity", [at], ["closed"]))

    def _unit(self, at: str) -> str:
        lengths = self._node("ReduceL2", at, axes=[1], keepdims=1)
        floor = self._constant(f"tiny{len(self.nodes)}", np.asarray([_TINY]))
        return self._node("Div", at, self._node("Max", lengths, floor))

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def _constant(self, name: str, values: np.ndarray) -> str:
        self.constants.append(self._arrays.from_array(np.asarray(values, np.float32), name))
        return name
