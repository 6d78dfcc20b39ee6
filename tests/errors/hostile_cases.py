"""Hostile cases, built systematically: what is wrong, where it stands, and the command that meets it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hostile_files import (
    DAMAGES,
    FORMATS,
    PLACES,
    TEXTS,
    VALUES,
    arrays,
    encoded,
    save,
)

#: Prepares the folder that is the working folder, and returns the words of one or more commands.
Build = Callable[[np.random.Generator], list[list[str]]]


@dataclass(frozen=True)
class Case:
    """One hostile case that runs in this process: its family, what is wrong, how it is set up."""

    family: str
    name: str
    build: Build

    @property
    def label(self) -> str:
        """Family and name."""
        return f"{self.family}: {self.name}"


EVALUATE = "evaluate --queries q.npy --gallery g.npy --draws 2"
#: Commands as they are right; what names a file is what a case changes.
COMMANDS = {
    "measure": "measure q.npy g.npy --json",
    "measure pairs": "measure q.npy p.npy --paired --raw",
    "close": "close --queries q.npy --gallery g.npy --out out.safetensors --json",
    "close rows": "close --queries q.npy --gallery g.npy --method realign --out out.safetensors",
    "close pairs": "close --queries q.npy --gallery p.npy --method procrustes --metric euclidean "
    "--out out.safetensors",
    "close template": "close --queries q.npy --gallery t.npy --template 1 --metric ip "
    "--method orthogonal --alpha 0.5 --out out.safetensors",
    "close stats": "close --stats st.safetensors --gallery g.npy --method balanced "
    "--out out.safetensors",
    "stats": "stats write --queries q.npy --gallery g.npy --model m --out out.safetensors --json",
    "verify": "verify q.npy g.npy --labels l.npy --closure c.safetensors --draws 20 --json",
    "doctor": "doctor c.safetensors --queries q.npy --gallery g.npy --json",
    "export": "export c.safetensors --to json --out out.json",
    "apply": "apply c.safetensors --queries q.npy --out out --json",
    "apply gallery": "apply c.safetensors --gallery t.npy --out out --dtype float16",
    "apply shards": "apply c.safetensors --queries s --out out",
    "evaluate": f"{EVALUATE} --labels l.npy --json",
    "evaluate names": f"{EVALUATE} --labels labels.txt --classes classes.json --metric euclidean",
    "evaluate closure": f"{EVALUATE} --methods none,c.safetensors --noise int8",
    "evaluate owners": "evaluate --queries k.npy --gallery p.npy --owners o.npy --draws 2 --json",
    "evaluate answers": "evaluate --queries q.npy --gallery x.npy --answers a.npy --draws 2 --csv",
    "evaluate mixed": "evaluate --queries q.npy --gallery p.npy --companions k.npy --draws 2",
    "evaluate templates": "evaluate --queries q.npy --gallery t.npy --templates templates.txt "
    "--paraphrase --draws 2",
    "advise": "advise --queries q.npy --gallery g.npy --draws 2 --json",
    "advise labels": "advise --queries q.npy --gallery g.npy --labels l.npy --noise int8 "
    "--answers-may-change --draws 2",
    "report": "report q.npy g.npy --labels l.npy --classes classes.json --draws 2 --out out.html",
}
#: Files that hold embeddings, and those that hold whole numbers.
CLOUDS = ("q.npy", "g.npy", "p.npy", "t.npy", "x.npy", "k.npy")
WHOLE = ("l.npy", "a.npy", "o.npy")
TEXT_FILES = ("labels.txt", "classes.json", "templates.txt")


def roles(command: str, among: tuple[str, ...] | None = None) -> list[str]:
    """Return the files that a command names as inputs."""
    words = itertools.chain(*(word.split(",") for word in COMMANDS[command].split()))
    suffixes = (".npy", ".txt", ".json", ".safetensors")
    found = [word for word in words if word.endswith(suffixes) and not word.startswith("out")]
    return [word for word in found if among is None or word in among]


def words(command: str, **changes: str) -> list[str]:
    """Return a command's words, files renamed; `changes` are old names (dots as _) and new ones."""
    renamed = {old.replace("_", "."): new for old, new in changes.items()}
    found = []
    for word in COMMANDS[command].split():
        found.append(",".join(renamed.get(part, part) for part in word.split(",")))
    return found


def _renamed(command: str, old: str, new: str) -> list[str]:
    return words(command, **{old.replace(".", "_"): new})


def damaged() -> Iterator[Case]:
    """Files of every format and role whose bytes are damaged."""
    for command, damage, suffix in itertools.product(COMMANDS, DAMAGES, FORMATS):
        for role in roles(command, CLOUDS + WHOLE):
            if suffix in (".parquet", ".arrow") and arrays()[role[0]].ndim == 3:
                continue

            def build(rng: Any, c=command, d=damage, s=suffix, r=role) -> list[list[str]]:
                name = f"bad{s}"
                Path(name).write_bytes(DAMAGES[d](encoded(r[0], s), rng))
                return [_renamed(c, r, name)]

            yield Case("damage", f"{command}, {role} as {suffix}, {damage}", build)


def values() -> Iterator[Case]:
    """Embeddings of every role with hostile values, shapes and types."""
    for command, value in itertools.product(COMMANDS, VALUES):
        for role in roles(command, CLOUDS):

            def build(rng: Any, c=command, v=value, r=role) -> list[list[str]]:
                with np.errstate(all="ignore"):
                    np.save(r, VALUES[v](arrays()[r[0]]), allow_pickle=True)
                return [words(c)]

            yield Case("values", f"{command}, {role} {value}", build)


def both_values() -> Iterator[Case]:
    """The same on both sides, under every metric and closer: where figures meet."""
    from modgap.closers import METHODS

    kinds = [value for value in VALUES if "time" in value or "scale" in value or "added" in value]
    kinds += ["all equal", "twice each", "one row", "two rows", "one column", "half"]
    for value, method, metric in itertools.product(kinds, METHODS, ("cosine", "ip", "euclidean")):

        def build(rng: Any, v=value, m=method, k=metric) -> list[list[str]]:
            pairs = METHODS[m].needs == "pairs"
            for role in ("q", "p" if pairs else "g"):
                with np.errstate(all="ignore"):
                    np.save(f"{role}.npy", VALUES[v](arrays()[role]))
            gallery = "p.npy" if pairs else "g.npy"
            sides = ["--queries", "q.npy", "--gallery", gallery, "--metric", k]
            return [
                ["close", *sides, "--method", m, "--out", "out.safetensors"],
                ["evaluate", *sides, "--methods", m, "--draws", "2", "--json"],
                ["measure", "q.npy", gallery, "--raw", "--json"],
                ["apply", "out.safetensors", "--queries", "q.npy", "--out", "out"],
            ][: 4 if METHODS[m].needs == "moments" else 2]

        yield Case("both sides", f"{value}, {method}, {metric}", build)


def places() -> Iterator[Case]:
    """Pipes, sockets, devices, folders, loops and nothing at all in the place of every file."""
    for command, place in itertools.product(COMMANDS, PLACES):
        targets = [*roles(command), *(["out.safetensors"] if command.startswith("close") else [])]
        targets += {"report": ["out.html"], "apply": ["out", "out/modgap.json", "out/q.npy"]}.get(
            command, []
        )
        if command == "apply shards":
            targets += ["s", "s/emb_1.npy", "s/emb_3.npy", "s/notes.txt"]
        for target in targets:

            def build(rng: Any, c=command, p=place, t=target) -> list[list[str]]:
                path = Path.cwd() / t
                if path.is_dir():
                    shutil.rmtree(path)
                path.unlink(missing_ok=True)
                path.parent.mkdir(exist_ok=True)
                PLACES[p](path)
                return [words(c)]

            yield Case("places", f"{command}, {target} is {place}", build)


def texts() -> Iterator[Case]:
    """Labels, classes, templates and owners as hostile texts, under every suffix."""
    for text, suffix in itertools.product(TEXTS, (".txt", ".csv", ".json")):
        for command in ("evaluate names", "evaluate owners", "evaluate templates", "report"):
            for role in roles(command, TEXT_FILES + WHOLE):

                def build(rng: Any, c=command, t=text, s=suffix, r=role) -> list[list[str]]:
                    Path(f"text{s}").write_bytes(TEXTS[t])
                    return [_renamed(c, r, f"text{s}")]

                yield Case("texts", f"{command}, {role} as {suffix}: {text}", build)


NAMES = (
    "a b", "a\nb", "a\tb", "a\x1b[31mb", "-x", "--json", "a:b", "a:b:c", ":a", "ü", "日本", "a\u202eb",
    "\udcff", "x" * 250, "x" * 4000, "$(touch owned)", "`touch owned`", "a;touch owned", "*", "?", "[a]",
    "~", ".", "..", "%s", "{0}", "<b>", "'", '"', "\\", " ", ".hidden", "a,b", "nul", "[bold]x", "a\rb",
)  # fmt: skip


def names() -> Iterator[Case]:
    """Files, folders and outputs with hostile names, there and not there."""
    for name, command, there in itertools.product(NAMES, COMMANDS, (True, False)):
        inputs = roles(command)[:1]
        for role in [*inputs, "out"]:
            suffix = Path(role).suffix or {"c": ".safetensors", "r": ".html"}.get(command[0], "")

            def build(rng: Any, n=name, c=command, r=role, s=suffix, t=there) -> list[list[str]]:
                new = f"{n}{s}"
                if r != "out" and t:
                    with contextlib.suppress(OSError):  # a name that no file can have
                        shutil.copy(r, f"./{new}")
                line = words(c)
                old = next((w for w in line if w.startswith("out")), None) if r == "out" else r
                return [[new if w == old else w for w in line]]

            if role == "out" and not there:
                continue
            yield Case("names", f"{command}, {role} is {ascii(name)[:30]}, there: {there}", build)


NUMBERS = (
    "0", "-1", "1", "1.5", "nan", "inf", "-inf", "1e400", "9" * 20, "-" + "9" * 20, "1e-320", "x", "",
    "0x10", "1_000", "٣", "1e18", "2**3", "True", "all", "none",
)  # fmt: skip
NUMERIC = {
    "measure": "temperature sample seed template",
    "close": "alpha n-components scale template",
    "evaluate": "alphas n-components draws seed fragile folds template",
    "advise": "draws seed template",
    "report": "alphas draws seed max-points template",
    "simulate": "n dimension spread start-gap rank temperature min-temperature bias scalar-rate steps "
    "rate batch record-every sigma seed",
}


def numbers() -> Iterator[Case]:
    """Every numeric option with numbers that no option should take."""
    for command, options in NUMERIC.items():
        start = COMMANDS.get(command, "simulate --n 3 --dimension 3 --steps 4 --record-every 2")
        for option, number in itertools.product(options.split(), NUMBERS):
            line = [*start.split(), f"--{option}", number]
            yield Case("numbers", f"{command} --{option} {number[:9]}", lambda rng, w=line: [w])


WORDS = (
    *COMMANDS["evaluate names"].split(), *COMMANDS["apply"].split(), "measure", "close", "report",
    "q.npy:emb", "q.npy:", "s:emb", ".", "absent.npy", ":", "-", "--", "0", "3.5", "nan", "all",
    "none,affine", "affine:ip", "affine:manhattan", "procrustes", "scaled", "balanced", "center,,erase",
    "gaussian:0.1", "gaussian:1e300", "gaussian:1e-300", "gaussian:0.3:relative", "bins:3", "bins:x",
    "bins:4:1,0", "int8@both", "sign", "sign:rotated:lengths", "uniform:0.2@queries", "faiss:SQ8",
    "faiss:PQ3", "faiss:", "dims:2", "dims:99", "pq64", "missing/out.json", "--help", "--quiet",
    "--template", "1", "--noise", "--methods", "--alphas", "0,1", "--metric", "l2", "dot", "--pool",
    "--reduce", "--paired", "--owners", "--companions", "--fragile", "--csv", "--dtype", "input",
    "\x1b", "\0", "\ud800", "ü", "-h", "--version", "--show-completion",
)  # fmt: skip


def arbitrary() -> Iterator[Case]:
    """Words in any order: some make commands, most do not."""
    for i in range(1500):

        def build(rng: Any, i=i) -> list[list[str]]:
            rng = np.random.default_rng((i, 7))
            command = list(COMMANDS)[i % len(COMMANDS)]
            line = words(command) if i % 5 else []
            for _ in range(int(rng.integers(1, 5))):
                line.insert(int(rng.integers(len(line) + 1)), str(rng.choice(WORDS)))
            if i % 3 == 0 and len(line) > 2:
                del line[int(rng.integers(len(line)))]
            heavy = {"figures", "simulate", "--show-completion"} & set(line)
            # `modgap report` alone is right and slow: it reports on the sample
            return [[w for w in line if w not in heavy]] if line[:1] != ["report"] else [line[1:]]

        yield Case("words", str(i), build)


HEADERS: dict[str, Any] = {
    "format_version": [0, -1, 2, 1e400, 10**30, "1", None, [], True, 1.5],
    "method": [None, 3, "x" * 9999, "\x1b[31m", []],
    "metric": ["", "manhattan", None, 3, "dot", []],
    "comparison": ["", "l2", {}, "cosine"],
    "bound": ["x", -1, float("nan"), 1e400, [], 1e308, 0],
    "resolution": ["x", -1, float("nan"), None, 1e308],
    "gain": ["x", 0, -1, float("inf"), None, 1e308],
    "alpha": ["1", float("nan"), float("inf"), [1], 1e308, 10**400],
    "n_components": [[3], -1, "all", 2.5, 10**30, True],
    "rank": [[3], -1, "x", 10**30],
    "info": [None, [], "x", {"gap": "x"}, {"a": {"b": {}}}],
    "queries": [None, [], {}, {"width": 6}, "x"],
    "gallery": [None, [], {}],
}
MAPS = {
    "width": [0, -1, 5, 10**18, "6", None, 6.5],
    "residual": [None, 0, "x", "other"],
    "normalize_input": [None, 1],
    "normalize_output": [None, "x"],
}
TENSORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nan": lambda x: np.full_like(x, np.nan),
    "inf": lambda x: np.full_like(x, np.inf),
    "huge": lambda x: np.full_like(x, 1e300),
    "tiny": lambda x: np.full_like(x, 1e-320),
    "zeros": lambda x: np.zeros_like(x),
    "integers": lambda x: x.astype(np.int64),
    "half": lambda x: x.astype(np.float16),
    "wider": lambda x: np.concatenate([x, x], axis=-1),
    "narrower": lambda x: np.ascontiguousarray(x[..., :-1]),
    "flat": lambda x: x.reshape(-1),
    "deeper": lambda x: x[None],
    "a number": lambda x: np.asarray(2.0),
    "empty": lambda x: x[:0],
    "transposed": lambda x: np.ascontiguousarray(x.T),
}
USES = ("apply", "apply gallery", "evaluate closure")


def closures() -> Iterator[Case]:
    """Closure files whose header, maps or tensors were tampered with."""
    changes: list[tuple[str, Callable[[dict, dict], None]]] = []
    for key, found in HEADERS.items():
        for value in found:
            changes.append(
                (f"{key} = {value!r:.20}", lambda h, t, k=key, v=value: h.update({k: v}))
            )
        changes.append((f"no {key}", lambda h, t, k=key: h.pop(k, None)))
    for side, (key, found) in itertools.product(("queries", "gallery"), MAPS.items()):
        for value in found:

            def change(h: dict, t: dict, s=side, k=key, v=value) -> None:
                h[s][k] = (not h[s][k]) if v == "other" else v

            changes.append((f"{side}.{key} = {value!r:.20}", change))
    parts = ("center", "left", "right", "scale", "shift")
    for side, part, kind in itertools.product(("queries", "gallery"), parts, TENSORS):

        def alter(h: dict, t: dict, n=f"{side}.{part}", k=kind) -> None:
            held = t.get(n, np.ones((6, 6) if n.endswith(("left", "right")) else 6))
            t[n] = TENSORS[k](held)

        changes.append((f"{side}.{part} {kind}", alter))
        changes.append((f"no {side}.{part}", lambda h, t, n=f"{side}.{part}": t.pop(n, None)))
    deep = '{"a":' * 50_000 + "1" + "}" * 50_000
    changes.append(("a deep header", lambda h, t: h.update(info=deep)))
    for (name, change), command in itertools.product(changes, USES):

        def build(rng: Any, c=command, edit=change) -> list[list[str]]:
            rewrite("c.safetensors", edit)
            return [words(c)]

        yield Case("closures", f"{command}, {name}", build)
    for damage, command, i in itertools.product(DAMAGES, USES, range(3)):

        def broken(rng: Any, c=command, d=damage) -> list[list[str]]:
            path = Path("c.safetensors")
            path.write_bytes(DAMAGES[d](path.read_bytes(), rng))
            return [words(c)]

        yield Case("closures", f"{command}, {damage} {i}", broken)


def rewrite(path: str, change: Callable[[dict, dict], None]) -> None:
    """Change the header and the tensors of a closure file."""
    from safetensors import numpy as files
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as handle:
        header = json.loads(handle.metadata()["modgap"])
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    change(header, tensors)
    text = json.dumps(header)
    if isinstance(header.get("info"), str) and header["info"].startswith('{"a":'):
        text = text.replace(json.dumps(header["info"]), header["info"])
    files.save_file(tensors or {"none": np.zeros(1)}, path, metadata={"modgap": text})


LINKS: dict[str, Callable[[str, str], Any]] = {
    "itself": lambda old, new: os.rename(old, new),
    "a symbolic link": lambda old, new: os.symlink(old, new),
    "a hard link": lambda old, new: os.link(old, new),
    "a link to a link": lambda old, new: (os.symlink(old, "l"), os.symlink("l", new)),
}


def outputs() -> Iterator[Case]:
    """Outputs on the path of every input, and where none can be written."""
    for command in COMMANDS:
        suffix = {"c": ".safetensors", "r": ".html"}.get(command[0], "")
        if not suffix:
            continue
        for role, link in itertools.product(roles(command), LINKS):

            def build(rng: Any, c=command, r=role, k=link, s=suffix) -> list[list[str]]:
                LINKS[k](r, f"same{s}")
                line = _renamed(c, r, f"same{s}") if k == "itself" else words(c)
                return [[f"same{s}" if w.startswith("out") else w for w in line]]

            yield Case("outputs", f"{command}, out is {role} by {link}", build)
    wheres = {
        "missing/out": lambda: None,
        "q.npy/out": lambda: None,
        "/proc/out": lambda: None,
        "": lambda: None,
        ".": lambda: None,
        "s": lambda: None,
        "s/..": lambda: None,
        "read only/out": lambda: Path("read only").mkdir(0o500),
        "in/out": lambda: Path("in").symlink_to("s"),
    }
    for command, (where, make) in itertools.product(COMMANDS, wheres.items()):
        if command.startswith(("close", "apply", "report")):

            def put(rng: Any, c=command, w=where, m=make) -> list[list[str]]:
                m()
                suffix = Path(next(x for x in words(c) if x.startswith("out"))).suffix
                new = w if w in ("", ".", "s", "s/..") else w + suffix
                return [[new if x.startswith("out") else x for x in words(c)]]

            yield Case("outputs", f"{command}, out is {where!r}", put)


def shards() -> Iterator[Case]:
    """Folders of shards with holes, doubles and odd members; records of output that were edited."""
    held = arrays()["q"]
    members: dict[str, Callable[[Path], Any]] = {
        "hole": lambda s: (s / "emb_1.npy").unlink(),
        "double": lambda s: shutil.copy(s / "emb_1.npy", s / "emb_01.npy"),
        "two formats": lambda s: save(s / "emb_3.npz", held),
        "two kinds": lambda s: save(s / "txt_0.npy", held),
        "narrow": lambda s: save(s / "emb_3.npy", held[:, :3]),
        "integers": lambda s: save(s / "emb_3.npy", held.astype(np.int64)),
        "half": lambda s: save(s / "emb_3.npy", held.astype(np.float16)),
        "nan": lambda s: save(s / "emb_3.npy", VALUES["nan"](held)),
        "huge": lambda s: save(s / "emb_3.npy", VALUES["times 1e+150"](held)),
        "zeros": lambda s: save(s / "emb_3.npy", held * 0),
        "empty": lambda s: (s / "emb_3.npy").touch(),
        "cut": lambda s: os.truncate(s / "emb_2.npy", 150),
        "no rows": lambda s: save(s / "emb_3.npy", held[:0]),
        "three axes": lambda s: save(s / "emb_3.npy", held[None]),
        "flat": lambda s: save(s / "emb_3.npy", held[:, 0]),
        "hidden": lambda s: save(s / ".emb_3.npy", held),
        "of": lambda s: save(s / "emb-00000-of-00002.npy", held),
        "nested": lambda s: (s / "emb").mkdir(),
        "large number": lambda s: save(s / f"emb_{'9' * 18}.npy", held),
        "larger number": lambda s: save(s / f"emb_{'9' * 40}.npy", held),
        "no shards": lambda s: [path.unlink() for path in s.iterdir()],
        "a folder link": lambda s: (s / "emb_3.npy").symlink_to("."),
    }
    lines = [
        "measure s g.npy", "measure s:emb g.npy", "measure s:other g.npy",
        "close --queries s --gallery g.npy --out out.safetensors",
        "apply c.safetensors --queries s --out out", "apply c.safetensors --queries s --out s/out",
        f"{EVALUATE.replace('q.npy', 's')}",
    ]  # fmt: skip
    for (name, make), line in itertools.product(members.items(), lines):

        def build(rng: Any, m=make, w=line) -> list[list[str]]:
            m(Path("s"))
            return [w.split()]

        yield Case("shards", f"{name}, {line[:30]}", build)
    records: list[Any] = [
        "", "{", "[]", "null", "[" * 99_999, {"modgap_manifest": 2}, {"modgap_manifest": 1},
        {"modgap_manifest": 1, "files": []}, {"modgap_manifest": 1, "files": {"emb_0.npy": 3}},
        *({"modgap_manifest": 1, "files": {"emb_0.npy": {"complete": True, key: value}}}
          for key in ("fingerprint", "bytes", "shape", "dtype", "key")
          for value in (None, [], {}, "x", -1, 1e400, [None])),
    ]  # fmt: skip
    for i, record in enumerate(records):

        def edited(rng: Any, r=record) -> list[list[str]]:
            Path("out").mkdir()
            Path("out/modgap.json").write_text(r if isinstance(r, str) else json.dumps(r))
            line = words("apply shards")
            return [line, line]

        yield Case("shards", f"record {i}", edited)


IN_PROCESS = (
    damaged, values, both_values, places, texts, names, numbers, arbitrary, closures, outputs, shards,
)  # fmt: skip
