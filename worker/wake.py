"""Keeps a sidecar running beside a session and hands on what its subscription brings."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import sys
import time
from collections.abc import Callable
from subprocess import DEVNULL, PIPE
from typing import Any

import anyio
from anyio.abc import Process
from pydantic import SecretStr, ValidationError

from worker.api import INBOX
from worker.backend import Backoff
from worker.blame import Board
from worker.models import Inbox
from worker.pipes import LineReader, LineTooLongError

logger = logging.getLogger(__name__)

QUIET_S = (
    8.0  # the sidecar says something every 2 s, so it is stuck; a run that waits is accepted in time yet
)
OVERTAKEN_S = 5.0  # a subscription this far behind a sync does not work
LEAVE_S = 2.0  # for a sidecar that was told to leave
# An inbox holds 256 runs at most, and little over 1 MiB of inputs and prompts, which JSON may escape sixfold.
MAX_LINE_BYTES = 8 * 1024 * 1024


class Wake:
    """The subscription of one session, in a process of its own that is started again whenever it fails.

    Args:
        url: The deployment.
        key: The worker's key; it reaches the sidecar through a pipe, never through its arguments.
        session: Whose inbox to watch.
        board: Where the run being executed is noted.
        deliver: Takes each new state of the inbox.
        clock: Monotonic seconds.
        draw: Draws evenly from [0, 1).
    """

    def __init__(
        self,
        *,
        url: str,
        key: SecretStr,
        session: str,
        board: Board,
        deliver: Callable[[Inbox], None],
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._config = {"url": url, "key": key.get_secret_value(), "session": session, "inbox": INBOX}
        self._session = session
        self._board = board
        self._deliver = deliver
        self._clock = clock
        self._draw = draw
        self._process: Process | None = None
        self._heard_at = float("-inf")
        self._turned_at = clock()
        self._overtaken_at: float | None = None
        self.live = False

    @property
    def process_id(self) -> int | None:
        """The sidecar's process id while it runs."""
        return None if self._process is None else self._process.pid

    def age_s(self) -> float:
        """Return the seconds since the sidecar last said anything."""
        return self._clock() - self._turned_at

    def overtaken(self) -> None:
        """A sync brought an assignment before the subscription: unless it catches up, it is replaced."""
        now = self._clock()
        if self._overtaken_at is None and now - self._heard_at > OVERTAKEN_S:
            self._overtaken_at = now

    async def run(self) -> None:
        """Keep the sidecar running until cancelled; then it is told to leave quietly."""
        backoff, failures = Backoff(initial_s=0.5, max_s=15.0), 0
        while True:
            started = self._clock()
            try:
                why = await self._attend()
            except OSError as error:
                why = f"it could not be started: {error}"
            finally:
                self.live, self._overtaken_at = False, None
                with anyio.CancelScope(shield=True):
                    await self._dismiss()
            failures = failures + 1 if self._clock() - started < QUIET_S else 1
            logger.warning(
                "the sidecar stopped and is started again",
                extra={"action": "sidecar_stopped", "session": self._session, "reason": why},
            )
            await anyio.sleep(backoff.delay_s(failures, self._draw()))

    async def _attend(self) -> str:
        """Start a sidecar and listen to it; return why it has to be replaced."""
        log = os.dup(2)  # for its one line of its own; what the official client says there goes nowhere
        try:
            self._process = process = await anyio.open_process(
                [sys.executable, "-m", "worker.sidecar", str(self._board.fd), str(log)],
                stdin=PIPE,
                stdout=PIPE,
                stderr=None if logger.isEnabledFor(logging.DEBUG) else DEVNULL,
                pass_fds=[self._board.fd, log],
                start_new_session=True,  # a Ctrl-C in the terminal is the worker's affair
            )
        finally:
            os.close(log)
        if process.stdin is None or process.stdout is None:
            return "it has no pipes"
        try:
            await process.stdin.send(json.dumps(self._config).encode() + b"\n")
            reader = LineReader(process.stdout, MAX_LINE_BYTES)
            while True:
                with anyio.fail_after(QUIET_S):
                    line = await reader.read()
                if line is None:
                    return "it ended"
                self._turned_at = self._clock()
                self._hear(json.loads(line))
                if self._overtaken_at is not None and self._clock() - self._overtaken_at > OVERTAKEN_S:
                    return "it missed an assignment"
        except TimeoutError:
            return f"it was silent for {QUIET_S:.0f} s"
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, LineTooLongError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    def _hear(self, message: dict[str, Any]) -> None:
        if "inbox" in message:
            try:
                inbox = Inbox.model_validate(message["inbox"])
            except ValidationError:
                logger.error(  # noqa: TRY400 - the values may be private
                    "the inbox has a shape that this worker does not know",
                    extra={"action": "inbox_unknown", "session": self._session},
                )
                return
            self.live = True
            self._heard_at, self._overtaken_at = self._clock(), None
            self._deliver(inbox)
        elif "error" in message:
            self.live = False
            logger.info(
                "the subscription failed and is tried again",
                extra={"action": "subscription_failed", "session": self._session, "reason": message["error"]},
            )

    async def _dismiss(self) -> None:
        """Tell the sidecar to leave quietly, and make sure that it has."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            with anyio.move_on_after(LEAVE_S):
                if process.stdin is not None:
                    await process.stdin.send(b'{"op":"leave"}\n')
                await process.wait()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.aclose()
