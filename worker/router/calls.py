"""One call: its attempts, what each means for the next, and how it ends without an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anyio

from worker.llm.errors import ContentFiltered, ContextLength, ModelError
from worker.llm.messages import ChatRequest, Completion, TokenUsage
from worker.purse import Purse, UnpricedModel
from worker.router.attempt import Attempt, ask
from worker.router.decide import Chain, End, Failure, Option, Try, next_move
from worker.router.failures import NoCapableModel, NoModelFree, Refused, blocked_by, named
from worker.router.ports import Sink, Target
from worker.router.records import CallRecord
from worker.router.rules import is_soft, rule_of
from worker.router.standing import Standing, Ticket
from worker.router.tokens import need_of, size_of


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call brought.

    Attributes:
        completion: The whole message.
        model: Who answered, as the chain names it.
        calls: Every attempt, in order; the last one succeeded.
    """

    completion: Completion
    model: str
    calls: tuple[CallRecord, ...]


class RoutedCall:
    """One call: its attempts, and what is known of the models of its chain."""

    def __init__(
        self,
        request: ChatRequest,
        chain: Chain,
        *,
        sink: Sink,
        purse: Purse,
        deadline: float | None,
        targets: dict[str, Target],
        unusable: dict[str, ModelError],
        standing: Standing,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._request = request
        self._chain = chain
        self._sink = sink
        self._purse = purse
        self._deadline = deadline
        self._targets = targets
        self._unusable = unusable  # not in the catalogue, or without its key
        self._unpriced: dict[str, UnpricedModel] = {}
        self._standing = standing
        self._clock = clock
        self._draw = draw
        self._need = need_of(request)
        self._sizes = {
            name: size_of(request, self._need, target.max_output_tokens) for name, target in targets.items()
        }
        self._needs = needed(request)
        self._failures: list[_Failed] = []
        self._calls: list[CallRecord] = []
        self._waited_s = 0.0

    async def answer(self) -> Answer:
        """Make attempts until one has succeeded, or none is left."""
        while isinstance(move := self._next(), Try):
            if move.after_s > 0:
                await self._wait(move)
            elif (ticket := self._take(move.model)) is not None:
                completion = await self._attempt(self._targets[move.model], ticket)
                if completion is not None:
                    return Answer(completion, move.model, tuple(self._calls))
        raise self._error(move)

    @property
    def _is_alone(self) -> bool:
        """Whether there is but one model to ask: then the queue's own rules say how often it is tried."""
        return len(self._targets) - len(self._unpriced) <= 1

    def _take(self, name: str) -> Ticket | None:
        return self._standing.take(name, self._sizes[name].most, alone=self._is_alone)

    async def _wait(self, move: Try) -> None:
        began = self._clock()
        self._standing.lacks(move.model, self._sizes[move.model].most)
        await self._standing.wait(move.after_s)
        self._waited_s += self._clock() - began

    def _next(self) -> Try | End:
        now = self._clock()
        failures = [
            Failure(each.model, each.error.code, max(0.0, each.again_at - now), each.forbidden)
            for each in self._failures
        ]
        return next_move(
            self._options(),
            failures,
            need=self._need,
            fallback_on=self._chain.fallback_on,
            waited_s=self._waited_s,
            remaining_s=math.inf if self._deadline is None else self._deadline - anyio.current_time(),
        )

    def _options(self) -> list[Option]:
        options = []
        for name, target in self._targets.items():
            if name in self._unpriced:
                continue
            blocked = self._standing.blocked(name)
            able = target.capabilities is None or self._needs <= target.capabilities
            free_in_s = self._standing.free_in_s(name, self._sizes[name].most, alone=self._is_alone)
            options.append(
                Option(name, free_in_s, target.context_tokens, able, None if blocked is None else blocked[0])
            )
        for name, error in self._unusable.items():
            options.append(Option(name, math.inf, blocked=error.code))
        return (
            sorted(options, key=lambda option: self._price(option.name)) if self._purse.degraded else options
        )

    def _price(self, name: str) -> float:
        """Return what a call costs at a model, to put the cheapest first; inf: that is not known."""
        target = self._targets.get(name)
        cost = None if target is None else target.cost_micros(TokenUsage(1_000_000, 1_000_000))
        return math.inf if cost is None else cost

    # One attempt.

    async def _attempt(self, target: Target, ticket: Ticket) -> Completion | None:
        """Ask a model that has room; return its answer, or None when it failed."""
        size = self._sizes[target.name]
        try:
            hold = await self._purse.reserve(target.cost_micros(size.usage), size.most)
        except UnpricedModel as error:
            self._unpriced[target.name] = error
            ticket.settle(0)
            return None
        except BaseException:
            ticket.settle(0)
            raise
        attempt = Attempt(
            target, len(self._calls) + 1, self._need, ticket=ticket, hold=hold, clock=self._clock
        )
        left = None if self._deadline is None else self._deadline - anyio.current_time()
        try:
            completion = await ask(self._request, attempt, self._sink, left)
        except ModelError as error:
            attempt.over(error)
            self._standing.failed(target.name, error)
            self._failed(attempt, error)
            return None
        except BaseException:
            attempt.over(None)
            self._keep(attempt.record("cancelled", None))
            raise
        attempt.over(None)
        self._standing.succeeded(target.name)
        if (refused := self._refusal(completion)) is not None:
            self._failed(attempt, refused)
            return None
        self._keep(attempt.record("succeeded", None))
        return completion

    def _refusal(self, completion: Completion) -> ModelError | None:
        """Return an answer as a failure, if the chain says that the next model is asked after such a one."""
        policy = self._chain.fallback_on
        if "content_filter" in policy and completion.finish == "content_filter":
            error: ModelError = ContentFiltered("The provider's filter cut the answer short")
        elif "refusal" in policy and completion.refusal is not None:
            error = Refused("The model refused to answer")
        else:
            return None
        error.partial_output = True
        return error

    def _failed(self, attempt: Attempt, error: ModelError) -> None:
        wait_s = error.retry_after_s
        if wait_s is None:
            wait_s = self._draw() if rule_of(error.code).same == "once" else 0.0
        # Of a class that can be tried again, and whose provider said that this one cannot.
        forbidden = type(error).retryable and not error.retryable
        self._failures.append(_Failed(attempt.target.name, error, self._clock() + wait_s, forbidden))
        superseded = error.partial_output and isinstance(self._next(), Try)
        self._keep(attempt.record("superseded" if superseded else "failed", error))

    def _keep(self, record: CallRecord) -> None:
        self._calls.append(record)
        self._sink.record(record)

    # How it ends without an answer.

    def _error(self, end: End) -> ModelError | UnpricedModel:
        """Return the failure of the call: the one that decided, with a line that names them all."""
        if self._unpriced and not self._failures:
            return next(iter(self._unpriced.values()))
        error = self._decided(end)
        if len(self._chain.models) > 1 and self._failures:
            failures = [(each.model, each.error.code, str(each.error)) for each in self._failures]
            error.args = (named(failures, self._untried()),)
        error.retryable = end.retryable
        error.retry_after_s = end.after_s if end.after_s > 0 else None
        return error

    def _decided(self, end: End) -> ModelError:
        if self._failures:
            return self._failures[-1].error
        if end.code == "no_model_free":
            return self._none_free()
        if end.code == "no_capable_model":
            return NoCapableModel(
                f"None of {', '.join(self._targets)} can do what is asked for: "
                f"{', '.join(sorted(self._needs))}"
            )
        if end.code == "context_length":
            largest = max(target.context_tokens or 0 for target in self._targets.values())
            return ContextLength(
                f"The prompt has {self._need.least} tokens at least; "
                f"the largest window of the chain has {largest}"
            )
        if (error := next(iter(self._unusable.values()), None)) is not None and error.code == end.code:
            return error
        return blocked_by(end.code, "; ".join(self._untried()))

    def _none_free(self) -> ModelError:
        """Return the failure of a call that asked none; that all models cool since calls fail burns one."""
        whys = "; ".join(self._untried())
        blocked = [self._standing.blocked(name) for name in self._targets]
        codes = [each[0] for each in blocked if each is not None]
        if len(codes) == len(blocked) and all(is_soft(code) for code in codes):
            return blocked_by(codes[0], f"Every model fails: {whys}")
        return NoModelFree(f"No model is free: {whys}")

    def _untried(self) -> list[str]:
        """Return for each model that was not asked why not."""
        asked = {each.model for each in self._failures}
        lines = [f"{name}: {error}" for name, error in self._unusable.items()]
        for option in self._options():
            if option.name in asked or option.name in self._unusable:
                continue
            if (blocked := self._standing.blocked(option.name)) is not None:
                code, message = blocked
                cools = "" if option.free_in_s == math.inf else f", for {option.free_in_s:.3g} s"
                lines.append(f"{option.name} cools{cools}: {code}: {message}")
            elif option.free_in_s > 0:
                lines.append(f"{option.name}: its limit has room in {option.free_in_s:.3g} s")
            elif not option.capable:
                lines.append(f"{option.name}: it cannot do what is asked for")
            else:
                lines.append(f"{option.name}: its window of {option.window} tokens is too small")
        return lines


@dataclass(frozen=True, slots=True)
class _Failed:
    """An attempt that failed, with when its model may be asked again."""

    model: str
    error: ModelError
    again_at: float
    forbidden: bool


def needed(request: ChatRequest) -> frozenset[str]:
    """Return what a model must be able to do for a request."""
    needs = set()
    if request.tools:
        needs.add("tools")
    if request.response_format is not None:
        needs.add("json_schema")
    if any(_shows_pictures(message.get("content")) for message in request.messages):
        needs.add("vision")
    return frozenset(needs)


def _shows_pictures(content: object) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, Mapping) and part.get("type") in {"image_url", "image", "input_image"}
        for part in content
    )
