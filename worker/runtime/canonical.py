"""JSON texts of values: the canonical one, whose hash approvals and steps are bound to, and what is kept."""

from __future__ import annotations

import hashlib
import json


def canonical(value: object) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces, nothing escaped that need not be.

    One that UTF-8 cannot hold, since half of a surrogate pair is in it, is escaped throughout.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text if _fits(text) else json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def args_hash(arguments: object) -> str:
    """Return the SHA-256 of the arguments' canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(canonical(arguments).encode()).hexdigest()


def dumped(value: object) -> str:
    """Return JSON text that UTF-8 can hold; a lone surrogate is escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text if _fits(text) else json.dumps(value, allow_nan=False, separators=(",", ":"))


def _fits(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
