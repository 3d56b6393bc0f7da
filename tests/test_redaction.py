"""No secret that a worker knows reaches the control plane, whichever way a run takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.deployment import deployed
from tests.lone_run import Model, Reporter, assigned, completion
from tests.scripted_model import scripted_model
from worker.client import TaskSpec
from worker.llm import Event, ModelError, ReasoningDelta, TextDelta, ToolCall
from worker.logs import Redactor
from worker.models import Emitted, Spawned, Suspended
from worker.router import Router
from worker.runtime import (
    Agent,
    Context,
    Environment,
    LlmAgent,
    ModelCaller,
    Registry,
    Result,
    Run,
    Sole,
    Toolbox,
    tool,
)

KEY = "gk-3fb1c9-key-of-a-provider"


class Listening(Reporter):
    """Keeps all that a run says; as a control plane it takes every step at once."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Run | None = None
        self.others: list[Any] = []

    def step(self, report: Any) -> None:
        super().step(report)
        assert self.run is not None
        self.run.stepped(report.key, None)

    async def spawn(self, run: str, step: str, tasks: list[dict[str, Any]], *, gather: bool) -> Spawned:
        self.others.append(tasks)
        return Spawned(tasks=["t"], group=None)

    async def emit(self, run: str, step: str, name: str, data: str) -> Emitted:
        self.others.append(data)
        return Emitted(tasks=[], woken=0)

    def everything(self) -> str:
        kept = [*self.kept, *self.calls, *self.told, *self.sent, *self.others]
        return repr([self.said, kept])


class Scene:
    """A run of one agent in a worker that knows the key."""

    def __init__(self, play: Any, *answers: list[Event | ModelError]) -> None:
        self.reporter = Listening()
        self.model = Model(*answers)
        environment = Environment(
            Registry([Agent("a", "", play)]),
            model=ModelCaller(Router(Sole(self.model)), ["m"]),
            redact=Redactor([KEY]),
            tools=Toolbox(),
        )
        self.run = self.reporter.run = Run(assigned(), environment, self.reporter)

    async def played(self) -> str:
        """Play the run; return everything that was told of it."""
        report = await self.run.play()
        assert report is not None
        told = self.reporter.everything() + repr(report)
        assert KEY not in told
        assert "[redacted]" in told
        return told


async def streamed(ctx: Context, value: Any) -> None:
    for letter in f"the key is {KEY}, and that is all":
        await ctx.stream(letter)


async def halves(ctx: Context, value: Any) -> None:
    await ctx.stream(KEY[:9])
    ctx.log("between them")
    await ctx.stream(KEY[9:])


async def kept(ctx: Context, value: Any) -> None:
    assert await ctx.step("s", lambda: {"key": KEY}) == {"key": "[redacted]"}, "as a later run finds it"


async def told(ctx: Context, value: Any) -> None:
    ctx.progress(1, 2, f"with {KEY}")
    ctx.set_state({"key": KEY})
    ctx.log("calling", key=KEY)


async def submitted(ctx: Context, value: Any) -> None:
    await ctx.spawn([TaskSpec(agent="b", input=json.dumps(KEY))])
    await ctx.emit("done", {"key": KEY})


async def asked(ctx: Context, value: Any) -> None:
    await ctx.approve("pay", {"key": KEY})


async def raised(ctx: Context, value: Any) -> None:
    raise ValueError(f"401 for {KEY}")


async def returned(ctx: Context, value: Any) -> Any:
    return Result({"key": KEY}, [TaskSpec(agent="b", input=json.dumps([KEY]))])


async def large(ctx: Context, value: Any) -> Any:
    return [KEY] * 20_000  # sent on its own, ahead of the result


@pytest.mark.parametrize(
    "play",
    [streamed, halves, kept, told, submitted, asked, raised, returned, large],
    ids=lambda f: f.__name__,
)
async def test_what_an_agent_tells_holds_no_secret(play: Any) -> None:
    scene = Scene(play)
    said = await scene.played()
    if play is streamed:
        text = "".join(each[3] for each in scene.reporter.said)
        assert text == "the key is [redacted], and that is all"
        assert len(scene.reporter.said) > 1, "the rest is shown as it comes"
    if play is asked:
        assert Suspended.__name__ in said


@tool(effect="unsafe")
async def environment(name: str) -> str:
    """Print a variable."""
    seen.append(name)
    return f"{name}={KEY}"


seen: list[str] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    seen.clear()
    yield


async def test_a_tool_that_prints_the_key_and_a_model_that_echoes_it_tell_nobody() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        result = await ctx.play(LlmAgent(tools=[environment]), "What is the key?")
        return {"text": result.text, "messages": result.messages}

    calls = tuple(ToolCall(f"c{each}", "environment", {"name": each}, None) for each in ("A", KEY))
    first = replace(completion(f"I look up {KEY}"), tool_calls=calls, finish="tool_calls")
    pieces: list[Event | ModelError] = [ReasoningDelta("It is "), *(ReasoningDelta(letter) for letter in KEY)]
    echo: list[Event | ModelError] = [
        *pieces,
        *(TextDelta(letter) for letter in f"It is {KEY}."),
        completion(f"It is {KEY}."),
    ]
    scene = Scene(play, [TextDelta(f"I look up {KEY[:5]}"), TextDelta(KEY[5:]), first], echo)
    told = await scene.played()
    assert seen == ["A", "[redacted]"], "what a model may not hear it cannot hand to a tool either"
    assert KEY not in repr(scene.model.requests), "nor does a provider hear it"
    assert "A=[redacted]" in told
    text = "".join(each[3] for each in scene.reporter.said if each[0] == "text" and each[1] == 2)
    assert text == "It is [redacted]."


@pytest.mark.timeout(60)
async def test_nothing_of_a_real_worker_brings_its_keys_into_the_database(tmp_path: Path) -> None:
    secret = "house-7d0f21e6b5-key"
    with scripted_model() as model:
        async with deployed(tmp_path) as at:
            env = {
                "SIGNALBOX_MODEL_BASE_URL": model.base_url,
                "SIGNALBOX_MODEL": "scripted-instant",
                "SIGNALBOX_MODEL_KEY": secret,
            }
            at.worker("w", **env)
            await at.know("leaky")
            tasks = [await at.submit("leaky", way, attempts=1) for way in ("return", "raise", "exit")]
            views = await at.ended(tasks, within_s=30)
            assert [view.status for view in views] == ["succeeded", "failed", "failed"]
            assert views[0].output is not None
            assert json.loads(views[0].output)["keys"] == ["[redacted]"] * 2
            assert views[1].error is not None
            assert "[redacted]" in views[1].error.message
            held = b"".join(path.read_bytes() for path in (tmp_path / "host").rglob("*") if path.is_file())
            service = at.keys["worker"]
    assert b"[redacted]" in held
    assert secret.encode() not in held
    assert service.encode() not in held
    assert service[5:].encode() not in held
