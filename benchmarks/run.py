"""Run the benchmarks and write one JSON file each.

python benchmarks/run.py                     all of them, at full size: some hours
python benchmarks/run.py moments apply       two of them
python benchmarks/run.py --quick --out DIR   all of them, tiny: do they still run?
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import _harness
from _subjects import DEVICE, SUBJECTS

RESULTS = _harness.HERE / "results"


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    _harness.set_threads(options.threads)
    for name in options.subjects or (SUBJECTS if options.quick else at_hand()):
        print(f"{name} ...", file=sys.stderr, flush=True)
        document = measure(name, quick=options.quick, rounds=options.rounds)
        _harness.write_json(options.out / f"{name}.json", document)
        for line in document["rows"]:
            print(f"  {line['value']:9.4g}  {line['bar']:8}  {line['work']}", file=sys.stderr)
    return 0


def at_hand() -> tuple[str, ...]:
    """Return the subjects that this machine can measure at full size."""
    has_gpu = _harness.machine()["accelerator"] is not None
    return tuple(name for name in SUBJECTS if has_gpu or name not in DEVICE)


def measure(name: str, *, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    """Return the result of one subject, with all that it depends on."""
    subject = importlib.import_module(name)
    load = _harness.load_average()
    result = subject.run(quick=quick, rounds=rounds)
    return {
        "subject": name,
        "about": (subject.__doc__ or "").splitlines()[0],
        "date": _harness.stamp(),
        "commit": _harness.commit(),
        "quick": quick,
        "seed": _harness.SEED,
        "machine": _harness.machine(),
        "load_average": {"before": load, "after": _harness.load_average()},
        "versions": _harness.versions(),
        "ratios": "median of the ratios of rounds measured in turns",
        **result,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run the benchmarks and write one JSON file each.")
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--rounds", type=int, help="rounds per measurement")
    parser.add_argument("--threads", type=int, default=_cores(), help="of all matrix products")
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
