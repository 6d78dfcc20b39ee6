"""What every page is made with: a template filled in, style and scripts, and the file, written whole."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from modgap._core.extras import require
from modgap.io.atomic import atomic_path
from modgap.report.words import said, share

__all__ = ["coded", "figure_text", "filled", "page_script", "page_style", "write_page"]


def write_page(page: str, path: str | Path) -> Path:
    """Write a page and return its path; it appears whole or not at all.

    Raises
    ------
    FormatError
        The folder is missing or cannot be written.
    """
    target = Path(path)
    with atomic_path(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def filled(name: str, values: Mapping[str, Any], *, charts: bool = True) -> str:
    """Return a template of ours filled in; every value is escaped.

    Raises
    ------
    MissingExtraError
        The extra `report` is not installed; without `charts` its template engine is enough.
    """
    jinja2 = require("jinja2", "report")
    for module in ("altair", "vl_convert") if charts else ():
        require(module, "report")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(coded=coded, figure=figure_text, said=said, share=share)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    markup = jinja2.utils.markupsafe.Markup
    page: str = environment.from_string(_read(name)).render(style=markup(page_style()), **values)
    return page


def page_style() -> str:
    """Return the style element of the report's page, for other pages of the same look."""
    return f"<style>\n{_read('page.css')}</style>"


def page_script(name: str) -> tuple[str, str]:
    """Return a script of ours as an element, and the word of a policy that lets a page run it alone."""
    text = _read(name)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"<script>{text}</script>", f"'sha256-{digest}'"


def _read(name: str) -> str:
    return (files("modgap.report") / "templates" / name).read_text(encoding="utf-8")


def coded(text: str) -> Any:
    """Return a sentence as markup, escaped, in which what stands between backticks is code."""
    escaped = require("jinja2", "report").utils.markupsafe.escape(text)
    return type(escaped)(re.sub("`([^`]+)`", r"<code>\1</code>", str(escaped)))


def figure_text(value: Any, digits: int = 3) -> str:
    """Return a number for a table cell; a dash where there is none."""
    if value is None:
        return "–"
    if value == 0 and isinstance(value, float):
        return "0"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value != 0 and abs(value) < 10**-digits:
            return f"{value:.1e}"
        return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:,.1f}"
    return str(value)
