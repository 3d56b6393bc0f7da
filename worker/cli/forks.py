"""`signalbox tasks restart`, `fork` and `compare`: tasks whose code or model is to be another one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import anyio

from worker.cli.common import (
    Commands,
    add_command,
    client,
    positive,
    print_json,
    print_table,
    read_json,
    read_text,
    with_json,
)
from worker.forks import Compared, Comparison, ForkChanges
from worker.models import LlmLimits

_OUTPUT_CHARS = 300  # of each output that a table shows


def add_to_tasks(verbs: Commands, task_help: str) -> None:
    """Add the verbs to those of `signalbox tasks`."""
    restart = add_command(
        verbs,
        "restart",
        "begin a task from scratch, on whatever version of its agent there is now",
        "Its steps are dropped. Signals that it has taken and tasks that it has submitted are not undone.",
    )
    restart.add_argument("task", metavar="TASK", help=task_help)
    with_json(restart, "print JSON")
    restart.set_defaults(run=lambda a: anyio.run(_restart, a))
    _add_fork(verbs, task_help)
    compare = add_command(
        verbs, "compare", "show two tasks side by side: cost, time, turns, tools, output, and where they part"
    )
    compare.add_argument("task", metavar="TASK", help=task_help)
    compare.add_argument("other", metavar="OTHER", help="the task to show beside it, such as a fork of it")
    with_json(compare)
    compare.set_defaults(run=lambda a: anyio.run(_compare, a))


def _add_fork(verbs: Commands, task_help: str) -> None:
    fork = add_command(
        verbs,
        "fork",
        "make a task that goes on from a step of another one, with something changed",
        "Its runs have no effects: only pure tools are called, recorded results stand in for the others, "
        "and the rest is refused; nothing is submitted, told or waited for.",
    )
    fork.add_argument("task", metavar="TASK", help=task_help)
    fork.add_argument("--at", metavar="STEP", help="the first step that is taken anew; default: all are")
    fork.add_argument(
        "--model", action="append", metavar="NAME", help="a model of its chain (again for the next of it)"
    )
    fork.add_argument("--prompt", metavar="TEXT", help="the agent's prompt, @FILE, or - for standard input")
    fork.add_argument("--temperature", type=float, metavar="N", help="of its models")
    fork.add_argument("--max-cost", type=positive, metavar="DOLLARS", help="no turn begins beyond it")
    fork.add_argument("--max-turns", type=int, metavar="N", help="answers of a model")
    fork.add_argument(
        "--input", metavar="JSON", help="its input: JSON, @FILE, or - for standard input; default: the task's"
    )
    fork.add_argument(
        "--new-version", action="store_true", help="on what there is of its agent, not what took its steps"
    )
    fork.add_argument(
        "--allow-effects", action="store_true", help="let it do to the outside what any task does"
    )
    with_json(fork, "print JSON")
    fork.set_defaults(run=lambda a: anyio.run(_fork, a))


async def _restart(arguments: argparse.Namespace) -> int:
    async with client() as control:
        status = await control.restart(arguments.task)
    if arguments.json:
        print_json({"task": arguments.task, "status": status})
    else:
        print("pending, once all of its steps are dropped" if status == "paused" else status)
    return 0


async def _fork(arguments: argparse.Namespace) -> int:
    change = change_of(arguments)
    text = None if arguments.input is None else read_json("--input", arguments.input)
    async with client() as control:
        forked = await control.fork(
            arguments.task,
            at=arguments.at,
            input=text,
            change=change,
            effects="allow" if arguments.allow_effects else "forbid",
            new_version=arguments.new_version,
        )
    if arguments.json:
        print_json({"task": forked.task})
    else:
        print(forked.task)
    return 0


def change_of(arguments: argparse.Namespace) -> ForkChanges | None:
    """Return what the options change; None when they change nothing."""
    dollars = arguments.max_cost
    limits = LlmLimits(
        max_turns=arguments.max_turns,
        max_cost_micros=None if dollars is None else round(dollars * 1_000_000),
    )
    change = ForkChanges(
        models=arguments.model,
        prompt=None if arguments.prompt is None else read_text(arguments.prompt),
        temperature=arguments.temperature,
        limits=None if limits == LlmLimits() else limits,
    )
    return None if change == ForkChanges() else change


async def _compare(arguments: argparse.Namespace) -> int:
    async with client() as control:
        found = await control.compare(arguments.task, arguments.other)
    if arguments.json:
        print_json(found.model_dump(by_alias=True))
        return 0
    print_table(list(rows(found)), ["", "first", "second"])
    return 0


def rows(found: Comparison) -> Iterator[dict[str, object]]:
    """Yield a comparison as the rows of a table."""
    sides = [dict(_fields(task)) for task in found.tasks]
    for name in sides[0]:
        yield {"": name, "first": sides[0][name], "second": sides[1][name]}
    yield {"": "parts at", "first": found.parts or "nowhere", "second": None}


def _fields(task: Compared) -> Iterator[tuple[str, object]]:
    more = " or more" if task.more else ""
    yield "task", task.task
    yield "status", task.status
    yield "fork of", task.fork_of and f"{task.fork_of.task} at {task.fork_of.at or 'its beginning'}"
    yield "effects", task.effects
    yield "cost", _dollars(task.usage.cost_micros)
    yield "tokens in", task.usage.input_tokens
    yield "tokens out", task.usage.output_tokens
    yield "model", task.usage.model
    yield "time", None if task.ms is None else f"{task.ms / 1000:.1f} s"
    yield "runs", task.runs
    yield "turns", f"{task.turns}{more}"
    yield "copied steps", task.replayed
    yield "tools", ", ".join(f"{each.tool} {each.calls}" for each in task.tools) or None
    yield "error", task.error and f"{task.error.code}: {task.error.message}"[:_OUTPUT_CHARS]
    yield "output", "(large)" if task.large_output else task.output and task.output[:_OUTPUT_CHARS]


def _dollars(micros: int | None) -> str | None:
    return None if micros is None else f"${micros / 1_000_000:.6f}"
