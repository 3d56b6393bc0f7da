"""What an agent does once for a task, however many runs the task takes: steps, waits, signals.

Each has a key: its name, with #2, #3, ... when the name comes again. A run that comes after another takes the
same keys in the same order, finds what stands there and goes on behind it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeAlias

import anyio

from worker.errors import InvalidArgument, NonRetryable, PayloadTooLarge
from worker.models import (
    ApprovalWhy,
    Ask,
    Emitted,
    Entry,
    Progress,
    Signal,
    Spawned,
    Step,
    StepsPage,
    UntilApprovals,
    UntilEvent,
    UntilGroup,
    UntilTime,
    Upstream,
)
from worker.runtime.approval import Decision, decided, granted, question
from worker.runtime.sandbox import Sandbox

SHORT_SLEEP_S = 5.0  # a shorter wait is not worth another run
MAX_NAME_CHARS = 180  # the key, which may carry a number, has at most 200
MAX_RESULT_BYTES = 1_000_000  # of a step, as JSON
MAX_STATE_BYTES = 8 * 1024
SIGNAL_PAGE = 100  # as many the control plane tells at once
MAX_ASKS = 50  # questions of a task that people have open at a time
_EVENT, _SLEEP, _STEP, _SPAWN = "event", "sleep", "step", "spawn"
_STIRRINGS = 5  # turns of the event loop in which what runs beside a wait may come to a question, too

Until: TypeAlias = UntilTime | UntilEvent | UntilGroup | UntilApprovals


class StepMismatchError(NonRetryable):
    """An earlier run of the task did something else at this place."""

    code = "step_mismatch"


def mismatch(what: str) -> StepMismatchError:
    """Return the error of a step that does not fit, with what clears it."""
    return StepMismatchError(
        f"{what}: its code has changed under the task. Resume it on the old version (start a worker with "
        "that, then tasks retry), or from scratch on the new one (tasks restart), or fork it (tasks fork)"
    )


class InvalidStepError(NonRetryable):
    """A step cannot be kept: its name is of the wrong length, or its result is no JSON or too large."""

    code = "invalid_step"


class ConcurrentWaitError(NonRetryable):
    """Two waits at the same time: a task waits for one thing."""

    code = "concurrent_wait"


class ConcurrentLoopError(NonRetryable):
    """Two loops of one name at the same time: their turns would be numbered by chance."""

    code = "concurrent_loop"


class DurableHost(Protocol):
    """What keeps steps: the run, or the other end of the pipes of a run that plays in another process."""

    async def load(self) -> StepsPage:
        """Return everything that earlier runs have kept, and the signals that wait."""

    async def keep(self, entry: Entry) -> None:
        """Return once the control plane has acknowledged a step; a run that is no longer ours ends here."""

    async def suspend(self, key: str, until: Until) -> NoReturn:
        """End the run; the task's next run comes when the wait is over."""

    async def spawn(self, key: str, tasks: list[dict[str, Any]], *, gather: bool) -> Spawned:
        """Submit tasks, once for the key, all or none."""

    async def gathered(self, tasks: list[str]) -> list[Upstream]:
        """Return how spawned tasks have ended."""

    async def emit(self, key: str, name: str, data: str) -> Emitted:
        """Tell the tenant of an event, once for the key; `data` is JSON text."""

    async def upstream(self) -> list[Upstream]:
        """Return how the tasks have ended that this run's comes after."""

    async def signalled(self, *, wait: bool) -> list[Signal]:
        """Return the signals that have come since the last call; with `wait`, at least one."""

    def tell(self, progress: Progress | None, state: str | None) -> None:
        """Report how the run stands."""

    def doing(self, name: str | None) -> None:
        """Note which step is under way; None: none is."""

    def clean(self, text: str) -> str:
        """Return a text without the secrets of this process, as it may be kept."""


@dataclass(frozen=True, slots=True)
class Told:
    """A signal as an agent gets it."""

    name: str
    data: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """How another task ended; `error` is one line, `ref` what the submit called it."""

    task: str
    status: str
    output: Any
    error: str | None
    ref: str | None = None


def _outcome(item: Upstream) -> Outcome:
    return Outcome(
        item.task,
        item.status,
        None if item.output is None else json.loads(item.output),
        None if item.error is None else item.error.message,
        item.ref,
    )


class Durable:
    """The steps of one run.

    Args:
        host: What keeps them.
        earlier: Whether earlier runs have kept any, or signals wait.
        changed: Whether these were taken by other code than this run's. Then what does not come again in
            this one is a mismatch; of the same code it is left alone, for what runs at the same time may
            come in another order.
        sandbox: What the run of a fork may do.

    Attributes:
        sandbox: The same; None in a task that is no fork.
    """

    def __init__(
        self,
        host: DurableHost,
        *,
        earlier: bool,
        changed: bool = False,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._host = host
        self.sandbox = sandbox
        self._earlier = earlier or sandbox is not None
        self._changed = changed and earlier
        self._unseen: set[str] = set()  # of the steps that other code has taken
        self._players: set[int] = set()  # asyncio's tasks that have asked for steps
        self._loading = anyio.Lock()
        self._known: dict[str, Step] = {}
        self._loaded_at = 0.0
        self._lying: deque[Signal] = deque()
        self._seen: set[str] = set()  # ids of signals
        self._more_lie = False
        self._counts: Counter[str] = Counter()
        self._under_way: list[str] = []
        self._idle = anyio.Event()
        self._waits = False
        self._loops: set[str] = set()
        self._asks: list[Ask] = []
        self._over = False

    async def step(
        self,
        name: str,
        work: Callable[..., Any],
        /,
        *args: object,
        **named: object,
    ) -> Any:  # noqa: ANN401 - any JSON
        """Return the result of `work`, which is called once for the task."""
        key = self._key(name)
        if (known := await self.find(key, _STEP)) is not None and known.result is not None:
            return json.loads(known.result)
        with self.busy(name):
            value = work(*args, **named)
            if inspect.isawaitable(value):
                value = await value
            text = self.clean(self._text(name, value))  # the same now as in a later run
            await self.keep(Entry(key=key, kind="step", result=text))
        return json.loads(text)

    # For what keeps steps of its own kinds: turns and tool calls.

    def numbered(self, name: str) -> str:
        """Return the next key of a name that always carries its number: `turn#1`, `turn#2`, ..."""
        self._counts[name] += 1
        return f"{name}#{self._counts[name]}"

    def last_key(self, name: str) -> str:
        """Return the key that the last step of this name has."""
        count = self._counts[name]
        return name if count == 1 else f"{name}#{count}"

    async def keep(self, entry: Entry) -> None:
        """Return once a step has been acknowledged."""
        if entry.result is not None and len(entry.result) > MAX_RESULT_BYTES:
            raise InvalidStepError(
                f"{entry.key!r} has {len(entry.result)} bytes, at most {MAX_RESULT_BYTES} are kept"
            )
        if self._over:
            await anyio.sleep_forever()  # the run has ended to wait: its cancellation is on the way
        await self._host.keep(entry)

    def clean(self, text: str) -> str:
        """Return what is to be kept without the secrets of this process: a run goes by what it keeps."""
        return self._host.clean(text)

    @contextmanager
    def busy(self, name: str) -> Iterator[None]:
        """Note that something is under way: a wait lets it end before the run does."""
        self._under_way.append(name)
        self._host.doing(name)
        try:
            yield
        finally:
            self._under_way.remove(name)
            self._host.doing(self._under_way[-1] if self._under_way else None)
            self._idle.set()

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Note that a loop plays: two of a name at once would take each other's steps."""
        if name in self._loops:
            what = f"Two agents play as {name!r}" if name else "Two agents play without a name"
            raise ConcurrentLoopError(f"{what} at the same time; give each a `name` of its own")
        self._loops.add(name)
        try:
            yield
        finally:
            self._loops.discard(name)

    async def approve(
        self,
        name: str,
        what: str,
        arguments: Any,  # noqa: ANN401 - any JSON
        *,
        why: ApprovalWhy = "agent",
        timeout_s: float | None = None,
    ) -> Decision:
        """Return the decision of a person who approved something; `name` is that of the step."""
        key = self._key(name)
        await self.find(key, "approval")
        found = await self.ask(question(key, what, arguments, why=why, timeout_s=timeout_s))
        return granted(what, decided(what, arguments, found))

    async def ask(self, ask: Ask) -> str:
        """Return what people decided, as JSON text. Until they have, the run ends, with all that it asks."""
        known = await self.beside(ask.step, "approval")
        if known is not None and known.result is not None:
            return known.result
        self._check(f"it asks people about {ask.tool!r}")
        self._asks.append(ask)
        if len(self._asks) == 1:
            await self._suspend(ask.step)
        await anyio.sleep_forever()  # the first that asked ends the run for all
        raise AssertionError("a suspended run went on")

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        if not 0 <= seconds < float("inf"):
            raise InvalidStepError(f"A sleep lasts some seconds, not {seconds!r}")
        key = self._key(_SLEEP)
        known = await self.find(key, _SLEEP)
        if self._closed:
            return  # a fork without effects does not wait
        left_s = seconds if known is None else self._left_s(known)
        if left_s <= SHORT_SLEEP_S:
            await anyio.sleep(left_s)
        else:
            await self._suspend(key, UntilTime(ms=left_s * 1000))

    async def wait_for(self, event: str, timeout_s: float | None) -> Any:  # noqa: ANN401 - any JSON
        """Return the data of the event or signal."""
        key = self._key(event)
        known = await self.find(key, _EVENT) or await self._recorded(key)
        if known is None or known.result is None:
            self._check(f"its agent waits for {event!r}")
            signal = await self._take(event)
            if signal is None:
                limit_ms = None if timeout_s is None else timeout_s * 1000
                await self._suspend(key, UntilEvent(event=event, timeout_ms=limit_ms))
            await self._consume(key, signal)
            return json.loads(signal.data)
        found = json.loads(known.result)
        if found.get("timeout"):
            raise TimeoutError(f"{event!r} did not come in time")
        return found["data"]

    async def signals(self) -> AsyncIterator[Told]:
        """Yield the signals of the task, those of earlier runs first."""
        while True:
            key = self._key("signals")
            known = await self.find(key, _EVENT) or await self._recorded(key)
            if known is not None and known.result is not None:
                found = json.loads(known.result)
                yield Told(found["name"], found["data"])
                continue
            self._check("its agent waits for signals")
            while (signal := await self._take(None)) is None:
                self._hear(await self._host.signalled(wait=True))
            await self._consume(key, signal)
            yield Told(signal.name, json.loads(signal.data))

    async def spawn(self, tasks: list[dict[str, Any]]) -> list[str]:
        """Submit tasks as children of this one, once."""
        key = self._key(_SPAWN)
        return (await self._spawned(key, tasks, gather=False)).tasks if tasks else []

    async def gather(self, tasks: list[dict[str, Any]]) -> list[Outcome]:
        """Submit tasks as children, wait for all of them without a worker, and return how they ended."""
        key = self._key("gather")
        if not tasks:
            return []
        spawned = await self._spawned(key, tasks, gather=True)
        end = f"{key}.end"
        known = await self.find(end, _EVENT)
        if (known is None or known.result is None) and spawned.group is not None:
            self._check("its agent waits for other tasks")
            await self._suspend(end, UntilGroup(group=spawned.group))
        return [_outcome(item) for item in await self._host.gathered(spawned.tasks)]

    async def emit(self, event: str, data: Any) -> int:  # noqa: ANN401 - any JSON
        """Tell the tenant of an event, once; return how many tasks it started or woke."""
        key = self._key("emit")
        if (known := await self.find(key, _STEP)) is not None and known.result is not None:
            emitted = Emitted.model_validate_json(known.result)
        else:
            self._check(f"its agent tells the event {event!r}")
            try:
                emitted = await self._host.emit(key, event, self._text("event", data))
            except (InvalidArgument, PayloadTooLarge) as error:
                raise InvalidStepError(str(error)) from error
        return len(emitted.tasks) + emitted.woken

    async def upstream(self) -> list[Outcome]:
        """Return how the tasks have ended that this one comes after."""
        return [_outcome(item) for item in await self._host.upstream()]

    async def _spawned(self, key: str, tasks: list[dict[str, Any]], *, gather: bool) -> Spawned:
        known = await self.find(key, _SPAWN)
        if known is not None and known.result is not None:
            return Spawned.model_validate_json(known.result)
        self._check("its agent submits tasks")
        try:
            return await self._host.spawn(key, tasks, gather=gather)
        except (InvalidArgument, PayloadTooLarge) as error:
            raise InvalidStepError(str(error)) from error

    # What a fork may not do.

    @property
    def _closed(self) -> bool:
        return self.sandbox is not None and self.sandbox.closed

    def _check(self, what: str) -> None:
        if self.sandbox is not None:
            self.sandbox.check(what)

    async def _recorded(self, key: str) -> Step | None:
        """Keep what ended the wait under this key in the task that a fork comes from, and return that."""
        answer = None if self.sandbox is None else self.sandbox.answer(key)
        if answer is None:
            return None
        await self._host.keep(Entry(key=key, kind="event", result=answer))
        return Step(key=key, kind="event", result=answer, remaining_ms=None)

    def tell(self, progress: Progress | None, state: Any) -> None:  # noqa: ANN401 - any JSON
        """Report how the run stands."""
        text = None
        if progress is None:
            text = self._text("state", state)
            if len(text.encode()) > MAX_STATE_BYTES:
                raise ValueError(f"A state has at most {MAX_STATE_BYTES} bytes of JSON")
        self._host.tell(progress, text)

    # Keys and what stands under them.

    def _key(self, name: str) -> str:
        """Return the key of the next thing of a name. It is taken before anything is awaited."""
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_CHARS:
            raise InvalidStepError(
                f"A step has a name of 1 to {MAX_NAME_CHARS} characters, not {name!r}"[:300]
            )
        self._counts[name] += 1
        return self.last_key(name)

    async def find(self, key: str, kind: str) -> Step | None:
        """Return what an earlier run has left under a key.

        Raises:
            StepMismatchError: It is of another kind, or changed code comes to what its older form had not.
        """
        await self._loaded()
        known = self._known.get(key)
        if known is not None and known.kind != kind:
            raise mismatch(f"{key!r} was a {known.kind} in an earlier run and is a {kind} in this one")
        if self._changed:
            self._unseen.discard(key)
            self._players.add(id(asyncio.current_task()))
            if known is None and self._unseen and len(self._players) == 1:
                missed = min(self._unseen)
                raise mismatch(f"{key!r} is new, and {missed!r} of an earlier run has not come yet")
        return known

    async def beside(self, key: str, kind: str) -> Step | None:
        """Return what an earlier run has left beside a step; that nothing is there is as it may be."""
        await self._loaded()
        self._unseen.discard(key)
        known = self._known.get(key)
        return known if known is not None and known.kind == kind else None

    async def check_end(self) -> None:
        """Refuse the end of a run whose code has left out what other code has done before.

        Raises:
            StepMismatchError: With the first of these steps.
        """
        if self._changed:
            await self._loaded()
            if self._unseen:
                raise mismatch(f"{min(self._unseen)!r} of an earlier run has not come in this one")

    async def _loaded(self) -> None:
        if self._earlier:
            async with self._loading:
                if self._earlier:
                    await self._load()
                    self._earlier = False

    async def _load(self) -> None:
        self._loaded_at = anyio.current_time()
        page = await self._host.load()
        if self.sandbox is None:
            self._known = {step.key: step for step in page.steps}
        else:
            self._known = self.sandbox.learn(page.steps)
        if self._changed and not self._players:
            self._unseen = {step.key for step in self._known.values() if step.result is not None}
        self._more_lie = len(page.signals) >= SIGNAL_PAGE
        self._hear(page.signals)

    def _left_s(self, wait: Step) -> float:
        passed_s = anyio.current_time() - self._loaded_at
        return max(0.0, (wait.remaining_ms or 0.0) / 1000 - passed_s)

    def _text(self, name: str, value: Any) -> str:  # noqa: ANN401 - whatever the step returned
        try:
            text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidStepError(f"The result of {name!r} is not JSON: {error}"[:500]) from error
        if len(text) > MAX_RESULT_BYTES:
            raise InvalidStepError(
                f"The result of {name!r} has {len(text)} bytes, at most {MAX_RESULT_BYTES} are kept; "
                "store it elsewhere and return where"
            )
        return text

    # Signals.

    def _hear(self, signals: list[Signal]) -> None:
        for signal in signals:
            if signal.signal not in self._seen:
                self._seen.add(signal.signal)
                self._lying.append(signal)

    async def _take(self, name: str | None) -> Signal | None:
        """Return the first signal that lies there, of a name or of any."""
        told = await self._host.signalled(wait=False)
        if not self._more_lie:  # else those that lie go before, and these come with the last of them
            self._hear(told)
        elif not self._lying:
            await self._load()
        for signal in self._lying:
            if name is None or signal.name == name:
                self._lying.remove(signal)
                return signal
        return None

    async def _consume(self, key: str, signal: Signal) -> None:
        result = f'{{"name":{json.dumps(signal.name)},"data":{signal.data}}}'
        await self.keep(Entry(key=key, kind="event", result=result, signal=signal.signal))

    # Waiting without a worker.

    async def _suspend(self, key: str, until: Until | None = None) -> NoReturn:
        """End the run until something, or until people have answered what is asked by then."""
        if self._waits:
            raise ConcurrentWaitError("A run waits for one thing at a time; give wait_for a timeout instead")
        self._waits = True
        asked = -1
        while self._under_way or asked != len(self._asks):  # what has begun is kept first
            asked = len(self._asks)
            if self._under_way:
                self._idle = anyio.Event()
                await self._idle.wait()
            for _ in range(_STIRRINGS if asked else 0):
                await anyio.lowlevel.checkpoint()
        self._over = True
        await self._host.suspend(key, until or UntilApprovals(approvals=self._asks[:MAX_ASKS]))
        raise AssertionError("a suspended run went on")
