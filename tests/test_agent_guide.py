"""The agent of docs/agents.md does what the guide says."""

from __future__ import annotations

import json
import re
from typing import Any

import anyio
import pytest

from tests.deployment import REPOSITORY
from tests.whole_worker import working
from worker.models import Succeeded
from worker.runtime import Registry, tools
from worker.runtime import agents as registered
from worker.testing import FakeControlPlane, ScriptedModel

GUIDE = (REPOSITORY / "docs" / "agents.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def defined(agent: str) -> dict[str, Any]:
    """Run the guide's code that defines an agent; return what it has defined."""
    sources = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    (source,) = [each for each in sources if f'@agent("{agent}")' in each]
    found: dict[str, Any] = {"__name__": "guide"}
    exec(compile(source, "docs/agents.md", "exec"), found)
    return found


async def test_the_agent_of_the_guide_that_pays_back_asks_first(monkeypatch: Any) -> None:
    monkeypatch.setattr(registered, "registry", Registry())
    monkeypatch.setattr(tools, "toolbox", tools.Toolbox())
    found = defined("refunds")
    (agent,) = registered.registry
    control = FakeControlPlane()
    async with working(control, agent):
        task = control.submit("refunds", {"a": 500, "b": 20_000})
        for step, shown in (("approve", '{"orders":{"a":500,"b":20000}}'), ("b", '"cents":20000')):
            while not task.asked:
                await anyio.sleep(0.01)
            (ask,) = task.asked.values()
            assert shown in ask.args and (step != "approve" or ask.step == step)
            control.decide(task, note="as agreed")
        await control.finished()
    assert isinstance(task.outcome, Succeeded)
    assert json.loads(task.outcome.output or "") == [
        "somebody agrees: as agreed",
        "500 cents paid back for a",
        "20000 cents paid back for b",
    ]
    assert sorted(found["PAID"].values()) == [500, 20_000]
    assert all(key.startswith(f"{task.id}:call:refund#") for key in found["PAID"])


async def test_the_agent_of_the_guide_waits_for_a_person_and_publishes_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(registered, "registry", Registry())
    defined("report")
    (agent,) = registered.registry
    control = FakeControlPlane()
    async with working(control, agent):
        task = control.submit("report", {"topic": "signals"})
        while task.status != "waiting":
            await anyio.sleep(0.01)
        assert task.progress is not None and task.progress.state == '{"draft":"All about signals"}'
        control.signal(task, "approved", {"by": "Ada"})
        await control.finished()
    assert isinstance(task.outcome, Succeeded)
    assert json.loads(task.outcome.output or "") == {
        "status": "approved by Ada",
        "place": "https://reports.example/17",
    }
    assert list(task.steps) == ["draft", "approved", "publish"]


async def test_the_test_of_the_guide_passes(monkeypatch: Any) -> None:
    monkeypatch.setattr(tools, "toolbox", tools.Toolbox())
    scope: dict[str, Any] = {"__name__": "guide"}
    exec(compile(BLOCKS[-1], "docs/agents.md", "exec"), scope)
    await scope["test_the_writer_asks_before_it_writes"]()
    monkeypatch.setitem(scope, "ScriptedModel", lambda *_: ScriptedModel("Dogs bark."))
    with pytest.raises(AssertionError):
        await scope["test_the_writer_asks_before_it_writes"]()
