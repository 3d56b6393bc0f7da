"""Agents that the tests' workers play."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import anyio

from worker.runtime import Context, Result, agent
from worker.specs import TaskSpec


@agent("noop")
async def noop(ctx: Context, input: Any) -> Any:
    return input


@agent("slow")
async def slow(ctx: Context, input: dict[str, float]) -> str:
    """Stream a word every 50 ms for `seconds`, then say which attempt it was."""
    for i in range(int(input["seconds"] / 0.05)):
        await ctx.stream(f"word{i} ")
        await anyio.sleep(0.05)
    return f"attempt {ctx.attempt}"


@agent("wordy")
async def wordy(ctx: Context, letters: int) -> int:
    """Stream so many letters at once."""
    await ctx.stream("x" * letters)
    return letters


@agent("poison")
async def poison(ctx: Context, input: Any) -> None:
    os._exit(3)


@agent("stubborn")
async def stubborn(ctx: Context, input: Any) -> None:
    """Work until it is cancelled."""
    await anyio.sleep_forever()


@agent("failing")
async def failing(ctx: Context, input: dict[str, int]) -> int:
    """Fail as often as told, then return the attempt."""
    if ctx.attempt <= input["times"]:
        raise RuntimeError(f"failure {ctx.attempt}")
    return ctx.attempt


@agent("six")
async def six(ctx: Context, input: dict[str, str]) -> list[int]:
    """Take six steps, each of which leaves a line in a file; wait behind and in each for a file to appear."""
    folder = Path(input["folder"])

    async def work(n: int) -> int:
        with (folder / "calls").open("a") as calls:
            calls.write(f"{n}\n")
        await appeared(folder / f"in-{n}")
        return n * n

    results = []
    for n in range(6):
        results.append(await ctx.step("work", work, n))
        await appeared(folder / f"behind-{n}")
    return results


async def appeared(file: Path) -> None:
    while not await anyio.Path(file).exists():
        await anyio.sleep(0.02)


@agent("sleeper")
async def sleeper(ctx: Context, input: float) -> list[str]:
    """Sleep between two steps, and return the run of each."""

    def run() -> str:
        return ctx.run

    before = await ctx.step("before", run)
    await ctx.sleep(input)
    return [before, await ctx.step("after", run)]


@agent("waiter")
async def waiter(ctx: Context, input: float | None) -> Any:
    """Wait for "go", at most for so long; with a state and progress to look at."""
    ctx.set_state({"phase": "waiting"})
    ctx.progress(1, 2, "half-way")
    await ctx.step("first", str, "x")
    try:
        return await ctx.wait_for("go", timeout=input)
    except TimeoutError:
        return "too late"


@agent("listener")
async def listener(ctx: Context, input: int) -> list[Any]:
    """Return so many signals."""
    heard: list[Any] = []
    async for told in ctx.signals():
        heard.append([told.name, told.data])
        if len(heard) == input:
            break
    return heard


@agent("blocking")
async def blocking(ctx: Context, input: Any) -> int:
    """Block its worker's event loop, as a careless agent does; a second time, return the parent process."""
    if ctx.attempt == 1:
        await anyio.sleep(0.5)
        time.sleep(60)  # noqa: ASYNC251
    return os.getppid()


@agent("family")
async def family(ctx: Context, input: int) -> Result:
    """Gather so many children, and leave one to come next."""
    ended = await ctx.gather([TaskSpec(agent="noop", input=str(n)) for n in range(input)])
    return Result([child.output for child in ended], next=[TaskSpec(agent="noop", input='"next"')])


@agent("glutton")
async def glutton(ctx: Context, input: Any) -> int:
    """Ask for more memory than any machine has."""
    return len(bytearray(1 << 60))


@agent("oom")
async def oom(ctx: Context, input: Any) -> None:
    """Be killed as the kernel kills who takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    await anyio.sleep_forever()


@agent("say")
async def say(ctx: Context, value: Any) -> Any:
    """Give back what it was given, or a text of so many characters."""
    return "x" * value if isinstance(value, int) else value


@agent("spender")
async def spender(ctx: Context, value: dict[str, Any]) -> int:
    """Ask a model so many times, one after the other."""
    for number in range(value["calls"]):
        prompt = f"Say {number}. {value.get('script', '')}"
        await ctx.complete([{"role": "user", "content": prompt}], max_output_tokens=8)
    return int(value["calls"])


@agent("leaky")
async def leaky(ctx: Context, way: str) -> dict[str, Any]:
    """Tell the keys of its worker in every way that there is."""
    keys = [os.environ["SIGNALBOX_KEY"], os.environ["SIGNALBOX_MODEL_KEY"]]
    for key in keys:
        await ctx.stream(f"the key is {key[:8]}")
        await ctx.stream(key[8:])
        ctx.log(key, key=key)
    await ctx.step("keys", lambda: keys)
    ctx.set_state({"keys": keys})
    await ctx.complete([{"role": "user", "content": f"Say {' and '.join(keys)}"}])
    if way == "raise":
        raise ValueError(f"refused: {keys}")
    if way == "exit":
        raise SystemExit(keys[1])
    return {"keys": keys}


@agent("chronicle")
async def chronicle(ctx: Context, input: int) -> Result:
    """Do a little of everything that is kept: steps, children, an event, a question, a wait, model calls."""
    ctx.set_state({"phase": "begun"})
    ctx.progress(1, 3, "begun")
    first = await ctx.step("first", str, input)
    ended = await ctx.gather([TaskSpec(agent="noop", input=str(n)) for n in range(input)])
    told = await ctx.emit("chronicled", {"by": first})
    before = [item.output for item in await ctx.upstream()]
    decision = await ctx.approve("publish", {"pages": input})
    went = await ctx.wait_for("go", timeout=60)
    answers = [
        await ctx.complete([{"role": "user", "content": f"Say {n}."}], max_output_tokens=8) for n in range(2)
    ]
    ctx.progress(3, 3, "done")
    output = [first, [item.output for item in ended], told, before, decision.note, went, len(answers)]
    return Result(output, next=[TaskSpec(agent="noop", input='"next"')])
