"""JSON texts of values: the canonical one, whose hash approvals and steps are bound to, and what is kept."""

from __future__ import annotations

import hashlib
import json


def canonical(value: object) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces, nothing escaped that need not be."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def args_hash(arguments: object) -> str:
    """Return the SHA-256 of the arguments' canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(canonical(arguments).encode("utf-8", "surrogatepass")).hexdigest()


def dumped(value: object) -> str:
    """Return JSON text that UTF-8 can hold; a lone surrogate is escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text
