"""Every mistake at the command line ends in one line, exit code 2, and nothing written."""

import json
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

from modgap import closers
from modgap.cli import main

WIDTH = 8


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder with sound inputs, and with all kinds of unsound ones."""
    import safetensors.numpy

    folder = tmp_path_factory.mktemp("stock")
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(30, WIDTH)).astype(np.float32)
    gallery = rng.normal(size=(5, WIDTH)).astype(np.float32)
    classes = [f"class {i}" for i in range(5)]

    def save(name, array):
        np.save(folder / f"{name}.npy", array)

    save("q", queries)
    save("g", gallery)
    save("t", np.stack([gallery, gallery + 1]))
    save("labels", rng.integers(0, 5, 30))
    save("choices", rng.normal(size=(30, 4, WIDTH)))
    (folder / "classes.json").write_text(json.dumps(classes))
    (folder / "names.txt").write_text("\n".join(classes * 6))
    closers.fit("affine", queries, gallery).save(folder / "c.safetensors")
    np.save(folder / "one.npy", queries[:1])
    mixed = closers.calibrate(queries, {"image": gallery, "text": queries[:9]})
    mixed.save(folder / "mixed.safetensors")
    closers.fit("affine", queries, gallery, metric="cosine").save(folder / "cosine.safetensors")
    closers.fit("affine", queries[:, :4], gallery[:3, :4]).save(folder / "narrow.safetensors")

    safetensors.numpy.save_file({"x": queries}, folder / "elsewhere.safetensors")
    (folder / "empty.npy").write_bytes(b"")
    (folder / "text.npy").write_text("no array at all")
    (folder / "cut.npy").write_bytes((folder / "q.npy").read_bytes()[:-20])
    (folder / "cut.safetensors").write_bytes((folder / "c.safetensors").read_bytes()[:-20])
    (folder / "q.xyz").write_bytes(b"1")
    (folder / "pickle.pt").write_bytes(pickle.dumps({"x": queries}))
    np.savez(folder / "two.npz", a=queries, b=queries)
    np.save(folder / "objects.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    (folder / "no_shards").mkdir()
    save("nan", _changed(queries, 17, np.nan))
    save("inf", _changed(queries, 17, np.inf))
    save("zero", _changed(queries, 17, 0))
    with np.errstate(over="ignore"):
        save("half", _changed(queries, 17, 1e6).astype(np.float16))
    save("integers", rng.integers(0, 9, (30, WIDTH)))
    save("complex", queries.astype(complex))
    save("strings", np.array([["a"] * WIDTH] * 30))
    save("flat", queries[:, 0])
    save("scalar", np.float32(3))
    save("deep", queries.reshape(3, 5, 2, WIDTH))
    save("stack", queries.reshape(3, 10, WIDTH))
    save("no_rows", queries[:0])
    save("no_columns", queries[:, :0])
    save("narrow", queries[:, :4])
    save("few_labels", np.arange(5))
    save("large_labels", np.full(30, 5))
    save("negative_labels", np.full(30, -1))
    save("half_labels", np.full(30, 0.5))
    (folder / "few.json").write_text(json.dumps(classes[:3]))
    (folder / "broken.json").write_text("[1, 2")
    (folder / "blank.txt").write_text("\n\n")
    (folder / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    return folder


def _changed(rows, i, value):
    copy = rows.copy()
    copy[i] = value
    return copy


@pytest.fixture
def fails(stock, tmp_path, monkeypatch, capsys):
    """A function that runs a bad command in an empty folder and returns its one line.

    Words that name files of the stock are replaced by their paths.
    """
    monkeypatch.chdir(tmp_path)

    def call(line):
        words = [_placed(word, stock) for word in line.split()]
        before = _state(stock)
        code = main(words)
        printed = capsys.readouterr()
        assert code == 2, printed
        assert printed.out == ""
        assert list(tmp_path.iterdir()) == []
        assert _state(stock) == before
        return _one_line(printed.err)

    return call


def _placed(word, stock):
    name, colon, key = word.partition(":")
    return f"{stock / name}{colon}{key}" if name and (stock / name).exists() else word


def _state(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def _one_line(text):
    assert text.endswith("\n")
    (line,) = text.splitlines()
    assert line.startswith("modgap: error: ")
    assert line.isprintable()
    assert "Traceback" not in line
    assert "this is a fault of modgap" not in line
    return line


QUERIES = [  # stands in for the queries; what the line must say
    ("absent.npy", "no file or folder at `absent.npy`"),
    ("empty.npy", "is empty"),
    ("text.npy", "no readable .npy file"),
    ("cut.npy", "is cut short"),
    ("q.xyz", "unknown suffix `.xyz`"),
    ("pickle.pt", "pickle.pt"),
    ("two.npz", "choose one with"),
    ("two.npz:c", "has no key `c`"),
    ("objects.npy", "never unpickles"),
    ("no_shards", "is empty; shards"),
    ("nan.npy", "row 17"),
    ("inf.npy", "row 17"),
    ("half.npy", "float16 overflows"),
    ("integers.npy", "floating-point embeddings; got int64"),
    ("complex.npy", "complex128"),
    ("strings.npy", "holds text"),
    ("flat.npy", "must have shape (rows, d); got (30,)"),
    ("scalar.npy", "a single number"),
    ("deep.npy", "4 axes"),
    ("stack.npy", "got (3, 10, 8)"),
    ("no_rows.npy", "has no rows"),
    ("no_columns.npy", "has no columns"),
    ("narrow.npy", "embedding dimension d); got"),
    ("elsewhere.safetensors:y", "has no key `y`"),
]


@pytest.mark.parametrize(("queries", "says"), QUERIES, ids=[q for q, _ in QUERIES])
def test_bad_queries(fails, queries, says):
    assert says in fails(f"measure {queries} g.npy")


#: Commands that do not read their queries as `measure` does, each with a fault of every kind: of the
#: path, of the header, of the shapes together, of the values.
@pytest.mark.parametrize("queries", ["absent.npy", "integers.npy", "narrow.npy", "nan.npy"])
@pytest.mark.parametrize(
    "command",
    [
        "evaluate --queries {} --gallery g.npy",
        "close --queries {} --gallery g.npy --out c.safetensors",
        "advise --queries {} --gallery g.npy",
        "report {} g.npy",
    ],
    ids=lambda command: command.split()[0],
)
def test_every_command_checks_its_queries(fails, command, queries):
    assert dict(QUERIES)[queries] in fails(command.format(queries))


@pytest.mark.parametrize(
    ("queries", "says"),
    [
        ("absent.npy", "no file or folder at `absent.npy`"),
        ("integers.npy", "holds int64; embeddings must be floats"),
        ("narrow.npy", "was fitted for embeddings of dimension 8"),
        ("flat.npy", "embeddings have shape (rows, d)"),
        ("nan.npy", "row 17"),
    ],
)
def test_bad_input_of_apply(fails, queries, says):
    assert says in fails(f"apply c.safetensors --queries {queries} --out closed")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        # one cloud
        ("evaluate --queries q.npy --gallery zero.npy --metric cosine", "all zeros"),
        ("close --queries zero.npy --gallery g.npy --metric cosine --out c.safetensors", "row 17"),
        ("measure zero.npy g.npy", "all zeros"),
        ("apply cosine.safetensors --queries zero.npy --out closed", "row 17"),
        ("evaluate --queries q.npy --gallery integers.npy", "got int64"),
        # labels
        ("{e} --labels few_labels.npy", "one entry per row of `queries`; got 5 for 30"),
        ("{e} --labels large_labels.npy", "must lie in [0, 5)"),
        ("{e} --labels negative_labels.npy", "must lie in [0, 5)"),
        ("{e} --labels half_labels.npy", "labels must be integers"),
        ("{e} --labels q.npy", "labels must have shape (rows,)"),
        ("{e} --labels names.txt", "say which gallery row each is with --classes"),
        ("{e} --labels names.txt --classes few.json", "must name the 5 rows"),
        ("{e} --labels broken.json", "no readable .json file"),
        ("{e} --labels blank.txt", "only blanks"),
        ("{e} --labels latin.txt", "no UTF-8 text"),
        ("{e} --classes g.npy", "must be a .json list"),
        ("{e} --templates classes.json", "must name 1 templates; got 5"),
        # kinds of task
        ("{e} --paired", "must pair row by row; got 30 and 5 rows"),
        ("{e} --paired --labels labels.npy", "`--labels` and `--paired`"),
        ("{e} --answers labels.npy --companions q.npy", "different kinds of task"),
        ("{e} --partners labels.npy", "`--partners` needs `--modalities` or `--companions`"),
        ("{e} --item-labels labels.npy", "`--item-labels` needs `--modalities`"),
        ("{e} --query-modalities text", "`--query-modalities` needs `--modalities`"),
        ("{e} --companions q.npy --item-labels labels.npy", "`--item-labels` needs `--labels`"),
        ("{e} --companions q.npy --labels labels.npy", "different kinds of task"),
        ("{e} --companions q.npy --modalities labels.npy", "different kinds of task"),
        ("{e} --modalities labels.npy", "each row of `gallery`; got shape (30,) for 5 rows"),
        ("{e} --companions one.npy --methods calibrate", "at least 2 rows"),
        ("{e} --companions q.npy --methods calibrate:pairs", "learns from answers"),
        ("{e} --companions q.npy --methods calibrate:mad", "must name closers"),
        ("{e} --companions q.npy --methods calibrate --metric euclidean", "must be cosine or ip"),
        ("{e} --companions q.npy --methods center --alphas 0.5", "none of the closers takes"),
        ("{e} --methods calibrate", "`calibrate` maps each modality"),
        ("{e} --owners large_labels.npy", "must lie in [0, 5)"),
        ("{e} --owners half_labels.npy", "labels must be integers"),
        ("{e} --companions narrow.npy", "share their last axis"),
        ("{e} --answers labels.npy", "must have shape"),
        ("evaluate --queries q.npy --gallery choices.npy --answers few_labels.npy", "got 5 for 30"),
        ("evaluate --queries q.npy --gallery t.npy --paired", "choose it with --template I"),
        # settings
        ("{e} --template 0", "leave it out"),
        ("evaluate --queries q.npy --gallery t.npy --template 2", "between 0 and 1"),
        ("evaluate --queries q.npy --gallery t.npy --template -1", "between 0 and 1"),
        ("{e} --metric manhattan", "must be one of cosine, ip, euclidean"),
        ("{e} --methods magic", "must name closers (none, recenter"),
        ("{e} --methods absent.safetensors", "no file or folder at"),
        ("{e} --methods cut.safetensors", "no readable .safetensors file"),
        ("{e} --methods elsewhere.safetensors", "no closure of modgap"),
        ("{e} --metric ip --methods cosine.safetensors", "fitted for metric 'cosine'"),
        ("{e} --methods narrow.safetensors", "dimension 4"),
        ("{e} --methods procrustes", "must pair row by row"),
        ("{e} --alphas 0,x", "must be a number; got 'x'"),
        ("{e} --alphas nan", "must be finite"),
        ("{e} --n-components 0", "must be at least 1"),
        ("{e} --n-components 5", "only 4 directions"),
        ("{e} --n-components 1.5", "in (0, 1]"),
        ("{e} --n-components nan", "must be finite"),
        ("{e} --n-components most", 'an int, a fraction in (0, 1] or "all"'),
        ("{e} --noise loud", "is not understood"),
        ("{e} --noise gaussian:-1", "`sigma` must be finite and in [0"),
        ("{e} --noise gaussian:inf", "must be finite"),
        ("{e} --noise bins:1", "`bins` must be"),
        ("{e} --noise int8@nowhere", "must be one of gallery, queries, both"),
        ("{e} --noise faiss:Nonsense", "FAISS cannot store"),
        ("{e} --noise none --noise int8", "is not understood"),
        ("{e} --paraphrase", "needs a gallery per caption template"),
        ("{e} --draws 0", "`draws` must be between 1 and"),
        ("report q.npy g.npy --draws 999999999", "`draws` must be between 1 and"),
        ("evaluate --queries q.npy --gallery g.npy --companions t.npy", "`companions` must have shape"),
        ("{e} --draws many", "--draws"),
        ("{e} --seed -1", "`seed` must be at least 0"),
        ("{e} --fragile 0", "must be at least 1"),
        ("{e} --fragile 3 --noise none", "needs a noise"),
        ("measure q.npy g.npy --paired", "must pair row by row"),
        ("measure q.npy g.npy --temperature 0", "`temperature` must be finite and in (0"),
        ("measure q.npy g.npy --sample 1", "`sample` must be at least 2"),
        ("measure q.npy t.npy", "choose it with --template I"),
        # outputs
        ("{c} --out missing/c.safetensors", "a folder that does not exist"),
        ("{c} --out c.pt", "must end in .safetensors"),
        ("{c} --out elsewhere.safetensors", "exists and is no closure"),
        ("close --queries elsewhere.safetensors --gallery g.npy --out elsewhere.safetensors",
         "is one of the inputs"),
        ("{c} --out no_shards", "must end in"),
        ("{c} --out c.safetensors --method magic", "must be one of none"),
        ("{c} --out x.safetensors --method recenter --alpha 1", "has no option `alpha`"),
        ("{c} --out x.safetensors --method calibrate", "`calibrate` maps each modality"),
        ("{c} --out x.safetensors --companions q.npy", "must be one of center, standardize, cali"),
        ("{c} --out x.safetensors --companions one.npy --method calibrate", "at least 2 rows"),
        ("{c} --out x.safetensors --companions narrow.npy --method calibrate", "must share"),
        ("{c} --out x.safetensors --companions t.npy --method calibrate", "must have shape (rows"),
        ("{c} --out x.safetensors --modalities labels.npy --method calibrate", "got 30"),
        ("{c} --out x.safetensors --companions q.npy --modalities labels.npy", "say the same"),
        ("{c} --out x.safetensors --companions q.npy --method calibrate --alpha 1", "no meaning"),
        ("{c} --out x.safetensors --companions q.npy --method calibrate:pairs", "from answers"),
        ("apply c.safetensors --gallery g.npy --modality image --out closed", "leave it out"),
        ("apply mixed.safetensors --gallery g.npy --out closed", "--modality (image, text)"),
        ("apply mixed.safetensors --gallery g.npy --modality sound --out closed", "image, text; go"),
        ("apply mixed.safetensors --queries q.npy --modality text --out closed", "leave it out"),
        ("{c} --out x.safetensors --method affine --side queries", "has no option `side`"),
        ("{c} --out x.safetensors --method orthogonal --side left", "must be one of gallery"),
        ("{c} --out x.safetensors --method affine --scale 2", "has no option `scale`"),
        ("{c} --out x.safetensors --reduce --alpha 0.5", "closes the gap fully"),
        ("{c} --out x.safetensors --alpha inf", "must be finite"),
        ("{c} --out x.safetensors --method procrustes", "must pair row by row"),
        ("{c} --out x.safetensors --pool --template 0", "exclude each other"),
        ("{c} --out x.safetensors --template 0", "leave it out"),
        ("close --queries q.npy --gallery t.npy --out x.safetensors", "choose it with --template"),
        ("apply c.safetensors --out closed", "exactly one of `--queries` and `--gallery`"),
        ("apply c.safetensors --queries q.npy --gallery g.npy --out closed", "exactly one of"),
        ("apply absent.safetensors --queries q.npy --out closed", "no file or folder at"),
        ("apply cut.safetensors --queries q.npy --out closed", "no readable .safetensors file"),
        ("apply elsewhere.safetensors --queries q.npy --out closed", "no closure of modgap"),
        ("apply narrow.safetensors --queries q.npy --out closed", "dimension 4"),
        ("apply c.safetensors --queries q.npy --out g.npy", "is a file; name a folder"),
        ("report q.npy", "both QUERIES and GALLERY"),
        ("report --labels labels.npy", "need QUERIES and GALLERY"),
        ("report q.npy g.npy --out page.pdf", "must end in .html"),
        ("report q.npy g.npy --out missing/page.html", "a folder that does not exist"),
        ("report q.npy g.npy --methods c.safetensors", "saved closures go to"),
        ("simulate --n 1", "`n` must be between 2 and"),
        ("simulate --start nowhere", "must be one of clusters"),
        ("simulate --steps 0", "`steps` must be"),
        ("simulate --temperature nan", "must be finite"),
        ("simulate --out run.txt", "must end in .html or .htm or .json"),
        ("simulate --title Gap --out run.json", "`--title` is for a page; name one"),
        ("simulate --open", "`--open` is for a page; name one"),
        ("simulate --steps 1 --out missing/run.json", "a folder that does not exist"),
        ("figures 11 --out figures", "must lie between 1 and 10"),
        ("figures 1 --out q.npy", "is a file; name a folder"),
        ("figures one", "integer"),
        ("{i} --engine fais", "must be one of faiss, usearch"),
        ("{i} --codec faiss-sq44", "did you mean faiss-sq4?"),
        ("{i} --codec fais:SQ4", "must begin with an engine"),
        ("{i} --codec faiss:SQ44", "is no factory string that FAISS knows"),
        ("{i} --codec usearch:f31 --maps none", "must be one of f32"),
        ("{i} --codec faiss:absent.faiss --maps none", "no file at `absent.faiss`"),
        ("{i} --codec faiss:absent.faiss --maps balanced", "leaves the gallery alone"),
        ("{i} --maps magic", "must be one of none"),
        ("{i} --maps procrustes", "fitted to pairs"),
        ("{i} --maps ,", "names no map"),
        ("{i} --closure elsewhere.safetensors", "no closure of modgap"),
        ("{i} --closure mixed.safetensors", "each modality of a mixed collection"),
        ("{i} --closure narrow.safetensors", "dimension 4"),
        ("{i} --metric euclidean", "must be cosine or ip"),
        ("{i} --rescore two", "whole numbers"),
        ("{i} --rescore 0", "`rescore` must be"),
        ("{i} --reference -1", "`reference` must be"),
        ("{i} --sample 1", "`sample` must be"),
        ("{i} --labels large_labels.npy", "must lie in [0, 5)"),
        ("{i} --item-labels few_labels.npy", "`item_labels` needs `labels`"),
        ("{i} --fit-queries narrow.npy", "`fit_queries` and `queries` must share"),
        ("{i} --out study.pdf", "must end in .html"),
        ("{i} --out missing/study.html", "a folder that does not exist"),
        ("{i} --json --csv", "exclude each other"),
        ("index study --queries one.npy --gallery g.npy", "half to judge by"),
        ("index study --queries q.npy --gallery t.npy", "must have shape"),
        ("index study --queries nan.npy --gallery g.npy", "row 17"),
        ("index studdy", "No such command"),
        # words
        ("unknown", "No such command"),
        ("apply", "Missing"),
        ("evaluate", "give `--queries` and `--gallery`, or `--images` and `--model`"),
        ("evaluate --queries", "requires an argument"),
        ("evaluate --nonsense", "No such option"),
        ("measure q.npy", "Missing argument"),
        ("measure q.npy g.npy q.npy", "unexpected extra argument"),
        ("--nonsense", "No such option"),
    ],
)  # fmt: skip
def test_other_mistakes(fails, line, says):
    line = line.replace("{e}", "evaluate --queries q.npy --gallery g.npy")
    line = line.replace("{i}", "index study --queries q.npy --gallery g.npy")
    assert says in fails(line.replace("{c}", "close --queries q.npy --gallery g.npy"))


def test_outputs_are_not_written_into_the_folder_of_the_input(stock, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "q.npy").write_bytes((stock / "q.npy").read_bytes())
    words = ["apply", str(stock / "c.safetensors"), "--queries", str(tmp_path / "in" / "q.npy")]
    assert main([*words, "--out", str(tmp_path / "in")]) == 2
    assert "the input's own" in _one_line(capsys.readouterr().err)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["q.npy"]


def test_foreign_files_are_not_overwritten(stock, tmp_path, capsys):
    (tmp_path / "q.npy").write_bytes(b"mine")
    words = ["apply", str(stock / "c.safetensors"), "--queries", str(stock / "q.npy")]
    assert main([*words, "--out", str(tmp_path)]) == 2
    assert "was not written by this command" in _one_line(capsys.readouterr().err)
    assert (tmp_path / "q.npy").read_bytes() == b"mine"


def test_rows_are_counted_from_the_start_of_all_shards(stock, tmp_path, capsys):
    shards = tmp_path / "shards"
    shards.mkdir()
    np.save(shards / "img_emb_0.npy", np.load(stock / "q.npy"))
    np.save(shards / "img_emb_1.npy", np.load(stock / "nan.npy"))
    words = ["--queries", str(shards), "--out"]
    assert main(["apply", str(stock / "c.safetensors"), *words, str(tmp_path / "closed")]) == 2
    assert "row 47 holds NaN" in _one_line(capsys.readouterr().err)
    closed = {path.name for path in (tmp_path / "closed").iterdir()}
    assert closed == {"modgap.json", "img_emb_0.npy"}  # the sound shard stays, for a later run
    gallery = ["--gallery", str(stock / "g.npy")]
    assert main(["close", *gallery, *words, str(tmp_path / "c.safetensors")]) == 2
    assert "row 47 holds NaN" in _one_line(capsys.readouterr().err)
    assert not (tmp_path / "c.safetensors").exists()


@pytest.mark.parametrize(
    "line",
    ["evaluate --nonsense", "apply {0}/elsewhere.safetensors --queries {0}/q.npy --out {1}/x"],
)
def test_the_executable_itself(stock, tmp_path, line):
    words = line.format(stock, tmp_path).split()
    done = subprocess.run(
        [sys.executable, "-m", "modgap.cli", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    _one_line(done.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "edit"),
    [
        ("one item", lambda g: g[:1]),
        ("equal rows", lambda g: np.repeat(g[:1], 4, axis=0)),
        ("two of one", lambda g: np.concatenate([g, g])),
        ("fortran", np.asfortranarray),
        ("float16", lambda g: g.astype(np.float16)),
        ("float64", lambda g: g.astype(np.float64)),
        ("big endian", lambda g: g.astype(">f4")),
        ("not of unit length", lambda g: g * 7),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_odd_but_sound_galleries(stock, tmp_path, capsys, line, edit):
    np.save(tmp_path / "g.npy", edit(np.load(stock / "g.npy")))
    inputs = ["--queries", str(stock / "q.npy"), "--gallery", str(tmp_path / "g.npy")]
    settings = ["--methods", "none,affine,erase"]
    code = main(["evaluate", *inputs, *settings, "--draws", "3", "--noise", "int8", "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert all(text.startswith("modgap: warning: ") for text in printed.err.splitlines())
    for row in json.loads(printed.out)["closers"]:
        assert 0 <= row["agreement"] <= 1
        assert 0 <= row["noises"][0]["stability"] <= 1
    out = tmp_path / "c.safetensors"
    assert main(["close", *inputs, "--out", str(out)]) == 0


def test_faults_of_modgap_say_so(stock, monkeypatch, capsys):
    from modgap import measures as gap

    def broken(*_, **__):
        raise KeyError("what")

    monkeypatch.setattr(gap, "measure", broken)
    words = ["measure", str(stock / "q.npy"), str(stock / "g.npy")]
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "modgap: error: KeyError: 'what'; run again with --debug for the traceback; "
        "this is a fault of modgap"
    )
    assert main([*words, "--debug"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (MemoryError("Unable to allocate 9 TiB"), 2, "not enough memory for this (Unable"),
        (OSError(28, "No space left on device", "out.npy"), 2, "`out.npy`: No space left"),
        (PermissionError(13, "Permission denied", "x"), 2, "`x`: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted; nothing is half written"),
        (RecursionError("deep"), 1, "RecursionError: deep"),
        (ValueError("two\nlines"), 1, "ValueError: two lines"),
    ],
)
def test_what_else_can_happen(stock, monkeypatch, capsys, error, code, says):
    from modgap import measures as gap

    def broken(*_, **__):
        raise error

    monkeypatch.setattr(gap, "measure", broken)
    assert main(["measure", str(stock / "q.npy"), str(stock / "g.npy")]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_debug_shows_the_traceback_of_a_mistake_too(stock, capsys):
    assert main(["measure", "absent.npy", str(stock / "g.npy"), "--debug"]) == 2
    assert "FormatError" in capsys.readouterr().err


def test_an_interrupted_evaluation_writes_nothing(stock, interruptible_modgap):
    words = ["evaluate", "--queries", str(stock / "q.npy"), "--gallery", str(stock / "g.npy")]
    words += ["--metric", "cosine", "--draws", "2000000"]
    running = subprocess.Popen(
        [*interruptible_modgap, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(timeout=6)
    running.send_signal(signal.SIGINT)
    out, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out == ""
    assert errors.splitlines() == [
        "modgap: interrupted; nothing is half written, run the same command again"
    ]
