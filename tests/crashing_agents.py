"""Agents for tests, also of the kind that takes its process down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import anyio

from worker.errors import NonRetryable
from worker.runtime import Context, LlmAgent, agent, tool


@agent("echo")
async def echo(ctx: Context, value: Any) -> Any:
    """Returns its input."""
    print("an agent may print")
    await ctx.stream(f"echo from {os.getpid()}")
    ctx.log("logged", attempt=ctx.attempt)
    return {"input": value, "pid": os.getpid(), "run": ctx.run}


@agent("ask_confirmed")
async def ask_confirmed(ctx: Context, value: Any) -> Any:
    """Asks the model once its run is confirmed."""
    await ctx.confirmed()
    completion = await ctx.complete(value, model="m")
    return completion.text


@agent("loop")
async def loop(ctx: Context, value: Any) -> Any:
    """Lets a model play, with a tool that tells its process."""
    result = await ctx.play(LlmAgent(models=["m"], tools=["pid"]), value)
    return [os.getpid(), result.messages[2]["content"], result.usage.input_tokens]


@tool(effect="pure")
async def pid() -> int:
    """Tell the process."""
    return os.getpid()


@agent("exit")
async def leave(ctx: Context, value: Any) -> Any:
    """Ends the process without a word."""
    await anyio.lowlevel.checkpoint()
    os._exit(int(value or 9))


@agent("kill")
async def kill(ctx: Context, value: Any) -> Any:
    """Is killed."""
    os.kill(os.getpid(), signal.SIGKILL)
    await anyio.sleep_forever()


@agent("refuse")
async def refuse(ctx: Context, value: Any) -> Any:
    """Fails for good."""
    raise NonRetryable("never")


@agent("hang")
async def hang(ctx: Context, value: Any) -> Any:
    """Blocks its process and leaves a child behind; its first text is the child's process id."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])  # noqa: ASYNC220
    await ctx.stream(str(child.pid))
    await anyio.sleep(0.1)
    time.sleep(60)  # noqa: ASYNC251 - what a careless agent does


@agent("scribble")
async def scribble(ctx: Context, value: Any) -> Any:
    """Writes to the worker's pipe behind the context's back."""
    for fd in range(3, 20):
        try:
            os.write(fd, b"not json\n")
        except OSError:
            continue
    await anyio.sleep(5)


@agent("endless")
async def endless(ctx: Context, value: Any) -> Any:
    """Returns more than anybody keeps."""
    return "x" * int(value)
