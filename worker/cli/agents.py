"""`signalbox agents`: the registry of agents."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import anyio
from pydantic import ValidationError

from worker.cli.common import Commands, add_command, client, print_json, print_table, top_command, with_json
from worker.client import AgentSpec
from worker.errors import SettingsError


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = top_command(commands, "agents")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    sync = add_command(
        verbs,
        "sync",
        "add or change the agents that a JSON file describes",
        "Agents that the file does not name stay as they are. Needs an operator key.",
    )
    sync.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help='{"agents": [{"name": ..., "description": ..., "llm": {"prompt": ...}}]}',
    )
    listing = add_command(verbs, "list", "list the agents that tasks can name")
    for verb in (sync, listing):
        with_json(verb)
    sync.set_defaults(run=lambda a: anyio.run(_sync, a))
    listing.set_defaults(run=lambda a: anyio.run(_list, a))


def read_agents(file: Path) -> list[AgentSpec]:
    """Return the agents of a file.

    Raises:
        SettingsError: It is not JSON of the right shape; the message names the place.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["agents"]
        return [AgentSpec.model_validate(_with_defaults(agent)) for agent in found]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{file}: agents: {where}: {first['msg']}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f'{file} is not a JSON object with a list "agents": {error}') from None


def _with_defaults(agent: dict[str, Any]) -> dict[str, Any]:
    if "llm" in agent or agent.get("executor", {}).get("kind") != "http":
        llm = {"model": None, "temperature": None, "maxOutputTokens": None, **agent.get("llm", {})}
        if isinstance(llm.get("outputSchema"), dict):  # in a file it need not be text within text
            llm["outputSchema"] = json.dumps(llm["outputSchema"])
        agent = {**agent, "llm": llm}
    return {"description": "", **agent}


async def _sync(arguments: argparse.Namespace) -> int:
    agents = await anyio.to_thread.run_sync(read_agents, arguments.file)
    async with client() as control:
        changed = await control.sync_agents(agents)
    if arguments.json:
        print_json([{"name": name, "changed": flag} for name, flag in changed.items()])
    else:
        for name, flag in changed.items():
            print(f"{name}: {'changed' if flag else 'as it was'}")
    return 0


async def _list(arguments: argparse.Namespace) -> int:
    async with client() as control:
        agents = await control.agents()
    if arguments.json:
        print_json([agent.model_dump(by_alias=True) for agent in agents])
    else:
        rows = [
            {
                "name": agent.name,
                "kind": agent.kind,
                "model": (agent.llm and (agent.llm.model or ", ".join(agent.llm.models or ()))) or None,
                "description": agent.description,
            }
            for agent in agents
        ]
        print_table(rows, ["name", "kind", "model", "description"])
    return 0
