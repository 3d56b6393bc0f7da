"""The queue as its users may think of it: small, pure, and the judge of the real one.

The model does not choose which task a worker gets: it is shown each choice, and says whether it was
allowed. Everything else it foretells. Times are milliseconds; the caller passes them in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

LEASE_MS = 15_000
IDLE_LEASE_MS = 150_000
ACCEPT_MS = 15_000
CANCEL_GRACE_MS = 30_000
SLACK_MS = 1  # times are told to the millisecond
AGEING_MS = 10_000
MAX_LOSSES = 20

Ended = Literal["succeeded", "failed", "cancelled"]
OPEN = {"pending", "delayed"}


class ImpossibleError(AssertionError):
    """The real queue did what no queue may."""


class NotYetError(ImpossibleError):
    """The real queue has not done yet what it must: soon it may not be late any more."""


@dataclass
class Task:
    """One task.

    Attributes:
        attempt: Runs so far.
        failures: Attempts burnt.
        losses: Runs that went down with their worker.
        run: The live run, if it has one.
        holder: Who holds it.
        accepted: Whether the holder has begun.
        later: Whether it waits for its time.
        accept_by: When an assignment that was not accepted goes back.
        ended: How it ended; it stays so.
        cancel_by: When a run that is to be cancelled is closed without its worker.
    """

    id: str
    priority: float
    max_attempts: int
    due_at: float
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    run: str | None = None
    holder: str | None = None
    accepted: bool = False
    later: bool = False
    accept_by: float = 0.0
    ended: Ended | None = None
    cancel_by: float | None = None

    def rank(self) -> float:
        """Return its place in line: the lowest goes first."""
        return self.due_at - self.priority * AGEING_MS


@dataclass
class Worker:
    """One session; `lease_until` is when its silence ends it."""

    name: str
    capacity: int
    lease_until: float
    busy: bool = False
    live: bool = True


@dataclass(frozen=True)
class Seen:
    """What a task shows of itself."""

    status: str
    attempt: int
    run: str | None
    due_at: float
    given_at: float | None = None  # when the live run was given out


@dataclass
class QueueModel:
    """All tasks of one lane, and the workers that serve it."""

    tasks: dict[str, Task] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    paused: bool = False
    limit: int | None = None

    def held(self, worker: str) -> list[Task]:
        """Return what a worker holds."""
        return [task for task in self.tasks.values() if task.holder == worker]

    def running(self) -> list[Task]:
        """Return what anybody holds."""
        return [task for task in self.tasks.values() if task.run is not None]

    # What is done to the queue.

    def submitted(self, task: Task) -> None:
        """Take a new task."""
        assert task.id not in self.tasks, "a new task has the id of an old one"
        self.tasks[task.id] = task

    def registered(self, name: str, capacity: int, now: float) -> None:
        """Begin a session; an older one of this name is over."""
        if name in self.workers:
            self.gone(name)
        self.workers[name] = Worker(name, capacity, now + IDLE_LEASE_MS)

    def synced(self, name: str, accepted: list[str], now: float) -> None:
        """Renew a lease; `accepted` runs have begun."""
        worker = self.workers[name]
        for task in self.held(name):
            if task.run in accepted:
                task.accepted = True
        worker.busy = bool(self.held(name))
        worker.lease_until = now + (LEASE_MS if worker.busy else IDLE_LEASE_MS)

    def finished(
        self, task: Task, how: Literal["succeeded", "failed", "fatal", "released"], now: float
    ) -> None:
        """End the live run: what failed goes to the end of its line, what is handed back keeps its place."""
        self._free(task)
        if how == "succeeded":
            task.ended = "succeeded"
            return
        if how in {"failed", "fatal"}:
            task.failures += 1
            task.due_at = now
        if task.cancel_by is not None:
            task.ended = "cancelled"
        elif how == "fatal" or (how == "failed" and task.failures >= task.max_attempts):
            task.ended = "failed"

    def lost(self, task: Task, *, blamed_at: float | None = None) -> None:
        """Its worker is gone: the attempt is burnt only if it is to blame, or begun and the only one."""
        begun = task.accepted
        self._free(task)
        if blamed_at is not None:
            task.due_at = blamed_at
        task.losses += 1
        if blamed_at is not None or (begun and task.max_attempts == 1):
            task.failures += 1
        if task.cancel_by is not None:
            task.ended = "cancelled"
        elif task.failures >= task.max_attempts or task.losses >= MAX_LOSSES:
            task.ended = "failed"

    def gone(self, name: str) -> None:
        """A session is over, and its runs go back."""
        for task in self.held(name):
            self.lost(task)
        self.workers[name].live = False

    def may_be_over(self, name: str, now: float) -> bool:
        """Say whether an idle worker was silent, or left its work, for so long that its session ends."""
        worker = self.workers[name]
        unheard = any(not t.accepted and t.accept_by - SLACK_MS <= now for t in self.held(name))
        return not worker.busy and (worker.lease_until <= now or unheard)

    def cancelled(self, task: Task, now: float) -> None:
        """Cancel: at once while it waits, else through its worker and after a grace period without it."""
        if task.ended is None and task.run is None:
            task.ended = "cancelled"
        elif task.ended is None and task.cancel_by is None:
            grace = now + CANCEL_GRACE_MS
            task.cancel_by = grace if task.accepted else min(grace, task.accept_by)

    def next_event(self, now: float) -> float:
        """Return when, after `now`, time alone will next change something."""
        times = [t.due_at for t in self.tasks.values() if t.ended is None and t.run is None and t.later]
        for task in self.running():
            times += [] if task.accepted else [task.accept_by]
            times += [] if task.cancel_by is None else [task.cancel_by]
        times += [w.lease_until for w in self.workers.values() if w.live and w.busy]
        return min((at for at in times if at > now), default=float("inf"))

    def passed(self, now: float) -> None:
        """It is `now`: what was to happen by then has happened, once it was looked at in time."""
        for worker in self.workers.values():
            silent = worker.busy and worker.lease_until <= now
            unheard = not worker.busy and any(
                not task.accepted and task.accept_by <= now for task in self.held(worker.name)
            )
            if worker.live and (silent or unheard):
                self.gone(worker.name)
        for task in self.running():
            if task.cancel_by is not None and task.cancel_by <= now:
                self._free(task)
                task.ended = "cancelled"
            elif not task.accepted and task.accept_by <= now:
                self.lost(task)

    @staticmethod
    def _free(task: Task) -> None:
        task.run = task.holder = None
        task.accepted = False

    # What is seen of it.

    def observe(self, seen: dict[str, Seen], holders: dict[str, str], now: float) -> None:
        """Compare with what the real queue shows once it has come to rest.

        Args:
            seen: Each task.
            holders: For each run that a worker holds or finds in its inbox, the worker's name.
            now: The time.

        Raises:
            ImpossibleError: It may not be so. The model is then as unclear as the queue: observe with a copy.
        """
        waited = [task for task in self.tasks.values() if task.run is None]
        for task in self.tasks.values():
            self._observe(task, seen[task.id], holders, now)
        begun = [task for task in waited if task.run is not None]
        self._check_order(begun, [task for task in waited if seen[task.id].status == "pending"])
        for worker in self.workers.values():
            count = len(self.held(worker.name))
            if count > worker.capacity:
                raise ImpossibleError(f"{worker.name} holds {count} runs, it has room for {worker.capacity}")
        # A limit that was lowered ends nothing that runs, and a pause does not either.
        if begun and self.limit is not None and len(self.running()) > self.limit:
            raise ImpossibleError(f"{len(self.running())} runs at once, the limit is {self.limit}")
        if begun and self.paused:
            raise ImpossibleError(f"{begun[0]} was begun although its queue is paused")
        self._check_nobody_idles(seen)

    def _observe(self, task: Task, seen: Seen, holders: dict[str, str], now: float) -> None:
        if task.ended is not None:
            if seen.status == "running" and seen.attempt == task.attempt:
                raise NotYetError(f"{task} has ended, and still runs")
            if seen.status != task.ended or seen.attempt != task.attempt:
                raise ImpossibleError(f"{task} has ended, and is {seen}")
            return
        overdue = task.run is not None and not task.accepted and now >= task.accept_by - SLACK_MS
        if overdue and (seen.run != task.run or seen.status != "running"):
            self.lost(task)
        if task.ended is not None:
            self._observe(task, seen, holders, now)
            return
        if task.run is not None:
            if (seen.status, seen.attempt, seen.run) != ("running", task.attempt, task.run):
                raise ImpossibleError(f"{task} is held by {task.holder}, and is {seen}")
            return
        if seen.status in OPEN:
            if seen.attempt != task.attempt:
                raise ImpossibleError(f"{task} waits, and is {seen}")
            task.later = seen.status == "delayed"
            if task.later and task.due_at <= now:
                raise NotYetError(f"{task} was due {now - task.due_at} ms ago")
            return
        if seen.status == "running" and seen.attempt == task.attempt:
            raise NotYetError(f"{task} was lost with its worker, and still runs")
        if seen.status != "running" or seen.attempt != task.attempt + 1 or seen.run is None:
            raise ImpossibleError(f"{task} waits, and is {seen}")
        if seen.run not in holders:
            raise ImpossibleError(f"{task} runs as {seen.run}, and no live worker has that")
        if seen.given_at is None or not task.due_at - SLACK_MS <= seen.given_at <= now + SLACK_MS:
            raise ImpossibleError(f"{task} was given out at {seen.given_at}, and now is {now}")
        task.attempt += 1
        task.run, task.holder, task.accept_by = seen.run, holders[seen.run], seen.given_at + ACCEPT_MS

    @staticmethod
    def _check_order(begun: list[Task], waiting: list[Task]) -> None:
        # Every worker can play every task of the one lane, so nobody may be passed by.
        for task in waiting:
            for first in begun:
                if first.rank() > task.rank():
                    raise ImpossibleError(f"{first} was begun before {task}")

    def _check_nobody_idles(self, seen: dict[str, Seen]) -> None:
        ready = [task for task in self.tasks.values() if seen[task.id].status == "pending"]
        room = sum(w.capacity - len(self.held(w.name)) for w in self.workers.values() if w.live)
        limited = self.limit is not None and len(self.running()) >= self.limit
        if ready and room > 0 and not self.paused and not limited:
            raise NotYetError(f"{ready[0]} waits although there is room for {room}")
