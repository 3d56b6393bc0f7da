"""The command line: `signalbox COMMAND`. Each command is a module; this one turns errors into one line."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import worker
from worker.cli.commands import COMMANDS
from worker.errors import SignalboxError, UsageError
from worker.logs import Redactor

USAGE_ERROR = 2
FAILURE = 1


def parser(*names: str) -> argparse.ArgumentParser:
    """Return the parser of these commands and those that share a module with them; of none: of all."""
    top, commands = _empty()
    for module in dict.fromkeys(COMMANDS[name].module for name in names or COMMANDS):
        importlib.import_module(f"worker.cli.{module}").add_to(commands)
    return top


def listing() -> argparse.ArgumentParser:
    """Return a parser that knows what commands there are, and nothing more of them: it lists and refuses."""
    top, commands = _empty()
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.what)
    return top


def _empty() -> tuple[argparse.ArgumentParser, argparse._SubParsersAction[argparse.ArgumentParser]]:
    top = argparse.ArgumentParser(
        prog="signalbox",
        description="A control plane for LLM agents that lives in Convex, and the workers that do the work.",
        epilog="CONVEX_URL says where the deployment is and SIGNALBOX_KEY who calls; "
        "both may stand in .env, with all that .env.example lists.",
    )
    top.add_argument("--version", action=_Version, help="show program's version number and exit")
    return top, top.add_subparsers(dest="command", metavar="COMMAND", required=True)


class _Version(argparse.Action):
    """Says the version, which is looked up when it is asked for: that takes longer than all else here."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"signalbox {worker.__version__}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 for a failure, 2 for a usage error."""
    argv = sys.argv[1:] if argv is None else argv
    name = next((argument for argument in argv if not argument.startswith("-")), "")
    arguments = (parser(name) if name in COMMANDS else listing()).parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away, as `head` does; Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except (SignalboxError, OSError) as error:
        print(f"signalbox {arguments.command}: {Redactor().line(_told(error))}", file=sys.stderr)
        return USAGE_ERROR if isinstance(error, UsageError) else FAILURE
    except KeyboardInterrupt:
        return 130  # as a shell reports SIGINT
    return code


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
