"""Forks on a real host with a real worker and models over sockets: what is replayed, refused and compared."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.charging_tools import FOLDER, happened
from tests.command_line import call, refused
from tests.deployment import REPOSITORY, Deployment, deployed
from tests.model_server import Exchange, serving
from worker.forks import ForkChanges

pytestmark = pytest.mark.timeout(120)

FORKS = int(os.environ.get("SIGNALBOX_TEST_FORKS", "10"))  # 1,000 in the long form
GUIDE = (REPOSITORY / "docs" / "agents.md").read_text(encoding="utf-8")
BETTER = "groq/llama-3.3-70b-versatile"  # what the guide forks with
TABLE = """
[providers.{name}]
base_url = "{url}"
dialect = "openai-chat"
key_optional = true
[models."{model}"]
input_per_mtok = {price}
output_per_mtok = {price}
"""

Turn = list[tuple[str, dict[str, Any]]] | str  # calls of tools, or the last words
Play = Callable[[dict[str, Any]], Turn]


class Provider:
    """Answers as `play` says, and keeps what it was asked; a turn takes 100 tokens and gives 10."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.asked: list[dict[str, Any]] = []

    async def handle(self, exchange: Exchange) -> None:
        body = json.loads(exchange.body)
        self.asked.append(body)
        turn = self.play(body)
        calls = [] if isinstance(turn, str) else turn
        delta: dict[str, Any] = {"role": "assistant", "content": turn if isinstance(turn, str) else None}
        delta["tool_calls"] = [
            {"index": n, "id": f"call_{n}", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for n, (name, arguments) in enumerate(calls)
        ]
        end = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}
        await exchange.start()
        for event in (
            {"choices": [{"index": 0, "delta": delta}]},
            {"choices": [end]},
            {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10}},
        ):
            await exchange.send(b"data: " + json.dumps(event).encode() + b"\n\n")
        await exchange.send(b"data: [DONE]\n\n")
        await exchange.end()


def turns_of(body: dict[str, Any]) -> int:
    """Return the number of the turn that is asked for."""
    return 1 + len([message for message in body["messages"] if message["role"] == "assistant"])


def results(body: dict[str, Any]) -> list[str]:
    """Return what the model was told of its calls so far."""
    return [message["content"] for message in body["messages"] if message["role"] == "tool"]


def charges(*what: str) -> Turn:
    return [("charge", {"what": each}) for each in what]


@asynccontextmanager
async def at_work(folder: Path, provider: Provider) -> AsyncIterator[Deployment]:
    """Yield a deployment with a worker and an agent of the registry, whose model costs a dollar a million."""
    await anyio.Path(folder).mkdir()
    async with deployed(folder.parent, synchronous="normal") as at, serving(provider.handle) as server:
        table = folder / "models.toml"
        table.write_text(
            TABLE.format(name="house", url=server.base_url, model="house/plain", price="1.0")
            + TABLE.format(name="groq", url=server.base_url, model=BETTER, price="10.0")
        )
        settings = {"SIGNALBOX_MODELS": str(table), FOLDER: str(folder)}
        at.worker("w", "--agents", "tests.charging_tools", "--concurrency", "20", **settings)
        await describe(at, folder, "Be plain.")
        await at.know("clerk", "noop")
        yield at


async def describe(at: Deployment, folder: Path, prompt: str) -> None:
    file = folder / "agents.json"
    llm = {"models": ["house/plain"], "prompt": prompt, "tools": ["glance", "charge"]}
    file.write_text(json.dumps({"agents": [{"name": "clerk", "description": "", "llm": llm}]}))
    assert (await call(at, "agents", "sync", str(file))).code == 0


async def typed(at: Deployment, line: str, **names: str) -> str:
    """Type a line of the guide, with ids and files in place of some words, and return what it prints."""
    words = [names.get(word, word) for word in shlex.split(line)]
    ran = await call(at, *words[1:], role="submit")
    assert ran.code == 0, ran
    return ran.out


def guided(start: str) -> str:
    """Return the one command of the guide that begins so."""
    found: list[str] = re.findall(rf"`(signalbox {re.escape(start)}[^`]*)`", GUIDE)
    assert len(set(found)) == 1, found
    return found[0]


ORIGINAL: list[Turn] = [
    [("glance", {"at": "x"}), *charges("a")],
    charges("b"),
    charges("c"),
    "three are charged",
]


def clerk(body: dict[str, Any]) -> Turn:
    """Play the original; with the better model, charge once more for c, and for what was never charged."""
    turn = turns_of(body)
    if body["model"] == "plain" or turn < 3:
        return ORIGINAL[turn - 1]
    return [*charges("c", "d"), ("glance", {"at": "y"})] if turn == 3 else "better"


async def test_a_finished_run_is_forked_with_another_model_and_prompt_and_compared(tmp_path: Path) -> None:
    provider = Provider(clerk)
    folder = tmp_path / "outside"
    async with at_work(folder, provider) as at:
        origin = await at.submit("clerk", "go")
        (first,) = await at.ended([origin])
        assert (first.status, first.output and json.loads(first.output)["text"]) == (
            *("succeeded", "three are charged"),
        ), at.logs()
        before = ["looked at x", "charged a", "charged b", "charged c"]
        assert happened(folder) == before
        assert [turns_of(body) for body in provider.asked] == [1, 2, 3, 4]

        (folder / "better.txt").write_text("Be better.")
        line = guided("tasks fork TASK --at turn#3 --model")
        made = await typed(at, line, TASK=origin, **{"@better.txt": f"@{folder}/better.txt"})
        (fork,) = await at.ended([made.strip()])
        assert (fork.status, fork.output and json.loads(fork.output)["text"]) == ("succeeded", "better")
        seen = provider.asked[4:]
        assert [(body["model"], turns_of(body)) for body in seen] == [
            (BETTER.partition("/")[2], 3),
            (BETTER.partition("/")[2], 4),
        ], "the turns before the fork point are the original's"
        assert {body["messages"][0]["content"] for body in seen} == {"Be better."}
        kept = ["looked at x, number 1", "charged a, number 2", "charged b, number 3"]
        assert results(seen[0]) == kept
        again, never, looked = results(seen[1])[3:]
        assert again == "charged c, number 4", "the same call was given what it had brought"
        assert "may have an effect (unsafe)" in never and "it was not called" in never
        assert (looked, happened(folder)) == ("looked at y, number 5", [*before, "looked at y"])

        line = guided("tasks compare TASK FORK")
        shown = await typed(at, line, TASK=origin, FORK=fork.task)
        told = json.loads(await typed(at, f"{line} --json", TASK=origin, FORK=fork.task))
    ours, theirs = told["tasks"]
    assert (ours["usage"]["costMicros"], theirs["usage"]["costMicros"]) == (4 * 110, 2 * 1_100)
    assert (ours["usage"]["inputTokens"], theirs["usage"]["outputTokens"]) == (400, 20)
    assert (ours["turns"], theirs["turns"], theirs["replayed"]) == (4, 4, 5)
    assert (theirs["forkOf"], theirs["effects"]) == ({"task": origin, "at": "turn#3"}, "forbid")
    assert ours["ms"] > 0 and theirs["ms"] > 0
    assert [json.loads(side["output"])["text"] for side in (ours, theirs)] == ["three are charged", "better"]
    assert (told["parts"], told["sameOutput"]) == ("turn#3", False)
    table = {line.split("  ")[0]: line for line in shown.splitlines()}
    assert "$0.000440" in table["cost"] and "$0.002200" in table["cost"]
    assert "better" in table["output"] and " s" in table["time"] and "turn#3" in table["parts at"]


async def test_a_fork_goes_on_with_the_settings_of_its_origin_unless_it_is_to_have_the_present_ones(
    tmp_path: Path,
) -> None:
    provider = Provider(lambda body: ORIGINAL[turns_of(body) - 1])
    folder = tmp_path / "outside"
    async with at_work(folder, provider) as at:
        origin = await at.submit("clerk", "go")
        await at.ended([origin])
        await describe(at, folder, "Be new.")
        for more, prompt in (((), "Be plain."), (("--new-version",), "Be new.")):
            made = await call(at, "tasks", "fork", origin, "--at", "turn#4", *more, "--json")
            await at.ended([json.loads(made.out)["task"]])
            assert provider.asked[-1]["messages"][0]["content"] == prompt
        allowed = await call(
            at, "tasks", "fork", origin, *("--at", "turn#3", "--allow-effects", "--max-turns", "3")
        )
        (ended,) = await at.ended([allowed.out.strip()])
        assert ended.error is not None and ended.error.code == "max_turns"
        assert happened(folder)[3:] == ["charged c"], "what is recorded is not had twice"
        options = ("--input", '"other"', "--temperature", "0.25")
        made = await call(at, "tasks", "fork", origin, *options)
        await at.ended([made.out.strip()])
        asked = provider.asked[-1]
        assert (asked["temperature"], asked["messages"][1]["content"]) == (0.25, "other")
        assert happened(folder)[3:] == ["charged c"], "nor by a fork of no step"
        before = len(provider.asked)
        dear = (await call(at, "tasks", "fork", origin, "--max-cost", "0.0001")).out.strip()
        for again in (False, True):  # a turn costs 110 micro-dollars
            if again:
                ran = await call(at, "tasks", "restart", dear, "--json")
                assert json.loads(ran.out) == {"task": dear, "status": "pending"}
            (ended,) = await at.ended([dear])
            assert ended.error is not None and ended.error.code == "max_cost"
            assert len(provider.asked) - before == (2 if again else 1), "its turn was dropped, and taken anew"

        refused(await call(at, "tasks", "fork", origin, "--at", "turn#9"), "has no step", "turn#9")
        refused(await call(at, "tasks", "fork", origin, role="worker"), "role worker")
        refused(await call(at, "tasks", "compare", origin, "nobody"), "nobody")
        refused(await call(at, "tasks", "restart", origin), "succeeded", "fork it")


async def test_many_forks_from_anywhere_have_no_effect(tmp_path: Path) -> None:
    """The same in long: SIGNALBOX_TEST_FORKS=1000."""
    draw = random.Random(5)

    def anything(body: dict[str, Any]) -> Turn:
        turn = turns_of(body)
        if body["model"] == "plain":
            return ORIGINAL[turn - 1]
        if turn > 4 or draw.random() < 0.3:
            return "enough"
        names = draw.choices(["a", "b", "c", "d"], k=draw.randint(1, 3))
        return [*charges(*names), ("unknown", {})]

    provider = Provider(anything)
    folder = tmp_path / "outside"
    async with at_work(folder, provider) as at:
        origin = await at.submit("clerk", "go")
        await at.ended([origin])
        before = happened(folder)
        began = time.monotonic()
        forks: list[str] = []
        for number in range(FORKS):
            point = draw.choice(
                ["turn#1", "turn#1/1:charge", "turn#2", "turn#2/0:charge", "turn#3", "turn#4"]
            )
            options = ("--model", BETTER, "--at", point)
            if number % 10 == 0:  # by the command line; the others by what that calls
                forks.append((await call(at, "tasks", "fork", origin, *options)).out.strip())
            else:
                change = ForkChanges(models=[BETTER])
                forks.append((await at.client.fork(origin, at=point, change=change)).task)
        made = time.monotonic() - began
        views = await at.ended(forks, within_s=30 + FORKS / 5)
        print(f"{FORKS} forks: made in {made:.1f} s, ended after {time.monotonic() - began:.1f} s")
        assert [view.status for view in views] == ["succeeded"] * FORKS
        assert happened(folder) == before
        assert len(set(forks)) == FORKS
