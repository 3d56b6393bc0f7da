"""Agents that a model plays, with real workers, host and model server: killed wherever that can hurt.

SIGNALBOX_LONG_TESTS=1 kills at every boundary, in every tool and in the middle of every stream.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.deployment import Deployment, deployed
from tests.looping_agents import FOLDER
from tests.scripted_model import ScriptedModel, scripted_model
from worker.client import AgentSpec
from worker.models import LlmLimits, LlmSpec

pytestmark = pytest.mark.timeout(600 if os.environ.get("SIGNALBOX_LONG_TESTS") else 120)

BYTES = re.compile(r'convex_function_bytes_total\{kind="\w+",path="(\S+)",direction="(\w+)"\} (\d+)')
LONG = bool(os.environ.get("SIGNALBOX_LONG_TESTS"))
TURNS, CALLS = 6, 8
CALLS_OF_TURN = [1, 2, 1, 2, 2, 0]  # as the scripted agent spreads them


class Scene:
    """A deployment with one worker, which is killed and started again, and a model that is watched."""

    def __init__(self, at: Deployment, model: ScriptedModel, folder: Path) -> None:
        self.at, self.model, self.folder = at, model, folder
        self.worker = self.start()

    def start(self) -> Any:
        env = {"SIGNALBOX_MODEL_BASE_URL": self.model.base_url, FOLDER: str(self.folder)}
        env["SIGNALBOX_MODEL"] = "scripted-agent"
        return self.at.worker("w", "--agents", "tests.looping_agents", **env)

    def kill(self) -> None:
        self.worker.send(signal.SIGKILL)
        self.worker = self.start()

    def open(self, *numbers: int) -> None:
        for number in numbers:
            (self.folder / f"open-{number}").touch()

    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    async def called(self, times: int) -> None:
        with anyio.fail_after(40):
            while len(self.calls()) < times:
                await anyio.sleep(0.02)

    async def kept(self, task: str, steps: int) -> None:
        with anyio.fail_after(40):
            while (await self.at.client.state(task)).steps < steps:
                await anyio.sleep(0.02)

    async def asked(self) -> Counter[int]:
        """Return how often each turn has been asked for."""
        requests = await anyio.to_thread.run_sync(self.model.requests)
        return Counter(request["turn"] for request in requests)

    async def stalled(self, turn: int) -> None:
        """Wait until a turn hangs in the middle of its stream."""
        with anyio.fail_after(40):
            while not any(
                request["turn"] == turn and request["chunks"] == 3 and not request["done"]
                for request in await anyio.to_thread.run_sync(self.model.requests)
            ):
                await anyio.sleep(0.02)


@asynccontextmanager
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    folder = tmp_path / "calls"
    folder.mkdir()
    with scripted_model() as model:
        async with deployed(tmp_path) as at:
            made = Scene(at, model, folder)
            await at.know("looper")
            yield made


def prompt(stall: int = 0) -> str:
    return f"Go on. [[script: agent turns={TURNS} calls={CALLS} stall={stall} key=k]]"


async def test_a_worker_killed_in_mid_stream_asks_again_for_that_turn_alone(tmp_path: Path) -> None:
    first = 1 if LONG else TURNS
    async with scene(tmp_path) as at:
        at.open(*range(1, CALLS + 1))
        task = await at.at.submit("looper", prompt(stall=first), attempts=20)
        for turn in range(first, TURNS + 1):
            await at.stalled(turn)
            at.kill()
        (view,) = await at.at.ended([task], within_s=60)
        asked = await at.asked()
    assert view.status == "succeeded", view.error
    assert json.loads(view.output or "") == {
        "text": f"All {TURNS} turns are done.",
        "turns": TURNS,
        "calls": CALLS,
        "told": 0,
    }
    assert asked == {turn: 2 if turn >= first else 1 for turn in range(1, TURNS + 1)}
    assert len(at.calls()) == CALLS, "no call of a turn that stood was made again"


async def test_a_worker_killed_in_a_tool_or_behind_it_asks_for_no_turn_again(tmp_path: Path) -> None:
    kills = set(range(1, CALLS + 1)) if LONG else {7}  # in and behind these calls
    async with scene(tmp_path) as at:
        task = await at.at.submit("looper", prompt(), attempts=30)
        number = steps = made = 0
        for asked_for in CALLS_OF_TURN:
            numbers = range(number + 1, number + asked_for + 1)
            steps += 1
            await at.kept(task, steps)  # the turn; its calls wait at their gates
            made += asked_for
            await at.called(made)
            if kills & set(numbers):
                at.kill()
                made += asked_for  # what was under way is called again, being repeatable
                await at.called(made)
            for n in numbers:
                at.open(n)
                steps += 1
                await at.kept(task, steps)
                if n in kills and n != numbers[-1]:  # behind one call while its neighbour is under way
                    at.kill()
                    made += numbers[-1] - n
                    await at.called(made)
            number += asked_for
        (view,) = await at.at.ended([task], within_s=60)
        asked = await at.asked()
    assert view.status == "succeeded", view.error
    assert json.loads(view.output or "")["calls"] == CALLS
    assert asked == dict.fromkeys(range(1, TURNS + 1), 1), "a finished turn is never asked for again"
    keys = Counter(line.split()[2] for line in at.calls())
    assert len(keys) == CALLS, "a call has one key, however often it is made"
    assert sum(keys.values()) == made


async def test_ten_times_the_turns_store_and_read_at_most_eleven_times_the_bytes(tmp_path: Path) -> None:
    few, many = (20, 200) if LONG else (3, 30)
    async with scene(tmp_path) as at:
        at.open(*range(1, many + 1))
        await cost_of(at, 2)  # what is read and written for the first task alone
        stored, read = await cost_of(at, few)
        more_stored, more_read = await cost_of(at, many)
    assert stored > 1000
    assert read > 1000
    assert more_stored / stored <= 11, (stored, more_stored)
    assert more_read / read <= 11, (read, more_read)


async def cost_of(at: Scene, turns: int) -> tuple[int, int]:
    """Return the bytes that the functions of a worker write and read for a task of so many turns.

    It fails at its end and is played again from its steps, so that what a later run reads counts too.
    """
    before = await measured(at)
    words = f"Go on. [[script: agent turns={turns} calls={turns - 1}]]"
    task = await at.at.submit("looper", {"prompt": words, "again": True}, attempts=2, initial_ms=1)
    (view,) = await at.at.ended([task], within_s=60)
    assert view.status == "succeeded", view.error
    assert (json.loads(view.output or "")["turns"], view.attempt) == (turns, 2)
    after = await measured(at)
    return after["written"] - before["written"], after["read"] - before["read"]


async def measured(at: Scene) -> Counter[str]:
    """Return what the host says that the functions of workers have read and written."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{at.at.host.url}/metrics")).raise_for_status().text
    found: Counter[str] = Counter()
    for line in text.splitlines():
        match = re.match(
            r'convex_function_bytes_total\{kind="\w+",path="(\S+)",direction="(\w+)"\} (\d+)', line
        )
        if match and match[1] in {"worker:sync", "worker:steps", "worker:input", "worker:emit"}:
            found[match[2]] += int(match[3])
    return found


async def test_an_agent_of_the_registry_calls_the_tools_of_its_worker(tmp_path: Path) -> None:
    limits = LlmLimits(max_turns=3)
    llm = LlmSpec(
        model=None,
        models=["scripted-agent"],
        prompt="Look.",
        temperature=None,
        max_output_tokens=None,
        tools=["look"],
        limits=limits,
    )
    async with scene(tmp_path) as at:
        at.open(1, 2, 3)
        await at.at.client.sync_agents([AgentSpec(name="looking", description="looks", llm=llm)])
        tasks = [
            await at.at.submit(
                "looking", f"Go on. [[script: agent turns={turns} calls={turns - 1}]]", attempts=1
            )
            for turns in (3, 4)
        ]
        done, stopped = await at.at.ended(tasks)
        calls = [line.rsplit(" ", 1)[0] for line in at.calls()]
    assert (done.status, stopped.status) == ("succeeded", "failed")
    assert json.loads(done.output or "")["text"] == "All 3 turns are done."
    assert stopped.error is not None and stopped.error.code == "max_turns"
    assert sorted(calls) == ["look 1", "look 1", "look 2", "look 2", "look 3"]


def test_the_scripted_agent_spreads_its_calls_as_this_test_believes() -> None:
    spread = [CALLS * turn // (TURNS - 1) - CALLS * (turn - 1) // (TURNS - 1) for turn in range(1, TURNS)]
    assert [*spread, 0] == CALLS_OF_TURN
