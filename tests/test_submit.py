"""Submitting against a host process: many tasks, lost answers, large payloads, what people do to tasks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from pydantic import SecretStr

from tests.command_line import Ran, call, invoke
from tests.deployment import Deployment, deployed
from tests.fault_proxy import FaultProxy
from worker.client import AgentSpec, Client, Submitted, TaskSpec
from worker.errors import PayloadTooLarge
from worker.models import LlmSpec, TaskStatus

pytestmark = pytest.mark.timeout(300)
MANY = 10_000
LINES = 2_000  # of a file, which the command submits in pages
LARGEST = 8 * 1024 * 1024
WRITER = AgentSpec(
    name="writer",
    description="",
    llm=LlmSpec(model=None, prompt="Write.", temperature=None, max_output_tokens=None),
    capabilities=["write"],
)


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path, synchronous="normal") as deployment:
        await deployment.client.sync_agents([WRITER])
        yield deployment


async def count(client: Client, status: TaskStatus, tenant: str = "default") -> int:
    total = 0
    cursor: str | None = None
    while True:
        page = await client.tasks(tenant=tenant, status=status, limit=100, cursor=cursor)
        total += len(page.tasks)
        cursor = page.cursor
        if cursor is None:
            return total


async def cli(deployment: Deployment, *arguments: str, stdin: str = "") -> Ran:
    return await call(deployment, *arguments, role="submit", stdin=stdin)


async def test_ten_thousand_tasks_are_exactly_that_many_although_answers_are_lost(
    deployment: Deployment,
) -> None:
    lost = 0

    async def lose_answers() -> None:
        nonlocal lost
        while True:
            await anyio.sleep(0.4)
            proxy.mode = "swallow"
            lost += 1
            await anyio.sleep(0.2)
            proxy.mode = "pass"

    async with FaultProxy(deployment.host.url) as proxy:
        key = SecretStr(deployment.keys["submit"])
        async with (
            Client.connect(proxy.url, key, deadline_s=60) as client,
            anyio.create_task_group() as faults,
        ):
            faults.start_soon(lose_answers)
            answers = await client.submit_many(TaskSpec(agent="writer", input=str(i)) for i in range(MANY))
            faults.cancel_scope.cancel()
    taken = [answer for answer in answers if isinstance(answer, Submitted)]
    assert len({answer.task for answer in taken}) == len(taken) == MANY
    assert lost > 0
    assert await count(deployment.client, "pending") == MANY
    # The order is kept.
    for i in (0, 4_321, MANY - 1):
        assert await deployment.client.input(taken[i].task) == str(i)


async def test_a_file_of_many_lines_makes_as_many_tasks_and_names_the_lines_that_it_cannot(
    deployment: Deployment, tmp_path: Path
) -> None:
    lines = [json.dumps({"line": i}) for i in range(LINES)]
    lines[1:1] = ["{broken", ""]
    file = tmp_path / "tasks.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    submit = ("submit", "writer", "--each", str(file), "--dedup-key", "import")
    ran = await cli(deployment, *submit)
    assert (ran.code, ran.out) == (1, f"submitted {LINES}, duplicates 0, refused 1\n"), ran.err
    assert ran.err.startswith("line 2: not JSON")
    assert len(ran.err.splitlines()) == 1
    assert await count(deployment.client, "pending") == LINES
    # The same file again makes nothing new.
    ran = await cli(deployment, *submit)
    assert ran.out == f"submitted 0, duplicates {LINES}, refused 1\n"
    ran = await cli(
        deployment, "submit", "writer", "--each", "-", "--tenant", "t", "--json", stdin="1\n2\nx\n"
    )
    told = [json.loads(line) for line in ran.out.splitlines()]
    assert sorted(item["line"] for item in told) == [1, 2, 3]
    assert ran.code == 1
    assert await count(deployment.client, "pending", "t") == 2


async def test_lines_that_are_refused_are_named(deployment: Deployment) -> None:
    ran = await cli(deployment, "submit", "ghost", "--each", "-", stdin="1\n2\n")
    assert (ran.code, ran.out) == (1, "submitted 0, duplicates 0, refused 2\n")
    first, second = ran.err.splitlines()
    assert first.startswith('line 1: No agent named "ghost"')
    assert second.startswith("line 2: ")
    ran = await cli(deployment, "submit", "ghost", "--each", "-", stdin="1\n" * 20)
    assert [line.split(":")[0] for line in ran.err.splitlines()] == [f"line {i}" for i in range(1, 21)]
    ran = await cli(deployment, "submit", "ghost", "--each", "-", stdin="1\n" * 22)
    assert ran.out == "submitted 0, duplicates 0, refused 22\n"
    assert ran.err.splitlines()[20:] == ["and 2 more lines (--json names each)"]
    ran = await cli(deployment, "submit", "ghost", "--each", "-", "--json", stdin="1\n" * 22)
    assert len(ran.out.splitlines()) == 22
    ran = await cli(deployment, "submit", "writer", "--each", "-", "--dedup-for", "5", stdin="1\n")
    assert (ran.code, ran.out) == (1, "submitted 0, duplicates 0, refused 1\n")
    assert "dedupForMs: it says how long a dedupKey counts; give that too." in ran.err
    ran = await cli(deployment, "submit", "writer", "--each", "no-such-file")
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert "no-such-file" in ran.err
    ran = await cli(deployment, "submit", "writer", "--each", "-", "--follow")
    assert ran.code == 2
    assert "without --input and --follow" in ran.err


async def test_eight_mebibytes_go_in_and_come_out_and_one_byte_more_is_refused(
    deployment: Deployment,
) -> None:
    deployment.worker("w")
    await deployment.know("say")
    text = json.dumps("é" + "x" * (LARGEST - 4), ensure_ascii=False)
    assert len(text.encode()) == LARGEST
    task = (await deployment.client.submit(TaskSpec(agent="say", input=text))).task
    (view,) = await deployment.ended([task], within_s=60)
    assert (view.status, view.error) == ("succeeded", None)
    assert view.output == text
    assert await deployment.client.input(task) == text
    listed = (await deployment.client.tasks(limit=1)).tasks[0]
    assert (listed.output, listed.large_output) == (None, True)

    key = SecretStr(deployment.keys["submit"])
    async with FaultProxy(deployment.host.url) as proxy, Client.connect(proxy.url, key) as client:
        with pytest.raises(PayloadTooLarge, match=f"input: {LARGEST + 1} bytes; at most {LARGEST}"):
            await client.submit(TaskSpec(agent="say", input=json.dumps("x" * (LARGEST - 1))))
        assert proxy.accepted == 0
    task = await deployment.submit("say", LARGEST - 1)
    (view,) = await deployment.ended([task], within_s=60)
    assert view.error is not None
    assert (view.status, view.error.code) == ("failed", "output_too_large")
    assert f"{LARGEST + 1} bytes" in view.error.message
    task = await deployment.submit("say", LARGEST - 2)
    (view,) = await deployment.ended([task], within_s=60)
    assert view.output is not None
    assert len(view.output) == LARGEST


async def test_a_cancel_reaches_what_waits_at_once_and_what_runs_within_a_heartbeat(
    deployment: Deployment,
) -> None:
    deployment.worker("w")
    await deployment.know("slow")
    waiting = await deployment.submit("slow", {"seconds": 60}, queue="nobody")
    assert await deployment.client.cancel(waiting) == "cancelled"
    running = await deployment.submit("slow", {"seconds": 60})
    await deployment.begun(running)
    heartbeat_s = 5.0  # a third of the lease
    began = anyio.current_time()
    assert await deployment.client.cancel(running) == "running"
    await deployment.until(running, lambda view: view.status == "cancelled", within_s=heartbeat_s)
    assert anyio.current_time() - began < heartbeat_s
    assert await deployment.types(running) == [
        "task_submitted",
        "run_assigned",
        "cancel_requested",
        "task_cancelled",
    ]


async def test_what_people_do_to_tasks_from_the_command_line(deployment: Deployment) -> None:
    deployment.worker("w")
    await deployment.know("failing", "noop")
    failing = [await deployment.submit("failing", {"times": 9}, attempts=1) for _ in range(3)]
    await deployment.ended(failing)
    ran = await cli(deployment, "tasks", "failures", "--json")
    (cause,) = json.loads(ran.out)["causes"]
    assert cause["count"] == 3
    ran = await cli(deployment, "tasks", "failures")
    assert cause["code"] in ran.out
    ran = await cli(deployment, "tasks", "failures", failing[0])
    assert cause["code"] in ran.out
    ran = await cli(deployment, "tasks", "retry-many", "--code", cause["code"], "--dry-run")
    assert ran.out == "3 would be tried again\n"
    ran = await cli(deployment, "tasks", "retry-many", "--agent", "failing")
    assert ran.out == "3 tried again\n"
    await deployment.ended(failing)
    assert (await deployment.task(failing[0])).attempt == 2
    ran = await cli(deployment, "tasks", "retry-many")
    assert ran.code == 2
    assert "give --all" in ran.err

    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    ran = await cli(deployment, "submit", "noop", "--at", later)
    task = ran.out.strip()
    view = await deployment.task(task)
    assert view.status == "delayed"
    assert abs(view.due_at / 1000 - datetime.fromisoformat(later).timestamp()) < 1
    assert (await cli(deployment, "tasks", "pause", task)).out == "paused\n"
    assert (await cli(deployment, "tasks", "resume", task)).out == "delayed\n"
    ran = await cli(deployment, "tasks", "cancel-many", "--status", "delayed", "--json")
    assert json.loads(ran.out) == {"matched": 1, "changed": 1}
    assert json.loads((await cli(deployment, "tasks", "retry", task, "--json")).out)["task"] == task
    await deployment.ended([task])

    batch = ("submit", "noop", "--batch", "k", "2", "60", "--input")
    first, second = [(await cli(deployment, *batch, value)).out.strip() for value in ("1", "2")]
    assert first == second
    assert await deployment.client.input(first) == "[1,2]"
    await deployment.ended([first])
    bounce = ("submit", "noop", "--debounce", "k", "60", "--debounce-max", "90", "--input")
    first, second = [(await cli(deployment, *bounce, value)).out.strip() for value in ("1", "2")]
    assert first == second
    assert await deployment.client.input(first) == "2"
    ran = await cli(deployment, "submit", "--capability", "write")
    assert (await deployment.task(ran.out.strip())).agent == "writer"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["noop", "--at", "tomorrow"], 2, "'tomorrow' is no time"),
        (["noop", "--at", "-1"], 2, "is no time"),
        (["noop", "--debounce", "k", "soon"], 2, "--debounce: 'soon' is not a number"),
        (["noop", "--batch", "k", "0", "1"], 2, "--batch: '0' is not a whole number"),
        (["noop", "--debounce-max", "1"], 2, "give that too"),
        (["noop", "--input", "{"], 2, "--input is not JSON"),
        (["noop", "--capability", "write"], 2, "not allowed with"),
        ([], 2, "give AGENT or --capability"),
    ],
)
def test_options_that_say_nothing_clear_are_refused(options: list[str], code: int, said: str) -> None:
    env = {"CONVEX_URL": "http://127.0.0.1:1", "SIGNALBOX_KEY": "sbo_" + "x" * 43}
    ran = invoke("submit", *options, env=env)
    assert ran.code == code
    assert said in ran.err, ran.err
