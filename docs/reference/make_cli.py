"""Write docs/reference/cli.md from the commands' own --help.

python docs/reference/make_cli.py            writes the page
python docs/reference/make_cli.py --check    exit code 1 if the page is out of date
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).with_name("cli.md")
COMMANDS = (
    "report",
    "measure",
    "close",
    "apply",
    "embed",
    "export",
    "evaluate",
    "advise",
    "compare",
    "bench",
    "simulate",
    "figures",
    "verify",
    "index study",
    "stats write",
    "stats show",
    "stats merge",
    "doctor",
)
INTRODUCTION = """# Command line

Made from `--help` by `make_cli.py`; edit the commands in `src/modgap/cli`, not this page.
Laid out by typer {version}; other versions may break lines elsewhere.
"""


def typer_version() -> str:
    """Return the first two numbers of typer's version, which lays the help out."""
    return ".".join(version("typer").split(".")[:2])


def help_text(*words: str) -> str:
    """Return what a command prints for --help, laid out for 80 columns."""
    from modgap.cli import main

    printed = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "82"  # the parser keeps two free
    try:
        with contextlib.redirect_stdout(printed):
            code = main([*words, "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    if code != 0:
        raise SystemExit(f"modgap {' '.join(words)} --help failed")
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def page() -> str:
    """Return the whole page."""
    introduction = INTRODUCTION.format(version=typer_version())
    parts = [introduction, _section("modgap", help_text())]
    parts += [_section(f"modgap {name}", help_text(*name.split())) for name in COMMANDS]
    return "\n".join(parts)


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text}\n```\n"


def main() -> int:
    """Write the page, or check it."""
    made = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == made:
        return 0
    print(f"{PAGE.name} is out of date; run python docs/reference/make_cli.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
