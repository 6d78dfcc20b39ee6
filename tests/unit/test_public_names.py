"""What every public name owes its caller: arguments by name, and annotations that tools can read."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.resources import files
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

import modgap

ROOMS = (
    "modgap",
    "modgap.closers",
    "modgap.datasets",
    "modgap.decisions",
    "modgap.evaluation",
    "modgap.exports",
    "modgap.index",
    "modgap.io",
    "modgap.measures",
    "modgap.measures.cloud",
    "modgap.paper.dynamics",
    "modgap.paper",
    "modgap.paper.theory",
    "modgap.report",
    "modgap.robustness",
    "modgap.samples",
)


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions and methods that a caller reaches without an underscore."""
    for room in ROOMS:
        module = import_module(room)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield f"{room}.{name}", value
            elif inspect.isclass(value) and value.__module__.startswith("modgap"):
                for attribute, method in inspect.getmembers(value, callable):
                    if not attribute.startswith("_") and hasattr(method, "__annotations__"):
                        yield f"{room}.{name}.{attribute}", method


FUNCTIONS = dict(public_functions())


def test_the_walk_finds_functions_and_methods():
    assert {"modgap.fit", "modgap.closers.Closure.save", "modgap.measures.measure"} <= set(
        FUNCTIONS
    )
    assert len(FUNCTIONS) > 80


def test_every_argument_has_a_name():
    for name, function in FUNCTIONS.items():
        parameters = list(inspect.signature(function).parameters.values())
        if parameters and parameters[0].name == "self":
            parameters = parameters[1:]
        assert not [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY], name


def test_clouds_are_told_apart_by_name():
    rng = np.random.default_rng(2)
    gallery, queries = rng.normal(size=(5, 8)), rng.normal(size=(20, 8)) + 3
    swapped = modgap.fit("orthogonal", gallery=gallery, queries=queries)
    plain = modgap.fit("orthogonal", queries, gallery)
    np.testing.assert_array_equal(
        swapped.apply_gallery(gallery=gallery), plain.apply_gallery(gallery)
    )
    found = modgap.nearest(gallery=gallery, queries=queries)
    np.testing.assert_array_equal(found.indices, modgap.nearest(queries, gallery).indices)


def test_annotations_can_be_read():
    for name, function in FUNCTIONS.items():
        assert "return" in get_type_hints(function, include_extras=True), name


def test_axes_stand_in_the_annotations():
    hints = get_type_hints(modgap.fit, include_extras=True)
    assert get_args(hints["queries"]) == (Any, "m d")
    assert get_type_hints(modgap.fit)["return"] is modgap.Closure


class TestTheFront:
    def test_every_name_is_reachable_and_listed(self):
        for name in modgap.__all__:
            assert getattr(modgap, name) is not None
        assert {"closers", "fit", "load", "stability", "COSINE"} <= set(dir(modgap))
        assert {"dynamics", "figures", "theory", "verify"} <= set(modgap.paper.__all__)

    def test_rooms_need_no_import_of_their_own(self):
        code = "import modgap; modgap.closers.METHODS; modgap.paper.theory.mode_rates"
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_a_name_that_is_not_there_is_named(self):
        with pytest.raises(AttributeError, match=r"modgap.*nowhere"):
            _ = modgap.nowhere
        assert not hasattr(modgap, "nowhere")

    def test_its_example_runs(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        indented = [line for line in modgap.__doc__.splitlines() if line[:4].isspace() or not line]
        scope: dict[str, Any] = {}
        exec(textwrap.dedent("\n".join(indented)), scope)
        assert scope["closure"].exact
        assert scope["study"] is not None

    def test_the_marker_for_type_checkers_is_in_the_package(self):
        assert (files("modgap") / "py.typed").is_file()


def test_a_closure_file_is_loaded_at_the_front(tmp_path, rng):
    queries, gallery = rng.normal(size=(9, 4)) + 2, rng.normal(size=(3, 4))
    path = modgap.fit("affine", queries, gallery).save(tmp_path / "closure.safetensors")
    closure = modgap.load(path)
    assert (closure.method, closure.exact) == ("affine", True)
    with pytest.raises(modgap.errors.FormatError, match="no file or folder at"):
        modgap.load(tmp_path / "none.safetensors")
