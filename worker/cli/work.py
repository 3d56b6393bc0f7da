"""`signalbox worker`: take runs and do them."""

from __future__ import annotations

import argparse
import sys

import anyio

from worker.cli.common import Commands, top_command
from worker.logs import setup_logging
from worker.service import run_worker
from worker.settings import Settings


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = top_command(
        commands, "worker", "Options win over the environment, and the environment over .env."
    )
    parser.add_argument("--name", help="default: SIGNALBOX_WORKER, else this host's name and a random suffix")
    parser.add_argument(
        "--queue",
        action="append",
        help="serve this queue (again for more); default: SIGNALBOX_QUEUES, else the queue named default",
    )
    parser.add_argument(
        "--label",
        action="append",
        metavar="NAME",
        help="carry this label (again for more), which tasks can ask for; default: SIGNALBOX_LABELS",
    )
    parser.add_argument(
        "--concurrency", type=int, metavar="N", help="runs at once; default: SIGNALBOX_CONCURRENCY, else 50"
    )
    parser.add_argument(
        "--agents",
        action="append",
        metavar="MODULE",
        help="a Python module with agents (again for more), found from the working folder; "
        "default: SIGNALBOX_AGENTS",
    )
    parser.add_argument(
        "--grace",
        type=float,
        metavar="SECONDS",
        help="what running work gets after SIGTERM; default: SIGNALBOX_GRACE_S, else 30",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Work until SIGTERM or SIGINT."""
    settings = Settings.from_env(
        worker=arguments.name,
        queues=arguments.queue,
        labels=arguments.label,
        concurrency=arguments.concurrency,
        agents=arguments.agents,
        grace_s=arguments.grace,
    )
    sys.path.insert(0, "")  # modules named on the command line are found in the working folder
    setup_logging(settings)
    return anyio.run(run_worker, settings)
