"""What a shipment is sent as: who carries it, and where buyers follow it."""

from urllib.parse import urlsplit

from domain.checkout import check_name
from domain.records import Parcel
from domain.refusals import INVALID_FIELD, Refusal

CARRIER_CHARS_MAX = 60
TRACKING_NUMBER_CHARS_MAX = 60
TRACKING_URL_CHARS_MAX = 500


def check_parcel(parcel: Parcel) -> Refusal | None:
    """Why a shipment can't say this. Buyers are shown all of it."""
    carrier, number, url = parcel["carrier"], parcel["tracking_number"], parcel["tracking_url"]
    if not carrier and not number:
        return Refusal(INVALID_FIELD, "parcel", "must have a `carrier` or a `tracking_number`")
    return (
        (check_name("parcel.carrier", carrier, CARRIER_CHARS_MAX) if carrier else None)
        or (check_name("parcel.tracking_number", number, TRACKING_NUMBER_CHARS_MAX) if number else None)
        or (_check_url(url) if url else None)
    )


def _check_url(url: str) -> Refusal | None:
    field = "parcel.tracking_url"
    if len(url) > TRACKING_URL_CHARS_MAX:
        return Refusal(INVALID_FIELD, field, f"must have at most {TRACKING_URL_CHARS_MAX} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        return Refusal(INVALID_FIELD, field, "must be printable ASCII without spaces: encode other characters")
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme != "https" or "@" in parts.netloc:
        return Refusal(INVALID_FIELD, field, "must begin with https:// and a host, without user or password")
    return None
