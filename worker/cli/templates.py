"""The task that a schedule, a trigger or a webhook submits, as the options of their commands."""

from __future__ import annotations

import argparse

from worker.cli import budgets, collecting
from worker.cli.common import ms, number, positive, read_json
from worker.models import RetryPolicy
from worker.schedules import Template
from worker.triggers import EventTemplate


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options of the task that is submitted; its agent is the command's own affair."""
    parser.add_argument(
        "--input", default="null", metavar="JSON", help="JSON, @FILE, or - for standard input; default: null"
    )
    parser.add_argument("--queue", metavar="NAME", help="whose workers do it; default: default")
    parser.add_argument("--priority", type=number, metavar="N", help="higher goes first; default: 0")
    parser.add_argument(
        "--timeout", type=positive, metavar="SECONDS", help="for each attempt; default: the agent's"
    )
    parser.add_argument(
        "--start-within", type=positive, metavar="SECONDS", help="else the task fails, counted from its time"
    )
    parser.add_argument(
        "--end-within", type=positive, metavar="SECONDS", help="over all attempts; else the task fails"
    )
    parser.add_argument(
        "--label", action="append", metavar="NAME", help="only on a worker that carries it (again for more)"
    )
    parser.add_argument("--key", metavar="KEY", help="count its tasks against the limits of this key")
    parser.add_argument("--max-attempts", type=int, metavar="N", help="default: the agent's, else 3")
    budgets.add_to_submit(parser)


def add_to_event(parser: argparse.ArgumentParser) -> None:
    """Add the options of a task that events or calls submit: those, and what lets them share it."""
    add_to(parser)
    collecting.add_to(parser)


def event_template_of(arguments: argparse.Namespace) -> EventTemplate:
    """Return the template that the options of `add_to_event` describe.

    Raises:
        UsageError: The input is not JSON, or --debounce or --batch is given wrong.
    """
    plain = template_of(arguments)
    return EventTemplate(
        **dict(plain), debounce=collecting.debounce_of(arguments), batch=collecting.batch_of(arguments)
    )


def template_of(arguments: argparse.Namespace) -> Template:
    """Return the template that the options describe.

    Raises:
        UsageError: The input is not JSON.
    """
    attempts = arguments.max_attempts
    return Template(
        agent=arguments.agent,
        input=read_json("--input", arguments.input),
        queue=arguments.queue,
        priority=arguments.priority,
        timeout_ms=ms(arguments.timeout),
        retry=None if attempts is None else RetryPolicy(max_attempts=attempts),
        start_within_ms=ms(arguments.start_within),
        end_within_ms=ms(arguments.end_within),
        labels=arguments.label,
        key=arguments.key,
        stack=arguments.stack,
        budget=budgets.of_task(arguments),
    )
