"""The command line: `signalbox COMMAND`. Each command is a module; this one turns errors into one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from worker import __version__
from worker.cli import (
    agents,
    approvals,
    budgets,
    endpoints,
    host,
    keys,
    limits,
    model,
    model_limits,
    models,
    schedules,
    serve,
    structure,
    tasks,
    triggers,
    upkeep,
    work,
)
from worker.errors import SignalboxError
from worker.logs import Redactor

USAGE_ERROR = 2
FAILURE = 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="signalbox",
        description="A control plane for LLM agents that lives in Convex, and the workers that do the work.",
        epilog="CONVEX_URL says where the deployment is and SIGNALBOX_KEY who calls; "
        "both may stand in .env, with all that .env.example lists.",
    )
    top.add_argument("--version", action="version", version=f"signalbox {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (
        host,
        work,
        serve,
        tasks,
        structure,
        schedules,
        triggers,
        upkeep,
        limits,
        approvals,
        budgets,
        agents,
        endpoints,
        keys,
        models,
        model_limits,
        model,
    ):
        module.add_to(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 for a failure, 2 for a usage error."""
    arguments = parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away, as `head` does; Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except (SignalboxError, OSError) as error:
        print(f"signalbox {arguments.command}: {Redactor().line(_told(error))}", file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt:
        return 130  # as a shell reports SIGINT
    return code


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
