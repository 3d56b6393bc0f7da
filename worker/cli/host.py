"""`signalbox host`: the embedded host alone."""

from __future__ import annotations

import argparse
import os

from worker.cli.common import Commands
from worker.local import HOST, node_command


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("host", help="serve a Convex functions folder from a file on this machine")
    parser.add_argument("--functions", metavar="DIR", default="./convex", help="default: ./convex")
    parser.add_argument(
        "--data", metavar="DIR", default="./.signalbox/host", help="default: ./.signalbox/host"
    )
    parser.add_argument("--port", metavar="N", default="3210", help="API and WebSocket; 0 takes a free one")
    parser.add_argument("--site-port", metavar="N", default="3211", help="HTTP actions; 0 takes a free one")
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--admin-key", metavar="KEY", help="default: a development key, on this machine only")
    parser.add_argument(
        "--synchronous",
        choices=("full", "normal"),
        default="full",
        help="full: an answered write survives a power cut; normal: it survives a crash of the process",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Become the host's process, so that its signals and exit code are the command's."""
    options = ["functions", "data", "port", "site_port", "host", "synchronous"]
    flags = [part for name in options for part in (f"--{name.replace('_', '-')}", getattr(arguments, name))]
    if arguments.admin_key is not None:
        flags += ["--admin-key", arguments.admin_key]
    command = node_command(HOST, flags)
    os.execv(command[0], command)
