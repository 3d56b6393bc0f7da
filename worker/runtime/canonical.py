"""One JSON text for each value, and its hash: what approvals and intended steps are bound to."""

from __future__ import annotations

import hashlib
import json


def canonical(value: object) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces, nothing escaped that need not be."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def args_hash(arguments: object) -> str:
    """Return the SHA-256 of the arguments' canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(canonical(arguments).encode("utf-8", "surrogatepass")).hexdigest()
