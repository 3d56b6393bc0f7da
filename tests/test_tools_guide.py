"""What docs/tools.md shows does what it says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.deployment import REPOSITORY
from tests.lone_run import Reporter, run_of
from worker.models import Succeeded
from worker.runtime import Container, Registry, Subprocess, Toolbox
from worker.runtime import agents as registered
from worker.runtime import tools as known

GUIDE = (REPOSITORY / "docs" / "tools.md").read_text(encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what the guide assumes, and nothing registered yet."""
    (tmp_path / "reports").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(known, "toolbox", Toolbox())
    monkeypatch.setattr(registered, "registry", Registry())
    return tmp_path


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(source, "docs/tools.md", "exec", dont_inherit=True), names)
    return names


async def test_the_tools_of_the_guide_are_there(place: Path) -> None:
    tools, servers, _ = blocks("python")
    run(tools)
    assert [tool.name for tool in known.toolbox] == [
        *("fetch", "fetch_docs", "read_file", "list_files", "write_file", "run_command"),
    ]
    run(servers)
    assert list(known.toolbox._sources) == ["github_", "docs_"]
    await known.toolbox.aclose()  # none of them has started


async def test_the_agents_of_the_guide_are_played(place: Path) -> None:
    run(blocks("python")[2])
    executors = {agent.name: agent.executor for agent in registered.registry}
    assert isinstance(executors["summary"], Subprocess) and executors["summary"].command is None
    assert isinstance(executors["untrusted"], Container)
    (script,) = blocks("sh")
    (place / "count.sh").write_text(script)
    count = executors["count"]
    assert isinstance(count, Subprocess) and shutil.which("sh")
    reporter = Reporter()
    with anyio.fail_after(15):
        report = await run_of(count, value="three more words", reporter=reporter).play()
    assert report is not None and isinstance(report.outcome, Succeeded), report
    assert json.loads(report.outcome.output or "") == 3
    assert [text for _, _, _, text in reporter.said] == ["counted"]
