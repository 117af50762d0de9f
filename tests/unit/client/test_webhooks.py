"""Webhooks are verified strictly; the specification's own library signs them here."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gapless_client.webhooks import WebhookError, verify
from standardwebhooks import Webhook as Reference

NOW = 1_795_940_000
SECRET, OLD = ("whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
BODY = b'{"type":"order.confirmed","timestamp":"2026-11-29T09:00:00Z","data":{"order_id":"A-1"}}'
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
PUBLIC = "whpk_" + base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()


def signed(body: bytes = BODY, secret: str = SECRET, **changed: str) -> dict[str, str]:
    """The headers of a webhook, as the reference signs it."""
    at = datetime.fromtimestamp(NOW, UTC)
    signature = Reference(secret).sign("msg_1", at, body.decode())
    made = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(NOW), "Webhook-Signature": signature}
    return {**made, **{f"Webhook-{name.title()}": value for name, value in changed.items()}}


def exactly(webhook_id: str, timestamp: str, body: bytes = BODY) -> dict[str, str]:
    """Headers that are signed right, whatever they hold."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256)
    signature = "v1," + base64.b64encode(digest).decode()
    return {"webhook-id": webhook_id, "webhook-timestamp": timestamp, "webhook-signature": signature}


def test_a_webhook_that_is_signed_is_returned() -> None:
    webhook = verify(BODY, signed(), SECRET, now=NOW)
    assert (webhook.id, webhook.sent_at, webhook.type) == ("msg_1", NOW, "order.confirmed")
    assert (webhook.data, webhook.timestamp) == ({"order_id": "A-1"}, "2026-11-29T09:00:00Z")


def test_the_reference_takes_what_it_takes() -> None:
    Reference(SECRET).verify(BODY, exactly("msg_1", str(int(datetime.now(UTC).timestamp()))))


def test_while_keys_rotate_either_is_enough() -> None:
    both = f"{signed(secret=OLD)['Webhook-Signature']} {signed()['Webhook-Signature']}"
    for keys in (SECRET, OLD, [OLD, SECRET]):
        assert verify(BODY, signed(signature=both), keys, now=NOW).id == "msg_1"
    assert verify(BODY, signed(), [OLD, SECRET], now=NOW).id == "msg_1"


def test_a_public_key_verifies_v1a() -> None:
    signature = base64.b64encode(PRIVATE.sign(b"msg_1.%d." % NOW + BODY)).decode()
    headers = signed(signature=f"v1,AAAA v1a,{signature}")
    assert verify(BODY, headers, PUBLIC, now=NOW).id == "msg_1"
    with pytest.raises(WebhookError):
        verify(BODY + b" ", headers, PUBLIC, now=NOW)
    with pytest.raises(WebhookError):
        verify(BODY, headers, SECRET, now=NOW)
    # The same bytes under the other version prove nothing.
    with pytest.raises(WebhookError):
        verify(BODY, signed(signature=f"v1,{signature}"), PUBLIC, now=NOW)


VALID = signed()["Webhook-Signature"]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        (signed(), BODY + b" "),
        (signed(secret=OLD), BODY),
        (signed(id="msg_2"), BODY),
        (signed(timestamp=str(NOW + 1)), BODY),
        (signed(signature=""), BODY),
        (signed(signature="v1"), BODY),
        (signed(signature="v1,"), BODY),
        (signed(signature=VALID.replace("v1,", "v2,")), BODY),
        (signed(signature=VALID[:-4]), BODY),
    ],
)
def test_what_is_not_signed_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(WebhookError):
        verify(body, headers, SECRET, now=NOW)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        # Taken by the reference: bytes that are no base64 are passed over, and a time may have a fraction.
        (signed(signature="v1,*" + VALID[3:]), BODY),
        (signed(timestamp=f"{NOW}.5"), BODY),
        # A dot in an id: the same bytes are signed for another id and time.
        (exactly("msg.1", str(NOW)), BODY),
        # Not one form of a number.
        (exactly("msg_1", f"0{NOW}"), BODY),
        (exactly("msg_1", f"{NOW} "), BODY),
        (exactly("msg_1", "".join(chr(0x660 + int(digit)) for digit in str(NOW))), BODY),
        (exactly("msg_1", str(NOW), b"[]"), b"[]"),
        (exactly("msg_1", str(NOW), b"{"), b"{"),
        (exactly("msg_1", str(NOW), b"\xff"), b"\xff"),
        (exactly("msg_1", str(NOW), b"[" * 100_000), b"[" * 100_000),
        (exactly("msg_1", str(NOW), b'{"type":"x"}'), b'{"type":"x"}'),
    ],
)
def test_what_is_signed_and_malformed_is_refused_in_the_same_way(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(WebhookError):
        verify(body, headers, SECRET, now=NOW)


@pytest.mark.parametrize("away", [-301, 301])
def test_an_old_one_may_be_a_replay(away: int) -> None:
    with pytest.raises(WebhookError, match="timestamp is more than 300 s away"):
        verify(BODY, signed(), SECRET, now=NOW + away)
    assert verify(BODY, signed(), SECRET, now=NOW + away, tolerance_seconds=302).id == "msg_1"


@pytest.mark.parametrize(
    "key", ["", "whsec_", "whsec_AAAA", SECRET.removeprefix("whsec_"), "whpk_AAAA", "whsec_" + "*" * 44, [], ["x"]]
)
def test_a_key_that_is_none_is_an_error_of_the_receiver(key: Any) -> None:
    """Not of the sender: else a wrong setting would look like a forgery."""
    with pytest.raises(ValueError, match="key"):
        verify(BODY, signed(), key, now=NOW)
