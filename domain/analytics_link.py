"""Signed links to a seller's analytics: whoever has one sees them in a browser, until it expires.

The token is that of a link to a document under other keys, so that neither is taken for the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

from domain.document_link import DocumentLink, read, sign
from domain.secret_keys import derive_keys

_PURPOSE = b"gapless analytics link 1"


class AnalyticsLink(NamedTuple):
    """Whose analytics a link shows, and until when, in seconds since 1970."""

    seller_id: str
    expires_at: int


def analytics_keys_of(setting: str) -> list[bytes]:
    """The keys in the setting, the signing one first. Raises `ValueError` for one that is too short."""
    return derive_keys(setting, _PURPOSE)


def sign_analytics(link: AnalyticsLink, key: bytes) -> str:
    """The link's token, which stands in a URL as it is."""
    return sign(DocumentLink(link.seller_id, "", "", link.expires_at), key)


def read_analytics(token: str, keys: Sequence[bytes]) -> AnalyticsLink | None:
    """Where a token leads to, expired or not; None unless one of `keys` has signed it."""
    found = read(token, keys)
    return None if found is None else AnalyticsLink(found.seller_id, found.expires_at)
