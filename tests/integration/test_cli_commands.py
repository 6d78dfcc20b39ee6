"""The other commands, the help, and what starting costs."""

import csv
import hashlib
import html
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from modgap import load_sample
from modgap import measures as gap
from modgap.cli import _inputs, _selfcheck, doctor, main
from modgap.closers import METHODS
from modgap.measures.words import main_lines
from modgap.paper.dynamics import Simulation

ROOT = Path(__file__).parents[2]
MAKER = runpy.run_path(str(ROOT / "docs" / "reference" / "make_cli.py"))
COMMANDS = MAKER["COMMANDS"]
HEAVY = ("numpy", "scipy", "torch", "pyarrow", "altair", "jax", "faiss", "sklearn", "pandas")


@pytest.fixture
def pair(tmp_path):
    sample = load_sample()
    np.savez(tmp_path / "pair.npz", images=sample.images[:90], texts=sample.images[90:180])
    return f"{tmp_path / 'pair.npz'}:images", f"{tmp_path / 'pair.npz'}:texts"


def loaded_after(statement):
    code = f"import sys; {statement}; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split()) & set(HEAVY)


def test_help_loads_nothing_heavy():
    assert loaded_after("import modgap.cli") == set()
    assert loaded_after("import modgap.cli.app") == set()
    assert loaded_after("from modgap.cli import main; main(['evaluate', '--help'])") == set()
    assert "numpy" in loaded_after("import modgap.cli, numpy")  # the test can fail


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(modgap, name):
    text = modgap(*name.split(), "--help")
    assert text.startswith(f"Usage: modgap {name}")
    assert f"\n    modgap {name}" in text.partition("Examples:")[2]
    assert "\\b" not in text
    assert modgap(*name.split(), "-h") == text


def test_no_command_shows_the_help_and_the_version_is_the_packages(modgap):
    import modgap as package

    assert modgap() == modgap("--help")
    assert all(f"\n  {name.split()[0]} " in modgap("--help") for name in COMMANDS)
    assert modgap("--version") == f"modgap {package.__version__}\n"


def test_help_knows_every_method():
    assert ", ".join(METHODS) == _inputs.METHOD_NAMES


def test_the_reference_page_is_what_the_commands_say():
    from modgap.cli.app import command

    groups = dict(command().commands)
    every = {f"{n} {s}" for n, g in groups.items() for s in getattr(g, "commands", {})}
    every |= {name for name, one in groups.items() if not getattr(one, "commands", {})}
    assert set(COMMANDS) == every
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    layout = f"Laid out by typer {MAKER['typer_version']()};"
    if layout not in page:
        pytest.skip("the page was laid out by another version of typer than the one installed")
    assert page == MAKER["page"](), "run python docs/reference/make_cli.py"


def test_measure_prints_the_librarys_document(modgap, pair):
    sample = load_sample()
    expected = gap.measure(
        sample.images[:90], sample.images[90:180], paired=True, sample=50, seed=4
    )
    found = json.loads(modgap("measure", *pair, "--paired", "--sample", 50, "--seed", 4, "--json"))
    assert [found["inputs"][side].pop("path") for side in ("queries", "gallery")] == list(pair)
    assert found == expected.to_dict()


def test_measure_prints_every_figure_as_csv(modgap, pair):
    sample = load_sample()
    rows = list(csv.reader(io.StringIO(modgap("measure", *pair, "--csv"))))
    assert rows[0] == ["figure", "value"]
    found = gap.measure(sample.images[:90], sample.images[90:180])
    values = dict(rows[1:])
    assert float(values["centroid_gap"]) == found.centroid_gap
    assert float(values["gallery.mean_cosine"]) == found.gallery.mean_cosine
    assert values["relative_modality_gap"] == ""
    assert len(values) == len(found.table()) > 40


def test_measure_shows_the_main_figures_with_a_sentence_each(modgap, pair, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    sample = load_sample()
    table = modgap("measure", *pair, "--paired")
    words = " ".join(table.split())
    lines = main_lines(gap.measure(sample.images[:90], sample.images[90:180], paired=True))
    assert len(lines) == 13
    for line in lines:
        assert line.name in table
        assert line.value in table
        assert set(line.says.split()) <= set(words.split())
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table
    assert "--paired measures the pairs" in modgap("measure", *pair, "--raw")


def test_measure_says_first_what_to_know_about_the_data(modgap, tmp_path):
    sample = load_sample()
    np.save(tmp_path / "images.npy", sample.images)
    np.save(tmp_path / "texts.npy", np.concatenate([sample.texts[0], sample.texts[0][:2]]))
    words = ("measure", tmp_path / "images.npy", tmp_path / "texts.npy")
    first, second, title = modgap(*words).splitlines()[:3]
    assert first.startswith("warning: 2 of 12 gallery rows repeat another one")
    assert second.startswith("note: the gallery has 12 rows")
    assert title.startswith("1000 queries, 12 items")
    remarks = json.loads(modgap(*words, "--json"))["remarks"]
    assert [r["code"] for r in remarks] == ["copies-in-gallery", "few-items"]
    assert f"{remarks[0]['severity']}: {remarks[0]['text']}" == first


def test_measure_takes_one_template(modgap, tmp_path):
    sample = load_sample()
    np.save(tmp_path / "texts.npy", sample.texts)
    np.save(tmp_path / "images.npy", sample.images)
    words = ("measure", tmp_path / "images.npy", tmp_path / "texts.npy", "--template", 5, "--json")
    found = json.loads(modgap(*words))
    expected = gap.centroid_gap(sample.images, sample.texts[5])
    assert found["centroid_gap"] == pytest.approx(expected, abs=1e-12)


def test_a_report_of_own_files(modgap, tmp_path):
    sample = load_sample()
    np.save(tmp_path / "images.npy", sample.images[:50])
    np.save(tmp_path / "texts.npy", sample.texts[0])
    np.save(tmp_path / "labels.npy", sample.labels[:50])
    (tmp_path / "names.txt").write_text("\n".join(f"<i>photo</i> no. {i}" for i in range(50)))
    out = tmp_path / "page.html"
    printed = modgap(
        "report", tmp_path / "images.npy", tmp_path / "texts.npy", "--query-names", tmp_path / "names.txt",
        "--labels", tmp_path / "labels.npy", "--methods", "center", "--alphas", "0,1",
        "--noise", "gaussian:0.022", "--title", "Our images", "--out", out,
    )  # fmt: skip
    verdict, *command, last = printed.splitlines()
    assert last == f"Report: {out}"
    assert verdict.endswith(".")
    page = out.read_text(encoding="utf-8")
    assert "<h1>Our images</h1>" in page
    assert "&lt;i&gt;photo&lt;/i&gt; no. " in page
    assert all(line.strip() in html.unescape(page) for line in command)
    own = html.unescape(page).split("modgap report ")[1].split("</pre>")[0]
    given = {"--labels", str(tmp_path / "labels.npy"), "--title", "Our images", "--alphas", "0,1"}
    assert given <= set(shlex.split(own))
    assert hashlib.sha256((tmp_path / "images.npy").read_bytes()).hexdigest() in page


def test_a_report_on_strangers_says_so_before_its_verdict(modgap, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(200, 8)))
    words = ("--paired", "--noise", "int8", "--methods", "center", "--alphas", "1")
    printed = modgap(
        "report", tmp_path / "a.npy", tmp_path / "b.npy", *words, "--out", tmp_path / "p.html"
    )
    first = printed.splitlines()[0]
    assert first.startswith("warning: partners match no better than strangers")


def test_a_report_as_csv(modgap, tmp_path):
    words = (
        "report",
        "--methods",
        "center",
        "--noise",
        "int8",
        "--out",
        tmp_path / "p.html",
        "--csv",
    )
    rows = list(csv.DictReader(io.StringIO(modgap(*words))))
    labels = [row["label"] for row in rows]
    assert labels[0] == "none"
    assert labels[-1] == "center"
    assert {row["noise"] for row in rows} == {"int8"}


def test_a_report_of_names_that_no_encoding_holds(modgap, tmp_path):
    sample = load_sample()
    images = tmp_path / "caf\udce9.npy"  # how Python spells a file name that is no UTF-8
    np.save(images, sample.images[:30])
    np.save(tmp_path / "texts.npy", sample.texts[:2])
    (tmp_path / "classes.json").write_text(json.dumps(["\ud800", *sample.classes[1:]]))
    (tmp_path / "templates.json").write_text(json.dumps(["\ud800", "\x1b"]))
    out = tmp_path / "page.html"
    printed = modgap(
        "report", images, tmp_path / "texts.npy", "--classes", tmp_path / "classes.json",
        "--templates", tmp_path / "templates.json", "--methods", "none,affine", "--alphas", "0,1",
        "--noise", "gaussian:0.022", "--out", out,
    )  # fmt: skip
    assert f"Report: {out}" in printed
    assert "caf\\udce9.npy" in out.read_text(encoding="utf-8")


def test_a_simulation(modgap, tmp_path):
    out = tmp_path / "run.json"
    words = ("simulate", "--n", 12, "--dimension", 4, "--steps", 40, "--record-every", 10)
    document = json.loads(modgap(*words, "--sigma", 0.1, "--out", out, "--json"))
    assert document == json.loads(out.read_text())
    assert document["step"] == [0, 10, 20, 30, 40]
    assert document["stability"][0] is not None
    table = modgap(*words, "--steps", 400)
    lines = table.splitlines()
    assert lines[0] == "15 of 41 records"
    assert lines[16].split()[0] == "400"


def test_a_simulation_as_a_page(modgap, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("typer.launch", opened.append)
    out = tmp_path / "run.html"
    words = ("simulate", "--n", 12, "--dimension", 4, "--steps", 40, "--sphere", "--seed", 3)
    printed = modgap(*words, "--out", out, "--title", "A <b> title", "--open")
    assert printed.endswith(f"Page: {out}\n")
    assert opened == [out.as_uri()]
    page = out.read_text(encoding="utf-8")
    assert "<h1>A &lt;b&gt; title</h1>" in page
    line = " ".join(str(word) for word in words)
    said = re.search(r"<pre.*?>modgap (.*?) --out run.html</pre>", page)[1]
    assert sorted(said.split()) == sorted(line.split())


def test_simulate_has_every_setting_with_its_default(modgap):
    from inspect import signature

    from modgap.cli.simulate import simulate

    parameters = signature(simulate).parameters
    for name, value in vars(Simulation()).items():
        assert parameters[name].default == value


def test_figures(modgap, tmp_path):
    out = tmp_path / "figures"
    printed = modgap("figures", 3, "--out", out)
    assert printed.startswith("Figure 3, ")
    assert printed.endswith(f"Figures: {out / 'index.html'}\n")
    made = json.loads(modgap("figures", 3, "--out", out, "--json"))
    assert [entry["figure"] for entry in made["figures"]] == [3]
    for found in made["figures"][0]["findings"]:
        assert f"  {found['verdict']}: {found['claim']} ({found['evidence'][0]})\n" in printed
    assert (out / "figure03.svg").exists()


def test_doctor_passes_here(modgap):
    document = json.loads(modgap("doctor", "--json"))
    assert all(check["passed"] for check in document["checks"])
    assert document["versions"]["numpy"]
    assert document["devices"] is None
    text = modgap("doctor")
    assert text.count("PASS  ") == len(document["checks"])
    assert "FAIL" not in text


def test_doctor_knows_every_extra_and_its_packages():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: tuple(re.match(r"[\w-]+", package)[0] for package in packages)
        for name, packages in declared["optional-dependencies"].items()
        if name
        not in ("engines", "all", "dev", "dev-stores", "docs")  # of other extras; of no command
    }
    assert extras == doctor._EXTRAS


def test_doctor_fails_with_exit_code_1(monkeypatch, capsys):
    def broken():
        raise RuntimeError("it broke")

    monkeypatch.setitem(_selfcheck.CHECKS, "closures survive saving", broken)
    assert main(["doctor"]) == 1
    assert "FAIL  closures survive saving: RuntimeError: it broke" in capsys.readouterr().out


def test_doctor_names_the_pip_command_of_an_absent_extra(monkeypatch, modgap):
    monkeypatch.setitem(doctor._EXTRAS, "hf", ("no-such-package",))
    document = json.loads(modgap("doctor", "--json"))
    assert document["extras"]["hf"]["install"] == 'pip install "modgap[hf]"'
    assert 'pip install "modgap[hf]"' in modgap("doctor")


def test_a_full_disk_and_a_closed_pipe():
    command = [sys.executable, "-m", "modgap.cli", "evaluate", "--help"]
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "the disk is full" in line
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 141  # as a shell says of what a closed pipe ends
    assert done.stderr == ""
