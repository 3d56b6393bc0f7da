"""Signalbox workers: thin, stateless processes that run agents for a control plane in Convex."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("signalbox")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0"
