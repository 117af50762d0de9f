"""Signed links to an order's tracking page: whoever has one sees how the order is doing, until it expires.

The token is that of a link to the order's document under other keys, so that neither is taken for the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

from domain.document_link import DocumentLink, read, sign
from domain.secret_keys import derive_keys

_PURPOSE = b"gapless tracking link 1"


class TrackingLink(NamedTuple):
    """Whose order a link leads to, and until when, in seconds since 1970."""

    seller_id: str
    order_id: str
    expires_at: int


def tracking_keys_of(setting: str) -> list[bytes]:
    """The keys in the setting, the signing one first. Raises `ValueError` for one that is too short."""
    return derive_keys(setting, _PURPOSE)


def sign_tracking(link: TrackingLink, key: bytes) -> str:
    """The link's token, which stands in a URL as it is."""
    return sign(DocumentLink(link.seller_id, link.order_id, "", link.expires_at), key)


def read_tracking(token: str, keys: Sequence[bytes]) -> TrackingLink | None:
    """Where a token leads to, expired or not; None unless one of `keys` has signed it."""
    found = read(token, keys)
    return None if found is None else TrackingLink(found.seller_id, found.order_id, found.expires_at)
