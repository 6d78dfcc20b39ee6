"""The bar on stderr: stage, share and time left on a terminal, nothing anywhere else."""

import io
import re
import sys

import pytest

from modgap.cli._console import QUIET, progress


class Terminal(io.StringIO):
    """A stderr that says that it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return lambda: re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())


def test_a_bar_shows_stage_share_and_time(terminal):
    with progress("reading", total=200) as job:
        job(50)
        job.stage("fitting", total=10)
        job(10)
    lines = re.split(r"[\r\n]+", terminal())
    last = next(line for line in reversed(lines) if line.strip())
    assert last.startswith("fitting")
    assert "100%" in last
    assert "10 rows" in last
    assert len(re.findall(r"\d:\d\d:\d\d", last)) == 2  # passed and left


def test_work_of_unknown_length_is_counted(terminal):
    with progress("evaluating", unit="draws") as job:
        job(1234)
    assert "1,234 draws" in terminal()
    assert "%" not in terminal()


@pytest.mark.parametrize("why", ["json", "quiet", "pipe"])
def test_nothing_is_drawn_where_nobody_looks(terminal, monkeypatch, why):
    if why == "pipe":
        monkeypatch.setattr(sys, "stderr", io.StringIO())
    token = QUIET.set(why == "quiet")
    try:
        with progress("reading", total=2, shown=why != "json") as job:
            job(2)
            job.stage("fitting")
    finally:
        QUIET.reset(token)
    assert terminal() == ""
    assert sys.stderr.getvalue() == ""
