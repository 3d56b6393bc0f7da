"""What tests of your own agents need, in one import: a control plane in memory and a scripted model.

    from worker.testing import ScriptedModel, call, play

    played = await play(my_agent, "input", model=ScriptedModel(call("search", q="x"), "Found it."))
    assert played.output == "Found it."

Nothing opens a socket, and nothing is a real model: what answers is the test's own script.
"""

from __future__ import annotations

from worker.testing.control import FakeControlPlane
from worker.testing.model import Fails, Says, ScriptedModel, call
from worker.testing.playing import AtWork, Played, play, working
from worker.testing.rows import FakeRun, FakeTask

__all__ = [
    "AtWork",
    "Fails",
    "FakeControlPlane",
    "FakeRun",
    "FakeTask",
    "Played",
    "Says",
    "ScriptedModel",
    "call",
    "play",
    "working",
]
