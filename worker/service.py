"""`signalbox worker`: joins the coordinator, which talks to Convex, and the runtime, which plays runs."""

from __future__ import annotations

import logging
import os
import random
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import NoReturn, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup
from pydantic import SecretStr

from worker import __version__
from worker.api import Api
from worker.backend import Backend, Backoff
from worker.blame import Board
from worker.coordinator import ControlPlane, Ending, Opened, Session, register
from worker.errors import BackendError, Unauthorized
from worker.models import AgentOffer, Inbox, RegisterRequest
from worker.routing import caller
from worker.runtime import Environment, load
from worker.runtime.executors import Container, sweep_on
from worker.runtime.tools import toolbox
from worker.session_runs import SessionRuns
from worker.settings import Settings, key_now
from worker.tracing import tracer
from worker.wake import Wake

logger = logging.getLogger(__name__)
A = TypeVar("A")
T = TypeVar("T")

START_S = 60.0  # for the first registration; later ones have no end
REPORT_S = 5.0  # after the grace period: for cancelled runs to end and be reported
SIGN_OFF_S = 3.0
BEAT_S = 0.5  # between two signs of the event loop, whose silence of a lease ends the process
SPARE_CONNECTIONS = 8  # to the model provider, beyond one for each run
AGAIN = Backoff(
    initial_s=0.5, max_s=10.0
)  # before another session: workers that lost theirs together come apart


class Subscription(Protocol):
    """Brings the states of a session's inbox."""

    live: bool

    def overtaken(self) -> None:
        """A sync brought an assignment first."""

    def age_s(self) -> float:
        """Return the seconds since it last turned."""

    async def run(self) -> None:
        """Bring states until cancelled."""


Subscribe = Callable[[str, Callable[[Inbox], None]], Subscription]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker tells of itself."""

    name: str
    queues: tuple[str, ...] = ("default",)
    labels: tuple[str, ...] = ()
    concurrency: int = 50


class Polling:
    """The subscription of a worker that has none."""

    live = False

    def overtaken(self) -> None:
        """Nothing was expected."""

    def age_s(self) -> float:
        """Return 0: each sync asks anew."""
        return 0.0

    async def run(self) -> None:
        """Wait to be cancelled."""
        await anyio.sleep_forever()


class Worker:
    """One worker from its first registration to its sign-off.

    Args:
        control: The control plane.
        identity: What the worker tells of itself.
        environment: What its runs share.
        grace_s: How long runs may go on once the worker is to leave.
        subscribe: Starts the subscription of a session; without one, the worker polls.
        rekey: Reads the key again once it is refused, and returns whether it is another by now.
        on_leave: Called once, when the worker is told to leave.
        start_s: Seconds for the first registration.
        exit_now: Ends the process when something refuses to end.
        clock: Monotonic seconds.
        draw: Draws evenly from [0, 1).
    """

    def __init__(
        self,
        control: ControlPlane,
        identity: Identity,
        environment: Environment,
        *,
        grace_s: float = 30.0,
        subscribe: Subscribe = lambda session, deliver: Polling(),  # noqa: ARG005 - a stand-in
        rekey: Callable[[], bool] = lambda: False,
        on_leave: Callable[[], None] = lambda: None,
        start_s: float = START_S,
        exit_now: Callable[[int], NoReturn] = os._exit,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._control = control
        self._identity = identity
        self._environment = environment
        self._grace_s = grace_s
        self._subscribe = subscribe
        self._rekey = rekey
        self._on_leave = on_leave
        self._start_s = start_s
        self._exit_now = exit_now
        self._clock = clock
        self._draw = draw
        self._leaving = anyio.Event()
        self._runs: SessionRuns | None = None
        self._stage: list[SessionRuns] = []  # of every session some of whose runs may not have ended

    @property
    def leaving(self) -> bool:
        """Whether the worker has been told to leave."""
        return self._leaving.is_set()

    @property
    def idle(self) -> bool:
        """Whether it has registered and has no run."""
        return self._runs is not None and not self._runs.names()

    def leave(self, reason: str) -> None:
        """Take no more runs, let those under way end within the grace period, and sign off."""
        if not self._leaving.is_set():
            logger.info("leaving", extra={"action": "worker_leaving", "reason": reason})
            self._leaving.set()
            self._on_leave()
            if self._runs is not None:
                self._runs.draining = True

    async def run(self) -> int:
        """Work until told to leave, and return the process's exit code.

        Raises:
            BackendError: The first registration was refused or did not succeed in time.
        """
        code = 1
        with _bare():
            async with anyio.create_task_group() as tasks:
                try:
                    code = await self._sessions(tasks)
                    await self._end_stragglers(code)
                finally:
                    tasks.cancel_scope.cancel()
        return code

    async def _sessions(self, tasks: TaskGroup) -> int:
        opened = await self._while_staying(self._register, self._start_s)
        failures = 0
        while opened is not None:
            began = self._clock()
            ending = await self._session(tasks, opened)
            if self.leaving:
                break
            if (line := self._last_word(ending)) is not None:
                logger.error("%s", line, extra={"action": "worker_refused", "reason": ending.code})
                return 1
            failures = failures + 1 if self._clock() - began < 60 else 1
            pause_s = AGAIN.delay_s(failures, self._draw())
            logger.warning(
                "the session is over, registering again",
                extra={"action": "session_over", "reason": ending.code, "pause_s": round(pause_s, 3)},
            )
            await self._while_staying(anyio.sleep, pause_s)
            try:
                with _bare():
                    opened = await self._while_staying(self._register, None)
            except BackendError as error:
                logger.error("%s", error, extra={"action": "worker_refused", "reason": "register"})  # noqa: TRY400
                return 1
        return 0

    def _last_word(self, ending: Ending) -> str | None:
        """Return why no other session can follow, or None when one can."""
        match ending.code:
            case "replaced":
                return (
                    f"another process registered as worker {self._identity.name}; "
                    "give each worker its own name (SIGNALBOX_WORKER or --name)"
                )
            case "unauthorized":
                return None if self._rekey() else ending.why
            case "forbidden":
                return ending.why
            case _:
                return None

    async def _register(self, deadline_s: float | None) -> Opened:
        while True:
            try:
                opened = await register(
                    self._control,
                    self._introduction(),
                    deadline_s=deadline_s,
                    clock=self._clock,
                    draw=self._draw,
                )
                break
            except Unauthorized:
                if not self._rekey():
                    raise
        logger.info(
            "registered",
            extra={
                "action": "worker_registered",
                "worker": self._identity.name,
                "session": opened.registered.session,
            },
        )
        return opened

    async def _session(self, tasks: TaskGroup, opened: Opened) -> Ending:
        """Serve one session until it is over or this worker has left it, and return why it ended."""
        environment = replace(self._environment, max_output_bytes=opened.registered.max_output_bytes)
        runs = SessionRuns(tasks, environment, self.leave)
        session = Session(
            self._control,
            opened,
            runs,
            polling=lambda: not subscription.live,
            overtaken=lambda: subscription.overtaken(),  # noqa: PLW0108 - it is made below
            inbox_age_s=lambda: subscription.age_s(),  # noqa: PLW0108
            clock=self._clock,
            draw=self._draw,
        )
        subscription = self._subscribe(session.id, session.deliver)
        runs.session = session
        runs.draining = self.leaving
        self._runs = runs
        self._stage = [*(older for older in self._stage if older.names()), runs]
        await self._serve(session, runs, subscription)
        if not self.leaving:
            tasks.start_soon(_tell_calls, session, runs)
        return session.ending or Ending("signed_off", "the worker has left")

    async def _serve(self, session: Session, runs: SessionRuns, subscription: Subscription) -> None:
        """Keep a session until it is over or this worker has left it."""
        over = anyio.Event()

        async def keep() -> None:
            await _kept_alive("session", session.run)
            over.set()

        async with anyio.create_task_group() as sides:
            sides.start_soon(keep)
            sides.start_soon(_kept_alive, "subscription", subscription.run)
            if (board := self._environment.board) is not None:
                board.allow(session.registered.lease_ms / 1000)
                sides.start_soon(_beat, board)
            await _first(over.wait, self._leaving.wait)
            if not over.is_set():
                await self._sign_off(session, runs, over)
            sides.cancel_scope.cancel()

    async def _sign_off(self, session: Session, runs: SessionRuns, over: anyio.Event) -> None:
        """Leave in order: no new runs, the grace period with heartbeats going on, reports, the last word."""
        async with anyio.create_task_group() as asking:
            asking.start_soon(self._ask_for_no_more, session)
            with anyio.move_on_after(self._grace_s):
                await _first(runs.ended, over.wait)
            runs.release()
            with anyio.move_on_after(REPORT_S):
                await runs.ended()
                await session.flush()
            asking.cancel_scope.cancel()
        if not over.is_set():
            with anyio.move_on_after(SIGN_OFF_S):
                await session.drain(final=True, deadline_s=SIGN_OFF_S)
        logger.info("signed off", extra={"action": "worker_signed_off", "session": session.id})

    async def _ask_for_no_more(self, session: Session) -> None:
        await session.drain(final=False, deadline_s=self._grace_s + REPORT_S)

    async def _end_stragglers(self, code: int) -> None:
        """Give cancelled runs a last moment; an agent that cannot be cancelled ends with its process."""
        with anyio.move_on_after(REPORT_S):
            for runs in self._stage:
                await runs.ended()
        if stuck := [name for runs in self._stage for name in runs.names()]:
            logger.error(
                "runs that resist cancellation end with the process",
                extra={"action": "runs_stuck", "runs": stuck},
            )
            self._exit_now(code)

    async def _while_staying(self, work: Callable[[A], Awaitable[T]], argument: A) -> T | None:
        """Return what `work` brings, or None if the worker is to leave before.

        What `work` raises comes within exception groups, as from any task group.
        """
        result: T | None = None

        async def do() -> None:
            nonlocal result
            result = await work(argument)

        await _first(do, self._leaving.wait)
        return result

    def _introduction(self) -> RegisterRequest:
        return RegisterRequest(
            worker=self._identity.name,
            incarnation=secrets.token_hex(8),
            queues=list(self._identity.queues),
            agents=[
                AgentOffer(
                    name=a.name,
                    description=a.description,
                    capabilities=list(a.capabilities),
                    version=a.version,
                    code=a.code,
                )
                for a in self._environment.agents
            ],
            labels=list(self._identity.labels),
            llm=self._environment.model is not None,
            capacity=self._identity.concurrency,
            version=__version__,
            forks=True,
        )


@contextmanager
def _bare() -> Iterator[None]:
    """Let the one error within nested task groups through as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


async def _first(*works: Callable[[], Awaitable[object]]) -> None:
    """Wait for the first of several to end, and cancel the others."""
    async with anyio.create_task_group() as race:

        async def run(work: Callable[[], Awaitable[object]]) -> None:
            await work()
            race.cancel_scope.cancel()

        for work in works:
            race.start_soon(run, work)


async def _tell_calls(session: Session, runs: SessionRuns) -> None:
    """The runs of a session that is over have been cancelled in the middle of calls, which are paid for."""
    with anyio.move_on_after(REPORT_S):
        await runs.ended()
    await session.tell_calls(REPORT_S)


async def _beat(board: Board) -> None:
    """Show the sidecar that this process's event loop turns, until cancelled."""
    try:
        while True:
            board.beat()
            await anyio.sleep(BEAT_S)
    finally:
        board.allow(0)


async def _kept_alive(name: str, work: Callable[[], Awaitable[object]]) -> None:
    """Run a side loop to its end, and start it again if it dies."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception(
                "a side loop died and is started again", extra={"action": "loop_died", "loop": name}
            )
            await anyio.sleep(1.0)
        else:
            return


async def _obey_signals(worker: Worker, exit_now: Callable[[int], NoReturn]) -> None:
    """Leave in order on the first SIGTERM or SIGINT, at once on the second."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for number in received:
            if worker.leaving:
                logger.warning("leaving at once", extra={"action": "worker_killed", "signal": number.name})
                exit_now(128 + number)
            worker.leave(f"received {number.name}")


async def _leave_when_idle(worker: Worker, idle_s: float) -> None:
    """Let a worker leave that has had nothing to do since it registered or ended its last run."""
    idle_since: float | None = None
    while True:
        if not worker.idle:
            idle_since = None
        elif idle_since is None:
            idle_since = anyio.current_time()
        elif anyio.current_time() - idle_since >= idle_s:
            worker.leave("nothing is left to do")
            return
        await anyio.sleep(0.05)


async def run_worker(
    settings: Settings,
    *,
    idle_s: float | None = None,
    on_leave: Callable[[], None] = lambda: None,
    start_s: float = START_S,
    reread: Callable[[], SecretStr | None] = key_now,
) -> int:
    """Serve runs until told to leave; the exit code is 0 for an orderly end.

    Args:
        settings: What to work with.
        idle_s: Leave after so many seconds without a run, and pay no heed to signals; None stays.
        on_leave: Called once, when it takes no more runs.
        start_s: Seconds for the first registration.
        reread: Returns the key as it is by now: one that was rotated is taken up when the old one is refused.

    Raises:
        SignalboxError: One line that says why the worker cannot work.
    """
    agents = load(settings.agents)
    redact = settings.redactor()
    board = Board(settings.concurrency)
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(Backend(settings.convex_url))
        model = await stack.enter_async_context(
            caller(
                base_url=settings.model_base_url,
                key=settings.model_key,
                default=settings.model,
                table=settings.models,
                max_connections=settings.concurrency + SPARE_CONNECTIONS,
                redact=redact,
            )
        )
        api = Api(backend, settings.key)

        def rekey() -> bool:
            key = reread()
            if key is None or key == api.key:
                return False
            redact.learn(key.get_secret_value())
            logger.info("the key was refused and another has been read", extra={"action": "key_rotated"})
            api.key = key
            return True

        stack.push_async_callback(toolbox.aclose)
        worker = Worker(
            api,
            Identity(settings.worker, settings.queues, settings.labels, settings.concurrency),
            Environment(
                agents,
                settings.agents,
                model,
                redact,
                board,
                tracer=tracer(),
                worker=settings.worker,
            ),
            grace_s=settings.grace_s,
            rekey=rekey,
            on_leave=on_leave,
            start_s=start_s,
            subscribe=lambda session, deliver: Wake(
                url=settings.convex_url, key=api.key, session=session, board=board, deliver=deliver
            ),
        )
        code = 1
        with _bare():
            async with anyio.create_task_group() as tasks:
                if idle_s is None:
                    tasks.start_soon(_obey_signals, worker, os._exit)
                else:
                    tasks.start_soon(_leave_when_idle, worker, idle_s)
                containers = [each.executor for each in agents if isinstance(each.executor, Container)]
                tasks.start_soon(sweep_on, containers, settings.worker)
                code = await worker.run()
                tasks.cancel_scope.cancel()
        return code
