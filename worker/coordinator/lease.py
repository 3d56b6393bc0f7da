"""How long this worker may still act, by its own clock alone."""

from __future__ import annotations


class Lease:
    """Counts from the SENDING of the last acknowledged request, so it ends before the control plane's does.

    All instants are monotonic seconds passed in; the control plane's clock plays no part.

    Args:
        duration_s: What the control plane granted.
        sent_at: When the request that was granted was sent.
    """

    def __init__(self, duration_s: float, sent_at: float) -> None:
        self.duration_s = duration_s
        self.expires_at = sent_at + duration_s

    def renew(self, duration_s: float, sent_at: float) -> None:
        """Take a new grant; an answer that arrives late never shortens what a later request was granted."""
        if duration_s != self.duration_s:
            self.duration_s = duration_s
            self.expires_at = sent_at + duration_s
        else:
            self.expires_at = max(self.expires_at, sent_at + duration_s)

    def shorten(self, duration_s: float, now: float) -> None:
        """Count on no more than `duration_s` from now: a session that receives a run stops being idle."""
        self.duration_s = min(self.duration_s, duration_s)
        self.expires_at = min(self.expires_at, now + duration_s)

    def remaining_s(self, now: float) -> float:
        """Return the seconds left, 0 once expired."""
        return max(0.0, self.expires_at - now)

    def expired(self, now: float) -> bool:
        """Return whether the runs of this session may already have another owner."""
        return now >= self.expires_at
