"""Every option of a command changes what comes out, or is refused: none is parsed and ignored."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from modgap import closers
from modgap.cli import main
from modgap.cli.app import command

RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(14, 6)) + 1
GALLERY = RNG.normal(size=(5, 6))
GALLERY /= np.linalg.norm(GALLERY, axis=1, keepdims=True)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A function that runs a command among sound inputs; returns code, stdout and the error."""
    monkeypatch.chdir(tmp_path)
    np.save("q.npy", QUERIES)
    np.save("g.npy", GALLERY)
    np.save("t.npy", np.stack([GALLERY, GALLERY[::-1] + 1]))
    np.save("p.npy", QUERIES + RNG.normal(size=QUERIES.shape))
    np.save("h.npy", QUERIES.astype(np.float16))
    closers.fit("affine", QUERIES, GALLERY).save("c.safetensors")

    def call(*words):
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def content(path="c2.safetensors"):
    """Return all that a closure file says, without where it came from."""
    closure = closers.Closure.load(path)
    maps = [closure.apply_queries(QUERIES), closure.apply_gallery(GALLERY)]
    return [np.asarray(side).tobytes() for side in maps], closure.comparison


#: An option of `close`, the name that methods know it by, and a value other than the default.
SETTINGS = [
    (["--alpha", "0.5"], "alpha"),
    (["--n-components", "2"], "n_components"),
    (["--side", "queries"], "side"),
    (["--reduce"], "reduce"),
    (["--scale", "2"], "scale"),
    (["--shrinkage", "0.9"], "shrinkage"),
    (["--rotation", "none"], "rotation"),
]


@pytest.mark.parametrize(("option", "name"), SETTINGS, ids=[name for _, name in SETTINGS])
@pytest.mark.parametrize("method", closers.METHODS)
def test_an_option_of_close_is_taken_or_refused(run, method, option, name):
    gallery = "p.npy" if closers.METHODS[method].needs == "pairs" else "g.npy"
    words = ["close", "--queries", "q.npy", "--gallery", gallery, "--method", method,
             "--metric", "euclidean", "--out", "c2.safetensors"]  # fmt: skip
    assert run(*words)[0] == 0
    before = content()
    code, _, error = run(*words, *option)
    if name in closers.METHODS[method].takes:
        assert code == 0
        assert content() != before
    else:
        assert code == 2
        assert f"`{method}` has no option `{name}`; leave it out, or use " in error
        assert content() == before


@pytest.mark.parametrize("method", ["affine", "recenter"])
def test_a_comparison_may_follow_the_method(run, method):
    words = ["close", "--queries", "q.npy", "--gallery", "g.npy", "--out", "c2.safetensors"]
    found = {}
    for comparison in ("ip", "euclidean"):
        assert run(*words, "--method", f"{method}:{comparison}")[0] == 0
        found[comparison] = content()[1]
    assert found == {"ip": "ip", "euclidean": "euclidean"}
    code, _, error = run(*words, "--method", f"{method}:manhattan")
    assert (code, "must be one of" in error) == (2, True)


@pytest.mark.parametrize(
    ("gallery", "option", "says"),
    [
        ("g.npy", ["--pool"], "`--pool` takes the rows of a gallery of shape (t, n, d) as one"),
        ("g.npy", ["--template", "0"], "leave it out"),
        ("t.npy", ["--pool", "--template", "0"], "exclude each other"),
        ("t.npy", [], "choose it with --template I"),
    ],
)
def test_what_chooses_among_galleries(run, gallery, option, says):
    code, _, error = run("close", "--queries", "q.npy", "--gallery", gallery, "--out",
                         "c2.safetensors", *option)  # fmt: skip
    assert code == 2
    assert says in error


def test_galleries_are_chosen(run):
    words = ["close", "--queries", "q.npy", "--gallery", "t.npy", "--out", "c2.safetensors"]
    found = []
    for option in (["--template", "0"], ["--template", "1"], ["--pool"]):
        assert run(*words, *option)[0] == 0
        found.append(content()[0])
    assert found[0] != found[1] != found[2]
    code, _, _ = run(*words, "--pool", "--metric", "ip")
    assert code == 0
    assert content()[0] != found[2]


#: Options of `measure`, each with the words that make a run in which it matters.
MEASURED = [
    (["q.npy", "g.npy"], ["--raw"]),
    (["q.npy", "p.npy"], ["--paired"]),
    (["q.npy", "g.npy"], ["--temperature", "0.5"]),
    (["q.npy", "p.npy"], ["--sample", "5"]),
    (["q.npy", "p.npy", "--sample", "5"], ["--seed", "3"]),
    (["q.npy", "t.npy", "--template", "0"], ["--template", "1"]),
]


@pytest.mark.parametrize(("words", "option"), MEASURED, ids=[o[0][2:] for _, o in MEASURED])
def test_an_option_of_measure_counts(run, words, option):
    plain = run("measure", *words, "--json")
    other = run("measure", *words, *option, "--json")
    assert (plain[0], other[0]) == (0, 0)
    assert json.loads(plain[1]) != json.loads(other[1])


def test_an_option_of_apply_counts(run):
    words = ["apply", "c.safetensors", "--out"]
    assert run(*words, "a", "--queries", "h.npy")[0] == 0
    assert run(*words, "b", "--queries", "h.npy", "--dtype", "input")[0] == 0
    assert run(*words, "c", "--gallery", "h.npy")[0] == 0
    a, b, c = (np.load(f"{folder}/h.npy") for folder in "abc")
    assert (a.dtype, b.dtype) == (np.float32, np.float16)
    np.testing.assert_array_equal(a.astype(np.float16), b)
    assert not np.array_equal(a, c)
    assert run(*words, "e", "--queries", "h.npy", "--no-hashes")[0] == 0
    hashed, plain = (json.loads(Path(f"{f}/modgap.json").read_text())["files"] for f in "ae")
    assert hashed["h.npy"]["sha256"] == hashlib.sha256(Path("a/h.npy").read_bytes()).hexdigest()
    assert plain["h.npy"]["sha256"] is None
    code, _, error = run(*words, "d", "--queries", "h.npy", "--dtype", "int8")
    assert code == 2
    assert "`--dtype` must be one of input, float16, float32, float64; got 'int8'" in error


def test_what_makes_a_collection_of_a_gallery_counts(run):
    words = ["close", "--queries", "q.npy", "--method", "calibrate", "--out", "m.safetensors"]
    kinds = np.arange(len(GALLERY)) % 2
    np.save("kinds.npy", kinds)
    assert run(*words, "--gallery", "g.npy", "--modalities", "kinds.npy")[0] == 0
    mixed = closers.Closure.load("m.safetensors")
    assert mixed.modalities == ("0", "1")
    assert (
        run("apply", "m.safetensors", "--gallery", "g.npy", "--modality", "0", "--out", "z")[0] == 0
    )
    assert (
        run("apply", "m.safetensors", "--gallery", "g.npy", "--modality", "1", "--out", "o")[0] == 0
    )
    assert not np.array_equal(np.load("z/g.npy"), np.load("o/g.npy"))
    # The folder knows which map made its files: another one makes them again.
    assert (
        run("apply", "m.safetensors", "--gallery", "g.npy", "--modality", "1", "--out", "z")[0] == 0
    )
    assert np.array_equal(np.load("z/g.npy"), np.load("o/g.npy"))
    assert run(*words, "--gallery", "g.npy", "--companions", "p.npy")[0] == 0
    assert closers.Closure.load("m.safetensors").modalities == ("gallery", "companions")


def test_no_option_is_left_out_here():
    """A new option of these commands fails this test until it stands in one of those above.

    Engines, whose results must not differ, are looked at in tests/unit/engines, published statistics in
    test_cli_stats.py.
    """
    known = {
        "close": "queries gallery stats out method metric alpha n_components side reduce scale template "
        "pool companions modalities shrinkage rotation engine workers scheduler json",
        "apply": "closure out queries gallery modality dtype hashes engine workers scheduler json",
        "measure": "a b paired raw template temperature sample seed json csv",
    }
    found = {
        name: {parameter.name for parameter in command().commands[name].params} - {"help"}
        for name in known
    }
    assert found == {name: set(options.split()) for name, options in known.items()}
