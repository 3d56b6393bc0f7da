"""Budgets on a real host with real workers and a model over sockets: what is spent, held and given back."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from pydantic import SecretStr

from tests.command_line import call, invoke
from tests.deployment import REPOSITORY, Deployment, deployed
from tests.recorded_session import Recorder, session
from tests.scripted_model import scripted_model
from tests.simulated_worker import SimulatedWorker
from worker.api import Api
from worker.backend import Backend
from worker.budgets import Balance, BudgetKind, BudgetSpec, TaskBudget
from worker.client import RetryPolicy, Submitted, TaskSpec
from worker.llm import ChatRequest
from worker.models import Amounts, Progress, Spending, TaskStatus
from worker.router.tokens import need_of, size_of

pytestmark = pytest.mark.timeout(120)

RUNS = 50


async def balance(at: Deployment, kind: BudgetKind = "all", name: str | None = None) -> Balance:
    return (await at.client.budgets.get(kind, name)).balances[0]


async def at_rest(at: Deployment, tasks: list[str]) -> list[TaskStatus]:
    """Return how tasks stand once none of them goes on by itself."""
    with anyio.fail_after(60):
        while True:
            states = [(await at.task(task)).status for task in tasks]
            if not {"pending", "running"} & set(states) and (await balance(at)).held.calls == 0:
                return states
            await anyio.sleep(0.1)


async def test_fifty_runs_against_one_budget_never_pass_it(tmp_path: Path) -> None:
    cap = 60
    with scripted_model() as model:
        async with deployed(tmp_path, synchronous="normal") as at:
            await at.client.budgets.set(BudgetSpec(kind="all", caps={"calls": cap}))
            env = {"SIGNALBOX_MODEL_BASE_URL": model.base_url, "SIGNALBOX_MODEL": "scripted-instant"}
            for name in ("w1", "w2"):
                at.worker(name, "--concurrency", "30", **env)
            await at.know("spender")
            tasks = [await at.submit("spender", {"calls": 3}, attempts=1) for _ in range(RUNS)]
            states = await at_rest(at, tasks)
            asked = len(model.requests())
            stands = await balance(at)
            views = [await at.task(task) for task in tasks]
            waits = [view.task for view in views if view.status == "delayed"]
            told = (await call(at, "tasks", "why", waits[0])).out if waits else ""
    assert asked == stands.spent.calls == cap, "the budget is used to its last call, and not passed"
    assert stands.held.micros == stands.held.tokens == stands.held.calls == 0
    assert sum(view.usage.calls for view in views) == cap
    assert set(states) <= {"succeeded", "failed", "delayed"}
    failures = [view.error for view in views if view.status == "failed"]
    assert all(error is not None and error.code == "budget_exceeded" for error in failures)
    assert not waits or f"{cap} calls of {cap} calls" in told


PRICE_IN, PRICE_OUT = 100, 1_000  # micro-dollars of a token
PRICES = """
[providers.house]
base_url = "{base_url}"
dialect = "openai-chat"
key_optional = true

[models."house/scripted-instant"]
input_per_mtok = {price_in}
output_per_mtok = {price_out}
context_tokens = 10_000
"""


async def test_fifty_runs_never_pass_a_budget_in_money_by_more_than_one_reserved_call(tmp_path: Path) -> None:
    cap, answer = 305_000, 8
    prompt = "Say 0. [[script: write first=30 every=5]]"
    request = ChatRequest(model="", messages=[{"role": "user", "content": prompt}], max_output_tokens=answer)
    size = size_of(request, need_of(request), None)
    most = (size.usage.input_tokens or 0) * PRICE_IN + answer * PRICE_OUT
    highest = 0
    with scripted_model() as model:
        table = tmp_path / "models.toml"
        table.write_text(
            PRICES.format(base_url=model.base_url, price_in=PRICE_IN, price_out=PRICE_OUT), encoding="utf-8"
        )
        async with deployed(tmp_path, synchronous="normal") as at, anyio.create_task_group() as group:
            await at.client.budgets.set(BudgetSpec(kind="all", caps={"micros": cap}))
            env = {"SIGNALBOX_MODELS": str(table), "SIGNALBOX_MODEL": "house/scripted-instant"}
            for name in ("w1", "w2"):
                at.worker(name, "--concurrency", "30", **env)
            await at.know("spender")

            async def look() -> None:
                nonlocal highest
                while True:
                    highest = max(highest, (await balance(at)).spent.micros)
                    await anyio.sleep(0.1)

            group.start_soon(look)
            value = json.dumps({"calls": 2, "script": "[[script: write first=30 every=5]]"})
            spec = TaskSpec(agent="spender", input=value, retry=RetryPolicy(max_attempts=1))
            submitted = await at.client.submit_many([spec] * RUNS)
            tasks = [each.task for each in submitted if isinstance(each, Submitted)]
            states = await at_rest(at, tasks)
            asked = model.requests()
            stands = await balance(at)
            views = [await at.task(task) for task in tasks]
            group.cancel_scope.cancel()
    charged = sum(each["promptTokens"] * PRICE_IN + each["chunks"] * PRICE_OUT for each in asked)
    told = [view.usage.cost_micros or 0 for view in views]
    print(
        f"cap {cap}, charged by the provider {charged} in {len(asked)} calls, highest balance {highest}, "
        f"one call reserves {most}; {Counter(states)}"
    )
    assert charged == stands.spent.micros == sum(told), "each call is counted once, at what it has cost"
    assert cap - most < charged <= cap + most
    assert highest <= cap + most
    assert stands.held.micros == stands.held.tokens == stands.held.calls == 0
    assert set(states) <= {"succeeded", "failed", "delayed"}
    assert states.count("succeeded") < len(states) == RUNS


async def test_a_killed_worker_gives_back_what_it_held_but_for_the_call_under_way(tmp_path: Path) -> None:
    with scripted_model() as model:
        async with deployed(tmp_path, lease_ms=1_000) as at:
            await at.client.budgets.set(
                BudgetSpec(kind="all", caps={"micros": 3_200_000, "calls": 320}, unpriced=2.0)
            )
            env = {"SIGNALBOX_MODEL_BASE_URL": model.base_url, "SIGNALBOX_MODEL": "scripted-stall"}
            worker = at.worker("w", **env)
            await at.know("spender")
            await at.submit("spender", {"calls": 1}, attempts=1)
            with anyio.fail_after(30):
                while not model.requests():
                    await anyio.sleep(0.02)
                while (await balance(at)).held.calls == 0:
                    await anyio.sleep(0.02)
            held = (await balance(at)).held
            await anyio.sleep(0.5)  # for the sync that tells of the call: nothing else shows that it has come
            await worker.killed()
            with anyio.fail_after(30):
                while (await balance(at)).held.calls:
                    await anyio.sleep(0.05)
            spent = (await balance(at)).spent
    assert held.calls == 8
    assert spent.calls == 1
    assert 8 * 2 <= spent.micros < held.micros, "as much as was reserved: the prompt and eight tokens, at $2"
    assert spent.micros == 2 * spent.tokens


class Spender(Recorder):
    """Runs that have spent something and say so once, as a run does whose spending stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.news: list[Spending] = []

    def spending(self) -> list[Spending]:
        news, self.news = self.news, []
        return news


async def test_what_was_told_in_a_sync_that_is_refused_counts_all_the_same(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at, Backend(at.host.url) as backend:
        await at.client.budgets.set(BudgetSpec(kind="all", caps={"calls": 10}))
        runs = Spender()
        async with session(Api(backend, SecretStr(at.keys["worker"])), runs) as (live, _):
            await at.submit("echo")
            run = (await runs.until_any("assigned"))[1]
            live.accept(run)
            runs.news = [Spending(run=run, spent=Amounts(calls=3), reserved=Amounts(), want=None)]
            live.tell(run, Progress(done=1e300, total=None, message="more than anybody can have done"), None)
            await live.flush()
            assert runs.news == []
            await live.drain(final=True, deadline_s=5)
        with anyio.fail_after(10):
            while (stands := await balance(at)).held.calls:
                await anyio.sleep(0.02)
        assert stands.spent.calls == 3


async def test_a_spent_budget_asks_a_person_who_lets_the_run_go_on(tmp_path: Path) -> None:
    with scripted_model() as model:
        async with deployed(tmp_path) as at:
            await at.client.budgets.set(BudgetSpec(kind="all", on_breach="ask", caps={"calls": 1}))
            env = {"SIGNALBOX_MODEL_BASE_URL": model.base_url, "SIGNALBOX_MODEL": "scripted-instant"}
            at.worker("w", **env)
            await at.know("spender")
            task = await at.submit("spender", {"calls": 2}, attempts=1)
            await at.until(task, lambda view: view.status == "waiting_approval", 30)
            (asked,) = (await at.client.approvals.list(task=task)).approvals
            assert asked.why == "spend"
            await at.client.approvals.decide(asked.approval, "approve", args_hash=asked.args_hash)
            (view,) = await at.ended([task], within_s=30)
            assert (view.status, view.attempt) == ("succeeded", 2)
            assert len(model.requests()) == view.usage.calls == 3, "the agent keeps no steps: it begins anew"


async def test_an_operator_sets_shows_and_clears_budgets(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        guide = (REPOSITORY / "docs" / "budgets.md").read_text(encoding="utf-8")
        commands = re.findall(r"^\$ signalbox (.*)$", guide, re.MULTILINE)
        assert len(commands) >= 7
        for command in commands:
            ran = await call(at, *[part.strip("'") for part in command.split()])
            assert ran.code == 0, f"{command}: {ran.err}"
        rows = (await call(at, "budgets", "list")).out.splitlines()
        assert [row.split()[:2] for row in rows[1:]] == [["tenant", "acme"]] * 2
        assert "$200.00" in "".join(rows)
        removed = await call(at, "budgets", "remove", "--agent", "*", "--period", "run")
        assert removed.out == "there was none\n"


async def test_a_task_brings_its_own_budget_and_its_cost_is_shown(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at, Backend(at.host.url) as backend:
        worker = await SimulatedWorker.register(backend, at.keys["worker"], "w")
        spec = TaskSpec(agent="noop", input="null", stack="shop", budget=TaskBudget(micros=500_000))
        task = (await at.client.submit(spec)).task
        await worker.sync()
        await worker.sync()
        (held,) = worker.held.values()
        assert held.allotment is not None
        assert held.allotment.granted.micros == 15_625
        assert (await balance(at, "task", task)).held.micros == 15_625
        await worker.finish_all()
        assert "$0.50" in (await call(at, "budgets", "show", "--task", task)).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["set", "--tenant", "t"], "give --money, --tokens, --calls or --time"),
        (["set", "--money", "much"], "'much' is no amount of dollars"),
        (["set", "--money", "-1"], "'-1' is no amount of dollars"),
        (["set", "--money", "0.0000001"], "finer than a micro-dollar"),
        (["set", "--time", "soon"], "'soon' is no time such as 90s"),
        (["set", "--calls", "few"], "'few' is neither a whole number nor none"),
        (["set", "--tenant", "t", "--agent", "a", "--calls", "1"], "not allowed with argument"),
    ],
)
def test_a_bad_option_is_a_usage_error(arguments: list[str], message: str) -> None:
    ran = invoke("budgets", *arguments)
    assert ran.code == 2
    assert message in ran.err


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """A deployment for tests that change nothing there."""
    async with deployed(tmp_path_factory.mktemp("shared")) as at:
        yield at


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clear", "--tenant", "t"], "No budget of this scope"),
        (["set", "--tenant", "no name!", "--calls", "1"], "is not a name"),
        (["set", "--calls", "1", "--zone", "Mars/Base"], "timeZone"),
    ],
)
async def test_what_is_refused_is_told_in_one_line(
    shared: Deployment, arguments: list[str], message: str
) -> None:
    ran = await call(shared, "budgets", *arguments)
    assert ran.code == 1
    assert message in ran.err
    assert ran.err.count("\n") == 1
