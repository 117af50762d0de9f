"""Bytes as text that stands in a URL as it is: base64 of RFC 4648, section 5, without padding."""

import base64


def encode(raw: bytes) -> str:
    """The one text of these bytes."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of a text by `encode`; raises `ValueError` for any other.

    A text's last character can hold bits that stand for nothing: without the comparison up to sixteen texts would be
    the same bytes, and a signed token could be changed without being refused.
    """
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if encode(raw) != text:
        raise ValueError("not the text that these bytes are written as")
    return raw
