"""Start-up: `import modgap` and `modgap --help`, each in a new process."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

from _harness import in_turns, ratio, row

COMMANDS = {
    "python": ["-c", "pass"],
    "import": ["-c", "import modgap"],
    "help": ["-c", "import sys; from modgap.cli import main; sys.exit(main(['--help']))"],
}


def run(*, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    rounds = rounds or (1 if quick else 15)
    seconds = in_turns(rounds, **{name: _runner(command) for name, command in COMMANDS.items()})
    rows = [
        row(
            f"`{work}`, median of {rounds} processes",
            statistics.median(seconds[name]),
            bar,
            unit="s",
            ratio=ratio(seconds[name], seconds["python"]),  # to an interpreter that does nothing
        )
        for work, name, bar in (
            ("import modgap", "import", "<= 0.3"),
            ("modgap --help", "help", "<= 0.5"),
        )
    ]
    return {"setting": {"processes": rounds}, "rows": rows, "details": {"seconds": seconds}}


def _runner(command: list[str]) -> Any:
    return lambda: subprocess.run([sys.executable, *command], check=True, capture_output=True)
