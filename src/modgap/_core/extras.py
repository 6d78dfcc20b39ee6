"""Optional packages: imported when they are needed, missed with the pip command."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from modgap.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Return the imported optional module.

    Parameters
    ----------
    module : str
        Full name of the module, for example ``"pyarrow.parquet"``.
    extra : str
        The extra of modgap that installs it, for example ``"data"``.

    Raises
    ------
    MissingExtraError
        The package is not installed, or is installed and cannot be imported.
    """
    package = module.partition(".")[0]
    fix = f'pip install "modgap[{extra}]"'
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or package).partition(".")[0] == package:
            raise MissingExtraError(f"this needs the package `{package}`; {fix}") from None
        reason = str(error)
    except (ImportError, RuntimeError, OSError) as error:  # a build of a library that does not fit
        reason = str(error)
    except AttributeError:
        if sys.flags.optimize < 2:
            raise
        # Some packages (altair) build themselves from docstrings, which python -OO takes away.
        raise MissingExtraError(
            f"`{module}` cannot be imported without docstrings; run Python without -OO"
        ) from None
    first = (reason.splitlines() or ["no reason given"])[0]
    raise MissingExtraError(f"`{module}` is installed but cannot be imported ({first}); {fix}")


def locate(package: str, extra: str) -> Path:
    """Return the folder of an optional package, for what lies in it beside code; nothing is imported.

    Raises
    ------
    MissingExtraError
        The package is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(
            f'this needs the package `{package}`; pip install "modgap[{extra}]"'
        )
    return Path(found.submodule_search_locations[0])
