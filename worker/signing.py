"""Signatures as standardwebhooks.com has them, made and checked: HMAC-SHA256 over `id.timestamp.body`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

TOLERANCE_S = 300.0  # between a signature's time and ours, either way

_SECRET = re.compile(r"whsec_([A-Za-z0-9+/]+={0,2})")
_MIN_SECRET_BYTES, _MAX_SECRET_BYTES = 24, 64  # as Standard Webhooks has it
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")  # no dot: it separates what is signed
_SECONDS = re.compile(r"[0-9]{1,12}")


def secrets_of(text: str) -> tuple[bytes, ...]:
    """Return the keys of a secret: `whsec_` and base64, or several with spaces between them.

    The first signs and all are accepted, so a secret can be changed while both sides run.

    Raises:
        ValueError: It is no such secret; the message never quotes it.
    """
    keys = []
    for part in text.split():
        found = _SECRET.fullmatch(part)
        try:
            key = base64.b64decode(found[1], validate=True) if found else b""
        except binascii.Error:
            key = b""
        if not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
            raise ValueError("is not whsec_ and base64 of 24 to 64 bytes")
        keys.append(key)
    if not keys:
        raise ValueError("is not whsec_ and base64 of 24 to 64 bytes")
    return tuple(keys)


def signed(secrets: Sequence[bytes], message: str, body: bytes, now_s: float) -> dict[str, str]:
    """Return the headers that go with a body under the id `message`."""
    timestamp = str(int(now_s))
    mac = base64.b64encode(_mac(secrets[0], message, timestamp, body)).decode()
    return {"webhook-id": message, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{mac}"}


def flaw(secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes, now_s: float) -> str | None:
    """Return what is wrong with a message's signature, or None if it holds; it is not for the sender.

    Args:
        secrets: Any of them may have signed.
        headers: With names in lower case.
        body: As it came, byte by byte.
        now_s: Seconds since the epoch.
    """
    message, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not _ID.fullmatch(message):
        return "webhook-id is missing or malformed"
    if not _SECONDS.fullmatch(timestamp):
        return "webhook-timestamp is missing or malformed"
    if abs(int(timestamp) - now_s) > TOLERANCE_S:
        return "webhook-timestamp is outside the tolerance"
    given = [part[3:] for part in headers.get("webhook-signature", "").split(" ")[:8] if part[:3] == "v1,"]
    for secret in secrets:
        expected = base64.b64encode(_mac(secret, message, timestamp, body))
        if any(hmac.compare_digest(expected, mac.encode()) for mac in given):
            return None
    return "webhook-signature does not match"


def _mac(secret: bytes, message: str, timestamp: str, body: bytes) -> bytes:
    return hmac.new(secret, f"{message}.{timestamp}.".encode() + body, hashlib.sha256).digest()
