"""What the command line accepts and how it refuses the rest, before anything is asked of a deployment."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tests.deployment import REPOSITORY, Deployment, deployed
from worker.cli import listing, main, parser
from worker.cli.commands import COMMANDS
from worker.cli.common import number, positive
from worker.client import AgentSpec, TaskSpec
from worker.models import LlmSpec

ID = "jd700000001fbemwmktexm7zkh5w8bkx"


def parsers(top: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Return a parser and all below it."""
    below = [a for a in top._actions if isinstance(a, argparse._SubParsersAction)]
    return [top, *(p for action in below for verb in action.choices.values() for p in parsers(verb))]


@pytest.mark.parametrize("each", parsers(parser()), ids=lambda each: str(each.prog))
def test_every_command_and_every_option_is_explained(each: argparse.ArgumentParser) -> None:
    assert each.description is not None
    assert each.description[0].isupper()
    assert each.description.endswith(".")
    for action in each._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action
    each.format_help()


def test_the_list_of_commands_is_what_their_modules_add() -> None:
    assert listing().format_help() == parser().format_help()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_told_apart_without_the_modules_of_the_others(name: str) -> None:
    (alone,) = [p for p in parsers(parser(name)) if p.prog == f"signalbox {name}"]
    (among,) = [p for p in parsers(parser()) if p.prog == f"signalbox {name}"]
    assert alone.format_help() == among.format_help()


def test_help_a_version_and_a_typing_error_load_no_command() -> None:
    code = (
        "import sys; from worker.cli import main\n"
        "for line in (['--help'], ['--version'], ['submt'], []):\n"
        "    try: main(line)\n"
        "    except SystemExit: pass\n"
        "sys.exit({'worker.cli.common', 'pydantic', 'httpx'} & set(sys.modules) or 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("text", ["0", "-5", "1e3", "0.25"])
def test_a_number_is_read(text: str) -> None:
    assert number(text) == float(text)


@pytest.mark.parametrize("text", ["", "five", "nan", "inf", "-inf", "1e999"])
def test_what_is_no_finite_number_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number"):
        number(text)


def test_a_positive_number_is_above_0() -> None:
    smallest = math.nextafter(0, 1)
    assert positive(str(smallest)) == smallest
    for text in ("0", "-0.0", str(-smallest)):
        with pytest.raises(argparse.ArgumentTypeError, match="is not above 0"):
            positive(text)


@pytest.mark.parametrize("text", ["abc", "a" * 30, "a" * 38, ID.upper(), "sbw_" + "x" * 43])
def test_what_is_no_id_of_a_key_is_refused_and_not_repeated_as_it_may_be_the_key(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "revoke", text, "--url", "http://127.0.0.1:1"]) == 1
    said = capsys.readouterr().err
    assert said == "signalbox keys: That is not a key's id: `signalbox keys list` shows them\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "echo", "--priority", "nan"],
        ["submit", "echo", "--delay", "soon"],
        ["submit", "echo", "--timeout", "0"],
        ["submit", "echo", "--max-attempts", "0"],
        ["tasks", "list", "--limit", "0"],
        ["tasks", "list", "--limit", "1.5"],
        ["tasks", "list", "--status", "lost"],
        ["keys", "create", "--role", "worker", "--days", "0"],
    ],
    ids=" ".join,
)
def test_an_option_of_the_wrong_kind_is_a_usage_error_that_names_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"error: argument {arguments[-2]}" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_named_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents", "sync", "/no/such/file"]) == 1
    assert capsys.readouterr().err == "signalbox agents: /no/such/file: No such file or directory\n"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
async def test_a_reader_that_went_away_is_no_matter_for_a_message(tmp_path: Path, form: list[str]) -> None:
    async with deployed(tmp_path) as at:
        reader, writer = os.pipe()
        os.close(reader)
        ran = await anyio.run_process(
            [sys.executable, "-m", "worker", "tasks", "list", *form],
            cwd=REPOSITORY,
            env={**os.environ, "CONVEX_URL": at.host.url, "SIGNALBOX_KEY": at.keys["operator"]},
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writer)
    assert (ran.returncode, ran.stderr) == (1, b"")


async def listed(at: Deployment, limit: int) -> tuple[int, str]:
    """Return how many tasks a listing has, and what it says beside."""
    ran = await anyio.run_process(
        [sys.executable, "-m", "worker", "tasks", "list", "--limit", str(limit), "--json"],
        cwd=REPOSITORY,
        env={**os.environ, "CONVEX_URL": at.host.url, "SIGNALBOX_KEY": at.keys["operator"]},
    )
    return len(json.loads(ran.stdout)), ran.stderr.decode()


@pytest.mark.timeout(60)
async def test_a_long_list_of_tasks_is_read_page_by_page(tmp_path: Path) -> None:
    writer = AgentSpec(
        name="writer",
        description="",
        llm=LlmSpec(model=None, prompt="Write.", temperature=None, max_output_tokens=None),
    )
    async with deployed(tmp_path) as at:
        await at.client.sync_agents([writer])
        await at.client.submit_many(TaskSpec(agent="writer", input="null") for _ in range(201))
        assert [await listed(at, limit) for limit in (100, 101, 300)] == [(100, ""), (101, ""), (201, "")]
