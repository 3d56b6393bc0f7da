"""`signalbox endpoints`: the addresses that the control plane may call."""

from __future__ import annotations

import argparse

import anyio

from worker.cli.common import Commands, add_command, client, print_json, print_table, top_command, with_json
from worker.endpoints import EndpointSpec


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = top_command(
        commands, "endpoints", "Needs an operator key. docs/pushing.md says what an endpoint does."
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    put = add_command(verbs, "set", "add an endpoint, or change it")
    put.add_argument("name", metavar="NAME", help="what agents call it by")
    put.add_argument("url", metavar="URL", help="where it is: https://...")
    put.add_argument(
        "--secret",
        required=True,
        metavar="VARIABLE",
        help="the deployment's variable, SIGNALBOX_..., that holds the secret (whsec_...) of its signatures",
    )
    put.add_argument(
        "--mode",
        choices=("push", "wake"),
        default="push",
        help="push: it is given runs; wake: it is called when work waits that no worker can take",
    )
    put.add_argument("--health-url", metavar="URL", help="what is asked how it does; default: its URL")
    put.add_argument(
        "--queue",
        action="append",
        metavar="NAME",
        help="it serves this queue (again for more); default: the queue named default",
    )
    put.add_argument(
        "--label", action="append", metavar="NAME", help="it carries this label (again for more)"
    )
    put.add_argument("--disabled", action="store_true", help="keep it on the list and call it no more")
    listing = add_command(verbs, "list", "list the endpoints and how they do")
    remove = add_command(verbs, "remove", "take an endpoint off the list; what it holds is released")
    remove.add_argument("name", metavar="NAME", help="as `signalbox endpoints list` shows it")
    for verb in (put, listing, remove):
        with_json(verb)
    put.set_defaults(run=lambda a: anyio.run(_set, a))
    listing.set_defaults(run=lambda a: anyio.run(_list, a))
    remove.set_defaults(run=lambda a: anyio.run(_remove, a))


async def _set(arguments: argparse.Namespace) -> int:
    spec = EndpointSpec(
        name=arguments.name,
        url=arguments.url,
        health_url=arguments.health_url,
        mode=arguments.mode,
        queues=arguments.queue,
        labels=arguments.label,
        secret_variable=arguments.secret,
        enabled=not arguments.disabled,
    )
    async with client() as control:
        changed = await control.set_endpoint(spec)
    if arguments.json:
        print_json({"name": spec.name, "changed": changed})
    else:
        print(f"{spec.name}: {'changed' if changed else 'as it was'}")
    return 0


async def _list(arguments: argparse.Namespace) -> int:
    async with client() as control:
        found = await control.endpoints()
    if arguments.json:
        print_json([endpoint.model_dump(by_alias=True) for endpoint in found])
        return 0
    rows = [
        {
            "name": endpoint.name,
            "mode": endpoint.mode,
            "state": _state(endpoint.mode, endpoint.enabled, endpoint.live),
            "misses": endpoint.misses,
            "queues": ",".join(endpoint.queues),
            "url": endpoint.url,
            "error": endpoint.error,
        }
        for endpoint in found
    ]
    print_table(rows, ["name", "mode", "state", "misses", "queues", "url", "error"])
    return 0


def _state(mode: str, enabled: bool, live: bool) -> str:
    if not enabled:
        return "disabled"
    if mode == "wake":
        return "ready"
    return "live" if live else "down or without agents"


async def _remove(arguments: argparse.Namespace) -> int:
    async with client() as control:
        await control.remove_endpoint(arguments.name)
    if arguments.json:
        print_json({"name": arguments.name, "removed": True})
    else:
        print(f"removed {arguments.name}")
    return 0
