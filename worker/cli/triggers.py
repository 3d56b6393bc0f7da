"""`signalbox emit`, `signalbox triggers` and `signalbox webhooks`: what starts tasks from outside."""

from __future__ import annotations

import argparse
import json
from typing import Any, get_args

import anyio

from worker.cli import templates
from worker.cli.common import (
    Commands,
    add_command,
    client,
    print_json,
    print_table,
    read_json,
    top_command,
    with_json,
)
from worker.paging import pages
from worker.triggers import (
    Condition,
    EventTarget,
    TaskTarget,
    TriggerSpec,
    WebhookScheme,
    WebhookSpec,
)

_PAGE = 100  # in a call, as the control plane bounds it


def add_to(commands: Commands) -> None:
    """Add the commands."""
    emit = top_command(commands, "emit")
    emit.add_argument("name", metavar="EVENT", help="its name")
    emit.add_argument(
        "--data", default="null", metavar="JSON", help="JSON, @FILE, or - for standard input; default: null"
    )
    emit.add_argument("--id", metavar="ID", help="the same id within seven days does nothing")
    emit.add_argument("--tenant", metavar="NAME", help="whose event it is; default: default")
    with_json(emit, "print JSON")
    emit.set_defaults(run=lambda a: anyio.run(_emit, a))

    triggers = top_command(commands, "triggers")
    verbs = triggers.add_subparsers(dest="verb", metavar="VERB", required=True)
    setting = add_command(
        verbs, "set", "make or change a trigger", "Its task's input holds the event and what --input says."
    )
    setting.add_argument("name", metavar="NAME", help="what it is known by")
    setting.add_argument("event", metavar="EVENT", help="the name of the event")
    setting.add_argument("agent", metavar="AGENT", help="one that `signalbox agents list` shows")
    templates.add_to_event(setting)
    setting.add_argument(
        "--where",
        action="append",
        type=_condition,
        metavar="FIELD=JSON",
        help="only when this field of the data has this value (again for more)",
    )
    setting.set_defaults(run=lambda a: anyio.run(_set, a))
    listing = add_command(verbs, "list", "list triggers by name")
    listing.set_defaults(run=lambda a: anyio.run(_list, a))
    for verb, what in (
        ("pause", "let a trigger start nothing until it is resumed"),
        ("resume", "let a paused trigger go on"),
        ("remove", "remove a trigger; the tasks that it started stay"),
    ):
        change = add_command(verbs, verb, what)
        change.add_argument("name", metavar="NAME", help="as `signalbox triggers list` shows it")
        change.set_defaults(run=lambda a, verb=verb: anyio.run(_change, a, verb))
    for parser in verbs.choices.values():
        parser.add_argument("--tenant", metavar="NAME", help="whose it is; default: default")
        with_json(parser, "print JSON")

    webhooks = top_command(commands, "webhooks", "These commands need an operator key.")
    hooks = webhooks.add_subparsers(dest="verb", metavar="VERB", required=True)
    hook = add_command(
        hooks,
        "set",
        "make or change the webhook POST /webhooks/NAME",
        "Give --event or --agent: its calls emit that event, or submit a task for that agent.",
    )
    hook.add_argument("name", metavar="NAME", help="the end of its address")
    target = hook.add_mutually_exclusive_group(required=True)
    target.add_argument("--event", metavar="EVENT", help="emit this event")
    target.add_argument("--agent", metavar="AGENT", help="submit a task for this agent")
    templates.add_to_event(hook)
    hook.add_argument(
        "--scheme",
        choices=get_args(WebhookScheme),
        metavar="SCHEME",
        help="how calls are signed: standard (Standard Webhooks), github; default: standard",
    )
    hook.add_argument(
        "--secret",
        action="append",
        metavar="VARIABLE",
        help="a variable of the deployment with a secret (again for more); default: SIGNALBOX_WEBHOOK_SECRET",
    )
    hook.add_argument("--tenant", metavar="NAME", help="whose events or tasks they are; default: default")
    hook.set_defaults(run=lambda a: anyio.run(_set_webhook, a))
    hooked = add_command(hooks, "list", "list webhooks by name")
    hooked.set_defaults(run=lambda a: anyio.run(_list_webhooks, a))
    unhook = add_command(hooks, "remove", "remove a webhook")
    unhook.add_argument("name", metavar="NAME", help="as `signalbox webhooks list` shows it")
    unhook.set_defaults(run=lambda a: anyio.run(_remove_webhook, a))
    for parser in hooks.choices.values():
        with_json(parser, "print JSON")


def _condition(text: str) -> Condition:
    field, _, value = text.partition("=")
    try:
        equals = json.loads(value)
    except ValueError:
        equals = value
    if not field or isinstance(equals, dict | list) or "=" not in text:
        raise argparse.ArgumentTypeError(f'{text!r} is not as in kind=invoice, paid=false or n="1"')
    return Condition(field=field, equals=equals)


async def _emit(arguments: argparse.Namespace) -> int:
    data = await anyio.to_thread.run_sync(read_json, "--data", arguments.data)
    async with client() as control:
        emission = await control.emit(arguments.name, data, tenant=arguments.tenant, id=arguments.id)
    if arguments.json:
        print_json(emission.model_dump(by_alias=True))
        return int(bool(emission.refused))
    if emission.duplicate:
        begun = bool(emission.tasks or emission.refused)
        rest = "what was refused then is tried again" if begun else "nothing was started"
        print(f"this id has come before; {rest}")
    for task in emission.tasks:
        print(task)
    for refused in emission.refused:
        print(f"{refused.trigger}: refused: {refused.message}")
    if emission.woken:
        print(f"woken: {emission.woken}")
    return int(bool(emission.refused))


async def _set(arguments: argparse.Namespace) -> int:
    spec = TriggerSpec(
        name=arguments.name,
        tenant=arguments.tenant,
        event=arguments.event,
        template=await anyio.to_thread.run_sync(templates.event_template_of, arguments),
        filter=arguments.where,
    )
    async with client() as control:
        changed = await control.set_trigger(spec)
    return _said({"changed": changed}, _became(spec.name, changed), as_json=arguments.json)


async def _list(arguments: argparse.Namespace) -> int:
    async with client() as control:
        every = await pages(lambda at: control.triggers(tenant=arguments.tenant, limit=_PAGE, cursor=at))
    found = [view for page in every for view in page.triggers]
    if arguments.json:
        print_json([view.model_dump(by_alias=True) for view in found])
        return 0
    rows = [
        {
            "name": view.name,
            "event": view.event,
            "agent": view.template.agent or view.template.capability,
            "where": ", ".join(f"{c.field}={json.dumps(c.equals)}" for c in view.filter) or None,
            "state": "on" if view.enabled else "paused",
            "error": view.last_error.code if view.last_error else None,
        }
        for view in found
    ]
    print_table(rows, ["name", "event", "agent", "where", "state", "error"])
    return 0


async def _change(arguments: argparse.Namespace, verb: str) -> int:
    async with client() as control:
        if verb == "remove":
            removed = await control.remove_trigger(arguments.name, tenant=arguments.tenant)
            return _said({"removed": removed}, _gone(removed=removed), as_json=arguments.json)
        change = control.pause_trigger if verb == "pause" else control.resume_trigger
        view = await change(arguments.name, tenant=arguments.tenant)
    said = f"{view.name}: {'on' if view.enabled else 'paused'}"
    return _said(view.model_dump(by_alias=True), said, as_json=arguments.json)


async def _set_webhook(arguments: argparse.Namespace) -> int:
    spec = WebhookSpec(
        name=arguments.name,
        tenant=arguments.tenant,
        scheme=arguments.scheme,
        secret_variables=arguments.secret,
        target=EventTarget(event=arguments.event)
        if arguments.event is not None
        else TaskTarget(template=await anyio.to_thread.run_sync(templates.event_template_of, arguments)),
    )
    async with client() as control:
        changed = await control.set_webhook(spec)
    return _said({"changed": changed}, _became(spec.name, changed), as_json=arguments.json)


async def _list_webhooks(arguments: argparse.Namespace) -> int:
    async with client() as control:
        every = await pages(lambda at: control.webhooks(limit=_PAGE, cursor=at))
    found = [view for page in every for view in page.webhooks]
    if arguments.json:
        print_json([view.model_dump(by_alias=True) for view in found])
        return 0
    rows = [
        {
            "address": f"/webhooks/{view.name}",
            "tenant": view.tenant,
            "scheme": view.scheme,
            "does": f"emits {view.target.event}"
            if isinstance(view.target, EventTarget)
            else f"a task for {view.target.template.agent or view.target.template.capability}",
            "secrets": ", ".join(view.secret_variables),
        }
        for view in found
    ]
    print_table(rows, ["address", "tenant", "scheme", "does", "secrets"])
    return 0


async def _remove_webhook(arguments: argparse.Namespace) -> int:
    async with client() as control:
        removed = await control.remove_webhook(arguments.name)
    return _said({"removed": removed}, _gone(removed=removed), as_json=arguments.json)


def _became(name: str, changed: bool) -> str:
    return f"{name}: {'changed' if changed else 'as it was'}"


def _gone(*, removed: bool) -> str:
    return "removed" if removed else "there was none"


def _said(value: dict[str, Any], line: str, *, as_json: bool) -> int:
    if as_json:
        print_json(value)
    else:
        print(line)
    return 0
