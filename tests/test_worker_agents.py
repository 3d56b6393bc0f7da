"""Python agents: how they are registered, and one clear line for a module that does not import."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from worker.errors import AgentImportError, SignalboxError
from worker.runtime import Agent, Context, Registry, agent, load
from worker.runtime.agents import registry


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_a_module_in_the_working_directory_brings_its_agents(folder: Path) -> None:
    (folder / "my_first_agents.py").write_text(
        "from worker.runtime import agent\n\n"
        "@agent('first')\nasync def first(ctx, input):\n"
        "    '''Greets.\n\n    At length.'''\n    return input\n\n"
        "@agent('second', description='Says more')\nasync def second(ctx, input):\n    return input\n"
    )
    loaded = load(["my_first_agents"])
    first, second = loaded.get("first"), loaded.get("second")
    assert first is not None
    assert second is not None
    assert (first.description, second.description) == ("Greets.", "Says more")
    assert {"first", "second"} <= {a.name for a in registry}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import nonsense_package", "No module named 'nonsense_package' ({file}:1)"),
        ("x = 1\ny = x / 0", "ZeroDivisionError: division by zero ({file}:2)"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "called exit(3) on import"),
        ("from worker.runtime import agent\n@agent('a b')\nasync def f(c, i): ...", "'a b' is no name"),
        (
            "from worker.runtime import agent\n@agent('plain')\ndef f(c, i): ...",
            "must be an `async def` function",
        ),
        (
            "from worker.runtime import agent\n"
            "@agent('twice')\nasync def f(c, i): ...\n@agent('twice')\nasync def g(c, i): ...",
            "Two agents are named 'twice'",
        ),
    ],
)
def test_a_module_that_does_not_import_gives_one_line(
    folder: Path, source: str, says: str, request: pytest.FixtureRequest
) -> None:
    name = f"broken_{abs(hash(request.node.name))}"
    file = folder / f"{name}.py"
    file.write_text(source + "\n")
    with pytest.raises(AgentImportError) as caught:
        load([name])
    assert says.format(file=file) in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module_here", "No module named 'no_such_module_here' in"),
        ("agents.py", "No module named"),
        ("./agents", "is not a module's name"),
        ("", "is not a module's name"),
    ],
)
def test_a_module_that_is_not_there_gives_one_line(folder: Path, name: str, says: str) -> None:
    with pytest.raises(AgentImportError, match=None) as caught:
        load([name])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


async def play(ctx: Context, value: Any) -> Any:
    return value


async def another(ctx: Context, value: Any) -> Any:
    return value


def test_a_name_belongs_to_one_function() -> None:
    agents = Registry([Agent("a", "", play), Agent("a", "newer", play)])
    assert len(agents) == 1
    assert agents.get("b") is None
    with pytest.raises(SignalboxError, match="Two agents are named 'a'"):
        agents.add(Agent("a", "", another))
    assert agent("registered-for-a-test")(play) is play
