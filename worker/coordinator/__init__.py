"""Keeps one worker's side of the contract with the control plane; it knows nothing of what runs do."""

from __future__ import annotations

from worker.coordinator.lease import Lease
from worker.coordinator.outbox import Outbox
from worker.coordinator.pace import Pace
from worker.coordinator.ports import ControlPlane, Runs
from worker.coordinator.session import Ending, Opened, Session, register

__all__ = [
    "ControlPlane",
    "Ending",
    "Lease",
    "Opened",
    "Outbox",
    "Pace",
    "Runs",
    "Session",
    "register",
]
