"""Closure files: one safetensors file per closure, checked whole before any of it is used."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modgap.closers._fields import (
    distance,
    factor,
    field,
    flag,
    mapping,
    number,
    or_none,
    text,
    whole,
)
from modgap.closers.maps import PARTS, AffineMap
from modgap.decisions.metric import as_metric
from modgap.errors import FormatError

if TYPE_CHECKING:
    from modgap.closers.closure import Closure
    from modgap.closers.mixed import MixedClosure
    from modgap.closers.summary import FitSummary

__all__ = ["FORMAT_VERSION", "read_closure", "write_closure"]

#: Version of the file layout; readers refuse every other. The first one held a flag "exact" and no bound.
FORMAT_VERSION = 2

_SIDES = ("queries", "gallery")
_FLAGS = ("residual", "normalize_input", "normalize_output")


#: Attributes of a `Closure` that stand in the header under their own names, and how each is read:
#: a function that returns the value, or raises a TypeError or ValueError that says what it must be.
FIELDS: dict[str, Callable[[Any], Any]] = {
    "method": text,
    "metric": as_metric,
    "comparison": as_metric,
    "bound": or_none(distance),
    "resolution": distance,
    "gain": factor,
    "alpha": or_none(number),
    "n_components": or_none(whole),
    "rank": or_none(whole),
    "info": mapping,
}


def write_closure(closure: Closure, path: str | Path) -> Path:
    """Write a closure as one safetensors file, which appears whole or not at all; return its path.

    The header's metadata holds one JSON document under the key "modgap": format version, method,
    metric, promises, and provenance, and under "fit" what it remembers of its rows. A closure of a mixed
    collection has a side "gallery 0", "gallery 1", ... for each of its `modalities` in the place of
    "gallery".

    Raises
    ------
    FormatError
        The folder is missing or cannot be written, or the disk is full.
    """
    import safetensors.numpy

    from modgap.closers.mixed import MixedClosure
    from modgap.io.atomic import atomic_path

    header: dict[str, Any] = {"format_version": FORMAT_VERSION}
    for name in FIELDS:
        value = getattr(closure, name)
        header[name] = dict(value) if isinstance(value, Mapping) else value
    sides = {side: getattr(closure, side) for side in _SIDES}
    if isinstance(closure, MixedClosure):
        del sides["gallery"]
        sides |= {f"gallery {i}": each for i, each in enumerate(closure.galleries.values())}
        header["modalities"] = list(closure.modalities)
        header["scales"] = dict(closure.scales)
    tensors = {}
    for side, fitted in sides.items():
        header[side] = {"width": fitted.width} | {name: getattr(fitted, name) for name in _FLAGS}
        for part in PARTS:
            value = getattr(fitted, part)
            if value is not None:
                tensors[f"{side}.{part}"] = np.asarray(value, dtype=np.float64, order="C")
    if closure.summary is not None:
        header["fit"], kept = _summary_parts(closure.summary, "fit")
        tensors |= kept
    if isinstance(closure, MixedClosure):
        header["fits"] = {}
        for i, name in enumerate(closure.modalities):
            if name in closure.summaries:
                stated, kept = _summary_parts(closure.summaries[name], f"fit {i}")
                header["fits"][name] = stated
                tensors |= kept
    if not tensors:  # safetensors files hold one tensor at least
        tensors["queries.none"] = np.zeros(1)
    # Bytes and our own write: the library's writer reports a full disk as an error of its own.
    content = safetensors.numpy.save(tensors, metadata={"modgap": json.dumps(header)})
    target = Path(path)
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
    return target


def read_closure(path: str | Path) -> Closure:
    """Return the closure in a file that `write_closure` wrote.

    Raises
    ------
    FormatError
        The file is missing, broken, from elsewhere, or of another format version; or what it holds
        is no pair of maps: shapes that do not meet, NaN, a setting of another type.
    """
    from modgap.closers.closure import Closure

    source = Path(path)
    header, tensors = _read_file(source)
    try:
        fields = {name: field(header, name, read) for name, read in FIELDS.items()}
        if "modalities" in header:
            return _read_mixed(header, tensors, fields)
        if "fit" in header:  # files of earlier versions have none
            stated = field(header, "fit", mapping)
            fields["summary"] = _read_summary(stated, tensors, "fit", _width(header))
        queries, gallery = (_read_map(header, tensors, side) for side in _SIDES)
        if queries.output_width != gallery.output_width:
            raise ValueError(
                f"its maps lead to dimensions {queries.output_width} and {gallery.output_width}"
            )
    except (KeyError, TypeError, ValueError) as error:
        from modgap.io._guard import one_line, shown

        what = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise FormatError(
            f"`{shown(path)}` is a damaged closure file ({what}); fit it again"
        ) from None
    return Closure(queries=queries, gallery=gallery, **fields)


def _read_mixed(
    header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], fields: dict[str, Any]
) -> MixedClosure:
    """Return a closure with one map for each modality of its gallery."""
    from modgap.closers.mixed import MixedClosure, several_maps

    names = field(header, "modalities", _names)
    queries = _read_map(header, tensors, "queries")
    maps = {name: _read_map(header, tensors, f"gallery {i}") for i, name in enumerate(names)}
    for name, each in maps.items():
        if (each.width, each.output_width) != (queries.width, queries.output_width):
            raise ValueError(f"its maps of queries and of {name} lead from or to other dimensions")
    scales = {
        name: field(field(header, "scales", mapping), name, factor)
        for name in field(header, "scales", mapping)
    }
    known = field(header, "fits", mapping) if "fits" in header else {}
    for name in known:
        if name not in names:
            raise ValueError(f"`fits` names {name!r:.40}, which is no modality of it")
    summaries = {
        name: _read_summary(field(known, name, mapping), tensors, f"fit {i}", queries.width)
        for i, name in enumerate(names)
        if name in known
    }
    return MixedClosure(
        queries=queries,
        gallery=several_maps(maps),
        galleries=maps,
        scales=scales,
        summaries=summaries,
        **fields,
    )


def _summary_parts(summary: FitSummary, at: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what a summary adds to the header, and its tensors."""
    stated: dict[str, Any] = {"bits": summary.bits}
    tensors = {f"{at}.axes": np.ascontiguousarray(summary.axes)}
    for side in _SIDES:
        own = getattr(summary, side)
        stated[side] = {"count": own.count, "variance": own.variance}
        tensors[f"{at}.{side}.mean"] = np.ascontiguousarray(own.mean)
        tensors[f"{at}.{side}.within"] = np.ascontiguousarray(own.within)
    return stated, tensors


def _width(header: Mapping[str, Any]) -> int:
    found: int = field(field(header, "queries", mapping), "width", whole)
    return found


def _read_summary(
    stated: Mapping[str, Any], tensors: Mapping[str, np.ndarray], at: str, width: int
) -> FitSummary:
    """Return what a closure remembers of its rows, its parts checked against each other."""
    from modgap.closers.summary import FitSummary, SideSummary

    axes = tensors[f"{at}.axes"]
    k = axes.shape[-1] if axes.ndim else 0
    shapes: dict[str, tuple[int, ...]] = {f"{at}.axes": (width, k)}
    for side in _SIDES:
        shapes |= {f"{at}.{side}.mean": (width,), f"{at}.{side}.within": (k, k)}
    for name, shape in shapes.items():
        value = tensors[name]
        if value.dtype.kind != "f" or value.shape != shape:
            raise ValueError(f"{name} holds {value.dtype} {value.shape}, not float64 {shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinity")
    sides = {
        side: SideSummary(
            field(field(stated, side, mapping), "count", whole),
            tensors[f"{at}.{side}.mean"],
            tensors[f"{at}.{side}.within"],
            field(field(stated, side, mapping), "variance", distance),
        )
        for side in _SIDES
    }
    return FitSummary(axes, **sides, bits=field(stated, "bits", or_none(number)))


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) < 2 or len({*map(str, value)}) < len(value):
        raise ValueError(f"must list two different names or more, got {value!r:.40}")
    return [text(name) for name in value]


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the tensors of a closure file of a version that is known."""
    from safetensors import safe_open

    from modgap.io._guard import check_file, reading, shown

    check_file(path)
    with reading(path, "safetensors"), safe_open(path, framework="numpy") as handle:
        metadata = handle.metadata() or {}
        if "modgap" not in metadata:  # before any tensor: NumPy lacks some of others' types
            raise FormatError(
                f"`{shown(path)}` is a safetensors file, but no closure of modgap; "
                "write one with modgap close"
            )
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    try:
        header = mapping(json.loads(metadata["modgap"]))
        version = whole(header["format_version"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise FormatError(f"`{shown(path)}` has a damaged closure header; fit it again") from None
    if version < FORMAT_VERSION:
        raise FormatError(
            f"`{shown(path)}` has closure format {version}, which does not say how far scores may move; "
            f"this modgap reads format {FORMAT_VERSION}: fit it again"
        )
    if version > FORMAT_VERSION:
        raise FormatError(
            f"`{shown(path)}` has closure format {version}; this modgap reads format "
            f"{FORMAT_VERSION}: upgrade it"
        )
    return header, tensors


def _read_map(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], side: str) -> AffineMap:
    """Return one side's map, its parts checked against each other."""
    stated = field(header, side, mapping)
    width = field(stated, "width", whole)
    flags = {name: field(stated, name, flag) for name in _FLAGS}
    parts: dict[str, Any] = {part: tensors.get(f"{side}.{part}") for part in PARTS}
    left, right = parts["left"], parts["right"]
    inner = left.shape[-1] if left is not None and left.ndim else width
    output = right.shape[-1] if right is not None and right.ndim else inner
    expected = {
        "center": (width,),
        "left": (width, inner),
        "right": (inner, output),
        "scale": (output,),
        "shift": (output,),
    }
    for part, value in parts.items():
        if value is None:
            continue
        if value.dtype.kind != "f":
            raise ValueError(f"{side}.{part} holds {value.dtype}, not float64")
        if value.shape != expected[part] and not (part == "scale" and value.ndim == 0):
            raise ValueError(f"{side}.{part} has shape {value.shape}, not {expected[part]}")
        if not np.isfinite(value).all():
            raise ValueError(f"{side}.{part} holds NaN or infinity")
    if width == 0 or output == 0:
        raise ValueError(f"{side} maps dimension {width} to {output}")
    if left is None and (right is not None or not flags["residual"]):
        raise ValueError(f"{side} has no linear part")
    if flags["residual"] and output != width:
        raise ValueError(f"{side} adds the identity to a map from {width} to {output}")
    scale = parts["scale"]
    if scale is not None and scale.ndim == 0:
        parts["scale"] = float(scale)
    return AffineMap(width=width, **flags, **parts)
