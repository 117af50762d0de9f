"""Tokens of links: read back as they were signed, and nothing else is a token."""

import base64
import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.document_link import TOKEN_CHARS_MAX, DocumentLink, keys_of, read, seconds_left, sign

NEW, OLD = keys_of(f"{'n' * 32}, {'o' * 32}")
LINK = DocumentLink("demo", "A-1001", "", 1_800_000_000)

ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=64)


@given(ids, ids, ids.map(lambda each: each[:40]), st.integers(0, 2**32 - 1))
def test_a_token_is_read_back(seller_id: str, order_id: str, refund_id: str, expires_at: int) -> None:
    link = DocumentLink(seller_id[:40], order_id, refund_id, expires_at)
    token = sign(link, NEW)
    assert read(token, [NEW]) == link
    assert len(token) <= TOKEN_CHARS_MAX
    assert token.replace("-", "").replace("_", "").isalnum()


def test_every_key_that_is_still_there_is_accepted() -> None:
    assert read(sign(LINK, OLD), [NEW, OLD]) == LINK
    assert read(sign(LINK, OLD), [NEW]) is None
    assert read(sign(LINK, NEW), []) is None


def test_any_other_bit_is_refused() -> None:
    raw = base64.urlsafe_b64decode(sign(LINK, NEW) + "==")
    for at in range(len(raw)):
        for bit in range(8):
            forged = bytearray(raw)
            forged[at] ^= 1 << bit
            assert read(base64.urlsafe_b64encode(forged).decode().rstrip("="), [NEW]) is None


def test_any_other_last_character_is_refused() -> None:
    """Also where it stands for the same bytes."""
    for order_id in ("A", "AB", "ABC"):
        token = sign(LINK._replace(order_id=order_id), NEW)
        for last in string.ascii_letters + string.digits + "-_":
            assert (read(token[:-1] + last, [NEW]) is None) == (last != token[-1])


@pytest.mark.parametrize("token", ["", "x", "é", "a b", "=", "AAAA" * 300, sign(LINK, NEW) + "A", "../d/x"])
def test_what_is_no_token_is_refused(token: str) -> None:
    assert read(token, [NEW]) is None


def test_it_expires_at_its_second() -> None:
    assert seconds_left(LINK, datetime.fromtimestamp(LINK.expires_at - 1, UTC)) == 1
    assert seconds_left(LINK, datetime.fromtimestamp(LINK.expires_at, UTC)) == 0


def test_short_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="32 characters or more"):
        keys_of(f"{'n' * 32},{'o' * 31}")
    assert len(keys_of(f"{'n' * 32},")) == 1
