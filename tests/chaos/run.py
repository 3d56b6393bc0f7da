"""Real workers under real signals, a bad network and a host that dies, and then an audit of what was kept."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
from pydantic import SecretStr

from tests.chaos import history
from tests.chaos.agents import SIGNALS
from tests.chaos.history import Verdict
from tests.chaos.proxy import ChaosProxy
from tests.deployment import Deployment, deployed
from tests.push_endpoint import ENV, Served, push_to
from worker.backend import Backend
from worker.client import Client, RetryPolicy, TaskSpec
from worker.errors import BackendError
from worker.groups import After
from worker.schedules import CatchUpSpec, ScheduleSpec, Template

WORKERS = 3
WEIGHTS = {  # of the agents, among the tasks
    **{"quick": 10, "steady": 4, "shaky": 4, "stepper": 2, "parent": 1},
    **{"hearer": 1, "pushed": 1, "pushed_hearer": 1},
}
PUSHED = ("pushed", "pushed_hearer")
HEARERS = {"hearer", "pushed_hearer"}
TENANTS = 3
LEASE_MS = 2000
FAULT_RATE = 0.2
EVERY_SECOND = ScheduleSpec(
    name="every-second",
    every_ms=1000,
    template=Template(agent="quick", input="null", retry=RetryPolicy(max_attempts=10, initial_ms=50)),
    catch_up=CatchUpSpec(policy="all", window_ms=3_600_000),
)
STILL_S = 60.0  # when the chaos is over, and no task has ended for this long, those left never will


@dataclass(frozen=True)
class Plan:
    """What a chaos run does.

    Attributes:
        seconds: How long things go wrong.
        seed: Of what goes wrong, when, and of the tasks. Processes and sockets have a timing of their own, so
            the same seed gives the same plan and not the same run.
        tasks: How many are submitted.
        signals: Whether processes are killed and frozen, or only the network is bad.
    """

    seconds: float
    seed: int
    tasks: int = 1000
    signals: bool = True


@dataclass
class Outcome:
    """What became of it."""

    tasks: int
    verdict: Verdict
    faults: dict[str, int]


async def chaos(plan: Plan, folder: Path, say: Callable[[str], None] = lambda line: None) -> Outcome:
    """Run the plan in `folder` and return what the audit found."""
    chance = random.Random(plan.seed)
    async with (
        deployed(folder, lease_ms=LEASE_MS, synchronous="normal", env=ENV) as at,
        ChaosProxy(at.host.url, rate=0.0, seed=plan.seed) as proxy,
        _Endpoint(folder / "serve.log") as endpoint,
    ):
        players: list[_Player] = [*(_Worker(at, proxy.url, f"w{i}") for i in range(WORKERS)), endpoint]
        await push_to(at, endpoint.url, *PUSHED, timeout_ms=2000)
        await at.know(*WEIGHTS)
        await at.client.set_schedule(EVERY_SECOND)
        proxy.rate = FAULT_RATE
        accepted: list[str] = []
        async with anyio.create_task_group() as group:
            group.start_soon(_submit, plan, at, proxy.url, accepted, random.Random(plan.seed + 1))
            if plan.signals:
                for number, player in enumerate(players):
                    group.start_soon(_torment, player, plan, random.Random(plan.seed + 10 + number), say)
                group.start_soon(_torment_host, at, plan, chance, say)
        await at.client.remove_schedule(EVERY_SECOND.name)
        say(f"quiet: {len(accepted)} tasks, faults {dict(proxy.faults)}")
        proxy.rate = 0.0
        await _drain(at, players)
        # The last ends are settled by loops that run right after them.
        await anyio.sleep(2 * LEASE_MS / 1000)
        tables = await _read(at)
    return Outcome(len(tables["tasks"]), history.check(tables, accepted, settled=True), dict(proxy.faults))


class _Player(Protocol):
    """A name under which one process after the other works."""

    name: str

    def send(self, sent: signal.Signals) -> None:
        """Send the process a signal."""

    def revive(self) -> None:
        """See to it that a process works under this name."""


class _Worker:
    def __init__(self, at: Deployment, url: str, name: str) -> None:
        options = ("--concurrency", "10", "--grace", "1", "--agents", "tests.chaos.agents")
        self._start = partial(at.worker, name, *options, url=url)
        self._process = self._start()
        self.name = name

    def send(self, sent: signal.Signals) -> None:
        self._process.send(sent)

    def revive(self) -> None:
        if self._process.poll() is None:
            self._process.send(signal.SIGCONT)
        else:
            self._process = self._start()


class _Endpoint:
    def __init__(self, log: Path) -> None:
        self._start = partial(Served, log, "--hold", "0.2", agents="tests.chaos.pushed_agents")
        self._served = self._start()
        self.name = "endpoint"
        self.url = self._served.url

    def send(self, sent: signal.Signals) -> None:
        self._served.process.send_signal(sent)

    def revive(self) -> None:
        if self._served.process.poll() is None:
            self._served.process.send_signal(signal.SIGCONT)
        else:
            self._served.destroy()
            self._served = self._start(port=self._served.port)

    async def __aenter__(self) -> _Endpoint:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._served.destroy()


async def _torment(player: _Player, plan: Plan, chance: random.Random, say: Callable[[str], None]) -> None:
    over_at = anyio.current_time() + plan.seconds
    while (left := over_at - anyio.current_time()) > 0:
        await anyio.sleep(min(left, chance.uniform(1.0, 6.0)))
        what = chance.choice(("kill", "stop", "terminate"))
        say(f"{player.name}: {what}")
        if what == "kill":
            player.send(signal.SIGKILL)
        elif what == "stop":
            player.send(signal.SIGSTOP)
            await anyio.sleep(chance.uniform(0.1, 3.0) * LEASE_MS / 1000)
        else:
            player.send(signal.SIGTERM)
        await anyio.sleep(chance.uniform(0.0, 2.0))
        player.revive()


async def _torment_host(
    at: Deployment, plan: Plan, chance: random.Random, say: Callable[[str], None]
) -> None:
    over_at = anyio.current_time() + plan.seconds
    while (left := over_at - anyio.current_time()) > 0:
        await anyio.sleep(min(left, chance.uniform(4.0, 10.0)))
        kill = chance.random() < 0.7
        say(f"host: {'kill' if kill else 'restart'}")
        await anyio.to_thread.run_sync(at.host.kill if kill else at.host.stop)
        await anyio.sleep(chance.uniform(0.0, 1.5))
        await anyio.to_thread.run_sync(at.host.start)


async def _submit(plan: Plan, at: Deployment, url: str, accepted: list[str], chance: random.Random) -> None:
    """Submit over the bad network, in bursts over three quarters of the time."""
    begun = anyio.current_time()
    left = plan.tasks
    async with (
        Client.connect(url, SecretStr(at.keys["operator"]), deadline_s=60.0) as client,
        anyio.create_task_group() as telling,
    ):
        while left > 0:
            numbers = range(plan.tasks - left, plan.tasks - left + min(left, 25))
            burst = [_spec(plan, number, chance, accepted[number % TENANTS :: TENANTS]) for number in numbers]
            left -= len(burst)
            answers = await client.submit_many(burst)
            refused = [answer for answer in answers if isinstance(answer, Exception)]
            if refused:
                raise refused[0]
            ids = [answer.task for answer in answers if not isinstance(answer, Exception)]
            accepted.extend(ids)
            hearers = [task for task, spec in zip(ids, burst, strict=True) if spec.agent in HEARERS]
            for task in hearers:
                telling.start_soon(_tell, at.client, task)
            if chance.random() < 0.3:
                await client.cancel(chance.choice([task for task in ids if task not in hearers]))
            due = begun + (1 - left / plan.tasks) * plan.seconds * 0.75
            await anyio.sleep(max(0.0, due - anyio.current_time()))


async def _tell(client: Client, task: str) -> None:
    """Tell a task its signals in quick succession, which the bad network would not let them be."""
    for n in range(SIGNALS):
        await client.signal(task, "told", n)


def _spec(plan: Plan, number: int, chance: random.Random, earlier: Sequence[str]) -> TaskSpec:
    agent = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    after = None
    if earlier and agent not in HEARERS and chance.random() < 0.2:  # one that is skipped hears nothing
        on = chance.sample(earlier, min(len(earlier), chance.randint(1, 3)))
        after = [After(on=task, on_failure=chance.choice(("run", "skip"))) for task in on]
    return TaskSpec(
        agent=agent,
        input=json.dumps({"seconds": chance.uniform(0.05, 0.5), "sleep": chance.uniform(0.1, 6.0)}),
        after=after,
        tenant=f"tenant{number % TENANTS}",
        priority=chance.choice((0, 0, 0, 5)),
        delay_ms=None if after else chance.choice((None, None, None, chance.uniform(0, 2000))),
        dedup_key=f"chaos-{plan.seed}-{number}",
        retry=RetryPolicy(max_attempts=30 if agent == "shaky" else 10, initial_ms=50, max_ms=500),
    )


async def _drain(at: Deployment, players: Iterable[_Player]) -> None:
    """Wait until every task has ended, or so long that those left never will."""
    ended, since = 0, anyio.current_time()
    while anyio.current_time() - since < STILL_S:
        for player in players:
            player.revive()
        tasks = (await _read(at, "tasks"))["tasks"]
        now_ended = sum(task["status"] in history.ENDED for task in tasks)
        if now_ended == len(tasks):
            return
        if now_ended > ended:
            ended, since = now_ended, anyio.current_time()
        await anyio.sleep(0.5)


async def _read(at: Deployment, *names: str) -> history.Tables:
    async with Backend(at.host.url, admin_key=SecretStr(at.host.admin_key)) as backend:
        for attempt in range(5):
            try:
                return await history.read(backend, names or history.TABLES)
            except BackendError:
                if attempt == 4:
                    raise
                await anyio.sleep(1.0)
    raise AssertionError
