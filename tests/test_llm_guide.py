"""The agent of docs/agents.md that a model plays does what the guide says."""

from __future__ import annotations

import re
from typing import Any

from tests.deployment import REPOSITORY
from tests.scripted_turns import Turns, asks, parsed, says
from tests.whole_worker import working
from worker.models import Succeeded
from worker.runtime import Registry, Toolbox, tools
from worker.runtime import agents as registered
from worker.testing import FakeControlPlane

GUIDE = (REPOSITORY / "docs" / "agents.md").read_text(encoding="utf-8")


async def test_the_agent_of_the_guide_ranks_with_tools_and_is_corrected_once(monkeypatch: Any) -> None:
    box = Toolbox()
    monkeypatch.setattr(registered, "registry", Registry())
    monkeypatch.setattr(tools, "toolbox", box)
    sources = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    (source,) = [each for each in sources if '@agent("ranking")' in each]
    exec(compile(source, "docs/agents.md", "exec"), {"__name__": "guide"})
    (agent,) = registered.registry
    control = FakeControlPlane()
    cities = [{"city": "Bonn"}, {"city": "Kiel"}, {"town": "?"}]
    model = Turns(
        asks(*(("population", city) for city in cities)),
        asks(("publish", {"text": "Bonn"})),
        says("Bonn"),
        says('{"largest": "Bonn", "people": 337000}'),
    )
    async with working(control, agent, model=model.caller(), tools=box):
        task = control.submit("ranking", ["Bonn", "Kiel"])
        await control.finished()
    assert isinstance(task.outcome, Succeeded), task.outcome
    assert parsed(task.outcome.output) == {"largest": "Bonn", "turns": 4}
    assert model.told(2)[:2] == ["337000", "249000"]
    assert parsed(task.steps["turn#1/2:population"].result)["code"] == "invalid_arguments"
    assert f"?key={task.id}:turn#2/0:publish" in model.told(3)[3]
    assert "does not fit" in model.requests[3].messages[-1]["content"]


def test_the_guide_names_every_code_that_ends_a_loop() -> None:
    text = (REPOSITORY / "worker" / "runtime" / "loop.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'Stop\("(\w+)"|return "(\w+)", ', text))
    named = {code for pair in codes for code in pair if code}
    assert {"max_turns", "invalid_output", "max_time", "refusal"} <= named
    assert [code for code in named if f"`{code}`" not in GUIDE] == []
