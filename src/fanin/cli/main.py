"""The ``fanin`` command: its subcommands, and what becomes of errors.

Exit codes: 0; 2 for a mistake in what was given, with a message that says where; 1 for a fault of ours, with a
traceback; 130 after an interruption from the keyboard; 143 after a training was stopped by SIGTERM.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fanin.cli import (
    bench,
    compare,
    data,
    doctor,
    evaluate,
    index,
    inspection,
    plan,
    predict,
    recipes,
    results,
    resume,
    train,
)
from fanin.cli.output import literal, note, write_error, write_line
from fanin.errors import FaninError
from fanin.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

# Newer Typer carries its own click and older Typer imports it; this is the usage error of whichever is in use.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])
# Failures of the machine or its settings that the person at it can mend.
_MENDABLE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ENOTDIR", "EISDIR")
    if hasattr(errno, name)
}

app = typer.Typer(
    name="fanin",
    help="Train and use text classifiers with huge numbers of labels.",
    epilog="Exit codes: 0, 2 for a mistake in what was given, 1 for a fault of fanin, 130 when interrupted, "
    "143 when a training is stopped by SIGTERM.",
    add_completion=False,
    context_settings={"max_content_width": 120},
    rich_markup_mode=None,  # plain help: nothing in it is markup, and it starts faster
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("resume")(resume.resume)
app.command("plan")(plan.plan)
app.command("evaluate")(evaluate.evaluate)
app.command("index")(index.index)
app.command("predict")(predict.predict)
app.command("inspect")(inspection.inspect_model)
app.command("results")(results.compare_results)
app.command("compare")(compare.compare)
app.command("recipes")(recipes.show_recipes)
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")
app.command("doctor")(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        write_line(f"fanin {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point: run the command of this process's arguments and exit."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    warnings.showwarning = lambda message, *_: note(f"note: {message}")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line; every error becomes a message on standard error.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code.
    """
    try:
        code = _run(list(arguments))
        sys.stdout.flush()
        return code  # noqa: TRY300 - the flush above is part of the work
    except BrokenPipeError:  # the reader of our output has what it wanted
        _discard_output()
        return 0
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    except FaninError as error:
        write_error(error)
        return 2
    except OSError as error:
        return _explain(error)
    except Exception:
        return _confess()


def _run(arguments: list[str]) -> int:
    # Not command.main(), which would exit by itself and print usage errors in another form.
    command = typer.main.get_command(app)
    try:
        with command.make_context("fanin", arguments or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    except _UsageError as error:
        where = getattr(error, "ctx", None)
        path = "fanin" if where is None else where.command_path
        return _refuse(f"{error.format_message()} (see '{path} --help')")
    return 0


def _refuse(message: str) -> int:
    note(f"error: {message}")
    return 2


def _explain(error: OSError) -> int:
    if error.errno not in _MENDABLE:
        return _confess()
    _discard_output()
    what = "the output" if error.filename is None else str(error.filename)
    return _refuse(f"{what}: {error.strerror}; free some space, check the permissions, or name another place")


def _confess() -> int:
    for line in traceback.format_exc().splitlines():
        sys.stderr.write(literal(line) + "\n")
    note("this is a fault of fanin, not of your input: please report it with the lines above")
    return 1


def _discard_output() -> None:
    """Send what is still to be flushed nowhere, so that the interpreter can end without another error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
