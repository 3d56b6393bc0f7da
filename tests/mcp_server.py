"""An MCP server over pipes, as small as can be, whose tools do all that a server should not.

`python tests/mcp_server.py COUNTER [MODE]` adds a line to the file COUNTER at each start.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

TOOLS: dict[str, dict[str, Any]] = {
    "echo": {"readOnlyHint": True, "openWorldHint": True},
    "add.numbers": {"idempotentHint": True, "destructiveHint": False},
    "die": {"destructiveHint": True},
    **{
        name: {}
        for name in ("hang", "freeze", "garbage", "noise", "huge", "fails", "refuses", "picture", "env")
    },
}


def answer(number: Any, **what: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", "id": number, **what}), flush=True)


def call(number: Any, name: str, given: dict[str, Any]) -> None:
    content: list[dict[str, Any]] = [{"type": "text", "text": json.dumps(given)}]
    more: dict[str, Any] = {}
    match name:
        case "die":
            print("out of order", file=sys.stderr, flush=True)
            os._exit(3)
        case "hang":
            return
        case "freeze":
            time.sleep(600)
        case "garbage":
            print('{"jsonrpc": "2.0", "id": ', flush=True)
            return
        case "noise":
            print("Listening to everything!\n\nDEBUG: a call", flush=True)
        case "huge":
            for _ in range(50):
                sys.stdout.write("{" + "x" * 1_000_000)
            sys.stdout.flush()
        case "fails":
            more["isError"] = True
            content[0]["text"] = "no such customer"
        case "refuses":
            answer(number, error={"code": -32602, "message": "not with me"})
            return
        case "picture":
            content = [{"type": "image", "data": "aGVsbG8h", "mimeType": "image/png"}, *content]
        case "env":
            content[0]["text"] = " ".join(sorted(os.environ))
    answer(number, result={"content": content, **more})


def main() -> None:
    with open(sys.argv[1], "a") as counter:  # noqa: PTH123
        counter.write(f"{os.getpid()}\n")
    mode = sys.argv[2] if len(sys.argv) > 2 else ""
    if mode == "silent":
        time.sleep(600)
    if mode == "broken":
        sys.exit("SyntaxError: invalid syntax")
    for line in sys.stdin:
        message = json.loads(line)
        number = message.get("id")
        match message.get("method"):
            case "initialize":
                info = {"name": "small", "version": "1"}
                version = message["params"]["protocolVersion"]
                result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
                answer(number, result=result)
            case "tools/list":
                schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
                tools = [
                    {
                        "name": name,
                        "description": f"The tool {name}",
                        "inputSchema": schema,
                        "annotations": hints,
                    }
                    for name, hints in TOOLS.items()
                ]
                tools.append({"name": "odd", "inputSchema": {"type": "object", "description": "x" * 70_000}})
                answer(number, result={"tools": tools})
            case "tools/call":
                call(number, message["params"]["name"], message["params"].get("arguments", {}))
            case method if number is not None:
                answer(number, error={"code": -32601, "message": f"no method {method}"})


main()
