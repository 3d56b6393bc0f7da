"""`signalbox host`: the embedded host alone."""

from __future__ import annotations

import argparse
import os

from worker.cli import host_aids
from worker.cli.common import Commands, top_command
from worker.local import HOST, node_command, node_env


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = top_command(
        commands, "host", "Prints one line of JSON when it is ready; SIGTERM and Ctrl-C stop it."
    )
    parser.add_argument(
        "--functions",
        metavar="DIR",
        help="the functions; default: what npx convex pushed to this data, else ./convex, "
        "else none until a push",
    )
    parser.add_argument(
        "--no-watch", action="store_true", help="do not serve the functions anew when they change"
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        default="./.signalbox/host",
        help="where the data is kept; default: %(default)s",
    )
    parser.add_argument(
        "--port",
        metavar="N",
        default="3210",
        help="of the API and WebSocket; 0 takes a free one; default: %(default)s",
    )
    parser.add_argument(
        "--site-port",
        metavar="N",
        default="3211",
        help="of HTTP actions; 0 takes a free one; default: %(default)s",
    )
    parser.add_argument(
        "--host", metavar="ADDRESS", default="127.0.0.1", help="address to listen on; default: %(default)s"
    )
    parser.add_argument(
        "--admin-key",
        metavar="KEY",
        help="default: a development key, which is refused on any address but loopback",
    )
    parser.add_argument(
        "--synchronous",
        choices=("full", "normal"),
        default="full",
        help="full: an answered write survives a power cut; normal: it survives a crash of the process; "
        "default: %(default)s",
    )
    host_aids.add_flags(parser)
    parser.add_argument(
        "--strict",
        action="store_true",
        help="evaluate the modules anew for every call, as Convex may: no state of theirs survives",
    )
    parser.set_defaults(run=run)
    host_aids.add_to(parser.add_subparsers(dest="verb", metavar="VERB"))


def run(arguments: argparse.Namespace) -> int:
    """Become the host's process, so that its signals and exit code are the command's."""
    options = ["data", "port", "site_port", "host", "synchronous", "clock", "conflicts", "faults"]
    flags = [part for name in options for part in (f"--{name.replace('_', '-')}", getattr(arguments, name))]
    if arguments.functions is not None:
        flags += ["--functions", arguments.functions]
    if arguments.no_watch:
        flags.append("--no-watch")
    if arguments.record:
        flags.append("--record")
    if arguments.strict:
        flags.append("--strict")
    if arguments.admin_key is not None:
        flags += ["--admin-key", arguments.admin_key]
    command = node_command(HOST, flags)
    os.execve(command[0], command, node_env())
