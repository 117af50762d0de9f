"""JSON Lines: one body of `POST /v1/invoices` a line, sent as it stands."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from producers.importers.body import checked
from producers.importers.found import File, Found, Place, Rejected, Request
from producers.importers.shop_order import UntellableError
from producers.importers.table import FileError

#: The gateway takes no larger body.
_LINE_BYTES_MAX = 1024 * 1024
_SUFFIXES = (".jsonl", ".ndjson")


class _HasOrderId(msgspec.Struct):
    order_id: str = ""


_ORDER_ID = msgspec.json.Decoder(_HasOrderId)


class Jsonl:
    """One request a line."""

    title = "JSON Lines of invoice requests (.jsonl, .ndjson)"

    def reads(self, file: File) -> bool:
        """By its name."""
        return file.path.suffix.lower() in _SUFFIXES

    def found(self, file: File) -> Iterator[Found]:
        """The lines that are not empty, read as they are taken."""
        try:
            with file.path.open("rb") as lines:
                for number, line in enumerate(_lines(lines), 1):
                    payload = line.strip()
                    if payload:
                        place = Place(file.path, number)
                        yield _found(place, payload) if file.options.are_bodies_checked else _sendable(place, payload)
        except OSError as error:
            raise FileError(f"{error.strerror}") from None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines of which no more than the permitted bytes and one are in memory."""
    while line := file.readline(_LINE_BYTES_MAX + 1):
        rest = line
        while len(rest) > _LINE_BYTES_MAX and not rest.endswith(b"\n"):
            rest = file.readline(_LINE_BYTES_MAX + 1)
        yield line


def _sendable(place: Place, payload: bytes) -> Found:
    if len(payload) > _LINE_BYTES_MAX:
        return Rejected(place, "", "", f"longer than the {_LINE_BYTES_MAX} bytes that a request may have")
    return Request(place, "", payload)


def _found(place: Place, payload: bytes) -> Found:
    """The request, if the gateway would accept it."""
    found = _sendable(place, payload)
    if isinstance(found, Rejected):
        return found
    order_id = order_id_of(payload)
    try:
        checked(payload, place.row)
    except UntellableError as error:
        return Rejected(place, order_id, error.column, error.reason)
    return Request(place, order_id, payload)


def order_id_of(payload: bytes) -> str:
    """The order's id in a body; empty if it has none."""
    try:
        return _ORDER_ID.decode(payload.removeprefix(BOM_UTF8)).order_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
