"""`signalbox model`: the scripted model server, which stands in for a provider and says so."""

from __future__ import annotations

import argparse
import os

from worker.cli.common import Commands, top_command
from worker.local import MODEL, node_command


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = top_command(
        commands,
        "model",
        "Prints one line of JSON when it is ready: name its baseUrl as SIGNALBOX_MODEL_BASE_URL and "
        "scripted-writer as SIGNALBOX_MODEL.",
    )
    parser.add_argument(
        "--port", metavar="N", default="3230", help="0 takes a free one; default: %(default)s"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Become the server's process."""
    command = node_command(MODEL, ["--port", arguments.port])
    os.execv(command[0], command)
