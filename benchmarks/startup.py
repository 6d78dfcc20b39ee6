"""How long `import modgap` and `modgap --help` take."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from typing import Any

from _harness import seconds

COMMANDS = {
    "bare": ["-c", "pass"],
    "import modgap": ["-c", "import modgap"],
    "modgap --help": ["-m", "modgap.cli", "--help"],
}
BARS = {"import modgap": 0.3, "modgap --help": 0.5}


def run(quick: bool) -> list[dict[str, Any]]:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(2 if quick else 9):
        for name, arguments in COMMANDS.items():
            command = [sys.executable, *arguments]
            times[name].append(
                seconds(lambda c=command: subprocess.run(c, capture_output=True, check=True))
            )
    return [
        {
            "work": f"{name}, seconds",
            "size": "one process",
            "bar": f"<= {bar} s",
            "seconds": median(times[name]),
            "bare_python_s": median(times["bare"]),
            "statistic": "median",
        }
        for name, bar in BARS.items()
    ]
