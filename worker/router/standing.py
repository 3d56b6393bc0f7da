"""How the models stand for all runs of a worker: which ones cool, and how much of their limits is used.

Without a control plane it knows what this worker has seen. With one it is told (`learn`) what all workers
have seen and which share of a limit is this worker's, and tells (`reports`) what happened here. Time is
monotonic seconds; nothing here waits but `wait`.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import anyio

from worker.llm.errors import ModelError
from worker.router.rules import WINDOW_S, cooldown_s, is_soft, rule_of

MINUTE_S = 60.0
SHARE_S = 2.0  # how soon a share may come that has been asked for; it is worth a short wait
REPORT_S = 10.0  # between two reports that say no more than how much was asked


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """What the control plane says of a model.

    Attributes:
        model: `provider/model`.
        cool_s: For how long nobody is to ask it.
        code: The class of failure for which it cools; None when it does not.
        message: The provider's line for it.
        configured: Grows when an operator changes something: what was broken until then may work now.
        rev: Grows with each change of this worker's share.
        per_s: The time in which the limits count.
        requests: This worker's share of the limit of requests; None: there is no limit.
        tokens: The same in tokens.
        most_tokens: The whole limit of tokens: no single call may use more.
    """

    model: str
    cool_s: float = 0.0
    code: str | None = None
    message: str | None = None
    configured: int = 0
    rev: int = 0
    per_s: float = MINUTE_S
    requests: int | None = None
    tokens: int | None = None
    most_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareReport:
    """How a worker stands under a limit: what it obeys, what it used in the limit's time, and what it lacks.

    Attributes:
        configured: Of the state that it obeys from here on.
        rev: The same of its share.
        used_requests: Those that may still count at the provider.
        used_tokens: The same in tokens, those reserved included.
        waiting: Calls that wait for a larger share.
        least_tokens: Of the largest of them.
    """

    configured: int
    rev: int
    used_requests: int
    used_tokens: int
    waiting: int
    least_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """What happened with a model since the last report.

    Attributes:
        model: `provider/model`.
        requests: Attempts that ended.
        failures: Those that failed for a reason that says something of the model.
        tokens: What the attempts used, as far as that is known.
        code: The class of the last failure, of any kind; None when there was none.
        message: Its line.
        cool_s: For how long nobody is to ask it, since it said so; None: nothing follows from these alone.
        share: None while no limit is known.
    """

    model: str
    requests: int = 0
    failures: int = 0
    tokens: int = 0
    code: str | None = None
    message: str | None = None
    cool_s: float | None = None
    share: ShareReport | None = None


@dataclass(slots=True)
class _Use:
    """An attempt as the limits count it; None: it has not come to that."""

    tokens: int
    answered_at: float | None = None
    settled_at: float | None = None


@dataclass(slots=True)
class _Model:
    cool_until: float = 0.0
    code: str | None = None  # the class of failure for which it cools
    message: str | None = None
    in_a_row: int = 0
    ended: deque[tuple[float, bool]] = field(default_factory=deque)  # when, and whether it was a failure
    uses: deque[_Use] = field(default_factory=deque)
    state: ModelState | None = None
    configured: int = 0
    # Since the last report:
    requests: int = 0
    failures: int = 0
    tokens: int = 0
    failed: tuple[str, str] | None = None
    cooled: float | None = None
    waiting: int = 0
    least_tokens: int = 0
    reported_at: float = -math.inf
    urgent: bool = False


class Ticket:
    """One attempt under the limits of its model."""

    def __init__(self, use: _Use, model: _Model, clock: Callable[[], float]) -> None:
        self._use = use
        self._model = model
        self._clock = clock

    def answered(self) -> None:
        """The provider has the request, whatever it makes of it."""
        if self._use.answered_at is None:
            self._use.answered_at = self._clock()

    def settle(self, tokens: int | None) -> None:
        """The attempt is over, and used so many tokens; None: as many as were reserved."""
        self.answered()
        if tokens is not None:
            self._use.tokens = tokens
        self._use.settled_at = self._clock()
        self._model.tokens += self._use.tokens


class Standing:
    """How the models stand.

    Args:
        on_news: Called when there is something that the other workers should hear soon.
        clock: Monotonic seconds.
    """

    def __init__(
        self, on_news: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.on_news = on_news
        self._clock = clock
        self._models: dict[str, _Model] = {}
        self._changed = anyio.Event()

    # What a call asks.

    def free_in_s(self, name: str, tokens: int, *, alone: bool = False) -> float:
        """Return when a model can be asked, with so many tokens; inf: not until it is configured.

        Args:
            name: The model.
            tokens: Of the attempt, at most.
            alone: There is no other model to ask: that many calls fail is no reason not to try.
        """
        model = self._models.get(name)
        return 0.0 if model is None else _free_in_s(model, tokens, self._clock(), alone=alone)

    def blocked(self, name: str) -> tuple[str, str] | None:
        """Return the class and line of the failure for which a model cools."""
        model = self._models.get(name)
        if model is None or model.code is None or model.cool_until <= self._clock():
            return None
        return model.code, model.message or ""

    def take(self, name: str, tokens: int, *, alone: bool = False) -> Ticket | None:
        """Reserve an attempt of at most so many tokens, or return None: the model is not free for it now."""
        model = self._of(name)
        if _free_in_s(model, tokens, self._clock(), alone=alone) > 0:
            return None
        state = model.state
        if state is not None and state.most_tokens is not None:
            tokens = min(tokens, state.most_tokens)
        use = _Use(tokens)
        model.uses.append(use)
        return Ticket(use, model, self._clock)

    def lacks(self, name: str, tokens: int) -> None:
        """Note that a call cannot ask a model for want of a larger share of its limits."""
        model = self._models.get(name)
        if model is None or model.state is None or not _is_short(model.state, tokens):
            return
        model.waiting += 1
        if tokens > model.least_tokens or not model.urgent:
            model.least_tokens = max(model.least_tokens, tokens)
            self._news(model)

    async def wait(self, seconds: float) -> None:
        """Wait until something has changed, at most so long."""
        changed = self._changed
        with anyio.move_on_after(seconds):
            await changed.wait()

    # What became of attempts.

    def succeeded(self, name: str) -> None:
        """A model has answered."""
        model = self._of(name)
        model.in_a_row = 0
        model.requests += 1
        self._note(model, failed=False)

    def failed(self, name: str, error: ModelError) -> None:
        """A model has failed; it cools if its rule says so."""
        model, now = self._of(name), self._clock()
        says_something = rule_of(error.code).cools not in {"no", "until_configured"}
        model.in_a_row += says_something
        model.requests += 1
        model.failures += says_something
        model.failed = (error.code, str(error))
        self._note(model, failed=says_something)
        cool_s = cooldown_s(
            error.code,
            error.retry_after_s,
            in_a_row=model.in_a_row,
            failures=sum(failed for _, failed in model.ended),
            calls=len(model.ended),
        )
        if cool_s > 0:
            if now + cool_s > model.cool_until:
                model.cool_until, model.code, model.message = now + cool_s, error.code, str(error)
            if cool_s < math.inf:  # else it is this worker's own configuration that is wrong
                model.cooled = max(model.cooled or 0.0, cool_s)
        if cool_s > 0 or says_something:
            self._news(model)

    def _note(self, model: _Model, *, failed: bool) -> None:
        now = self._clock()
        model.ended.append((now, failed))
        while model.ended[0][0] <= now - WINDOW_S:
            model.ended.popleft()

    # The control plane.

    def begin(self) -> None:
        """A session has begun: what was told in the one before, its shares too, holds no more."""
        for model in self._models.values():
            model.state = None

    def learn(self, states: Iterable[ModelState]) -> None:
        """Take in what the control plane says: all models of which it has anything to say."""
        now, told = self._clock(), {state.model: state for state in states}
        before = {name: (model.state, model.cool_until) for name, model in self._models.items()}
        for name, state in told.items():
            model = self._of(name)
            if model.state is not None and _age(state) < _age(model.state):
                continue  # an answer that was overtaken by a later message
            if state.configured > model.configured:
                model.configured = state.configured
                model.cool_until, model.code, model.message, model.in_a_row = 0.0, None, None, 0
                model.ended.clear()
            if state.code is not None and now + state.cool_s > model.cool_until:
                model.cool_until, model.code, model.message = now + state.cool_s, state.code, state.message
            known, model.state = model.state, state
            if _is_limited(state) and (known is None or _age(known) != _age(state)):
                self._news(model)  # it is obeyed from here on, and others wait to hear that
        for name, model in self._models.items():
            if name not in told:
                model.state = None
        if any(_has_changed(model, *before.get(name, (None, 0.0))) for name, model in self._models.items()):
            # Calls that wait look again, and may ask anew for what they lack: not for what they know.
            changed, self._changed = self._changed, anyio.Event()
            changed.set()

    def reports(self) -> list[ModelReport]:
        """Return what has happened since the last call, as far as it is worth telling."""
        now = self._clock()
        found = []
        for name, model in self._models.items():
            due = model.urgent or (model.requests > 0 and model.reported_at <= now - REPORT_S)
            if not due:
                continue
            code, message = model.failed or (None, None)
            found.append(
                ModelReport(
                    model=name,
                    requests=model.requests,
                    failures=model.failures,
                    tokens=model.tokens,
                    code=code,
                    message=message,
                    cool_s=model.cooled,
                    share=_share_report(model, now),
                )
            )
            model.requests = model.failures = model.tokens = model.waiting = model.least_tokens = 0
            model.failed = model.cooled = None
            model.urgent, model.reported_at = False, now
        return found

    def _news(self, model: _Model) -> None:
        if not model.urgent:
            model.urgent = True
            self.on_news()

    def _of(self, name: str) -> _Model:
        return self._models.setdefault(name, _Model())


def _has_changed(model: _Model, state: ModelState | None, cool_until: float) -> bool:
    if model.state is None or state is None:
        return model.cool_until != cool_until or model.state is not state
    # Of the time for which it cools there is ever less to say.
    return model.cool_until != cool_until or replace(model.state, cool_s=state.cool_s) != state


def _age(state: ModelState) -> tuple[int, int]:
    return state.configured, state.rev


def _is_limited(state: ModelState) -> bool:
    return state.requests is not None or state.tokens is not None


def _is_short(state: ModelState, tokens: int) -> bool:
    """Return whether no wait helps an attempt: its model's share is too small for it."""
    if state.requests == 0:
        return True
    return state.tokens is not None and state.tokens < _most(state, tokens)


def _most(state: ModelState, tokens: int) -> int:
    return tokens if state.most_tokens is None else min(tokens, state.most_tokens)


def _forget(model: _Model, now: float) -> None:
    """Drop the uses at the front that count no more."""
    per_s = MINUTE_S if model.state is None else model.state.per_s
    while model.uses and (settled := model.uses[0].settled_at) is not None and settled + per_s <= now:
        model.uses.popleft()


def _counted(model: _Model, now: float, per_s: float) -> tuple[list[float], list[tuple[float, int]]]:
    """Return until when each request counts, and until when how many tokens do; inf: as long as it lasts."""
    requests: list[float] = []
    tokens: list[tuple[float, int]] = []
    for use in model.uses:
        request_until = math.inf if use.answered_at is None else use.answered_at + per_s
        tokens_until = math.inf if use.settled_at is None else use.settled_at + per_s
        if request_until > now:
            requests.append(request_until)
        if tokens_until > now:
            tokens.append((tokens_until, use.tokens))
    return requests, tokens


def _free_in_s(model: _Model, tokens: int, now: float, *, alone: bool) -> float:
    cools_s = 0.0 if alone and model.code is not None and is_soft(model.code) else model.cool_until - now
    return max(0.0, cools_s, _room_in_s(model, tokens, now))


def _room_in_s(model: _Model, tokens: int, now: float) -> float:
    """Return when this worker's share of a model's limits has room for an attempt."""
    _forget(model, now)
    state = model.state
    if state is None or not _is_limited(state):
        return 0.0
    if _is_short(state, tokens):
        return min(SHARE_S, state.per_s)
    requests, used = _counted(model, now, state.per_s)
    at = now
    if state.requests is not None and len(requests) >= state.requests:
        at = max(at, heapq.nsmallest(len(requests) - state.requests + 1, requests)[-1])
    if state.tokens is not None:
        excess = sum(each for _, each in used) + _most(state, tokens) - state.tokens
        for until, each in sorted(used):
            if excess <= 0:
                break
            excess -= each
            at = max(at, until)
    return state.per_s if at == math.inf else at - now


def _share_report(model: _Model, now: float) -> ShareReport | None:
    state = model.state
    if state is None or not _is_limited(state):
        return None
    requests, used = _counted(model, now, state.per_s)
    return ShareReport(
        configured=state.configured,
        rev=state.rev,
        used_requests=len(requests),
        used_tokens=sum(each for _, each in used),
        waiting=model.waiting,
        least_tokens=model.least_tokens,
    )
