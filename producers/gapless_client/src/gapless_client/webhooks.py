"""Verifies webhooks: Standard Webhooks 1.0, symmetric (v1) and with a public key (v1a, the extra `v1a`).

Stricter than the specification's own libraries: ids, timestamps, keys and signatures are taken only in the one form
that the specification gives them, so that no two texts that differ verify alike, and whatever is wrong is a
`WebhookError`.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gapless_client.errors import GaplessError

#: A webhook whose timestamp is further away than this is refused: it may be a replay.
TOLERANCE_SECONDS = 300
#: A key that is shorter can be guessed; the specification has 24 to 64 bytes.
_SECRET_BYTES_MIN, _SECRET_BYTES_MAX = 24, 64
_PUBLIC_KEY_BYTES = 32
#: A dot would let an id and a timestamp be cut elsewhere.
_ID = re.compile(r"[\x21-\x2d\x2f-\x7e]{1,255}")
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,11}")
#: So many keys are in use at once in no rotation; each costs a signature's computation.
_SIGNATURES_MAX = 20


class WebhookError(GaplessError):
    """It is none of ours, or was altered, or is too old: answer 400, and do nothing."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook that is authentic."""

    #: The same in every repeat: do its work once for each id.
    id: str
    #: When this attempt was sent, in seconds since 1970.
    sent_at: int
    #: What happened, such as `order.confirmed`.
    type: str
    #: When it happened.
    timestamp: str
    data: dict[str, Any]
    #: The whole body.
    payload: dict[str, Any]


def verify(
    body: bytes,
    headers: Mapping[str, str],
    keys: str | Iterable[str],
    *,
    now: float | None = None,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> Webhook:
    """The webhook of a request, if one of `keys` signed it: `whsec_…`, or `whpk_…` for v1a.

    `body` is the request's bytes as they came. While keys rotate, give the old and the new. Raises `WebhookError`, and
    `ValueError` for a key that is none.
    """
    checks = [_check(key) for key in ([keys] if isinstance(keys, str) else keys)]
    if not checks:
        raise ValueError("no key to verify with")
    found = {name.lower(): value for name, value in headers.items()}
    webhook_id, timestamp = found.get("webhook-id", ""), found.get("webhook-timestamp", "")
    if not _ID.fullmatch(webhook_id):
        raise WebhookError("webhook-id is missing or malformed")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise WebhookError("webhook-timestamp is missing or malformed")
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance_seconds:
        raise WebhookError(f"webhook-timestamp is more than {tolerance_seconds:g} s away: check the clock")
    signed = b"%s.%s.%s" % (webhook_id.encode(), timestamp.encode(), body)
    if not any(
        version == check.version and check.signs(signed, signature)
        for version, signature in _signatures(found.get("webhook-signature", ""))
        for check in checks
    ):
        raise WebhookError("no signature in webhook-signature is by one of the keys")
    return _webhook(webhook_id, int(timestamp), body)


def _webhook(webhook_id: str, sent_at: int, body: bytes) -> Webhook:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        raise WebhookError("the body is not JSON") from None
    if not isinstance(payload, dict) or not isinstance(payload.get("type"), str):
        raise WebhookError("the body has no type")
    data = payload.get("data")
    if not isinstance(data, dict):
        raise WebhookError("the body has no data")
    return Webhook(webhook_id, sent_at, payload["type"], str(payload.get("timestamp", "")), data, payload)


@dataclass(frozen=True, slots=True)
class _Check:
    version: str
    key: bytes

    def signs(self, signed: bytes, signature: bytes) -> bool:
        if self.version == "v1":
            return hmac.compare_digest(hmac.digest(self.key, signed, hashlib.sha256), signature)
        # The extra is needed only by those who have such a key.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, signed)
        except InvalidSignature:
            return False
        return True


def _check(key: str) -> _Check:
    prefix, _, text = key.partition("_")
    raw = _decoded(text)
    if prefix == "whsec" and raw is not None and _SECRET_BYTES_MIN <= len(raw) <= _SECRET_BYTES_MAX:
        return _Check("v1", raw)
    if prefix == "whpk" and raw is not None and len(raw) == _PUBLIC_KEY_BYTES:
        return _Check("v1a", raw)
    raise ValueError("a key is whsec_ and 24 to 64 bytes in base64, or whpk_ and 32 bytes")


def _signatures(text: str) -> list[tuple[str, bytes]]:
    """Version and bytes of each; those in another form are left out, as of versions to come."""
    found = []
    for each in text.split(" ")[:_SIGNATURES_MAX]:
        version, _, signature = each.partition(",")
        raw = _decoded(signature)
        if raw is not None:
            found.append((version, raw))
    return found


def _decoded(text: str) -> bytes | None:
    """Base64 in the one form that its bytes have, or without the padding."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode().rstrip("=") == text.rstrip("=") else None
