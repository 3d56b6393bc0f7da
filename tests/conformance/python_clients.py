"""Calls functions of each kind with both clients of the Python package and prints what they gave as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from convex.http_client import ConvexHttpClient

from convex import ConvexClient, ConvexError, ConvexInt64


def outcomes(client: Any, channel: str) -> dict[str, Any]:
    """Call every kind of function; values are given as Python prints them, so that their types show."""
    client.mutation("messages:send", {"channel": channel, "body": "ü 漢"})
    try:
        client.mutation("errors:throwMutation", {"kind": "subclass"})
        raised = "nothing"
    except ConvexError as error:
        raised = repr(error.data)
    try:
        client.query("errors:throwQuery", {"kind": "plain"})
        text = "nothing"
    except Exception as error:  # the client raises no narrower class
        text = str(error)
    value = {"n": ConvexInt64(5), "bytes": b"\x00\xff", "deep": [None, True, 1.5, 3]}
    return {
        "list": client.query("messages:list", {"channel": channel}),
        "echo": repr(client.action("values:echoAction", {"value": value})),
        "raised": raised,
        "text": text,
    }


def main() -> None:
    """Read the host's address from the command line."""
    url = sys.argv[1]
    socket, http = ConvexClient(url), ConvexHttpClient(url)
    seen = {
        "websocket": outcomes(socket, "python websocket"),
        "http": outcomes(http, "python http"),
    }
    counts = socket.subscribe("messages:count", {"channel": "python subscription"})
    first = next(counts)
    http.mutation("messages:send", {"channel": "python subscription", "body": "x"})
    print(json.dumps({**seen, "subscription": [first, next(counts)]}))


main()
