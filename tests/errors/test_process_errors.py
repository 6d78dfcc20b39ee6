"""What the shell and the system do to a whole process: signals, closed streams, limits."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals, limits and pipes of POSIX")

RNG = np.random.default_rng(0)


@pytest.fixture
def shell(tmp_path):
    """A function that runs a line of bash in an empty folder; `modgap` in it is this modgap."""

    def run(line):
        program = f'modgap() {{ "{sys.executable}" -m modgap.cli "$@"; }}; '
        script = program + line
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("line", "code", "printed", "said"),
    [
        # stdout and stderr that are not there
        ("modgap --version >&-", 0, "", ""),
        ("modgap --version >&- 2>&- <&-", 0, "", ""),
        ("modgap measure a.npy b.npy >&- 2>&-", 2, "", ""),
        # a reader that goes away
        ("modgap --help | true; exit ${PIPESTATUS[0]}", 141, "", ""),
        ("modgap --help 2>&- | true; exit ${PIPESTATUS[0]}", 141, "", ""),
        # streams that take nothing
        ("modgap --version >/dev/full", 2, "", "the disk is full; free some space"),
        ("modgap --version 1</dev/null", 2, "", "Bad file descriptor"),
        ("modgap measure a.npy b.npy 2>/dev/full", 2, "", ""),
    ],
)
def test_streams(shell, line, code, printed, said):
    found = shell(line)
    assert found[:2] == (code, printed)
    assert said in found[2]
    assert len(found[2].splitlines()) == (said != "")


def test_a_reader_that_goes_away_before_a_table(shell, tmp_path):
    np.save(tmp_path / "q.npy", RNG.normal(size=(9, 4)))
    assert shell("modgap measure q.npy q.npy | true; exit ${PIPESTATUS[0]}") == (141, "", "")


def test_a_file_size_limit_is_a_full_disk(shell, tmp_path):
    np.save(tmp_path / "q.npy", RNG.normal(size=(200, 100)))
    np.save(tmp_path / "g.npy", RNG.normal(size=(50, 100)))
    close = "modgap close --queries q.npy --gallery g.npy --method affine --out c.safetensors"
    code, _, said = shell(f"ulimit -f 40; {close}")
    assert code == 2
    assert "cannot write `c.safetensors`: File too large: the disk is full, or a limit" in said
    assert sorted(os.listdir(tmp_path)) == ["g.npy", "q.npy"]
    assert shell(close)[0] == 0
    code, _, said = shell("ulimit -f 40; modgap apply c.safetensors --queries q.npy --out out")
    assert code == 2
    assert "cannot write `out/q.npy`: File too large: the disk is full, or a limit" in said
    assert not (tmp_path / "out").exists()


def test_pictures_where_memory_is_limited(shell, tmp_path):
    pytest.importorskip("vl_convert")
    program = (
        "import altair; from modgap.charts import theme; from modgap.errors import ModgapError\n"
        "chart = altair.Chart(theme.table([{'a': 1}])).mark_point().encode(x='a:Q')\n"
        "try: print(len(theme.svg(chart)) > 1000)\n"
        "except ModgapError as error: print(type(error).__name__, error)\n"
    )
    (tmp_path / "draw.py").write_text(program)
    assert shell(f"{sys.executable} draw.py") == (0, "True\n", "")
    code, printed, said = shell(f"ulimit -v 2000000; {sys.executable} draw.py")
    assert (code, said) == (0, "")
    assert printed.startswith("MissingExtraError `vl_convert`, which draws the charts, ended (")
    assert len(printed.splitlines()) == 1


def test_without_docstrings(shell, tmp_path):
    """`python -OO` takes docstrings and asserts away: help is short, and only altair cannot live."""
    np.save(tmp_path / "q.npy", RNG.normal(size=(9, 4)))
    lines = ["measure q.npy q.npy --json", "--help", "report q.npy q.npy --draws 2 --out r.html"]
    (tmp_path / "run.py").write_text(
        f"from modgap.cli import main\nprint([main(line.split()) for line in {lines}])\n"
    )
    _, printed, said = shell(f"{sys.executable} -OO run.py")
    assert json.JSONDecoder().raw_decode(printed)[0]["dimension"] == 4
    assert printed.splitlines()[-1] == "[0, 0, 2]"
    assert said.splitlines()[-1] == (
        "modgap: error: `altair` cannot be imported without docstrings; run Python without -OO"
    )


def test_a_signal_ends_a_run_cleanly(tmp_path, interruptible_modgap):
    """Compressed shards are slow to read, so that the signal comes in the middle of one."""
    from modgap import closers

    (tmp_path / "in").mkdir()
    rows = RNG.normal(size=(30_000, 128)).astype(np.float32)
    np.savez_compressed(tmp_path / "in" / "emb_0.npz", emb=rows)
    closers.fit("affine", rows[:100], rows[100:120]).save(tmp_path / "c.safetensors")
    for sign in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        for attempt in range(5):  # a busy machine may wake this process when the shard is done
            out = tmp_path / f"{sign.name}_{attempt}"
            words = ["apply", "c.safetensors", "--queries", "in", "--out", out.name]
            running = subprocess.Popen(
                [*interruptible_modgap, *words], cwd=tmp_path, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            deadline = time.monotonic() + 60
            while running.poll() is None and not list(out.glob(".emb_0*")):
                assert time.monotonic() < deadline
                time.sleep(0.002)
            running.send_signal(sign)
            _, said = running.communicate(timeout=60)
            if running.returncode != 0:
                break
        assert running.returncode == 128 + sign
        (line,) = said.splitlines()
        assert line.endswith("; nothing is half written, run the same command again")
        assert os.listdir(out) == ["modgap.json"]


def test_an_ignored_signal_stays_ignored(shell, tmp_path):
    np.save(tmp_path / "q.npy", RNG.normal(size=(9, 4)))
    line = "trap '' HUP; modgap simulate --steps 2000 --n 20 > run.txt & sleep 1; kill -HUP $!; wait $!"
    assert shell(line)[0] == 0
