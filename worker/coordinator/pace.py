"""Decides when the next sync goes. Pure: time and chance are passed in."""

from __future__ import annotations

from worker.backend import Backoff
from worker.coordinator.outbox import Outbox

ACCEPT_S = 0.1  # an accept waits this long for company: many runs end sooner, and then both go together
WATCHED_S = 0.05  # somebody is reading, but a sync for each token would help nobody
TOLD_S = 1.0  # between two reports of how a run stands, unless somebody is watching
POLL_S = 1.0  # between syncs while the subscription is down


class Pace:
    """When to send: results at once, text when it is due, a heartbeat in any case.

    All instants are monotonic seconds.

    Args:
        heartbeat_s: Longest silence while there are runs.
        idle_heartbeat_s: Longest silence while there are none.
    """

    def __init__(self, *, heartbeat_s: float, idle_heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._idle_heartbeat_s = idle_heartbeat_s
        # A dead backend is asked again several times within one heartbeat, and rarely by an idle worker.
        self._backoff = Backoff(initial_s=0.2, max_s=min(2.0, heartbeat_s / 2))
        self.next_sync_s = heartbeat_s
        self._last_sent = float("-inf")
        self._not_before = float("-inf")
        self.failures = 0
        self.hurry = False

    def sent(self, now: float) -> None:
        """A body is on its way."""
        self._last_sent = now
        self.hurry = False

    def succeeded(self, next_sync_s: float) -> None:
        """An answer came; it says how long text may wait while nobody watches."""
        self.failures = 0
        self._not_before = float("-inf")
        # What an idle worker was told is too long for one that has just begun to work.
        self.next_sync_s = min(max(0.0, next_sync_s), self._heartbeat_s)

    def failed(self, now: float, draw: float, retry_after_s: float | None = None) -> None:
        """No answer came: back off, but never so long that the lease runs out in silence."""
        self.failures += 1
        wait = max(
            self._backoff.delay_s(self.failures, draw), min(retry_after_s or 0.0, self._heartbeat_s / 2)
        )
        self._not_before = now + wait

    def due_at(self, outbox: Outbox, *, busy: bool, polling: bool, watched: set[str]) -> float:
        """Return the instant of the next sync, which may be in the past."""
        if outbox.urgent or self.hurry or self.failures:
            return self._not_before
        due = self._last_sent + (self._heartbeat_s if busy else self._idle_heartbeat_s)
        if polling:
            due = min(due, self._last_sent + POLL_S)
        if outbox.oldest_accept_at is not None:
            due = min(due, outbox.oldest_accept_at + ACCEPT_S)
        if outbox.oldest_text_at is not None:
            due = min(due, outbox.oldest_text_at + self.next_sync_s)
            if outbox.waits_for_text(watched):
                due = min(due, outbox.oldest_text_at + WATCHED_S)
        if outbox.oldest_told_at is not None:
            due = min(due, max(outbox.oldest_told_at, self._last_sent + TOLD_S))
            if outbox.waits_to_tell(watched):
                due = min(due, outbox.oldest_told_at + WATCHED_S)
        return max(due, self._not_before)
