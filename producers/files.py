"""Files of invoice requests: JSONL, one body of `POST /v1/invoices` a line, and Shopify's CSV of orders."""

import csv
from collections.abc import Iterator
from pathlib import Path

import msgspec

from producers.shopify import ShopifyError, read_orders

#: The gateway takes no larger body.
_LINE_BYTES_MAX = 1024 * 1024


class FileError(Exception):
    """A file can't be read or holds something else; the message names the file, the line and the field."""


class _Address(msgspec.Struct, forbid_unknown_fields=True):
    street: str
    city: str
    postal_code: str
    country: str


class _Buyer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    email: str
    address: _Address
    vat_id: str | None = None


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    sku: str
    description: str
    quantity: str
    unit_price: str
    vat_rate: str
    vat_category: str


class _Totals(msgspec.Struct, forbid_unknown_fields=True):
    net: str | None = None
    tax: str | None = None
    gross: str | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """The shape of a body. Its rules are the gateway's to judge."""

    order_id: str
    currency: str
    buyer: _Buyer
    lines: list[_Line]
    kind: str = "invoice"
    note: str | None = None
    totals: _Totals | None = None


_BODY = msgspec.json.Decoder(_Body)


def read_requests(path: Path) -> Iterator[bytes]:
    """The bodies of a `.jsonl`, `.ndjson` or `.csv` file, as JSON, read as they are taken.

    Raises `FileError` at what can't be used: what came before it has been yielded.
    """
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        return _read_jsonl(path)
    if kind == ".csv":
        return _read_csv(path)
    raise FileError(f"{path}: a file of requests ends in .jsonl, .ndjson or .csv (Shopify's orders export)")


def _read_jsonl(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > _LINE_BYTES_MAX:
                    raise FileError(f"{path}:{number}: longer than the {_LINE_BYTES_MAX} bytes that a request may have")
                payload = line.strip()
                if payload:
                    _check(path, number, payload)
                    yield payload
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None


def _check(path: Path, number: int, payload: bytes) -> None:
    try:
        _BODY.decode(payload)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        field = where.strip("`").removeprefix("$").removeprefix(".") or "the request"
        raise FileError(f"{path}:{number}: {field}: {what}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path}:{number}: not JSON: {error}") from None


def _read_csv(path: Path) -> Iterator[bytes]:
    try:
        # The mark that spreadsheets put in front is no part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            for order in read_orders(file):
                yield msgspec.json.encode(order)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: not UTF-8: export it again, as CSV and not for Excel") from None
    except csv.Error as error:
        raise FileError(f"{path}: not CSV: {error}") from None
    except ShopifyError as error:
        raise FileError(f"{path}:{error}") from None
