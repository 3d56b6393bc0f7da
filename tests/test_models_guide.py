"""What docs/models.md says is so: its table of models loads, its code runs, its commands work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.deployment import REPOSITORY
from tests.transcripts import found
from worker.cli import main
from worker.llm.providers import Catalogue

GUIDE = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def test_its_file_is_one_that_the_worker_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = blocks("toml")
    (tmp_path / "models.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    (source,) = blocks("python")
    exec(compile(source, "docs/models.md", "exec"), {})
    catalogue = Catalogue.load("models.toml")
    assert catalogue.find("azure/our-deployment").info.priced
    assert str(catalogue.find("groq/llama-3.3-70b-versatile").info.input_per_mtok) == "0.5"


def test_its_commands_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIGNALBOX_MODELS", raising=False)
    commands = [
        shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines() if line
    ]
    assert len(commands) == 4
    for command in commands:
        if command[0] == "signalbox":
            assert main(command[1:]) == 0
            assert "groq" in capsys.readouterr().out
        else:
            assert command[:3] == ["python", "-m", "tests.transcripts"]
            cases, scenarios = found(REPOSITORY / command[3])
            assert len(cases) == 21
            assert len(scenarios) == 4


@pytest.mark.parametrize("provider", list(Catalogue.load().providers))
def test_it_names_every_provider(provider: str) -> None:
    assert f"`{provider}`" in GUIDE
