"""Signatures of webhooks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe import WebhookSignature

from domain.signature import SignatureVerdict, sign, verify

SECRET, BODY, NOW = "whsec_x", b'{"id":"evt_1"}', 1_790_000_000


def test_a_signature_is_valid_for_its_body_secret_and_time() -> None:
    header = sign(SECRET, BODY, NOW)
    assert verify(SECRET, BODY, header, NOW) is SignatureVerdict.VALID
    assert verify(SECRET, BODY + b" ", header, NOW) is SignatureVerdict.INVALID
    assert verify("whsec_y", BODY, header, NOW) is SignatureVerdict.INVALID
    assert verify(SECRET, BODY, header.replace(f"t={NOW}", f"t={NOW + 1}"), NOW) is SignatureVerdict.INVALID


def test_a_signature_is_stale_after_five_minutes_either_way() -> None:
    header = sign(SECRET, BODY, NOW)
    assert verify(SECRET, BODY, header, NOW + 300) is verify(SECRET, BODY, header, NOW - 300) is SignatureVerdict.VALID
    assert verify(SECRET, BODY, header, NOW + 301) is verify(SECRET, BODY, header, NOW - 301) is SignatureVerdict.STALE


def test_one_right_signature_among_others_will_do() -> None:
    """A secret that is being replaced signs beside its successor."""
    stamp, right = sign(SECRET, BODY, NOW).split(",")
    assert verify(SECRET, BODY, f"{stamp},v1=00,v0=x, {right}", NOW) is SignatureVerdict.VALID


@pytest.mark.parametrize(
    "header", ["", "t=", "v1=", "t=1", "t=-1,v1=x", "t=9999999999999,v1=x", "t=²,v1=x", "=,=,", ","]
)
def test_what_is_no_signature_is_invalid(header: str) -> None:
    assert verify(SECRET, BODY, header, NOW) is SignatureVerdict.INVALID


@given(st.text(max_size=200))
def test_no_header_breaks_it(header: str) -> None:
    assert verify(SECRET, BODY, header, NOW) is SignatureVerdict.INVALID


def test_it_is_signed_as_stripe_signs() -> None:
    assert sign(SECRET, BODY, NOW) == WebhookSignature.generate_signature_header(BODY.decode(), SECRET, NOW)
