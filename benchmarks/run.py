"""Run benchmarks and write their results: ``python benchmarks/run.py [NAME ...] [--quick]``."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from _harness import RESULTS, write

SUBJECTS = ("stability_sweep", "moments", "apply", "neighbors", "startup")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(SUBJECTS))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}")
    for name in given.names or SUBJECTS:
        rows = importlib.import_module(name).run(given.quick)
        print(write(name, rows, given.out).name, flush=True)
        for row in rows:
            kind = next(key for key in ("speedup", "ratio", "seconds") if key in row)
            print(f"  {row['work']}: {row[kind]:.3g} ({row['bar']})", flush=True)


if __name__ == "__main__":
    main()
