"""The same task, done by a worker that polls and by an endpoint that is pushed to, leaves the same record."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.deployment import Deployment, deployed
from tests.push_endpoint import ENV, Served, push_to, record_of
from tests.scripted_model import scripted_model
from worker.budgets import BudgetSpec
from worker.groups import After

pytestmark = pytest.mark.timeout(60)  # several processes start in each test

AGENTS = ("chronicle", "listener", "noop", "say", "waiter")
IDS = {"approval", "until", "what", "by"}  # of events
PASSING = {"ms", "startedMs", "run", "task"}  # what differs from one attempt at a call to the next


async def played(at: Deployment) -> list[str]:
    """Submit tasks that do all that is kept, answer what they ask, and return them once all have ended."""
    first = await at.submit("noop", "before")
    chronicle = await at.submit("chronicle", 3, after=[After(on=first)])
    listener = await at.submit("listener", 8)
    large = await at.submit("say", 3_000_000)
    await at.begun(listener)
    for n in range(8):
        await at.client.signal(listener, "told", {"n": n})
    await at.until(chronicle, lambda view: view.status == "waiting_approval")
    (asked,) = (await at.client.approvals.list(task=chronicle)).approvals
    await at.client.approvals.decide(asked.approval, "approve", args_hash=asked.args_hash, note="fine")
    await at.until(chronicle, lambda view: view.status == "waiting_event")
    await at.client.signal(chronicle, "go", "went")
    tasks = [chronicle, listener, large]
    views = await at.ended(tasks)
    assert [view.status for view in views] == ["succeeded"] * 3, views
    assert json.loads(views[1].output or "") == [["told", {"n": n}] for n in range(8)]
    children = (await at.client.children(chronicle)).tasks
    await at.ended([child.task for child in children])
    waiter = await at.submit("waiter")
    await at.until(waiter, lambda view: view.status == "waiting_event")
    await at.client.signal(waiter, "go", "went")
    (view,) = await at.ended([waiter])
    assert view.status == "succeeded", view
    fork = (await at.client.fork(waiter, at="go")).task  # it finds what came among its recordings
    (forked,) = await at.ended([fork])
    assert (forked.status, forked.output) == ("succeeded", view.output), forked
    return [*tasks, waiter, fork]


async def told_of(at: Deployment, task: str) -> tuple[Any, ...]:
    """Return what is kept of a task: its record, steps, model calls and children."""
    (view, events, *more) = await record_of(at, task)
    events = [
        (kind, of, {name: value for name, value in data.items() if name not in IDS | {"forkOf"}})
        for kind, of, data in events
        if kind != "task_woken"  # children that end before their parent waits for them wake nobody
    ]
    steps = (await at.client._query("dashboard:steps", {"task": task}))["steps"]
    for step in steps:
        step.pop("keptAt")
        step["endsAt"] = step["endsAt"] is not None
        step["result"] = re.sub(r"[a-z]\w{30,}", "ID", step["result"])
    calls = [call.model_dump(by_alias=True) for call in await at.client.models.calls(task)]
    kept = [{name: value for name, value in call.items() if name not in PASSING} for call in calls]
    children = [(child.agent, child.status, child.output) for child in (await at.client.children(task)).tasks]
    state = (await at.client.state(task)).model_dump()
    told = {name: state[name] for name in ("progress", "state", "steps", "status")}
    return view, events, more, steps, kept, sorted(map(str, children)), told


async def test_what_a_task_keeps_is_the_same_polled_and_pushed(tmp_path: Path) -> None:
    with scripted_model() as model:
        env = {"SIGNALBOX_MODEL_BASE_URL": model.base_url, "SIGNALBOX_MODEL": "scripted-instant"}
        async with deployed(tmp_path, synchronous="normal", env=ENV) as at:
            await at.client.budgets.set(BudgetSpec(kind="all", caps={"calls": 1_000}))
            worker = at.worker("polling", **env)
            await at.know(*AGENTS)
            polled = await played(at)
            worker.send(signal.SIGTERM)
            await worker.ended(15)
            served = Served(tmp_path / "serve.log", "--hold", "0.2", port=0, **env)
            try:
                await push_to(at, served.url, *AGENTS)
                pushed = await played(at)
                for one, other in zip(polled, pushed, strict=True):
                    for told, known in zip(await told_of(at, other), await told_of(at, one), strict=True):
                        assert told == known
                runs = [event for task in pushed for event in await at.client.history(task)]
                by = {event.data["worker"] for event in runs if event.type == "run_assigned"}
                assert by == {"push:there"}
                with anyio.fail_after(10):  # both have spent the same, and hold nothing
                    while True:
                        (balance,) = (await at.client.budgets.get("all")).balances
                        if (balance.spent.calls, balance.held.calls) == (2 * 2, 0):
                            break
                        await anyio.sleep(0.05)
            finally:
                served.destroy()
