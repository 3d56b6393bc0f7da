"""The commands there are, each with its module: only that of the one that is typed is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Command(NamedTuple):
    """A command: the module beside this one that adds it, and its line in the list."""

    module: str
    what: str


COMMANDS: Mapping[str, Command] = {
    "host": Command("host", "serve a Convex functions folder from a file on this machine"),
    "worker": Command("work", "take runs and do them, until SIGTERM or Ctrl-C"),
    "serve": Command(
        "serve", "be an endpoint to which runs are pushed, or which is woken to work, until SIGTERM or Ctrl-C"
    ),
    "submit": Command("tasks", "submit a task and print its id; with --follow, wait for its end"),
    "tail": Command("tasks", "print a task's text as it comes, then its output"),
    "tasks": Command("tasks", "list, show, cancel, pause and retry tasks"),
    "groups": Command("structure", "list, show, seal and cancel groups of tasks"),
    "schedules": Command("schedules", "submit tasks at times: cron, interval, once"),
    "emit": Command("triggers", "tell of an event, which starts the tasks of its triggers"),
    "triggers": Command("triggers", "start tasks when events come"),
    "webhooks": Command("triggers", "take signed calls from outside"),
    "archive": Command("upkeep", "write what has ended to a file, a line of JSON for each task"),
    "stats": Command("upkeep", "show what happened in each minute"),
    "limits": Command("limits", "list, set and remove limits, rates and weights"),
    "pause": Command("limits", "start nothing of a scope, or of the system"),
    "resume": Command("limits", "let a paused scope, or the system, go on"),
    "approvals": Command("approvals", "list what tasks ask of people, and decide it"),
    "budgets": Command("budgets", "set and show budgets in money, tokens, calls and time"),
    "agents": Command("agents", "list agents; add or change those that a model plays"),
    "endpoints": Command(
        "endpoints", "list, add and remove the addresses to which runs are pushed or wake-up calls go"
    ),
    "keys": Command("keys", "make, list and revoke keys"),
    "models": Command("models", "list the providers and models that the worker knows, and their prices"),
    "model-limits": Command("model_limits", "show how models do; limit what is asked of them"),
    "model": Command("model", "serve scripted (simulated) model answers, for trials without a provider"),
}
