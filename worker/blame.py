"""Notes in shared memory which run this process is executing, so that its sidecar can name it after a crash.

The event loop beats there too: when it has been still for longer than the lease, it is known what blocks it.

`os._exit`, a segmentation fault and the kernel's OOM killer leave no chance to say anything. So the coroutine
of each run is driven through `marked`, which writes the run's slot before each step and clears it after.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")
_CELL = 4  # bytes of the number of the current slot; 0: none
_SLOT = 64  # bytes of a slot: a length, then a run's id; the first holds the numbers
_BEATS, _ALLOWED = 8, 16  # where the numbers of the event loop stand, 8 and 4 bytes


class Board:
    """The shared memory: which run sits in which slot, and the slot being executed.

    Args:
        slots: Runs that can be told apart at once; further ones are never blamed.
    """

    def __init__(self, slots: int) -> None:
        self.fd = _anonymous_file()
        os.ftruncate(self.fd, _SLOT * (slots + 1))
        self._map = mmap.mmap(self.fd, _SLOT * (slots + 1))
        self._bytes = memoryview(self._map)
        self.cell = self._bytes[:_CELL].cast("I")
        self._beats = self._bytes[_BEATS : _BEATS + 8].cast("Q")
        self._allowed = self._bytes[_ALLOWED : _ALLOWED + 4].cast("I")
        self._free = list(range(slots, 0, -1))

    def beat(self) -> None:
        """Show that the event loop turns."""
        self._beats[0] += 1

    def allow(self, still_s: float) -> None:
        """Set how long the event loop may stand still before the sidecar ends this process; 0: for ever."""
        self._allowed[0] = round(still_s * 1000)

    def take(self, run: str) -> int:
        """Return a slot that names `run`, or 0 when none is free."""
        name = run.encode()
        if not self._free or len(name) >= _SLOT:
            return 0
        slot = self._free.pop()
        start = slot * _SLOT
        self._bytes[start + 1 : start + 1 + len(name)] = name
        self._bytes[start] = len(name)
        return slot

    def give_back(self, slot: int) -> None:
        """Free a slot."""
        if slot:
            self._free.append(slot)

    def close(self) -> None:
        """Give the memory back; no run may be marked any more."""
        self.cell.release()
        self._beats.release()
        self._allowed.release()
        self._bytes.release()
        self._map.close()
        os.close(self.fd)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("signalbox-blame")
    with tempfile.TemporaryFile() as file:  # systems without memfd: a file that has no name
        return os.dup(file.fileno())


def blamed(fd: int) -> str | None:
    """Return the run that was being executed when the process that wrote to `fd` ended, if any."""
    memory = os.pread(fd, os.fstat(fd).st_size, 0)
    slot = int.from_bytes(memory[:_CELL], sys.byteorder)
    start = slot * _SLOT
    if not slot or start >= len(memory):
        return None
    return memory[start + 1 : start + 1 + memory[start]].decode("utf-8", "replace")


def beats(fd: int) -> tuple[int, float]:
    """Return how often the event loop behind `fd` has turned, and for how many seconds it may stand still."""
    memory = os.pread(fd, _SLOT, 0)
    count = int.from_bytes(memory[_BEATS : _BEATS + 8], sys.byteorder)
    return count, int.from_bytes(memory[_ALLOWED : _ALLOWED + 4], sys.byteorder) / 1000


@types.coroutine
def marked(work: Coroutine[Any, Any, T], cell: memoryview, slot: int) -> Generator[Any, Any, T]:
    """Await `work`, with `slot` in `cell` exactly while its code runs.

    Values, exceptions and the closing of the coroutine pass through unchanged.
    """
    step, value = work.send, None
    try:
        while True:
            cell[0] = slot
            try:
                yielded = step(value)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            finally:
                cell[0] = 0
            try:
                value = yield yielded
                step = work.send
            except GeneratorExit:
                raise
            except BaseException as error:
                step, value = work.throw, error
    finally:
        cell[0] = slot  # closing runs the coroutine's clean-up
        try:
            work.close()
        finally:
            cell[0] = 0
