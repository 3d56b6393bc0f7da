"""Routes model calls: which model of a chain is asked next, when, and what is kept of every attempt.

answer = await router.complete(request, Chain(("groq/x", "openai/y")), sink=sink)

`rules` and `decide` are pure; `standing` knows which models cool and how much of their limits is used.
It imports `worker.llm` and `worker.purse` alone, so it can be used and tested without a worker.
"""

from __future__ import annotations

from worker.router.calls import Answer
from worker.router.decide import Chain
from worker.router.failures import NoCapableModel, NoModelFree
from worker.router.ports import Catalogue, Sink, Source, Target
from worker.router.records import CallRecord
from worker.router.router import Router
from worker.router.standing import ModelReport, ModelState, Standing

__all__ = [
    "Answer",
    "CallRecord",
    "Catalogue",
    "Chain",
    "ModelReport",
    "ModelState",
    "NoCapableModel",
    "NoModelFree",
    "Router",
    "Sink",
    "Source",
    "Standing",
    "Target",
]
