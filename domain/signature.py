"""Signatures of webhooks, as Stripe makes them: `t=<seconds>,v1=<HMAC-SHA256 of "<seconds>.<body>" in hex>`.

Covering the time, a signature can't be used again once the tolerance has passed. See "Verify webhook signatures
manually" in Stripe's documentation.
"""

import hashlib
import hmac
from enum import StrEnum

#: How old a signature may be, or how far ahead: what clocks may differ by, and a delivery may take.
TOLERANCE_SECONDS = 300
_PARTS_MAX = 16


class SignatureVerdict(StrEnum):
    """What became of a check."""

    VALID = "valid"
    INVALID = "invalid"
    #: Right, but made too long ago, or in the future.
    STALE = "stale"


def sign(secret: str, body: bytes, now: int) -> str:
    """The header's value. `now` in seconds since 1970."""
    return f"t={now},v1={_digest(secret, str(now), body)}"


def verify(secret: str, body: bytes, header: str, now: int) -> SignatureVerdict:
    """Whether one of the header's signatures is right. `now` in seconds since 1970."""
    signed_at = ""
    signatures = []
    for part in header.split(",", _PARTS_MAX)[:_PARTS_MAX]:
        name, _, value = part.strip().partition("=")
        if name == "t":
            signed_at = value
        elif name == "v1":
            signatures.append(value)
    if not (signed_at.isascii() and signed_at.isdigit() and len(signed_at) <= 12):
        return SignatureVerdict.INVALID
    expected = _digest(secret, signed_at, body).encode()
    # Every one is compared, in constant time: how long it takes tells nothing.
    matches = [hmac.compare_digest(expected, each.encode(errors="replace")) for each in signatures]
    if not any(matches):
        return SignatureVerdict.INVALID
    return SignatureVerdict.VALID if abs(now - int(signed_at)) <= TOLERANCE_SECONDS else SignatureVerdict.STALE


def _digest(secret: str, signed_at: str, body: bytes) -> str:
    return hmac.new(secret.encode(), signed_at.encode() + b"." + body, hashlib.sha256).hexdigest()
