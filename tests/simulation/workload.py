"""The requests of histories, each encoded once for all histories, and their expected outcomes."""

import hashlib
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

from domain import credit, invoice
from domain.checkout import Checkout, check
from domain.issuing import CREDIT_NOTE, InvoiceIdentity
from schemas import catalog
from tests.credit_notes import credit_note_request
from tests.integration.shop import checkout_body, command
from tests.records import written
from tests.simulation.statements import MORE_COLUMNS
from tests.unit.domain.test_invoice import request

#: The first numbers per partition, the second in one series for all partitions; the third does not exist.
SELLERS = ("demo", "one-run", "nobody")
#: Pieces of each article in the warehouse.
ON_HAND = {("demo", "S-1"): 2, ("demo", "S-2"): 1}
ORDERS_MAX = 4


@dataclass(frozen=True)
class Meaning:
    """The expected outcome of a request, if it is the first with its key."""

    #: `invoice`, `credit note`, `checkout`, `cancel`, `garbage`, or `rejected`.
    kind: str
    key: Any = None
    content: bytes = b""
    wanted: tuple[tuple[tuple[str, str], int], ...] = ()


#: By the bytes of the request.
MEANINGS: dict[bytes, Meaning] = {}


def seller_rows() -> dict[str, tuple[Any, ...]]:
    """Rows of `sellers`, in the order of `SELLER_COLUMNS`."""
    address = ("1 Main St", "Lyon", "69001", "FR")
    demo = ("Demo", "FR40303265045", *address, "Europe/Paris", "partitioned", "INV-{partition:02d}-{number}", None)
    run = ("Run", "FR40303265045", *address, "UTC", "continuous", "INV-{year}-{number}", None)
    more = [""] * len(MORE_COLUMNS)
    return {"demo": ("demo", *demo, *more), "one-run": ("one-run", *run, *more)}


@cache
def invoice_request(seller: int, order: int, variant: int) -> bytes:
    """A request for an order's invoice; `variant` is its content."""
    body = request(seller_id=SELLERS[seller], order_id=f"A-{order}", note=f"variant {variant}" if variant else None)
    value = written(catalog.INVOICE_REQUEST, body)
    key = InvoiceIdentity(body["seller_id"], body["order_id"], "invoice")
    priced = invoice.price(body)
    assert isinstance(priced, invoice.Priced)
    MEANINGS[value] = (
        Meaning("rejected") if SELLERS[seller] == "nobody" else Meaning("invoice", key, priced.content_sha256)
    )
    return value


@cache
def credit_request(seller: int, order: int, refund: int) -> bytes:
    """A request for the credit note of one piece of an order."""
    body = credit_note_request(request(seller_id=SELLERS[seller], order_id=f"A-{order}"), f"r{refund}", {0: 1})
    value = written(catalog.CREDIT_NOTE_REQUEST, body)
    checked = credit.check(body)
    assert isinstance(checked, invoice.Priced)
    key = InvoiceIdentity(body["seller_id"], body["order_id"], CREDIT_NOTE, body["refund_id"])
    MEANINGS[value] = Meaning("credit note", key, checked.content_sha256)
    return value


@cache
def bad_request(which: int) -> bytes:
    """Bytes that can't be decoded, or a request that breaks a rule."""
    if which == 0:
        MEANINGS[b"\0\0"] = Meaning("garbage")
        return b"\0\0"
    value = written(catalog.INVOICE_REQUEST, request(order_id="A-0", currency="XXX"))
    MEANINGS[value] = Meaning("rejected")
    return value


#: Lines of a checkout, by variant.
_LINES = ((("S-1", 1),), (("S-1", 1), ("S-2", 1)), (("S-2", 1), ("S-1", 2)), (("S-1", 1), ("S-9", 1)))


@cache
def checkout_request(order: int, variant: int, letter: str = "C") -> bytes:
    """A checkout of some pieces; orders of several partitions want the same ones. `letter` begins its id."""
    body = checkout_body(f"{letter}-{order}", *_LINES[variant])
    value = written(catalog.CHECKOUT_REQUEST, body)
    checked = check(body)
    assert isinstance(checked, Checkout)
    wanted = tuple(sorted(((sku.seller_id, sku.sku), pieces) for sku, pieces in checked.wanted.items()))
    MEANINGS[value] = Meaning("checkout", ("demo", body["order_id"]), checked.content_sha256, wanted)
    return value


@cache
def cancel_command(order: int) -> bytes:
    """A command that cancels an order."""
    value = command(f"C-{order}", "cancel")
    MEANINGS[value] = Meaning("cancel", ("demo", f"C-{order}"))
    return value


#: Releases of the renderer: workers of two may run at once, with different fonts or libraries.
EDITIONS = (b"1", b"2")


def render(event: Any, edition: bytes) -> bytes:
    """The document of an event: a pure function of it within one release."""
    parts = (event["series_id"], event["number"], event["invoice_number"], event["order_id"], event["issue_date"])
    return b"%PDF " + edition + hashlib.sha256(repr(parts).encode()).digest()


class Log:
    """A partition of a topic: records at rising offsets, with possible holes."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.end = 0

    def append(self, key: bytes | None, value: bytes, **also: Any) -> int:
        """Append a record; returns its offset."""
        self.records.append(SimpleNamespace(offset=self.end, key=key, value=value, headers=(), **also))
        self.end += 1
        return self.end - 1

    def read(self, offset: int, count: int) -> list[Any]:
        """Up to `count` records at or after `offset`."""
        records = self.records
        at = len(records)
        while at and records[at - 1].offset >= offset:
            at -= 1
        return records[at : at + count]

    def between(self, first: int, after: int) -> list[Any]:
        """The records in [first, after)."""
        return [record for record in self.records if first <= record.offset < after]
