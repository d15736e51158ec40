"""`fyc`: reads the command line, runs a command, and turns every outcome into output and an exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer

from fyc.cli import artifact, asl, assets, convert, doctor, evaluate, passes, plan, recipes
from fyc.cli.group import PluginGroup
from fyc.errors import FycError, resource_error

app = typer.Typer(
    name="fyc",
    cls=PluginGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`fyc COMMAND --help` says more. Exit codes and error codes: docs/errors.md.",
)
for module in (convert, evaluate, artifact, recipes, passes, plan, asl, assets, doctor):
    module.add_to(app)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"fyc {version('fyc')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. May stand anywhere on the line.")
    ] = False,
) -> None:
    """Convert Hugging Face models through torch.fx graphs."""
    del version, debug


@dataclass(frozen=True)
class Invocation:
    """What `main` itself must know of a command line, also when the rest of it cannot be parsed."""

    arguments: Sequence[str]
    debug: bool
    json: bool

    @classmethod
    def of(cls, argv: Sequence[str]) -> Invocation:
        """Take `--debug` out of the arguments, wherever it stands before `--`."""
        end = argv.index("--") if "--" in argv else len(argv)
        options = argv[:end]
        arguments = [argument for argument in options if argument != "--debug"]
        return cls([*arguments, *argv[end:]], "--debug" in options, "--json" in options)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the `fyc` script; leaves with the exit codes of `fyc.errors`."""
    invocation = Invocation.of(list(sys.argv[1:] if argv is None else argv))
    sys.exit(_run(typer.main.get_command(app), invocation))


def _run(command: Any, invocation: Invocation) -> int:
    """Run a command and give its exit code."""
    arguments = list(invocation.arguments)
    try:
        result = command.main(arguments, prog_name="fyc", standalone_mode=False, obj=list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of stdout went away, as in `fyc recipes schema | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        result = 130
    except Exception as error:
        return _report(error, invocation)
    if result == 130:  # what typer makes of Ctrl-C
        sys.stderr.write("interrupted\n")
    return result if isinstance(result, int) else 0


def _report(error: Exception, invocation: Invocation) -> int:
    if isinstance(error, FycError):
        return _fail(error, invocation)
    if hasattr(error, "format_message"):
        return _usage(error, invocation)
    short = resource_error(error)
    if short is not None:
        short.__cause__ = error
        return _fail(short, invocation)
    return _unforeseen(error, invocation)


def _fail(error: FycError, invocation: Invocation) -> int:
    from fyc.ui.console import print_error

    if invocation.debug:
        _print_traceback(error)
    print_error(error)
    if invocation.json:
        typer.echo(json.dumps({"error": error.as_dict()}))
    return error.exit_code


def _usage(error: Exception, invocation: Invocation) -> int:
    """An error of the command line itself, found by typer: it prints the usage line and the message."""
    error.show()  # type: ignore[attr-defined]
    code: int = getattr(error, "exit_code", 2)
    if invocation.json and code:
        what = error.format_message()  # type: ignore[attr-defined]
        typer.echo(json.dumps({"error": FycError("FYC-R09", what, next="see `fyc --help`").as_dict()}))
    return code


def _unforeseen(error: Exception, invocation: Invocation) -> int:
    from fyc.errors import InternalError
    from fyc.ui.console import write_traceback

    wrapped = InternalError(
        "FYC-X99",
        f"an error nobody foresaw: {type(error).__name__}: {error}",
        where=f"the traceback is in {write_traceback(error)}",
        next="please report it with that file; --debug shows the traceback here",
    )
    wrapped.__cause__ = error
    return _fail(wrapped, invocation)


def _print_traceback(error: BaseException) -> None:
    import traceback

    sys.stderr.write("".join(traceback.format_exception(error)))
