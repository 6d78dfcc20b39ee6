"""Arbitrary words and hostile files: exit code 0 or 2, one line each on stderr, never a traceback."""

import contextlib
import io
import json
import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modgap import closers
from modgap.cli import main

QUICK = settings(suppress_health_check=list(HealthCheck))
RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(9, 4)).astype(np.float32)
GALLERY = RNG.normal(size=(3, 4)).astype(np.float32)

#: Values that fit some option; mixed with arbitrary text.
VALUES = (
    "q.npy", "g.npy", "t.npy", "labels.npy", "labels.txt", "classes.json", "c.safetensors",
    "both.npz:q", "both.npz", ".", "absent.npy", "q.npy:x", "", ":", "-", "--", "0", "1", "2", "-1",
    "3.5", "nan", "inf", "-inf", "1e400", "all", "0.9", "euclidean", "ip", "cosine", "none",
    "affine", "none,affine", "center,erase", "orthogonal,c.safetensors", "procrustes", "scaled",
    "gallery", "queries", "gaussian:0.1", "gaussian:1e300", "gaussian:1e-300", "bins:3", "bins:x",
    "bins:4:0,1", "bins:4:1,0", "int8@both", "sign", "uniform:0.2@queries", "faiss:SQ8", "faiss:",
    "out.safetensors", "out.html", "out.json", "out", "missing/out.json", "0,1", "0,,1", ",",
)  # fmt: skip
OPTIONS = {
    "evaluate": "queries gallery labels owners answers companions partners metric template classes "
    "templates methods alphas n-components noise draws seed fragile",
    "advise": "queries gallery labels owners companions metric template noise draws seed",
    "measure": "template temperature sample seed",
    "close": "queries gallery out method metric alpha n-components side scale template",
    "apply": "queries gallery out",
    "simulate": "start loss metric spread start-gap rank temperature bias rate batch sigma out",
    "report": "labels metric template out",
}
FLAGS = {
    "evaluate": ("--paired", "--paraphrase", "--json"),
    "advise": ("--paired", "--answers-may-change", "--json"),
    "measure": ("--paired", "--raw", "--json"),
    "close": ("--reduce", "--pool", "--json"),
    "apply": ("--json",),
    "simulate": ("--sphere", "--learn-temperature", "--learn-bias", "--json"),
    "report": ("--paired",),
}
#: What a sound call begins with, so that fuzzing gets beyond the first check.
STARTS = {
    "evaluate": ["--queries", "q.npy", "--gallery", "g.npy", "--draws", "2"],
    "advise": ["--queries", "q.npy", "--gallery", "g.npy", "--draws", "2"],
    "measure": ["q.npy", "g.npy"],
    "close": ["--queries", "q.npy", "--gallery", "g.npy", "--out", "out.safetensors"],
    "apply": ["c.safetensors", "--queries", "q.npy", "--out", "out"],
    "simulate": ["--n", "3", "--dimension", "3", "--steps", "4", "--record-every", "2"],
    "report": ["q.npy", "--out", "out.html"],
}


@cache
def stock():
    """Return the bytes of sound files by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "q.npy", QUERIES)
        np.save(folder / "g.npy", GALLERY)
        np.save(folder / "t.npy", np.stack([GALLERY, GALLERY + 1]))
        np.save(folder / "labels.npy", np.arange(9) % 3)
        np.savez(folder / "both.npz", q=QUERIES, g=GALLERY)
        (folder / "labels.txt").write_text("\n".join("abc" * 3))
        (folder / "classes.json").write_text(json.dumps(list("abc")))
        closers.fit("affine", QUERIES, GALLERY).save(folder / "c.safetensors")
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextlib.contextmanager
def folder_of(files):
    """Go to a fresh folder that holds these files."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file).write_bytes(content)
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def run(words):
    """Run a command, hold it to the rules, and return its exit code and stdout."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(words)
    lines = errors.getvalue().splitlines()
    assert code in (0, 2), (words, lines)
    assert all(line.startswith("modgap: ") and line.isprintable() for line in lines), lines
    assert sum("error: " in line for line in lines) == (code == 2), lines
    if code == 2:
        assert len(lines) == 1, lines
        assert out.getvalue() == ""
    elif "--json" in words and "--help" not in words:
        json.loads(out.getvalue())
    return code, out.getvalue()


@st.composite
def commands(draw):
    """Draw a command with options that exist and values that may fit."""
    name = draw(st.sampled_from(sorted(OPTIONS)))
    value = st.sampled_from(VALUES) | st.text(max_size=12)
    words = list(STARTS[name]) if draw(st.booleans() | st.just(True)) else []
    for option in draw(st.lists(st.sampled_from(OPTIONS[name].split()), max_size=4)):
        words += [f"--{option}", draw(value)]
    words += draw(st.lists(st.sampled_from(FLAGS[name]), max_size=2))
    return [name, *words, *draw(st.lists(value, max_size=1))]


@QUICK
@given(commands())
@example(["evaluate", *STARTS["evaluate"], "--noise", "gaussian:1e300"])
@example(["evaluate", *STARTS["evaluate"], "--noise", "uniform:1e300"])
@example(["evaluate", *STARTS["evaluate"], "--alphas", "-100,100", "--metric", "cosine"])
@example(["apply", "c.safetensors", "--queries", "q.npy", "--out", "a\0b"])
@example(["close", *STARTS["close"][:4], "--out", "\0.safetensors"])
@example(["simulate", *STARTS["simulate"], "--out", "\0.json"])
@example(["measure", "q.npy", "\ud800.npy"])
def test_arbitrary_options(words):
    with folder_of(stock()):
        run(words)


@QUICK
@given(
    st.lists(
        st.sampled_from([*OPTIONS, *VALUES, "--help", "--quiet", "-h"]) | st.text(), max_size=6
    )
)
def test_arbitrary_words(words):
    if words[:1] in (["doctor"], ["figures"], ["simulate"]) or "report" in words[:3]:
        return  # slow where nothing is wrong with the words
    with folder_of(stock()):
        run([word for word in words if word not in ("--debug", "simulate", "doctor", "figures")])


@st.composite
def damaged(draw, names):
    """Draw sound files of which one has bytes changed, cut out or put in."""
    files = dict(stock())
    name = draw(st.sampled_from(names))
    content = bytearray(files[name])
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(("change", "cut", "insert", "digit")))
        if kind == "change" and content:
            content[place] = draw(st.integers(0, 255))
        elif kind == "cut":
            del content[place : place + draw(st.integers(1, 40))]
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=8))
        elif content:
            digits = [i for i, byte in enumerate(content[:600]) if 48 <= byte <= 57]
            if digits:
                content[draw(st.sampled_from(digits))] = draw(st.integers(48, 57))
    files[name] = bytes(content)
    return files


@QUICK
@given(damaged(("q.npy", "g.npy", "labels.npy", "classes.json", "labels.txt")))
def test_damaged_inputs(files):
    labels = ("--labels", "labels.txt", "--classes", "classes.json", "--json")
    with folder_of(files) as folder:
        run(["evaluate", *STARTS["evaluate"], *labels])
        run(["evaluate", *STARTS["evaluate"], "--labels", "labels.npy", "--metric", "cosine"])
        run(["measure", *STARTS["measure"], "--json"])
        code, _ = run(["close", *STARTS["close"]])
        assert (folder / "out.safetensors").exists() == (code == 0)


@QUICK
@given(damaged(("c.safetensors",)))
def test_damaged_closures(files):
    with folder_of(files) as folder:
        code, _ = run(["apply", *STARTS["apply"]])
        assert (folder / "out").exists() == (code == 0)
        run(["apply", "c.safetensors", "--gallery", "t.npy", "--out", "out2"])
        run(["evaluate", *STARTS["evaluate"], "--methods", "none,c.safetensors"])
