"""Decides what goes into the next sync. Pure: no I/O, and time is passed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.models import (
    CallReport,
    Chunk,
    ChunkKind,
    Clocks,
    Failed,
    Finished,
    ModelReport,
    Outcome,
    Progress,
    ProgressReport,
    RunError,
    Spending,
    StepReport,
    SyncRequest,
    Usage,
)

MAX_CHUNK_BYTES = 16 * 1024  # a reader's page of 64 chunks stays at a megabyte
_ITEM_BYTES = 200  # ids, field names and quotes around an item's text, rounded up
_CHANCES = 3  # a function that crashed may work the next time


@dataclass(frozen=True, slots=True)
class Accepted:
    """The run has been started."""

    run: str
    bytes: int = _ITEM_BYTES


@dataclass(frozen=True, slots=True)
class Streamed:
    """A piece of a run's stream."""

    run: str
    chunk: Chunk
    bytes: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """Something that a run has done for good."""

    run: str
    report: StepReport
    bytes: int


@dataclass(frozen=True, slots=True)
class Called:
    """An attempt at a model call."""

    run: str
    report: CallReport
    bytes: int


@dataclass(frozen=True, slots=True)
class Modelled:
    """What happened with a model."""

    report: ModelReport
    bytes: int


@dataclass(frozen=True, slots=True)
class Told:
    """How a run stands."""

    run: str
    report: ProgressReport
    bytes: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has spent so far."""

    spending: Spending
    bytes: int = 2 * _ITEM_BYTES


@dataclass(frozen=True, slots=True)
class Ended:
    """A run's result."""

    run: str
    finished: Finished
    bytes: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A control has been acted on."""

    control: str
    bytes: int = _ITEM_BYTES


Item = Accepted | Streamed | Stepped | Called | Modelled | Told | Spent | Ended | Acknowledged


@dataclass(slots=True)
class _Gathered:
    """Text of one run, call, attempt and kind that has not been given a chunk's number yet."""

    kind: ChunkKind
    call: int
    attempt: int
    parts: list[str]
    bytes: int


@dataclass(slots=True)
class _Run:
    accepted: bool = False
    gathered: deque[_Gathered] = field(default_factory=deque)
    next_seq: int = 0
    steps: deque[StepReport] = field(default_factory=deque)
    calls: deque[CallReport] = field(default_factory=deque)
    told: ProgressReport | None = None
    ended: Ended | None = None
    gone: bool = False  # not ours any more: only what its calls have cost is told

    def has_work(self) -> bool:
        return (
            self.accepted
            or bool(self.gathered)
            or bool(self.steps)
            or bool(self.calls)
            or self.told is not None
            or self.ended is not None
        )


class Outbox:
    """Everything that waits to be told, in an order that keeps a run's chunks before its result.

    A body is frozen from the moment it is taken until it is acknowledged, so that a retry repeats it word
    for word. After a failure the next body is a heartbeat alone: it carries the last acknowledged `seq`, so
    it is a repeat that changes nothing but the lease, and one fat body can never cost it. No two different
    bodies have the same number: the second would pass for a repeat of the first, and be lost.

    Args:
        session: Whose outbox this is.
        max_items: Most items in a body.
        max_bytes: Most bytes of text in a body; an item that is larger goes alone.
    """

    def __init__(self, session: str, *, max_items: int, max_bytes: int) -> None:
        self._session = session
        self._max_items = max(1, max_items)
        self._max_bytes = max_bytes
        self._runs: dict[str, _Run] = {}  # in the order in which they are served
        self._controls: dict[str, None] = {}
        self._models: deque[ModelReport] = deque()
        self._seq = 0  # of the last acknowledged body
        self._last_seq = 0  # given to any body
        self._frozen: SyncRequest | None = None
        self._refusals = 0  # of the frozen body, without a reason that is sure to come again
        self._frozen_items: list[Item] = []
        self._split: deque[list[Item]] = deque()  # parts of a refused body, to be sent one by one
        self._heartbeat_first = False
        self._heartbeat: SyncRequest | None = None
        self.text_bytes = 0  # gathered and not yet taken
        self.oldest_text_at: float | None = None
        self.oldest_accept_at: float | None = None
        self.oldest_told_at: float | None = None
        self._results = 0  # and steps: somebody waits for each

    # What runs report.

    def accept(self, run: str, now: float) -> None:
        """Tell that `run` has been started."""
        self._run(run).accepted = True
        if self.oldest_accept_at is None:
            self.oldest_accept_at = now

    def text(self, run: str, text: str, now: float, *, kind: ChunkKind, call: int, attempt: int) -> None:
        """Add streamed text; what gathers between two syncs becomes one chunk."""
        if not text:
            return
        try:
            size = len(text.encode())
        except UnicodeEncodeError:  # a lone surrogate, which is in no valid JSON document
            text = text.encode("utf-8", "replace").decode()
            size = len(text.encode())
        if size > MAX_CHUNK_BYTES:
            middle = len(text) // 2
            self.text(run, text[:middle], now, kind=kind, call=call, attempt=attempt)
            self.text(run, text[middle:], now, kind=kind, call=call, attempt=attempt)
            return
        gathered = self._run(run).gathered
        last = gathered[-1] if gathered else None
        if (
            last is not None
            and (last.kind, last.call, last.attempt) == (kind, call, attempt)
            and last.bytes + size <= MAX_CHUNK_BYTES
        ):
            last.parts.append(text)
            last.bytes += size
        else:
            gathered.append(_Gathered(kind, call, attempt, [text], size))
        self.text_bytes += size
        if self.oldest_text_at is None:
            self.oldest_text_at = now

    def step(self, report: StepReport) -> None:
        """Add something that a run has done for good; it goes before the run's result or with it."""
        self._run(report.run).steps.append(report)
        self._results += 1

    def call(self, report: CallReport) -> None:
        """Add an attempt at a model call; it goes before the run's result or with it."""
        self._runs.setdefault(report.run, _Run(gone=True)).calls.append(report)

    def model(self, report: ModelReport) -> None:
        """Add what happened with a model."""
        self._models.append(report)

    def tell(self, run: str, progress: Progress | None, state: str | None, now: float) -> None:
        """Add how a run stands; the newest replaces what has not been taken."""
        entry = self._run(run)
        if entry.told is not None:
            progress = progress or entry.told.progress
            state = state if state is not None else entry.told.state
        entry.told = ProgressReport.model_construct(run=run, progress=progress, state=state)
        if self.oldest_told_at is None:
            self.oldest_told_at = now

    def finish(
        self, run: str, outcome: Outcome, usage: Usage | None, spending: Spending | None = None
    ) -> None:
        """Add a run's result; its chunks go before it or with it."""
        entry = self._run(run)
        if entry.ended is None:
            self._results += 1
        finished = Finished.model_construct(run=run, outcome=outcome, usage=usage, spending=spending)
        entry.ended = Ended(run, finished, _ITEM_BYTES + _size(outcome))

    def acknowledge(self, control: str) -> None:
        """Tell that a control has been acted on."""
        self._controls[control] = None

    def forget(self, run: str) -> None:
        """Drop what waits for a run that is no longer ours, but for its calls: they have been paid for."""
        entry = self._runs.pop(run, None)
        if entry is not None:
            if entry.calls:
                self._runs[run] = _Run(calls=entry.calls, gone=True)
            self.text_bytes -= sum(gathered.bytes for gathered in entry.gathered)
            self._results -= (entry.ended is not None) + len(entry.steps)
            self._note_what_is_left()

    def unheard_calls(self) -> list[CallReport]:
        """Return every call that has not been acknowledged; one that was heard all the same counts once."""
        bodies = (self._frozen_items, *self._split)
        taken = [item.report for items in bodies for item in items if isinstance(item, Called)]
        return [*taken, *(call for entry in self._runs.values() for call in entry.calls)]

    def calls_alone(self, calls: list[CallReport]) -> SyncRequest:
        """Return a body of nothing but calls, for a session that is over."""
        self._last_seq += 1
        return self._body(self._last_seq, [Called(call.run, call, 0) for call in calls], None)

    # What the sync loop asks.

    @property
    def urgent(self) -> bool:
        """Whether something waits that somebody else waits for."""
        return bool(self._results or self._controls or self._split or self._frozen_items)

    @property
    def empty(self) -> bool:
        """Whether everything that was told has been acknowledged."""
        return not self.urgent and not any(entry.has_work() for entry in self._runs.values())

    def waits_for_text(self, runs: set[str]) -> bool:
        """Return whether one of these runs has text that has not been taken."""
        if not runs or self.oldest_text_at is None:
            return False
        return any((entry := self._runs.get(run)) is not None and entry.gathered for run in runs)

    def waits_to_tell(self, runs: set[str]) -> bool:
        """Return whether one of these runs has said how it stands and that has not been taken."""
        if not runs or self.oldest_told_at is None:
            return False
        return any((entry := self._runs.get(run)) is not None and entry.told is not None for run in runs)

    def take(
        self, clocks: Clocks | None = None, spending: Callable[[], list[Spending]] = list
    ) -> SyncRequest:
        """Return what to send: a heartbeat after a failure, else the unacknowledged body, else a new one.

        Args:
            clocks: How the worker stands; a body that is sent again keeps what it said.
            spending: Asked for a new body alone, and not for a part of one that was refused: what runs have
                spent since it was last asked.
        """
        if self._heartbeat_first:
            self._heartbeat = self._body(self._seq, [], clocks)
            return self._heartbeat
        if self._frozen is None:
            self._frozen_items = self._split.popleft() if self._split else self._gather(spending())
            self._last_seq += 1
            self._frozen = self._body(self._last_seq, self._frozen_items, clocks)
            self._refusals = 0
        return self._frozen

    def acknowledged(self) -> None:
        """The body that was taken last has arrived."""
        if self._heartbeat is not None:
            self._heartbeat = None
            self._heartbeat_first = False
        elif self._frozen is not None:
            self._seq = self._frozen.seq
            self._frozen, self._frozen_items = None, []

    def failed(self) -> None:
        """Nothing is known about the body that was taken last."""
        self._heartbeat = None
        self._heartbeat_first = bool(self._frozen_items)

    def refused(self, code: str, message: str, *, surely: bool) -> Item | None:
        """The body that was taken last was refused, so nothing of it was kept: find the item to blame.

        The body is halved and the halves go on their own, behind a heartbeat. An item that is refused alone
        is given up: a result becomes a failure that says why, ahead of which goes what its run has spent;
        anything else is dropped. A heartbeat holds nothing that could be to blame, so its refusal is a
        failure like any other.

        Args:
            code: Of the failure that replaces a result.
            message: Says what was wrong.
            surely: The same body would be refused again. Else it may do better the next time, and only after
                so many refusals is something in it to blame.

        Returns:
            The item that was given up, or None while the search goes on.
        """
        if self._heartbeat is not None or not self._frozen_items:
            self.failed()
            return None
        self._refusals += 1
        if not surely and self._refusals <= _CHANCES:
            self.failed()
            return None
        items, self._frozen, self._frozen_items = self._frozen_items, None, []
        self._heartbeat_first = True
        if len(items) > 1:
            middle = len(items) // 2
            self._split.extendleft([items[middle:], items[:middle]])
            return None
        item = items[0]
        if isinstance(item, Ended) and not _is_refusal(item):
            message = f"The result was refused: {message}"[:1000].encode("utf-8", "replace").decode()
            error = RunError(code=code, message=message)  # which can be sent, whatever could not be before
            outcome = Failed(error=error, retryable=False)
            finished = Finished(run=item.run, outcome=outcome, usage=None)
            self._split.appendleft([Ended(item.run, finished, _ITEM_BYTES + _size(outcome))])
            if item.finished.spending is not None:
                # It counts all the same, and has to be told before the run ends, which settles its budgets.
                self._split.appendleft([Spent(item.finished.spending)])
        return item

    # How a body is made.

    def _run(self, run: str) -> _Run:
        entry = self._runs.setdefault(run, _Run())
        entry.gone = False
        return entry

    def _body(self, seq: int, items: list[Item], clocks: Clocks | None) -> SyncRequest:
        return SyncRequest.model_construct(
            session=self._session,
            seq=seq,
            accepted=[item.run for item in items if isinstance(item, Accepted)],
            chunks=[item.chunk for item in items if isinstance(item, Streamed)],
            finished=[item.finished for item in items if isinstance(item, Ended)],
            acknowledged=[item.control for item in items if isinstance(item, Acknowledged)],
            steps=[item.report for item in items if isinstance(item, Stepped)] or None,
            progress=[item.report for item in items if isinstance(item, Told)] or None,
            clocks=clocks,
            calls=[item.report for item in items if isinstance(item, Called)] or None,
            models=[item.report for item in items if isinstance(item, Modelled)] or None,
            spending=[item.spending for item in items if isinstance(item, Spent)] or None,
        )

    def _gather(self, spending: list[Spending]) -> list[Item]:
        items: list[Item] = []
        room = self._max_bytes
        while self._controls and len(items) < self._max_items:
            control = next(iter(self._controls))
            del self._controls[control]
            items.append(Acknowledged(control))
        while self._models and len(items) < self._max_items:
            report = self._models.popleft()
            item: Item = Modelled(report, 2 * _ITEM_BYTES)
            items.append(item)
            room -= item.bytes
        # Results first: others wait for the room their runs take.
        for run in sorted(self._runs, key=lambda run: self._runs[run].ended is None):
            entry = self._runs[run]
            while (found := _first(run, entry)) is not None:
                if len(items) >= self._max_items or (items and found.bytes > room):
                    break
                items.append(found)
                room -= found.bytes
                self._advance(run, entry, found)
            if len(items) >= self._max_items or room <= 0:
                break
        self._note_what_is_left()
        # They have a bound of their own, and are asked for once: whatever else there is, they go with it.
        return [*map(Spent, spending), *items]

    def _advance(self, run: str, entry: _Run, item: Item) -> None:
        """Take from a run's queue what has just gone into a body."""
        if isinstance(item, Accepted):
            entry.accepted = False
        elif isinstance(item, Streamed):
            self.text_bytes -= entry.gathered.popleft().bytes
            entry.next_seq += 1
        elif isinstance(item, Stepped):
            entry.steps.popleft()
            self._results -= 1
        elif isinstance(item, Called):
            entry.calls.popleft()
            if entry.gone and not entry.has_work():
                del self._runs[run]
                return
        elif isinstance(item, Told):
            entry.told = None
        else:
            self._results -= 1
            entry.ended = None
            del self._runs[run]
            return
        # To the end of the line, so that a talkative run cannot keep the others from being heard.
        self._runs[run] = self._runs.pop(run)

    def _note_what_is_left(self) -> None:
        """What did not fit keeps its age and goes with the next body."""
        if not self.text_bytes:
            self.oldest_text_at = None
        if not any(entry.accepted for entry in self._runs.values()):
            self.oldest_accept_at = None
        if not any(entry.told is not None for entry in self._runs.values()):
            self.oldest_told_at = None


def _first(run: str, entry: _Run) -> Item | None:
    if entry.accepted:
        return Accepted(run)
    if entry.gathered:
        gathered = entry.gathered[0]
        chunk = Chunk.model_construct(
            run=run,
            seq=entry.next_seq,
            call=gathered.call,
            attempt=gathered.attempt,
            kind=gathered.kind,
            text="".join(gathered.parts),
        )
        return Streamed(run, chunk, _ITEM_BYTES + gathered.bytes)
    if entry.steps:
        report = entry.steps[0]
        return Stepped(run, report, 2 * _ITEM_BYTES + len(report.key) + _bytes(report.result or ""))
    if entry.calls:
        call = entry.calls[0]
        return Called(run, call, 2 * _ITEM_BYTES + _bytes("" if call.error is None else call.error.message))
    if entry.told is not None:
        told = entry.told
        return Told(run, told, 2 * _ITEM_BYTES + _bytes(told.state or ""))
    return entry.ended


def _size(outcome: Outcome) -> int:
    if outcome.kind == "succeeded":
        return _bytes(outcome.output or "") + _bytes(outcome.next or "")
    return _bytes(outcome.error.message) if outcome.kind == "failed" else 0


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))  # whether it can be sent shows when it is


def _is_refusal(item: Ended) -> bool:
    outcome = item.finished.outcome
    return outcome.kind == "failed" and outcome.error.message.startswith("The result was refused: ")
