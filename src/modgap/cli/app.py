"""The tree of commands."""

from __future__ import annotations

import functools
from collections.abc import Callable
from inspect import cleandoc
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from modgap.cli import (
    advise,
    apply,
    bench,
    close,
    compare,
    doctor,
    embed,
    evaluate,
    export,
    figures,
    index,
    measure,
    report,
    simulate,
    stats,
    verify,
)
from modgap.cli._console import QUIET
from modgap.cli._inputs import check_apart


class _Command(TyperCommand):
    """A command whose output is checked against everything else that its line names."""

    def invoke(self, ctx: Any) -> Any:
        """Check, then run."""
        check_apart(ctx.params)
        return super().invoke(ctx)


_COMMANDS = (
    report,
    measure,
    close,
    apply,
    embed,
    export,
    evaluate,
    advise,
    bench,
    compare,
    simulate,
    figures,
    verify,
    doctor,
)
#: Modules of several commands, which `COMMANDS` names.
_GROUPS = (index, stats)


def _show_version(wanted: bool) -> None:
    if wanted:
        import modgap

        typer.echo(f"modgap {modgap.__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show Python tracebacks of errors.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bars.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Measure, explain and close the modality gap of embedding models.

    CLIP-like models put images and texts into one space, but in two separated regions of it: the
    modality gap. modgap measures it, closes it with a map that you can save and apply, and shows on
    your own embeddings what that does to the answers, clean and under noise.

    An input is PATH or PATH:KEY: a .npy, .npz, .safetensors, .parquet, .arrow or .pt file (tensors
    only), or a folder of numbered shards. KEY names the array, column or kind of shards. PATH may be a URL
    that fsspec opens (s3://bucket/folder; .npy, .safetensors, .parquet). Nothing is unpickled, and no
    input is ever changed.

    Queries are what searches, the gallery is what is searched: images against class texts in
    zero-shot classification, texts against images in text-to-image search.

    Examples
    --------
      modgap report                                       the sample that ships with modgap
      modgap report images.npy texts.npy --labels labels.npy
      modgap evaluate --queries images.npy --gallery texts.npy --labels labels.npy

    Exit codes: 0; 2 for a mistake in the call or its inputs, with one line on stderr; 1 for a fault
    of modgap, or a failed check of doctor or verify; 130 if interrupted, 143 if terminated, 141 if
    nobody reads the output any more.

    A file that opens to more than a gibibyte and to 64 times its own size is refused; the environment
    variable MODGAP_MAX_OPEN_BYTES says how much is wanted.
    """
    QUIET.set(quiet)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _help(function: Callable[..., None]) -> str:
    """Return a docstring as help text whose examples keep their lines."""
    text = cleandoc(function.__doc__ or "")
    return text.replace("\nExamples\n--------\n", "\n\b\nExamples:\n")


def _group(module: ModuleType) -> typer.Typer:
    """Return the commands of a module under its name; alone it shows its help."""
    about = getattr(module, module.__name__.rpartition(".")[2])

    def root(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True, help=_help(about))(root)
    for name in module.COMMANDS:
        function = getattr(module, name)
        group.command(name, cls=_Command, help=_help(function))(function)
    return group


@functools.cache
def command() -> Any:
    """Return the whole command line, ready to be given words; it is built once a process."""
    app = typer.Typer(
        name="modgap", add_completion=True, rich_markup_mode=None, invoke_without_command=True
    )
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    app.callback(invoke_without_command=True, context_settings=settings, help=_help(_root))(_root)
    for module in _COMMANDS:
        name = module.__name__.rpartition(".")[2]
        function = getattr(module, name)
        app.command(name, cls=_Command, help=_help(function))(function)
    for module in _GROUPS:
        app.add_typer(_group(module), name=module.__name__.rpartition(".")[2])
    return typer.main.get_command(app)
