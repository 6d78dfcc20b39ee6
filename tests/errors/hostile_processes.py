"""Hostile cases about whole processes: signals at any moment, streams, limits, environments, bombs."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hostile_cases import COMMANDS, EVALUATE
from hostile_files import save

import modgap

LIMIT_S = 120


@dataclass(frozen=True)
class ProcessCase:
    """One case in processes of its own.

    `run` gets the folder, which is laid out, and a random generator; it returns what went wrong.
    """

    family: str
    name: str
    run: Callable[[Path, np.random.Generator], list[str]]

    @property
    def label(self) -> str:
        """Family and name."""
        return f"{self.family}: {self.name}"


def environment() -> dict[str, str]:
    """Return the variables under which another working folder still finds this modgap."""
    source = str(Path(modgap.__file__).parents[1])
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": source}


def bash(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `modgap` is this modgap."""
    program = f'modgap() {{ "{sys.executable}" -m modgap.cli "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", program], cwd=folder, capture_output=True, text=True, errors="replace",
        check=False, timeout=LIMIT_S, env=environment(),
    )  # fmt: skip


def judged(done: subprocess.CompletedProcess[str], codes: tuple[int, ...]) -> list[str]:
    """Return what is wrong with how a process ended."""
    lines = done.stderr.splitlines()
    found = []
    if done.returncode == 1 or "this is a fault of modgap" in done.stderr:
        found.append(f"code 1: {lines[-1:]}")
    elif done.returncode not in codes:
        kind = "native abort" if done.returncode >= 128 or done.returncode < 0 else "code"
        found.append(f"{kind}: {done.returncode}, {lines[-1:]}")
    if "Traceback" in done.stderr or not all(line.startswith("modgap: ") for line in lines):
        found.append(f"unclean: {lines[:2]}")
    return found


def _shell(family: str, line: str, codes: tuple[int, ...]) -> ProcessCase:
    return ProcessCase(family, line, lambda folder, rng: judged(bash(folder, line), codes))


def streams() -> Iterator[ProcessCase]:
    """Standard streams that are closed, full, read-only, or whose reader goes away."""
    for name in ("measure", "apply", "evaluate", "close", "report"):
        line = f"modgap {COMMANDS[name]}"
        for ending, codes in (
            (">&-", (0,)),
            (">&- 2>&- <&-", (0,)),
            ("2>&-", (0,)),
            (">/dev/full", (0, 2)),
            ("2>/dev/full", (0,)),
            ("1</dev/null", (0, 2)),
            ("| true; exit ${PIPESTATUS[0]}", (0, 141)),
            ("| head -1; exit ${PIPESTATUS[0]}", (0, 141)),
            ("2>&1 >&- | head -c1; exit ${PIPESTATUS[0]}", (0, 141)),
            ("0<&- | cat; exit ${PIPESTATUS[0]}", (0,)),
        ):
            yield _shell("streams", f"{line} {ending}", codes)
        broken = line.replace("q.npy", "absent.npy")
        for ending in (">&-", ">&- 2>&-", "2>/dev/full", "2>&1 | true; exit ${PIPESTATUS[0]}"):
            yield _shell("streams", f"{broken} {ending}", (2, 141))
    for line in ("modgap --help", "modgap --version", "modgap doctor --json"):
        for ending in (">&-", ">/dev/full", "| true; exit ${PIPESTATUS[0]}"):
            yield _shell("streams", f"{line} {ending}", (0, 2, 141))


def limits() -> Iterator[ProcessCase]:
    """Limits of file size, memory, open files and processor time."""
    writing = ("close", "apply", "apply shards", "report")
    for size, name in itertools.product((0, 1, 2, 8), writing):
        yield _shell("limits", f"ulimit -f {size}; modgap {COMMANDS[name]}", (0, 2))
    for size, name in itertools.product((1_500_000, 3_000_000), ("report", "evaluate", "measure")):
        yield _shell("limits", f"ulimit -v {size}; modgap {COMMANDS[name]}", (0, 2))
    for count in (5, 8, 12, 20):
        yield _shell("limits", f"ulimit -n {count}; modgap {COMMANDS['apply shards']}", (0, 2))


def environments() -> Iterator[ProcessCase]:
    """Odd environments: optimised Python, no home, small terminals, poor locales, wrong limits."""
    for prefix, name in itertools.product(
        (
            "PYTHONOPTIMIZE=1", "PYTHONOPTIMIZE=2", "env -u HOME", "TERM=dumb", "COLUMNS=1", "COLUMNS=0",
            "COLUMNS=x", "COLUMNS=99999", "LANG=C LC_ALL=C PYTHONUTF8=0", "PYTHONIOENCODING=ascii",
            "FORCE_COLOR=1", "NO_COLOR=1", "OMP_NUM_THREADS=0", "OPENBLAS_NUM_THREADS=x", "TMPDIR=/nowhere",
            "MODGAP_MAX_OPEN_BYTES=", "MODGAP_MAX_OPEN_BYTES=-1", "MODGAP_MAX_OPEN_BYTES=nan",
            "MODGAP_MAX_OPEN_BYTES=1e400", "MODGAP_MAX_OPEN_BYTES=1", "PYTHONWARNINGS=error",
            "PYTHONHASHSEED=0", "PYTHONDONTWRITEBYTECODE=1",
        ),
        ("measure pairs", "evaluate closure", "apply", "report"),
    ):  # fmt: skip
        line = f'env {prefix.removeprefix("env ")} "$0" -m modgap.cli {COMMANDS[name]}'
        yield _shell("environments", line.replace("$0", sys.executable), (0, 2))


def bombs() -> Iterator[ProcessCase]:
    """Files that open to far more than they have, and numbers that no machine can serve."""

    def expanded(rows: int, kind: str) -> Callable[[Path, np.random.Generator], list[str]]:
        def run(folder: Path, rng: np.random.Generator) -> list[str]:
            import torch

            wide = torch.zeros(1, 6).expand(rows, 6)
            torch.save({"a": wide} if kind == "keyed" else wide, folder / "bad.pt",
                       _use_new_zipfile_serialization=kind != "old")  # fmt: skip
            return judged(bash(folder, "modgap measure bad.pt g.npy"), (2,))

        return run

    for rows, kind in itertools.product((10**9, 10**12, 10**15), ("plain", "keyed", "old")):
        yield ProcessCase("bombs", f"a tensor of {rows} equal rows, {kind}", expanded(rows, kind))

    def archive(role: str) -> Callable[[Path, np.random.Generator], list[str]]:
        def run(folder: Path, rng: np.random.Generator) -> list[str]:
            import zipfile

            with (
                zipfile.ZipFile(folder / "bad.npz", "w", zipfile.ZIP_DEFLATED) as made,
                made.open("a.npy", "w", force_zip64=True) as member,
            ):
                rows = 2**30 // 24 + 1
                header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 6)}
                np.lib.format.write_array_header_1_0(member, header)
                for _ in range(rows * 24 // 2**22 + 1):
                    member.write(bytes(2**22))
            line = COMMANDS["measure" if role == "q" else "apply"].replace("q.npy", "bad.npz")
            return judged(bash(folder, f"modgap {line}"), (2,))

        return run

    for role in ("q", "apply"):
        yield ProcessCase("bombs", f"an archive of zeros, {role}", archive(role))
    for option in ("--steps", "--n", "--dimension", "--record-every", "--batch"):
        for number in ("9" * 20, "9" * 7, "1000000000"):
            line = f"modgap simulate --steps 3 --n 4 {option} {number}"
            if (option, number) not in (("--steps", "9" * 7), ("--n", "9" * 7)):
                yield _shell("bombs", line, (0, 2))
    for option in ("--draws", "--seed", "--fragile", "--folds", "--template"):
        yield _shell("bombs", f"modgap {EVALUATE} --noise int8 {option} {'9' * 20}", (0, 2))


def signals(rounds: int = 4) -> Iterator[ProcessCase]:
    """Runs of apply that are killed at any moment, up to three times, and then resumed."""
    kinds = (".npy", ".safetensors", ".parquet", ".npz")
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
    for suffix, name, times, i in itertools.product(kinds, names, (1, 2, 3), range(rounds)):

        def run(folder: Path, rng: np.random.Generator, s=suffix, n=name, t=times) -> list[str]:
            return interrupted(folder, rng, s, getattr(signal, n), t)

        yield ProcessCase("signals", f"apply to {suffix}, {name} {times} times, {i}", run)


def interrupted(
    folder: Path, rng: np.random.Generator, suffix: str, sign: int, times: int
) -> list[str]:
    """Stop a run of apply again and again, let it end, and compare its output with a whole run's."""
    (folder / "in").mkdir()
    for i in range(4):
        save(folder / "in" / f"emb_{i}{suffix}", rng.normal(size=(20_000, 6)).astype("f4"))
    words = ["apply", "c.safetensors", "--queries", "in", "--out"]
    program = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('modgap.cli', run_name='__main__')"
    )
    found: list[str] = []
    for _ in range(times):
        line = [sys.executable, "-c", program, *words, "out"]
        process = subprocess.Popen(
            line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(),
        )  # fmt: skip
        deadline = time.monotonic() + LIMIT_S
        early = rng.random() < 0.2
        while not early and not (folder / "out").exists() and process.poll() is None:
            time.sleep(0.001)
            if time.monotonic() > deadline:
                break
        time.sleep(float(rng.uniform(0, 0.6 if early else 0.05)))
        process.send_signal(sign)
        try:
            _, said = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return [*found, "hang: after a signal"]
        code = process.returncode
        # An interruption while Python itself starts is shown by Python.
        starting = code == 1 and "KeyboardInterrupt" in said
        if code not in (0, -sign, 128 + sign) and not starting:
            found.append(f"code {code}: {said.splitlines()[-1:]}")
        left = [path.name for path in folder.glob("out/.*")]
        if left and sign != signal.SIGKILL:
            found.append(f"left behind: {left}")
    for out in ("out", "whole"):
        done = subprocess.run(
            [sys.executable, "-m", "modgap.cli", *words, out], cwd=folder, capture_output=True,
            text=True, check=False, timeout=LIMIT_S, env=environment(),
        )  # fmt: skip
        found += judged(done, (0,))
    for path in (folder / "whole").glob("emb_*"):
        other = folder / "out" / path.name
        if not other.exists() or other.read_bytes() != path.read_bytes():
            found.append(f"other bytes: {path.name}")
    if list(folder.glob("out/.*")):
        found.append("left behind: after the run that ended")
    return found


IN_PROCESSES = (streams, limits, environments, bombs, signals)
