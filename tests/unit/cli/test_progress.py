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
def drawn(monkeypatch):
    """A function that does work under a bar and returns what was drawn.

    stderr is changed in the test itself, since pytest puts its own in place after the fixtures.
    """
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    def call(work, stream=None, **options):
        stream = Terminal() if stream is None else stream
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            with progress("reading", **options) as job:
                work(job)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())

    return call


def two_stages(job):
    job(50)
    job.stage("fitting", total=10)
    job(10)


def test_a_bar_shows_stage_share_and_time(drawn):
    lines = re.split(r"[\r\n]+", drawn(two_stages, total=200))
    last = next(line for line in reversed(lines) if line.strip())
    assert last.startswith("fitting")
    assert "100%" in last
    assert "10 rows" in last
    assert len(re.findall(r"\d:\d\d:\d\d", last)) == 2  # passed and left


def test_work_of_unknown_length_is_counted(drawn):
    text = drawn(lambda job: job(1234), unit="draws")
    assert "1,234 draws" in text
    assert "%" not in text


def test_a_note_stays_above_the_bar(drawn):
    def work(job):
        job.note("faiss:SQ4 none: recall @10 0.867")
        job(1)

    assert "faiss:SQ4 none: recall @10 0.867" in drawn(work, total=2)
    assert drawn(work, total=2, shown=False) == ""


def test_nothing_is_drawn_where_nobody_looks(drawn):
    assert drawn(two_stages, total=2, shown=False) == ""
    assert drawn(two_stages, io.StringIO(), total=2) == ""
    token = QUIET.set(True)
    try:
        assert drawn(two_stages, total=2) == ""
    finally:
        QUIET.reset(token)
