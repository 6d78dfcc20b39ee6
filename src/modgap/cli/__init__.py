"""The command line: one file per command, each of which parses, calls and prints.

`main` is the edge. Errors become one line on stderr there, and the exit code says whose they are:
2 a mistake that the caller can mend, 1 a fault of modgap, 130 an interruption, 143 a termination,
141 a reader that went away.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Iterable, Sequence

__all__ = ["main"]

#: Options that may stand anywhere on the line, before or after the command.
_ANYWHERE = ("--debug", "--quiet")
_SILENT = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
#: The shell asks for completions through this variable, whose name typer makes of the program's.
_COMPLETION = "_MODGAP_COMPLETE"
#: 128 and the number of SIGPIPE: what a shell shows for a program whose reader went away.
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``modgap``; those of the process by default.

    Returns
    -------
    int
        0, or 2 for a mistake that the caller can mend, 1 for a fault of modgap (and for a check of
        ``modgap doctor`` that fails), 130 for an interruption, 143 and 129 for the signals TERM and
        HUP, 141 if nobody reads the output any more.
    """
    from modgap.cli._process import Stopped, interrupted_by_signals, open_missing_streams, settle

    open_missing_streams()
    arguments = _reordered(list(sys.argv[1:] if argv is None else argv))
    debug = "--debug" in arguments[: len(_ANYWHERE)]
    _never_fail_to_encode()
    try:
        with interrupted_by_signals(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for category in _SILENT:
                warnings.simplefilter("ignore", category)
            code = _dispatch(arguments)
            sys.stdout.flush()
        _print_warnings(str(warning.message) for warning in caught)
        return code
    except BrokenPipeError:
        return _BROKEN_PIPE
    except KeyboardInterrupt as error:
        word, code = (
            (error.word, error.code) if isinstance(error, Stopped) else ("interrupted", 130)
        )
        _say(f"{word}; nothing is half written, run the same command again")
        return code
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        code, line = _explain(error)
        _say(line)
        return code
    finally:
        settle()


def _dispatch(arguments: list[str]) -> int:
    """Parse and run; the parser's own main would print errors its own way."""
    import typer

    from modgap.cli.app import command

    _check_words(arguments)
    if _COMPLETION in os.environ:
        command().main(args=[], prog_name="modgap", complete_var=_COMPLETION)  # ends the process
    try:
        with command().make_context("modgap", arguments) as context:
            context.command.invoke(context)
    except typer.Exit as error:
        return int(error.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    return 0


def _check_words(words: list[str]) -> None:
    """Raise an ArgumentError for a word that no file can be called; shells cannot make one."""
    from modgap.errors import ArgumentError

    for word in words:
        try:
            usable = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            usable = False
        if not usable:
            raise ArgumentError(f"the word {word!a} holds characters that no file name can have")


def _reordered(arguments: list[str]) -> list[str]:
    """Return the words with the options of `modgap` itself before the command."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own = [word for word in _ANYWHERE if word in arguments[:end]]
    rest = [word for word in arguments[:end] if word not in own]
    return [*own, *rest, *arguments[end:]]


def _explain(error: Exception) -> tuple[int, str]:
    """Return the exit code and the line for an exception."""
    from modgap.errors import ModgapError

    if isinstance(error, ModgapError):
        return 2, f"error: {error}"
    if hasattr(error, "format_message"):  # the parser's errors, wherever their class lives
        context = getattr(error, "ctx", None)
        where = "modgap" if context is None else str(context.command_path)
        return 2, f"error: {_period(error.format_message())}; see {where} --help"
    if isinstance(error, MemoryError):
        detail = f" ({error})" if str(error) else ""
        return 2, f"error: not enough memory for this{detail}; use fewer rows, or more memory"
    if isinstance(error, OSError):
        return 2, f"error: {_of_system(error)}"
    name = type(error).__name__
    return 1, (
        f"error: {name}: {error}; run again with --debug for the traceback; "
        "this is a fault of modgap"
    )


def _of_system(error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        reason = f"{reason}: the disk is full; free some space, or write elsewhere"
    where = "" if error.filename is None else f"`{error.filename}`: "
    return f"{where}{reason}"


def _period(message: str) -> str:
    return message.strip().rstrip(".")


def _say(line: str) -> None:
    """Print one line on stderr, whatever the message holds."""
    from modgap.io._guard import shown

    text = " ".join(line.split())
    printable = "".join(c if c.isprintable() else shown(c) for c in text)
    with contextlib.suppress(OSError):  # nobody listens
        print(f"modgap: {printable}", file=sys.stderr, flush=True)


def _print_warnings(messages: Iterable[str]) -> None:
    for message in dict.fromkeys(messages):
        _say(f"warning: {message}")


def _never_fail_to_encode() -> None:
    """File names may hold what the terminal's encoding does not."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
