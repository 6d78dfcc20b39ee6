"""Outputs: never on the path of an input, never where no file may be, never half written."""

import json
import os
import shutil

import numpy as np
import pytest

from modgap import closers
from modgap.cli import main
from modgap.closers.maps import AffineMap

RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(12, 6)).astype(np.float32)
GALLERY = RNG.normal(size=(4, 6)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with sound inputs, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    np.save("q.npy", QUERIES)
    np.save("g.npy", GALLERY)
    np.save("labels.npy", np.arange(12) % 4)
    with open("page.html", "w") as handle:  # text files of any name may hold labels or classes
        handle.write("a\nb\nc\nd\n")
    shutil.copy("page.html", "classes.txt")
    closers.fit("affine", QUERIES, GALLERY).save("c.safetensors")
    return tmp_path


def refusal(capsys, *words):
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    assert code == 2, printed
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


@pytest.mark.parametrize("option", ["labels", "classes", "owners", "companions", "templates"])
@pytest.mark.parametrize("link", ["same", "symbolic", "hard", "dotted"])
def test_a_report_never_takes_the_place_of_what_it_reads(folder, capsys, option, link):
    other = {"same": "page.html", "symbolic": "s.html", "hard": "h.html", "dotted": "./page.html"}
    out = other[link]
    if link == "symbolic":
        os.symlink("page.html", out)
    elif link == "hard":
        os.link("page.html", out)
    line = refusal(capsys, "report", "q.npy", "g.npy", f"--{option}", "page.html", "--out", out)
    assert f"`--out` `{out}` is one of the inputs (`{option}`); choose another name" in line
    assert (folder / "page.html").read_text() == "a\nb\nc\nd\n"


def test_every_word_counts_also_in_lists_and_with_a_key(folder, capsys):
    shutil.copy("c.safetensors", "page2.html")
    line = refusal(
        capsys, "report", "q.npy", "g.npy", "--methods", "none,page2.html", "--out", "page2.html"
    )
    assert "is one of the inputs (`methods`)" in line
    os.rename("labels.npy", "run.json")
    line = refusal(capsys, "close", "--queries", "c.safetensors:x", "--gallery", "g.npy",
                   "--out", "c.safetensors")  # fmt: skip
    assert "is one of the inputs (`queries`)" in line
    np.save("data.npy", QUERIES)
    os.mkdir("data")
    line = refusal(capsys, "figures", "1", "--data", "data", "--out", "data")
    assert "is one of the inputs (`data`)" in line
    assert os.listdir("data") == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.safetensors", ["close", "--queries", "q.npy", "--gallery", "g.npy", "--out"]),
        ("x.html", ["report", "q.npy", "g.npy", "--out"]),
        ("x.json", ["simulate", "--steps", "1", "--out"]),
        ("x.html", ["simulate", "--steps", "1", "--out"]),
    ],
)
def test_an_output_that_is_a_pipe(folder, capsys, name, words):
    os.mkfifo(name)
    assert "it is no regular file (a pipe or a device); name a file" in refusal(
        capsys, *words, name
    )
    assert sorted(os.listdir()) == sorted({*os.listdir(), name})


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling"])
def test_a_record_that_is_no_file(folder, capsys, kind):
    os.mkdir("out")
    if kind == "pipe":
        os.mkfifo("out/modgap.json")
    elif kind == "folder":
        os.mkdir("out/modgap.json")
    else:
        os.symlink("nowhere", "out/modgap.json")
    line = refusal(capsys, "apply", "c.safetensors", "--queries", "q.npy", "--out", "out")
    assert "out/modgap.json`" in line
    assert os.listdir("out") == ["modgap.json"]


@pytest.mark.parametrize("where", ["closure", "queries"])
def test_an_input_that_is_a_pipe(folder, capsys, where):
    os.mkfifo("pipe.safetensors")
    words = {"closure": ["c.safetensors"], "queries": ["q.npy"]}
    words[where] = ["pipe.safetensors"]
    line = refusal(capsys, "apply", *words["closure"], "--queries", *words["queries"], "--out", "o")
    assert "`pipe.safetensors` is no regular file (a pipe or a device)" in line
    assert not os.path.exists("o")


@pytest.mark.parametrize("damage", ["header", "square", "nan"])
def test_a_tampered_closure_leaves_nothing_behind(folder, capsys, damage):
    from safetensors import numpy as files
    from safetensors import safe_open

    with safe_open("c.safetensors", framework="numpy") as handle:
        header = json.loads(handle.metadata()["modgap"])
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    if damage == "header":
        header["format_version"] = 1e400
    elif damage == "square":
        header["queries"]["residual"] = True
        tensors["queries.left"] = np.ones((6, 2))
        tensors = {k: v for k, v in tensors.items() if k != "queries.right"}
    else:
        tensors["queries.shift"] = np.full(6, np.nan)
    files.save_file(tensors, "bad.safetensors", metadata={"modgap": json.dumps(header)})
    line = refusal(capsys, "apply", "bad.safetensors", "--queries", "q.npy", "--out", "out")
    assert "damaged closure" in line
    assert not os.path.exists("out")


def test_nan_in_a_later_shard_says_what_stays(folder, capsys):
    os.mkdir("in")
    np.save("in/emb_0.npy", QUERIES)
    np.save("in/emb_1.npy", np.where(np.eye(12, 6) > 0, np.nan, QUERIES))
    words = ["apply", "c.safetensors", "--queries", "in", "--out", "out"]
    line = refusal(capsys, *words)
    assert "row 12 holds NaN" in line
    assert line.endswith("; `out` keeps 1 complete file for the next run, delete it to start over")
    np.save("in/emb_1.npy", QUERIES)
    assert main(words) == 0
    assert "1 of the files were complete already" in capsys.readouterr().out


def test_what_a_map_makes_too_large(folder, capsys):
    larger = AffineMap(6, scale=1e6)
    closers.Closure("larger", larger, larger).save("b.safetensors")
    words = ["apply", "b.safetensors", "--queries", "q.npy", "--out", "out"]
    line = refusal(capsys, *words, "--dtype", "float16")
    assert "is mapped to values that float16 cannot hold (at most 65504)" in line
    assert not os.path.exists("out")
    assert main(words) == 0


class TestShardFolders:
    @pytest.mark.parametrize(
        ("kind", "says"),
        [
            ("dangling", "no file or folder at `in/emb_1.npy`"),
            ("loop", "`in/emb_1.npy` is no usable path"),
            ("folder", "`in/emb_1.npy` is a folder, and a file is expected"),
            ("pipe", "`in/emb_1.npy` is no regular file"),
        ],
    )
    def test_what_is_named_like_a_shard_is_not_passed_over(self, folder, capsys, kind, says):
        os.mkdir("in")
        np.save("in/emb_0.npy", QUERIES)
        {
            "dangling": lambda path: os.symlink("nowhere.npy", path),
            "loop": lambda path: os.symlink("emb_1.npy", path),
            "folder": os.mkdir,
            "pipe": os.mkfifo,
        }[kind]("in/emb_1.npy")
        assert says in refusal(capsys, "measure", "in", "g.npy")

    def test_other_odd_entries_do_not_matter(self, folder, capsys):
        os.mkdir("in")
        np.save("in/emb_0.npy", QUERIES)
        os.symlink("nowhere", "in/notes.txt")
        os.mkdir("in/more")
        assert main(["measure", "in", "g.npy"]) == 0


class TestSizes:
    def test_a_tensor_of_one_row_repeated(self, folder, capsys):
        torch = pytest.importorskip("torch")
        torch.save(torch.zeros(1, 6).expand(10**15, 6), "wide.pt")
        line = refusal(capsys, "measure", "wide.pt", "g.npy")
        assert "opens to 24,000,000,000,000,000, more than the 1,073,741,824" in line
        assert "set MODGAP_MAX_OPEN_BYTES=24000000000000000" in line

    def test_an_archive_that_opens_to_far_more(self, folder, capsys, monkeypatch):
        np.savez_compressed("bomb.npz", a=np.zeros((100_000, 6), dtype=np.float32))
        monkeypatch.setenv("MODGAP_MAX_OPEN_BYTES", "2e6")
        line = refusal(capsys, "apply", "c.safetensors", "--queries", "bomb.npz", "--out", "out")
        assert "opens to 2,400,000, more than the 2,000,000 that are allowed" in line
        monkeypatch.setenv("MODGAP_MAX_OPEN_BYTES", "plenty")
        line = refusal(capsys, "apply", "c.safetensors", "--queries", "bomb.npz", "--out", "out")
        assert "MODGAP_MAX_OPEN_BYTES must be a number of bytes; got `plenty`" in line
        monkeypatch.setenv("MODGAP_MAX_OPEN_BYTES", "2400000")
        recenter = closers.fit("recenter", QUERIES, GALLERY, metric="euclidean")
        recenter.save("r.safetensors")
        assert main(["apply", "r.safetensors", "--queries", "bomb.npz", "--out", "out"]) == 0

    @pytest.mark.parametrize(
        "words",
        [
            ["simulate", "--steps", "9" * 20],
            ["simulate", "--n", "9" * 20],
            ["simulate", "--dimension", "9" * 20],
            ["simulate", "--n", "1000000", "--dimension", "100000"],
            ["evaluate", "--queries", "q.npy", "--gallery", "g.npy", "--draws", "9" * 20],
        ],
        ids=lambda words: " ".join(words)[:40],
    )
    def test_numbers_that_no_machine_can_serve(self, folder, capsys, words):
        assert "must be between" in refusal(capsys, *words)
