"""Runs hostile cases against the command line and counts what went wrong.

    python tests/errors/hostile.py --cases 3000

Most cases run inside a worker process, with a clock and a look at its memory; a worker that dies is a
native abort, and the next case goes to a new one. Cases about whole processes run in their own. The
goal is nought of everything. `test_hostile.py` runs a sample of the same cases.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import random
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from hostile_cases import IN_PROCESS, Case
from hostile_files import lay_out
from hostile_processes import IN_PROCESSES, ProcessCase

#: Processor time of one case; on the clock it may take six times that, since machines are shared.
LIMIT_S = 20
#: Growth of a worker's memory in one case; inputs are a few kilobytes.
LIMIT_BYTES = 2**30
#: Share of the cases that run in processes of their own, if there are that many.
PROCESS_SHARE = 0.1


class Hang(BaseException):
    """The clock of a case ran out."""


def every_case() -> Iterator[Case | ProcessCase]:
    """Yield all cases there are."""
    for make in (*IN_PROCESS, *IN_PROCESSES):
        yield from make()


def select(count: int, seed: int) -> list[Case | ProcessCase]:
    """Return `count` cases: of every family alike, each family shuffled; all where it has fewer."""
    families: dict[str, list[Case | ProcessCase]] = {}
    for case in every_case():
        families.setdefault(case.family, []).append(case)
    slow = {case.family for make in IN_PROCESSES for case in make()}
    for name, found in families.items():
        random.Random(f"{name} {seed}").shuffle(found)
    chosen = _evenly({k: v for k, v in families.items() if k in slow}, int(count * PROCESS_SHARE))
    rest = _evenly({k: v for k, v in families.items() if k not in slow}, count - len(chosen))
    return [*rest, *chosen]


def _evenly(families: dict[str, list], count: int) -> list:
    """Take from every family in turn until there are enough."""
    chosen: list = []
    for i in range(max(map(len, families.values()))):
        for found in families.values():
            if i < len(found) and len(chosen) < count:
                chosen.append(found[i])
    return chosen


@contextlib.contextmanager
def folder_of_inputs() -> Iterator[Path]:
    """Make a folder with sound inputs, two levels deep, so that `..` stays within."""
    with tempfile.TemporaryDirectory(prefix="hostile") as name:
        folder = Path(name) / "case"
        folder.mkdir()
        lay_out(folder)
        yield folder


def run_case(case: Case | ProcessCase, seed: int) -> list[str]:
    """Run one case and return what went wrong, each beginning with its kind."""
    rng = np.random.default_rng([seed, *case.name.encode()])
    with folder_of_inputs() as folder:
        if isinstance(case, ProcessCase):
            before = _state(folder)
            try:
                found = case.run(folder, rng)
            except subprocess.TimeoutExpired:
                found = ["hang: over the limit"]
            return found + _touched(before, folder)
        home = Path.cwd()
        os.chdir(folder)
        try:
            return _run_inside(case, folder, rng)
        finally:
            os.chdir(home)


def _run_inside(case: Case, folder: Path, rng: np.random.Generator) -> list[str]:
    lines = case.build(rng)
    before = _state(folder)
    found: list[str] = []
    for line in lines:
        found += _run_line(line, folder)
    return found + _touched(before, folder)


def _run_line(line: list[str], folder: Path) -> list[str]:
    from modgap.cli import main

    out, errors = io.StringIO(), io.StringIO()
    fresh = not os.path.lexists(folder / "out")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for sign in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(sign, _ring)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    signal.setitimer(signal.ITIMER_REAL, 6 * LIMIT_S)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = main(line)
    except Hang:
        return [f"hang: {line}"]
    except BaseException as error:
        return [f"escaped: {type(error).__name__} {error}"]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    found = _judged(line, code, out.getvalue(), errors.getvalue())
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory)
    if grown > LIMIT_BYTES:
        found.append(f"memory: grew by {grown / 2**20:.0f} MiB")
    if code and fresh and (folder / "out").is_dir() and not list((folder / "out").glob("*.[nsp]*")):
        found.append("left behind: a folder without files")
    return found


def _ring(number: int, frame: object) -> None:
    raise Hang


def _judged(line: list[str], code: int, printed: str, said: str) -> list[str]:
    lines = said.splitlines()
    found = []
    if code == 1 and line[:1] in (["doctor"], ["verify"]) and printed:
        code = 0  # a closure that has drifted, or a check that fails: said on stdout
    if code == 1:
        found.append(f"code 1: {lines[-1:]}")
    elif code not in (0, 2):
        found.append(f"code {code}: {lines[-1:]}")
    if not all(text.startswith("modgap: ") and text.isprintable() for text in lines):
        found.append(f"unclean: {lines[:2]}")
    if sum(text.startswith("modgap: error: ") for text in lines) != (code != 0):
        found.append(f"unclean: errors of code {code}: {lines[:2]}")
    if code and printed:
        found.append(f"unclean: stdout of code {code}: {printed[:60]!r}")
    asked = [word for word, before in zip(line, ["", *line], strict=False) if before != "--out"]
    if not code and "--json" in asked and not {"-h", "--help", "--version"} & set(line):
        try:
            json.loads(printed, parse_constant=float.fromhex)
        except ValueError:
            found.append(f"unclean: no strict JSON: {printed[:60]!r}")
    for text in lines:
        if "encountered in" in text or "divide by zero" in text:
            found.append(f"nonsense: {text}")
    return found


def _state(folder: Path) -> dict[str, object]:
    """Return what every input is: its bytes, or its kind."""
    found: dict[str, object] = {}
    for base, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = os.path.join(base, name)
            place = os.path.relpath(path, folder)
            if os.path.islink(path):
                found[place] = os.readlink(path)
            elif os.path.isfile(path) and os.access(path, os.R_OK):
                found[place] = Path(path).read_bytes()
            else:
                found[place] = os.lstat(path).st_mode
    return found


def _touched(before: dict[str, object], folder: Path) -> list[str]:
    """Return the inputs that are not what they were, and what no run should leave behind."""
    after = _state(folder)
    found = [
        f"touched: {place}"
        for place, content in before.items()
        if not place.startswith("out") and after.get(place) != content
    ]
    if "owned" in after:
        found.append("touched: a name was run as a command")
    stale = [place for place in after if ".tmp" in place and place not in before]
    return found + [f"left behind: {place}" for place in stale]


def work(arguments: argparse.Namespace) -> None:
    """Run the cases from the file of numbers on stdin; print a line before and after each."""
    cases = select(arguments.cases, arguments.seed)
    for word in sys.stdin.read().split():
        print(json.dumps({"start": int(word)}), flush=True)
        found = run_case(cases[int(word)], arguments.seed)
        print(json.dumps({"end": int(word), "found": found}), flush=True)


def supervise(arguments: argparse.Namespace, numbers: list[int]) -> Iterator[tuple[int, list[str]]]:
    """Yield every case's number and what went wrong, over as many workers as it takes."""
    here = [
        sys.executable,
        __file__,
        "--cases",
        str(arguments.cases),
        "--seed",
        str(arguments.seed),
    ]
    left = list(numbers)
    while left:
        worker = subprocess.Popen(
            [*here, "--work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(" ".join(map(str, left)).encode())
        worker.stdin.close()
        watch = selectors.DefaultSelector()
        watch.register(worker.stdout, selectors.EVENT_READ)
        current = None
        while True:
            if not watch.select(timeout=30 * LIMIT_S):
                worker.kill()
                yield left.pop(0), ["hang: nothing could stop it"]
                break
            line = worker.stdout.readline()
            if not line:
                break
            told = json.loads(line)
            if "start" in told:
                current = told["start"]
            else:
                left.remove(told["end"])
                current = None
                yield told["end"], told["found"]
        worker.wait()
        if current is not None and current in left:
            left.remove(current)
            yield current, [f"native abort: the worker ended with {worker.returncode}"]
        elif worker.returncode:
            raise SystemExit(f"the worker cannot run: code {worker.returncode}")


def main() -> int:
    """Run the cases and print the tally; 0 if nothing went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", action="append", help="only cases of this family; repeatable")
    parser.add_argument("--only", type=int, help="one case by its number, in this process")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments)
        return 0
    cases = select(arguments.cases, arguments.seed)
    if arguments.only is not None:
        print(cases[arguments.only], *run_case(cases[arguments.only], arguments.seed), sep="\n")
        return 0
    families = [case.family for case in cases] if arguments.family is None else arguments.family
    numbers = [i for i, case in enumerate(cases) if case.family in families]
    started, wrong = time.monotonic(), collections.Counter()
    for done, (i, found) in enumerate(supervise(arguments, numbers), 1):
        for problem in found:
            wrong[problem.partition(":")[0]] += 1
            print(f"{i} {cases[i].family}: {cases[i].name}\n    {problem}"[:400], flush=True)
        if done % 250 == 0:
            print(f"... {done} of {len(numbers)}, {time.monotonic() - started:.0f} s", flush=True)
    families = collections.Counter(cases[i].family for i in numbers)
    print(f"\n{len(numbers)} cases in {time.monotonic() - started:.0f} s")
    print(", ".join(f"{name} {count}" for name, count in families.items()))
    for kind in ("hang", "code 1", "native abort", "touched", *sorted(wrong)):
        print(f"{kind:14}{wrong.pop(kind, 0)}")
        wrong[kind] = wrong.get(kind, 0)
    return int(any(wrong.values()))


if __name__ == "__main__":
    if shutil.which("bash") is None:
        raise SystemExit("hostile cases need bash")
    sys.exit(main())
