"""Render the results on quality as the tables of the pages that speak of them.

python benchmarks/pages.py            write them between their markers
python benchmarks/pages.py --check    fail if a page says something else
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import stdev
from typing import Any

import _plan
import numpy as np
import table

SETS = {
    "photos_clip_vitb32": "15,692 photos, CLIP ViT-B/32",
    "coco_clip_vitb16": "500 photos, CLIP ViT-B/16",
}


SCALES = {
    "calibrate": "rms (the default)",
    "calibrate:top": "top: mean of each query's best 1 %",
    "calibrate:quantile": "quantile: the 99th percentile",
    "calibrate:share": "share: as many of each",
    "calibrate:pairs": "pairs: labelled answers",
    "calibrate:means": "means only",
    "center": "center",
    "standardize": "standardize",
    "none": "none",
}


def codes(result: dict[str, Any]) -> str:
    """Return a table a set: maps by codes, each the best of its forms."""
    parts = []
    for name, columns in result["details"]["table"].items():
        shown = [column for column in columns if column != "float"]
        lines = [
            _line([SETS.get(name, name), *shown]),
            _line(["---"] * (len(shown) + 1)),
        ]
        for label in ("none", "recenter", "balanced"):
            strong = "**" if label == "balanced" else ""
            cells = [f"{strong}{_share(columns[c][label]['recall'])}{strong}" for c in shown]
            lines.append(_line([f"`{label}`", *cells]))
        gains = [columns[c]["balanced"]["over_best_without"] for c in shown]
        lines.append(_line(["gain over the better of both", *(_gain(**gain) for gain in gains)]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def others(result: dict[str, Any]) -> str:
    """Return one table of sets that nothing was tuned to: clipped codes, nothing closed and balanced."""
    columns = (
        "1 bit, clipped",
        "2 bits, clipped",
        "4 bits, clipped",
        "a quarter of the dimensions",
    )
    lines = [_line(["best without → `balanced`", *columns]), _line(["---"] * (len(columns) + 1))]
    for name, found in result["details"]["others"].items():
        cells = []
        for column in columns:
            best = max(found[column][label]["recall"] for label in ("none", "recenter"))
            ours = found[column]["balanced"]
            error = ours["over_best_without"]["stderr"]
            cells.append(f"{_share(best)} → {_share(ours['recall'])} ± {_share(error)}")
        lines.append(_line([name, *cells]))
    return "\n".join(lines)


def mixed(result: dict[str, Any]) -> str:
    """Return what merged lists of COCO find, by kind of query and closer."""
    head = ["queries", "closer", "recall@1", "@10", "@50", "NDCG@10", "other side in the first ten",
            "lists kept"]  # fmt: skip
    lines = [_line(head), _line(["---"] * len(head))]
    for kind in ("texts", "images"):
        found = result["details"]["sets"][f"COCO, {kind} ask"]
        for place, closer in enumerate(
            ("none", "center", "standardize", "calibrate:means", "calibrate")
        ):
            halves = found[closer]
            figures = [_mean([half["recall"][k] for half in halves]) for k in ("1", "10", "50")]
            figures.append(_mean([half["ndcg"]["10"] for half in halves]))
            other = _mean([half["shares"]["10"]["other"] for half in halves])
            kept = min(min(half["lists"].values()) for half in halves)
            name = f"**{closer}**" if closer == "calibrate" else SCALES.get(closer, closer)
            lines.append(
                _line([kind if place == 0 else "", name, *map(_share, figures), f"{100 * other:.0f} %",
                       "all" if kept == 1 else f"{100 * kept:.0f} %"])
            )  # fmt: skip
    return "\n".join(lines)


def scales(result: dict[str, Any]) -> str:
    """Return NDCG of the first ten by the way that the scale is chosen, and beside other closers."""
    table = result["details"]["ndcg"]
    sets = [
        f"{name}, {kind} ask"
        for name in ("Caltech-101", "sample", "COCO")
        for kind in ("texts", "images")
    ]
    lines = [_line(["s_m", *sets, "mean"]), _line(["---"] * (len(sets) + 2))]
    for closer, words in SCALES.items():
        cells = [table[name].get(closer) for name in sets]
        mean = "" if None in cells else _share(_mean(cells))
        lines.append(_line([words, *("" if c is None else _share(c) for c in cells), mean]))
    return "\n".join(lines)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def graphs(result: dict[str, Any]) -> str:
    """Return the work of each map at fixed recalls, for both kinds of queries, beside what explains it."""
    hnsw, why = result["details"]["hnsw"], result["details"]["why"]
    head = [
        "map",
        "texts: work for .9",
        "over `none`",
        "work for .95",
        "images: work for .95",
        "answers near each other, texts",
        "linked",
        "images",
        "linked",
        "hubness",
        "orphans",
    ]
    lines = [_line(head), _line(["---"] * len(head))]
    for label, kinds in hnsw.items():
        texts, images = kinds["texts"], kinds["images"]
        over = texts["at 0.9"]
        ratio = "" if over["stderr"] is None else f"{over['over_none']:.2f} ± {over['stderr']:.2f}"
        own = [
            _share(figure)
            for kind in ("texts", "images")
            for figure in (
                why[label][kind]["mutual_nearness"]["mean"],
                why[label][kind]["answers_linked"],
            )
        ]
        lines.append(
            _line(
                [
                    label,
                    _count(over["work"]),
                    ratio.replace("0.", "."),
                    _count(texts["at 0.95"]["work"]),
                    _count(images["at 0.95"]["work"]),
                    *own,
                    f"{why[label]['hubness']:.1f}",
                    f"{100 * why[label]['orphans']:.0f} %",
                ]
            )
        )
    return "\n".join(lines)


def peers(result: dict[str, Any]) -> str:
    """Return a table a set: peers by bytes, on bare, recentred and balanced rows; the best bold."""
    parts = []
    for name, found in result["details"]["lines"].items():
        head = [SETS.get(name, name), "bytes", "`none`", "`recenter`", "`balanced`", "time to fit"]
        lines = [_line(head), _line(["---"] * len(head))]
        for group in dict.fromkeys(line["group"] for line in found):
            own = [line for line in found if line["group"] == group]
            top = max(line["recall"] for line in own)
            for peer in dict.fromkeys(line["peer"] for line in own):
                lines.append(_peer_line([line for line in own if line["peer"] == peer], top))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _peer_line(found: list[dict[str, Any]], top: float) -> str:
    """Return one peer's line; what moves both sides stands as if on bare rows."""
    cells = {}
    for line in found:
        share = _share(line["recall"])
        column = "none" if "centred" in line["rows"] else line["rows"]
        cells[column] = f"**{share}**" if line["recall"] == top else share
    size = found[0]["bytes"]
    beside = max(line["bytes"]["beside"] for line in found)
    slowest = max(
        line["fit_over_balanced"] for line in found if line["rows"] != "balanced" or len(found) == 1
    )
    return _line(
        [
            f"{found[0]['peer']}",
            f"{size['code']:.0f}" + (f" + {beside}" if beside else ""),
            *(cells.get(label, "") for label in ("none", "recenter", "balanced")),
            "" if slowest < 0.005 else f"{slowest:.2g}x" if slowest < 10 else f"{slowest:.0f}x",
        ]
    )


def fitting(result: dict[str, Any]) -> str:
    """Return three tables: how many queries, wrong queries, queries of two kinds."""
    details = result["details"]
    lines = [_line(["fitted to", *(SETS.get(name, name) for name in details["counts"])])]
    lines.append(_line(["---"] * (len(details["counts"]) + 1)))
    rival = [_share(details["rival"][name]["recall"]) for name in details["counts"]]
    lines.append(_line(["the best without", *rival]))
    labels: dict[str, dict[str, str]] = {}
    for name, found in details["counts"].items():
        for line in found:
            label = (
                f"{line['queries']} {line['fitted_to']}" if line["queries"] else line["fitted_to"]
            )
            cell = f"{_share(line['recall'])} ± {_share(line['stderr'])}"
            labels.setdefault(label, {})[name] = cell
    order = sorted(labels, key=lambda label: int(label.split()[0]) if label[0].isdigit() else 0)
    lines += [
        _line([label, *(labels[label].get(name, "") for name in details["counts"])])
        for label in order
    ]
    wrong = [
        _line(["fitted to", "searched", "over the best without", "with shrinkage .6"]),
        _line(["---"] * 4),
    ]
    for where, found in details["wrong"].items():
        for chosen, cautious in zip(found[::2], found[1::2], strict=True):
            gains = [_gain(**line["over_rival"]) for line in (chosen, cautious)]
            wrong.append(_line([chosen["fitted_to"], where, *gains]))
    kinds = [
        _line(["fitted to", "searched", "recall", "over the best without"]),
        _line(["---"] * 4),
    ]
    for name, found in details["kinds"].items():
        kinds += [
            _kind_line(line, f"{SETS.get(name, name)}, with {line['searched_with']}")
            for line in found
        ]
    return "\n\n".join("\n".join(table) for table in (lines, wrong, kinds))


def _kind_line(line: dict[str, Any], where: str) -> str:
    return _line([line["fitted_to"], where, _share(line["recall"]), _gain(**line["over_rival"])])


def better_maps(result: dict[str, Any]) -> str:
    """Return what other maps find and flip, beside `balanced`."""
    parts = []
    for name, found in result["details"]["maps"].items():
        head = [
            SETS.get(name, name),
            "flips, fitted queries",
            "flips, unseen",
            "1 bit",
            "over `balanced`",
        ]
        lines = [_line(head), _line(["---"] * len(head))]
        lines += [
            _line(
                [
                    line["map"],
                    f"{line['flips_fit']:.2f}",
                    f"{line['flips_unseen']:.2f}",
                    _share(line["recall"]),
                    _gain(**line["over_balanced"]) if line["map"] != "balanced" else "",
                ]
            )
            for line in found
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def front(result: dict[str, Any]) -> str:
    """Return what the front page shows of codes: the photos, the best of all forms."""
    columns = result["details"]["table"]["photos_clip_vitb32"]
    shown = [["1 bit", "1 bit, clipped"], ["2 bits", "2 bits, clipped"], ["4 bits", "4 bits, clipped"],
             ["a quarter of the dimensions"]]  # fmt: skip
    lines = [
        _line(
            ["recall@10 of the exact ten nearest", "1 bit", "2 bits", "4 bits", "128 of 512 dims"]
        ),
        _line(["---"] * 5),
    ]
    for label in ("none", "recenter", "balanced"):
        strong = "**" if label == "balanced" else ""
        cells = [max(columns[c][label]["recall"] for c in forms) for forms in shown]
        lines.append(_line([label, *(f"{strong}{_share(cell)}{strong}" for cell in cells)]))
    return "\n".join(lines)


def bits(result: dict[str, Any]) -> str:
    """Return what the gap costs, predicted and measured, a line a set."""
    lost = [f"{100 * share:.0f} % lost" for share in result["setting"]["lost"]]
    head = ["set", "predicted", *lost, "64 levels, one range", "predicted, a range per dimension",
            "64 levels, a range per dimension"]  # fmt: skip
    lines = [_line(head), _line(["---"] * len(head))]
    for one in result["details"]["sets"]:
        figures = [
            *one["measured"]["balanced"],
            one["codes"]["global"],
            one["range_per_dimension"]["reached"],
            one["codes"]["dimension"],
        ]
        predicted = f"**{one['predicted']['reached']:.2f}**"
        lines.append(_line([one["set"], predicted, *(f"{figure:.2f}" for figure in figures)]))
    return "\n".join(lines)


def signs(result: dict[str, Any]) -> str:
    """Return what codes of signs find, by what becomes of lengths; then the same with the wrong queries."""
    forms = ("none", "balanced", "with lengths as signs", "with lengths in floats")
    head = ["`none`", "`balanced`", "with lengths as signs", "with a float a row"]
    lines = [_line(["recall@10", "queries", *head]), _line(["---"] * (len(forms) + 2))]
    for name, found in result["details"]["sets"].items():
        for place, figures in enumerate(found.values()):
            kind = "signs" if place == 0 else "numbers"
            cells = [_share(figures[form]["recall"]) for form in forms]
            cells[2] = f"**{cells[2]}**"
            lines.append(_line([SETS.get(name, name) if place == 0 else "", kind, *cells]))
    wrong = [_line(["fitted to the wrong queries", "shrinkage", *head])]
    wrong.append(_line(["---"] * (len(forms) + 2)))
    for name, found in result["details"]["wrong"].items():
        for shrinkage, sides in found.items():
            figures = sides["queries in numbers"]
            chosen = "chosen" if shrinkage == "None" else shrinkage.replace("0.", ".")
            wrong.append(_line([name, chosen, *(_share(figures[form]) for form in forms)]))
    return "\n".join(lines) + "\n\n" + "\n".join(wrong)


def engine_stores(result: dict[str, Any]) -> str:
    """Return the same lines with the error of every recall."""
    return engines(result, errors=True)


def engines(result: dict[str, Any], *, errors: bool = False) -> str:
    """Return a line a codec of every engine: recall by map, own kind, rescored, work."""
    head = ["engine and codec", "bytes", "own kind", "`none`", "`recenter`", "`balanced`", "gain",
            "with lengths", "rescored x4", "work for .9"]  # fmt: skip
    lines = [_line(head), _line(["---"] * len(head))]
    by_codec: dict[str, dict[str, Any]] = {}
    for one in result["details"]["rows"]:
        label = f"{one['engine']}:{one['codec']}" if one["codec"] else one["engine"]
        by_codec.setdefault(label, {})[one["map"]] = one
    for label, maps in by_codec.items():
        bare, ours = maps.get("none"), maps.get("balanced")
        if bare is None or ours is None or bare["failed"] or ours["failed"]:
            reason = next(one["failed"] for one in maps.values() if one["failed"])
            lines.append(_line([label, f"failed: {reason}", *[""] * (len(head) - 2)]))
            continue
        cells = [
            f"**{_found(one, errors)}**" if name == _best(maps) else _found(one, errors)
            for name, one in ((name, maps.get(name)) for name in ENGINE_MAPS)
            if one is not None
        ]
        shown = dict(zip((n for n in ENGINE_MAPS if n in maps), cells, strict=True))
        lines.append(
            _line([
                label, f"{bare['bytes_per_vector']:,.0f}", _found(bare, errors, "own_kind"),
                *(shown.get(name, "") for name in ENGINE_MAPS[:3]), _gain(**ours["over_none"]),
                shown.get("balanced+lengths", ""),
                f"{_share(bare['rescored']['4']['recall']['10'])} → "
                f"{_share(ours['rescored']['4']['recall']['10'])}",
                _works(bare, ours),
            ])
        )  # fmt: skip
    return "\n".join(lines)


def _found(one: dict[str, Any], errors: bool, what: str = "recall") -> str:
    share = _share(one[what]["10"])
    return f"{share} ± {_share(one[f'{what}_stderr']['10'])}" if errors else share


ENGINE_MAPS = ("none", "recenter", "balanced", "balanced+lengths")


def _best(maps: dict[str, Any]) -> str:
    return max(maps, key=lambda name: maps[name]["recall"]["10"])


def _works(*found: dict[str, Any]) -> str:
    """Return what a recall of .9 takes: distance computations, or the setting where none are counted."""
    if not found[0]["work"]:
        return ""
    word = "lists " if "IVF" in found[0]["codec"] else "ef "
    word = "" if found[0]["work"]["counted"] else word
    return " → ".join(_needed(one, word) for one in found)


def _needed(one: dict[str, Any], word: str) -> str:
    price = "effort" if word else "computations"
    recall = np.maximum.accumulate([each["recall"] for each in one["efforts"]])
    if recall[-1] < one["work"]["recall"]:
        return "never"
    if recall[0] >= one["work"]["recall"]:
        return f"{word}{one['efforts'][0][price]:,.0f} or less"
    needed = np.interp(one["work"]["recall"], recall, [each[price] for each in one["efforts"]])
    return f"{word}{needed:,.0f}"


def engine_peers(result: dict[str, Any]) -> str:
    """Return LeanVec's matrices, our strongest coordinates and OPQ, in the same run."""
    head = ["codec", "map", "bytes", "recall@10", "rescored x2", "rescored x4", "work for .9"]
    lines = [_line(head), _line(["---"] * len(head))]
    for one in result["details"]["rows"]:
        if one["failed"]:
            continue
        error = one["recall_stderr"]["10"]
        lines.append(
            _line([
                f"{one['engine']}:{one['codec']}", one["map"], f"{one['bytes_per_vector']:,.0f}",
                f"{_share(one['recall']['10'])} ± {_share(error)}",
                *(_share(one["rescored"][factor]["recall"]["10"]) for factor in ("2", "4")),
                _works(one),
            ])
        )  # fmt: skip
    return "\n".join(lines)


def scaling(result: dict[str, Any]) -> str:
    """Return rows a second by engine and number of workers."""
    head = ["workers", "close, rows/s", "over one", "apply, rows/s", "over one", "start, s"]
    lines = [_line(head), _line(["---"] * len(head))]
    for line in result["details"]["table"]:
        name = "processes" if line["engine"] == "local" else "Dask workers"
        if line["workers"] == 1:
            name = name.removesuffix("es") if line["engine"] == "local" else name[:-1]
        cells = [f"{line['workers']} {name}"]
        for what in ("closing", "applying"):
            found = line[what]
            cells += [f"{found['rows_per_second']:,.0f}", f"{found['over_one']:.2f}x"]
        lines.append(_line([*cells, f"{line['start_s']:.1f}"]))
    return "\n".join(lines)


def bars(result: dict[str, Any]) -> str:
    """Return what a result measured against its bars, as docs/speed.md has it, and the machine."""
    return table.table([result])


def planned(result: dict[str, Any]) -> str:
    """Return what ten billion rows take, by the number of cores."""
    head = [
        "cores",
        "fit, hours",
        "map, hours",
        "read meanwhile",
        "written meanwhile",
        "merging busy",
    ]
    lines = [_line(head), _line(["---"] * len(head))]
    for workers in (16, 64, 256, 1024):
        found = _plan.plan(workers, result)
        lines.append(
            _line(
                [
                    f"{workers:,}",
                    f"{found['closing_hours']:.1f}",
                    f"{found['applying_hours']:.1f}",
                    f"{found['closing_read_bytes_per_second'] / 1e9:.2f} GB/s",
                    f"{2 * found['applying_read_bytes_per_second'] / 1e9:.2f} GB/s",
                    f"{100 * found['merging_share']:.1f} %",
                ]
            )
        )
    return "\n".join(lines)


def training(result: dict[str, Any]) -> str:
    """Return what models trained with and without the bits find, and what gap they keep."""
    found, weights = result["details"]["means"], result["setting"]["weights"]
    codes = ["1 bit", "2 bits", "4 bits", "a quarter of the dimensions", "float"]
    parts = []
    for figure, title in (
        ("recall", "recall@10 of the model's own ten"),
        ("precision", "of the ten found, of the caption's class"),
        ("accuracy", "pictures named rightly"),
    ):
        lines = [_line([title, "closed after", *codes]), _line(["---"] * (len(codes) + 2))]
        for weight in weights:
            name = "plain" if weight == 0 else f"bits in the loss, weight {weight:g}"
            for place, closer in enumerate(("none", "recenter", "balanced")):
                own = found[str(weight)][closer]
                cells = [_with_error(own[code][figure]) for code in codes]
                lines.append(_line([name if place == 0 else "", closer, *cells]))
        parts.append("\n".join(lines))
    names = {
        "search_cost": "bits lost, pictures stored",
        "search_means": "of them the means'",
        "naming_cost": "bits lost, captions stored",
        "naming_means": "of them the means'",
        "centroids": "distance of the centroids",
    }
    lines = [_line(["gap on test pictures", *names.values()]), _line(["---"] * (len(names) + 1))]
    for weight in weights:
        name = "plain" if weight == 0 else f"weight {weight:g}"
        own = found[str(weight)]["gap"]
        lines.append(_line([name, *(_with_error(own[key]) for key in names)]))
    return "\n\n".join([*parts, _gains(result, codes[:-1]), "\n".join(lines)])


def _gains(result: dict[str, Any], codes: list[str]) -> str:
    """Return what training with the bits wins over plain training and `balanced` after, seed by seed."""
    by_seed, (plain, *weights) = result["details"]["by_seed"], result["setting"]["weights"]
    head = [
        "nothing closed, less plain and `balanced`",
        *codes,
        "of the class, float",
        "named, float",
    ]
    lines = [_line(head), _line(["---"] * len(head))]
    own = [*((code, "recall") for code in codes), ("float", "precision"), ("float", "accuracy")]
    for weight in weights:
        pairs = list(zip(by_seed[str(weight)], by_seed[str(plain)], strict=True))
        cells = []
        for code, name in own:
            gains = [t["none"][code][name] - p["balanced"][code][name] for t, p in pairs]
            cells.append(_gain(_mean(gains), stdev(gains) / len(gains) ** 0.5))
        lines.append(_line([f"weight {weight:g}", *cells]))
    return "\n".join(lines)


def _with_error(figure: dict[str, float]) -> str:
    return f"{_share(figure['mean'])} ± {_share(figure['stderr'])}"


RUNTIMES = {
    "npz": "NumPy alone, from npz",
    "json": "NumPy alone, from JSON",
    "faiss": "FAISS",
    "torch": "PyTorch",
    "onnx": "ONNX Runtime",
    "sql": "PostgreSQL, pgvector",
}


def exported(result: dict[str, Any]) -> str:
    """Return how far each export is from the Python map, in its own runtime."""
    found = result["details"]["exports"]
    lines = [_line(["run in", "largest difference from the Python map"]), _line(["---"] * 2)]
    lines += [_line([RUNTIMES[to], _tiny(found["difference"][to])]) for to in RUNTIMES]
    lines.append(_line(["the Python map itself, from float64", _tiny(found["python"])]))
    size = f"{found['rows']} texts of CLIP ViT-B/32 ({found['dimension']} dimensions)"
    largest = f"the largest coordinate of a mapped row is {_share(found['coordinate'])}"
    about = f"{size}, mapped as queries under `balanced`; {largest}."
    return "\n".join([*lines, "", about])


def served(result: dict[str, Any]) -> str:
    """Return what FAISS finds behind a closure, and without it."""
    head = ["index", "bare", "behind `balanced`", "gain"]
    lines = [_line(head), _line(["---"] * len(head))]
    for word, found in result["details"]["serving"]["found"].items():
        lists = f", {found['lists']} lists probed" if found["lists"] else ""
        cells = [
            f"{_share(found[kind]['recall'])} ± {_share(found[kind]['stderr'])}"
            for kind in ("bare", "closed")
        ]
        lines.append(_line([f"`{word}`{lists}", *cells, _gain(**found["closed"]["over_bare"])]))
    return "\n".join(lines)


def drifted(result: dict[str, Any]) -> str:
    """Return what a check says of the same data, by closer, and of another model's."""
    head = ["checked with", "checks", "said to have drifted", "mean moved by", "in standard errors",
            "second moments, over chance", "fitting again would win, bits"]  # fmt: skip
    lines = [_line(head), _line(["---"] * len(head))]
    details = result["details"]
    named = [(f"the other halves, `{one['method']}`", one) for one in details["drift"]]
    named += [(f"{one['rows']}, `balanced`", one) for one in details["other"][1:]]
    for name, one in named:
        win = "" if one["win"] is None else _gain(one["win"], one["win_stderr"])
        lines.append(
            _line([
                name, str(one["checks"]), str(one["drifted"]), f"{one['mean']:.2f} spreads",
                f"{one['mean_in_errors']:.1f}", f"{one['spread_over_chance']:.1f}", win,
            ])
        )  # fmt: skip
    return "\n".join(lines)


def longer(result: dict[str, Any]) -> str:
    """Return what Qdrant's two bits find by the length of the queries."""
    found = result["details"]["longer"]
    head = ["map", *(f"queries x{times}" for times in found["none"])]
    lines = [_line(head), _line(["---"] * len(head))]
    for name, own in found.items():
        cells = [f"{_share(one['recall'])} ± {_share(one['stderr'])}" for one in own.values()]
        lines.append(_line([f"`{name}`", *cells]))
    return "\n".join(lines)


def _tiny(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")


#: For each page, what stands between which markers: the part, and the subject that it is made from.
PAGES: dict[str, dict[str, tuple[Callable[[dict[str, Any]], str], str]]] = {
    "docs/guide/indexing.md": {
        "codes": (codes, "codes"),
        "others": (others, "codes"),
        "peers": (peers, "peers"),
        "graphs": (graphs, "graphs"),
        "fitting": (fitting, "fitting"),
    },
    "docs/guide/index_study.md": {
        "engines": (engines, "engines"),
        "engine_stores": (engine_stores, "engine_stores"),
        "longer": (longer, "guides"),
        "engine_peers": (engine_peers, "engine_peers"),
    },
    "docs/guide/measuring.md": {"bits": (bits, "bits")},
    "docs/guide/mixed.md": {"mixed": (mixed, "mixed"), "scales": (scales, "mixed")},
    "docs/guide/stores.md": {"signs": (signs, "signs")},
    "docs/guide/scale.md": {
        "scaling": (scaling, "scaling"),
        "scaling_bars": (bars, "scaling"),
        "planned": (planned, "scaling"),
    },
    "docs/guide/gpu.md": {"gpu": (bars, "gpu")},
    "docs/guide/export.md": {"exported": (exported, "guides")},
    "docs/guide/serving.md": {"served": (served, "guides")},
    "docs/guide/drift.md": {"drifted": (drifted, "guides")},
    "docs/training.md": {"training": (training, "training")},
    "docs/theory_balanced.md": {"better_maps": (better_maps, "better_maps")},
    "README.md": {"front": (front, "codes")},
}


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    stale = []
    for name, parts in PAGES.items():
        page = options.root / name
        text = wanted = page.read_text(encoding="utf-8")
        for marker, (part, subject) in parts.items():
            (result,) = table.load(options.results, (subject,))
            wanted = table.between_markers(wanted, part(result), marker)
        if text != wanted:
            stale.append(name)
            if not options.check:
                page.write_text(wanted, encoding="utf-8")
    if options.check and stale:
        print(f"out of date: {', '.join(stale)}: python benchmarks/pages.py", file=sys.stderr)
    return int(options.check and bool(stale))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _count(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f}"


def _gain(difference: float, stderr: float) -> str:
    return f"{difference:+.3f} ± {stderr:.3f}".replace("0.", ".")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Render the results as tables of the pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    parser.add_argument("--results", type=Path, default=table.HERE / "results")
    parser.add_argument("--root", type=Path, default=table.HERE.parent, help="where the pages are")
    return parser


if __name__ == "__main__":
    sys.exit(main())
