"""HTTP over connections of its own: the one place that knows which library carries it."""

from __future__ import annotations

from worker.http.transport import StreamTransport

__all__ = ["StreamTransport"]
