"""Signed links to documents: whoever has one can read the document without an API key, until it expires."""

import hmac
import struct
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from domain import base64url
from domain.secret_keys import derive_keys

SECONDS_DEFAULT, SECONDS_MIN, SECONDS_MAX = 7 * 86_400, 60, 366 * 86_400
#: Longer than any token of ours: `_DIGEST_BYTES`, the head, and two ids of 64 characters of four bytes.
TOKEN_CHARS_MAX = 900
_DIGEST_BYTES = 16
#: When it expires, in seconds since 1970, and the lengths of seller id and order id in bytes.
_HEAD = struct.Struct(">IBH")
_PURPOSE = b"gapless document link 1"


class DocumentLink(NamedTuple):
    """What a link leads to, and until when."""

    seller_id: str
    order_id: str
    #: The credit note of this refund; empty for the invoice.
    refund_id: str
    expires_at: int


def keys_of(setting: str) -> list[bytes]:
    """The keys in the setting, the signing one first. Raises `ValueError` for one that is too short."""
    return derive_keys(setting, _PURPOSE)


def sign(link: DocumentLink, key: bytes) -> str:
    """The link's token, which stands in a URL as it is."""
    seller_id, order_id = link.seller_id.encode(), link.order_id.encode()
    head = _HEAD.pack(link.expires_at, len(seller_id), len(order_id))
    content = b"".join((head, seller_id, order_id, link.refund_id.encode()))
    return base64url.encode(_digest(content, key) + content)


def read(token: str, keys: Sequence[bytes]) -> DocumentLink | None:
    """What a token leads to, expired or not; None unless one of `keys` has signed it."""
    if len(token) > TOKEN_CHARS_MAX:
        return None
    try:
        raw = base64url.decode(token)
    except ValueError:
        return None
    digest, content = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    # All are compared, so that the time tells nothing.
    matches = [hmac.compare_digest(digest, _digest(content, key)) for key in keys]
    if not any(matches):
        return None
    # Signed, so it is well-formed.
    expires_at, seller_bytes, order_bytes = _HEAD.unpack_from(content)
    rest = content[_HEAD.size :]
    order_end = seller_bytes + order_bytes
    return DocumentLink(
        rest[:seller_bytes].decode(), rest[seller_bytes:order_end].decode(), rest[order_end:].decode(), expires_at
    )


def seconds_left(link: DocumentLink, now: datetime) -> int:
    """Whole seconds until it expires; 0 or less once it has."""
    return link.expires_at - int(now.timestamp())


def _digest(content: bytes, key: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")[:_DIGEST_BYTES]
