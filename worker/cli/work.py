"""`signalbox worker`: take runs and do them."""

from __future__ import annotations

import argparse
import sys

import anyio

from worker.cli.common import Commands
from worker.logs import setup_logging
from worker.service import run_worker
from worker.settings import Settings


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("worker", help="take runs and do them")
    parser.add_argument("--name", help="default: SIGNALBOX_WORKER, else this host's name and a random suffix")
    parser.add_argument(
        "--queue", action="append", help="serve this queue (again for more); default: default"
    )
    parser.add_argument("--concurrency", type=int, metavar="N", help="runs at once; default: 50")
    parser.add_argument(
        "--agents", action="append", metavar="MODULE", help="a Python module with agents (again for more)"
    )
    parser.add_argument(
        "--grace", type=float, metavar="SECONDS", help="for running work after SIGTERM; default: 30"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Work until SIGTERM or SIGINT."""
    settings = Settings.from_env(
        worker=arguments.name,
        queues=arguments.queue,
        concurrency=arguments.concurrency,
        agents=arguments.agents,
        grace_s=arguments.grace,
    )
    sys.path.insert(0, "")  # modules named on the command line are found in the working folder
    setup_logging(settings)
    return anyio.run(run_worker, settings)
