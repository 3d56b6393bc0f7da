"""`signalbox keys`: make, list and revoke keys, with the deployment's admin key."""

from __future__ import annotations

import argparse
import hashlib
import re
import secrets
import time
from typing import Any

import anyio

from worker.cli.common import (
    Commands,
    add_command,
    admin_backend,
    positive,
    print_json,
    print_table,
    top_command,
    with_json,
)
from worker.client import Admin
from worker.errors import SettingsError

_ID = re.compile(r"[0-9a-z]{31,37}")  # as Convex writes the ids of documents
PREFIX = {"worker": "sbw_", "viewer": "sbv_", "submit": "sbs_", "operator": "sbo_"}


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = top_command(commands, "keys", "Needs the deployment's admin key, and no other key.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    create = add_command(verbs, "create", "make a key and print it; it is shown only now")
    create.add_argument(
        "--role",
        required=True,
        choices=sorted(PREFIX),
        help="worker: take and report runs; viewer: look at everything and change nothing; "
        "submit: submit tasks and look at them; operator: that, and change agents",
    )
    create.add_argument("--label", default="", help="who holds it; default: its role")
    create.add_argument(
        "--queue",
        action="append",
        default=[],
        metavar="NAME",
        help="serve and see this queue alone (again for more, at most 50); default: all",
    )
    create.add_argument(
        "--days", type=positive, metavar="N", help="it expires after so many days; default: never"
    )
    listing = add_command(verbs, "list", "list keys, newest first")
    revoke = add_command(verbs, "revoke", "end a key")
    revoke.add_argument("key", metavar="ID", help="as `signalbox keys list` shows it")
    for verb in (create, listing, revoke):
        verb.add_argument("--url", help="the deployment; default: CONVEX_URL")
        verb.add_argument(
            "--admin-key",
            metavar="KEY",
            help="default: CONVEX_ADMIN_KEY, or on loopback the key of a host that was given none",
        )
        with_json(verb)
    create.set_defaults(run=lambda a: anyio.run(_create, a))
    listing.set_defaults(run=lambda a: anyio.run(_list, a))
    revoke.set_defaults(run=lambda a: anyio.run(_revoke, a))


def new_key(role: str) -> tuple[str, str]:
    """Return a new key and its SHA-256; only the latter is stored."""
    key = PREFIX[role] + secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()


async def _create(arguments: argparse.Namespace) -> int:
    key, digest = new_key(arguments.role)
    expires_at_ms = None if arguments.days is None else (time.time() + arguments.days * 86_400) * 1000
    async with admin_backend(arguments.url, arguments.admin_key) as backend:
        identifier = await Admin(backend).create_key(
            digest=digest,
            role=arguments.role,
            label=arguments.label or arguments.role,
            queues=arguments.queue,
            expires_at_ms=expires_at_ms,
        )
    if arguments.json:
        print_json({"id": identifier, "key": key, "role": arguments.role})
    else:
        print(key)
    return 0


async def _list(arguments: argparse.Namespace) -> int:
    async with admin_backend(arguments.url, arguments.admin_key) as backend:
        keys = await Admin(backend).keys()
    if arguments.json:
        print_json(keys)
        return 0
    now_ms = time.time() * 1000
    rows = [
        {
            "id": key["key"],
            "role": key["role"],
            "label": key["label"],
            "queues": "all" if key["queues"] is None else ",".join(key["queues"]),
            "state": _state(key, now_ms),
        }
        for key in keys
    ]
    print_table(rows, ["id", "role", "label", "queues", "state"])
    return 0


def _state(key: dict[str, Any], now_ms: float) -> str:
    if key["revokedAt"] is not None:
        return "revoked"
    return "expired" if key["expiresAt"] is not None and key["expiresAt"] <= now_ms else "active"


async def _revoke(arguments: argparse.Namespace) -> int:
    if not _ID.fullmatch(arguments.key):
        raise SettingsError("That is not a key's id: `signalbox keys list` shows them")
    async with admin_backend(arguments.url, arguments.admin_key) as backend:
        await Admin(backend).revoke_key(arguments.key)
    if arguments.json:
        print_json({"id": arguments.key, "revoked": True})
    else:
        print(f"revoked {arguments.key}")
    return 0
