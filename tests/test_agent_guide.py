"""The agent of docs/agents.md does what the guide says."""

from __future__ import annotations

import json
import re
from typing import Any

import anyio

from tests.deployment import REPOSITORY
from tests.test_worker_service import working
from worker.models import Succeeded
from worker.runtime import Registry
from worker.runtime import agents as registered
from worker.testing import FakeControlPlane

GUIDE = (REPOSITORY / "docs" / "agents.md").read_text(encoding="utf-8")


async def test_the_agent_of_the_guide_waits_for_a_person_and_publishes_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(registered, "registry", Registry())
    (source,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    exec(compile(source, "docs/agents.md", "exec"), {"__name__": "guide"})
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
