"""Plays runs: agents, their contexts, streams and outcomes; it knows nothing of the control plane."""

from __future__ import annotations

from worker.runtime.agents import Agent, Registry, agent, external, load
from worker.runtime.context import Context
from worker.runtime.executors import Container, Subprocess
from worker.runtime.hooks import ErrorContext, on_error
from worker.runtime.llm_agent import AgentResult, GuardrailError, LlmAgent, LoopStoppedError
from worker.runtime.loop import Call, Limits
from worker.runtime.model import ModelCaller, NoModelError, Prompt, Sole
from worker.runtime.outcome import Result
from worker.runtime.run import Environment, Report, Run
from worker.runtime.sandbox import pure
from worker.runtime.tools import Tool, Toolbox, ToolContext, ToolError, tool

__all__ = [
    "Agent",
    "AgentResult",
    "Call",
    "Container",
    "Context",
    "Environment",
    "ErrorContext",
    "GuardrailError",
    "Limits",
    "LlmAgent",
    "LoopStoppedError",
    "ModelCaller",
    "NoModelError",
    "Prompt",
    "Registry",
    "Report",
    "Result",
    "Run",
    "Sole",
    "Subprocess",
    "Tool",
    "ToolContext",
    "ToolError",
    "Toolbox",
    "agent",
    "external",
    "load",
    "on_error",
    "pure",
    "tool",
]
