"""`signalbox serve`: be an endpoint that is given runs, or is woken."""

from __future__ import annotations

import argparse
import signal
import sys

import anyio

from worker.cli.common import Commands, print_json, top_command
from worker.http.server import listen, serve
from worker.logs import setup_logging
from worker.serve import Endpoint, ServeSettings


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = top_command(
        commands,
        "serve",
        "It speaks plain HTTP: put what ends TLS before it. As an ASGI application: worker.serve:app.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: 127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="default: 8000; 0 takes a free one"
    )
    parser.add_argument(
        "--agents",
        action="append",
        metavar="MODULE",
        help="a Python module with agents (again for more), found from the working folder; "
        "default: SIGNALBOX_AGENTS",
    )
    parser.add_argument(
        "--concurrency", type=int, metavar="N", help="runs at once; default: SIGNALBOX_CONCURRENCY, else 50"
    )
    parser.add_argument(
        "--hold",
        type=float,
        metavar="SECONDS",
        dest="hold_s",
        help="how long a request waits for its run before the result follows by a callback; "
        "default: SIGNALBOX_SERVE_HOLD_S, else 10",
    )
    parser.add_argument(
        "--grace",
        type=float,
        metavar="SECONDS",
        help="what running work gets after SIGTERM; default: SIGNALBOX_GRACE_S, else 30",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    settings = ServeSettings.from_env(
        agents=None if arguments.agents is None else tuple(arguments.agents),
        concurrency=arguments.concurrency,
        hold_s=arguments.hold_s,
        grace_s=arguments.grace,
    )
    sys.path.insert(0, "")  # modules named on the command line are found in the working folder
    setup_logging(settings)
    return anyio.run(_serve, settings, arguments.host, arguments.port)


async def _serve(settings: ServeSettings, host: str, port: int) -> int:
    endpoint = Endpoint(settings)
    await endpoint.start()
    listener, port = await listen(host, port)
    async with anyio.create_task_group() as tasks:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            tasks.start_soon(serve, endpoint, listener)
            print_json({"url": f"http://{host}:{port}/"})
            async for _ in received:
                break
            await endpoint.stop()
        tasks.cancel_scope.cancel()
    return 0
