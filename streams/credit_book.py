"""The credits of one transaction of the invoices agent: loaded once, decided in offset order, written at once.

A storefront asks to credit an invoice that it asked for directly. What that comes to depends on the credits before it,
so it is decided where they are written, from the invoice's own event and the rows of its credits.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from domain import credit
from domain.crediting import CheckedCredit, Given, decide_credit, invoiced
from domain.issuing import CREDIT_NOTE, Content, InvoiceIdentity
from domain.moments import micros
from domain.order import OrderIdentity
from domain.records import CreditRequest, InvoiceRequest
from domain.refusals import INVALID_FIELD, Refusal
from schemas import catalog
from schemas.codec import decode, decode_field, encode
from sinks.postgres.invoice_credits import CreditRow, insert_credits, read_credits
from sinks.postgres.invoices import Preceding
from sinks.postgres.session import Connection
from streams.invoice_events import PricedRequest


@dataclass(frozen=True, slots=True)
class AskedCredit:
    """A request for a credit note, checked by itself."""

    content: Content
    body: CreditRequest
    checked: CheckedCredit


@dataclass(slots=True)
class CreditBook:
    """What was invoiced and credited of the orders that a transaction is to credit."""

    preceding: Mapping[InvoiceIdentity, Preceding]
    now: datetime
    #: Orders that are checkouts: their refunds ask for their credit notes.
    checkouts: set[OrderIdentity] = field(default_factory=set)
    #: Digests of what was asked for before.
    asked: dict[InvoiceIdentity, bytes] = field(default_factory=dict)
    _given: dict[OrderIdentity, list[Given]] = field(default_factory=dict)
    _requests: dict[InvoiceIdentity, InvoiceRequest] = field(default_factory=dict)
    _new: list[CreditRow] = field(default_factory=list)

    async def load(self, connection: Connection, orders: Collection[OrderIdentity]) -> None:
        """Read what was credited of these orders' invoices."""
        if not orders:
            return
        found, self.checkouts = await read_credits(connection, orders)
        for order, rows in found.items():
            self._given[order] = [_given(row.lines, row.credit_note_request) for row in rows]
            for row in rows:
                self.asked[InvoiceIdentity(*order, CREDIT_NOTE, row.credit_note_id)] = row.asked_sha256

    def add_invoice(self, invoice: InvoiceIdentity, request: InvoiceRequest) -> None:
        """An invoice of this transaction, which a later request of it may credit."""
        self._requests[invoice] = request

    def decide(self, asked: AskedCredit) -> PricedRequest | Refusal:
        """The credit note that was asked for, or why there is none. Its order has an invoice."""
        key = asked.content.key
        order = OrderIdentity(key.seller_id, key.order_id)
        request = self._requests.get(key.invoice) or self._read(key.invoice)
        if isinstance(request, Refusal):
            return request
        given = self._given.setdefault(order, [])
        wanted, reason = asked.checked.wanted, asked.body["reason"]
        decided = decide_credit(request, given, wanted, key.refund_id, reason, micros(self.now))
        if isinstance(decided, Refusal):
            return decided
        priced = credit.check(decided.note)
        if isinstance(priced, Refusal):
            # Such as a net amount below zero beside a tax above it.
            return priced
        lines = {} if wanted.amount else decided.lines
        payload = encode(catalog.CREDIT_NOTE_REQUEST, decided.note)
        self._new.append(CreditRow(order, key.refund_id, lines, asked.content.content_sha256, payload))
        given.append(Given(lines, decided.note["totals"]["per_rate"]))
        return PricedRequest(asked.content, decided.note, priced)

    async def write(self, connection: Connection) -> None:
        """Write what was decided."""
        if self._new:
            await insert_credits(connection, self._new)

    def _read(self, invoice: InvoiceIdentity) -> InvoiceRequest | Refusal:
        event = self.preceding[invoice].event
        if event is None:
            detail = "the invoice is too old to be credited here: its content is no longer in the journal"
            return Refusal(INVALID_FIELD, "order_id", detail)
        request = invoiced(decode(event, catalog.INVOICE_ISSUED, bytes_max=len(event))[1])
        if not isinstance(request, Refusal):
            self._requests[invoice] = request
        return request


def _given(lines: Mapping[int, int], request: bytes) -> Given:
    totals = decode_field(request, catalog.CREDIT_NOTE_REQUEST, "totals", bytes_max=len(request))
    return Given(lines, totals["per_rate"])
