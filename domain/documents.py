"""Where a document is stored."""

import re

#: Object stores take 1,024 bytes of key; a printed number is much shorter, and the hash tells apart what was cut.
_NUMBER_CHARS_MAX = 100
#: 64 bits of the hash: the printed number stands before it, so only documents of one number could ever collide.
HASH_DIGITS = 16

_SELLER_ID = re.compile("[a-z0-9-]{1,40}")
_YEAR = re.compile("[0-9]{4}", re.ASCII)
_SHA256 = re.compile("[0-9a-f]{64}")
_UNSAFE = re.compile("[^A-Za-z0-9._-]+")


def document_key(seller_id: str, year: str | int, invoice_number: str, sha256: str) -> str:
    """`invoices/{seller}/{year}/{number}-{hash}.pdf`: the same document always has the same key, another one never.

    `invoice_number` is the number as printed, which may hold anything: what isn't safe in a path becomes `_`. The hash,
    of the document's bytes in hex, keeps apart numbers that look alike afterwards, and numbers of several series.

    Raises `ValueError` for a seller id, year or hash that can't be part of a key.
    """
    for name, pattern, value in (("seller id", _SELLER_ID, seller_id), ("year", _YEAR, str(year))):
        if pattern.fullmatch(value) is None:
            raise ValueError(f"not a {name}: {value!r}")
    if _SHA256.fullmatch(sha256) is None:
        raise ValueError("not a SHA-256 in hex")
    number = _UNSAFE.sub("_", invoice_number)[:_NUMBER_CHARS_MAX]
    return f"invoices/{seller_id}/{year}/{number}-{sha256[:HASH_DIGITS]}.pdf"


def names_content(key: str, sha256: str) -> bool:
    """Whether `key` holds the hash (in hex) of its content, and so can't be meant for any other."""
    return sha256[:HASH_DIGITS] in key
