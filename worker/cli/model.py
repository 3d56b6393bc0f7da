"""`signalbox model`: the scripted model server, which stands in for a provider and says so."""

from __future__ import annotations

import argparse
import os

from worker.cli.common import Commands
from worker.local import MODEL, node_command


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "model", help="serve scripted (simulated) model answers, for trials without a key"
    )
    parser.add_argument("--port", metavar="N", default="3220", help="default: 3220; 0 takes a free one")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Become the server's process."""
    command = node_command(MODEL, ["--port", arguments.port])
    os.execv(command[0], command)
