"""GET: orders, documents, series. Another seller's things don't exist."""

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TypedDict, TypeVar

from aiohttp import web

from domain.credit import REFUND_ID_CHARS_MAX
from domain.invoice import ORDER_ID_CHARS_MAX, check_order_id
from gateway import invoice_views, problems
from gateway.answers import json_answer, postgres_away
from gateway.auth import KeyRing
from gateway.invoice_views import AcceptedInvoice, CreditNoteView, InvoiceView, NumberView, RejectedInvoice
from gateway.openapi import Answer, Parameter, operation, text
from gateway.problems import ProblemError
from sinks.object_store.store import NotStoredError, ObjectStore, StoreUnavailableError
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.reader import Invoice, Reader
from sinks.redis.hints import Hints, Silence

_log = logging.getLogger(__name__)

_DOCUMENT_SECONDS_MAX = 10.0
_NUMBER_MAX = 2**63 - 1
_UNSAFE_IN_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_SECONDS_UNTIL_ISSUED = 1
_SECONDS_UNTIL_STORED = 2
#: What a 404 says where no hint is no news.
WHY_UNKNOWN = {
    Silence.UNAVAILABLE: "no such order is known; whether it was accepted a moment ago can't be looked up just now,"
    " because Redis is away",
    Silence.FORGOTTEN: "no such order is known; if it was accepted a moment ago, Redis has lost its note of that, and"
    " it will be here soon",
}

ORDER_ID = Parameter("order_id", "path", text(ORDER_ID_CHARS_MAX), "The order's id.", required=True)
_IF_NONE_MATCH = Parameter("If-None-Match", "header", {"type": "string"}, "The ETag of one's own copy.")
_PDF = "application/pdf"
_Handler = TypeVar("_Handler", bound=Callable[..., Awaitable[web.StreamResponse]])


class SeriesView(TypedDict):
    """A series of numbers; all below `next_number` are taken."""

    series_id: str
    policy: str
    next_number: int
    issued: int


class SeriesList(TypedDict):
    """A seller's series."""

    series: list[SeriesView]


class CreditNoteList(TypedDict):
    """An order's credit notes."""

    order_id: str
    credit_notes: list[CreditNoteView]


def _document_operation(summary: str, *parameters: Parameter) -> Callable[[_Handler], _Handler]:
    return operation(
        summary,
        Answer(200, "The PDF, which never changes", media_type=_PDF, headers=("ETag", "Cache-Control")),
        Answer(304, "The caller has it already", headers=("ETag", "Cache-Control")),
        parameters=[
            *parameters,
            Parameter("If-None-Match", "header", {"type": "string"}, "The ETag of one's own copy."),
        ],
        problems=[problems.NOT_FOUND, problems.NOT_STORED],
    )


class Reading:
    """Answers questions about orders, from Postgres; from the hints where Postgres doesn't know yet."""

    def __init__(self, keys: KeyRing, reader: Reader, hints: Hints, documents: ObjectStore) -> None:
        self._keys = keys
        self._reader = reader
        self._hints = hints
        self._documents = documents

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        return [
            web.get("/v1/invoices/{order_id}", self.order),
            web.get("/v1/invoices/{order_id}/document", self.document),
            web.get("/v1/invoices/{order_id}/credit-notes", self.credit_notes),
            web.get("/v1/invoices/{order_id}/credit-notes/{refund_id}/document", self.credit_note_document),
            web.get("/v1/series", self.series),
            web.get("/v1/series/{series_id}/numbers/{number}", self.number),
        ]

    @operation(
        "An order's invoice",
        Answer(200, "The order as it stands", (InvoiceView, AcceptedInvoice, RejectedInvoice)),
        parameters=[ORDER_ID],
        problems=[problems.NOT_FOUND],
    )
    async def order(self, request: web.Request) -> web.Response:
        """GET /v1/invoices/{order_id}."""
        seller_id = await self._keys.seller_of(request)
        order_id = order_id_of(request)
        try:
            order = await self._reader.order(seller_id, order_id)
            if order.invoice is not None:
                return json_answer(invoice_views.known(order_id, order, await self._reader.event(order.invoice)))
        except PostgresUnavailableError:
            return await self._hinted_order(seller_id, order_id)
        if order.refused:
            return json_answer(invoice_views.known(order_id, order, None))
        hint = await self._hints.known(seller_id, order_id)
        if hint is None:
            raise ProblemError(problems.NOT_FOUND, "no order of this id is known")
        if isinstance(hint, Silence):
            raise ProblemError(problems.NOT_FOUND, WHY_UNKNOWN[hint], retry_after_seconds=_SECONDS_UNTIL_ISSUED)
        return json_answer(invoice_views.accepted(order_id), headers={"Retry-After": str(_SECONDS_UNTIL_ISSUED)})

    async def _hinted_order(self, seller_id: str, order_id: str) -> web.Response:
        """What can be said without Postgres."""
        if isinstance(await self._hints.known(seller_id, order_id), bytes):
            return json_answer(invoice_views.accepted(order_id), headers={"Retry-After": "2"})
        raise postgres_away()

    @_document_operation("An invoice's document", ORDER_ID)
    async def document(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/invoices/{order_id}/document."""
        seller_id = await self._keys.seller_of(request)
        order_id = order_id_of(request)
        try:
            order = await self._reader.order(seller_id, order_id)
        except PostgresUnavailableError:
            raise postgres_away() from None
        invoice = order.invoice
        if invoice is None:
            if not order.refused and isinstance(await self._hints.known(seller_id, order_id), bytes):
                raise _not_stored()
            raise ProblemError(problems.NOT_FOUND, "no invoice of this order is known")
        return await self._document_answer(request, invoice)

    @operation(
        "An order's credit notes, oldest first",
        Answer(200, "All of them", CreditNoteList),
        parameters=[ORDER_ID],
        problems=[problems.NOT_FOUND],
    )
    async def credit_notes(self, request: web.Request) -> web.Response:
        """GET /v1/invoices/{order_id}/credit-notes."""
        order_id = order_id_of(request)
        found = await self._credit_notes(await self._keys.seller_of(request), order_id)
        return json_answer({"order_id": order_id, "credit_notes": [invoice_views.credit_note(each) for each in found]})

    @_document_operation(
        "A credit note's document",
        ORDER_ID,
        Parameter("refund_id", "path", text(REFUND_ID_CHARS_MAX), "The refund's id, or cancellation.", required=True),
    )
    async def credit_note_document(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/invoices/{order_id}/credit-notes/{refund_id}/document."""
        found = await self._credit_notes(await self._keys.seller_of(request), order_id_of(request))
        refund_id = request.match_info["refund_id"]
        for credit_note in found:
            if credit_note.refund_id == refund_id:
                return await self._document_answer(request, credit_note)
        raise ProblemError(problems.NOT_FOUND, "this order has no credit note for a refund of this id")

    async def _credit_notes(self, seller_id: str, order_id: str) -> list[Invoice]:
        try:
            return await self._reader.credit_notes(seller_id, order_id)
        except PostgresUnavailableError:
            raise postgres_away() from None

    async def _document_answer(self, request: web.Request, invoice: Invoice) -> web.StreamResponse:
        if invoice.document_key is None or invoice.document_sha256 is None:
            raise _not_stored()
        headers = {
            "ETag": f'"{invoice.document_sha256.hex()}"',
            "Cache-Control": "private, max-age=31536000, immutable",
            "Content-Disposition": f'inline; filename="{_file_name(invoice.invoice_number)}"',
            # A document is never what the browser might take it for.
            "X-Content-Type-Options": "nosniff",
        }
        if _is_known(request.headers.get("If-None-Match"), invoice.document_sha256.hex()):
            return web.Response(status=304, headers=headers)
        body = await self._read_document(invoice, invoice.document_key)
        return web.Response(body=body, content_type=_PDF, headers=headers)

    async def _read_document(self, invoice: Invoice, key: str) -> bytes:
        try:
            async with asyncio.timeout(_DOCUMENT_SECONDS_MAX):
                body = await self._documents.get(key)
        except (StoreUnavailableError, TimeoutError) as error:
            _log.warning("the object store gives no documents: %s: %s", type(error).__name__, error)
            raise ProblemError(
                problems.UNAVAILABLE, "the object store can't be reached just now", retry_after_seconds=2
            ) from None
        except NotStoredError:
            body = b""
        # Whatever happened to the store: nobody is ever shown another document than the one that was recorded.
        if hashlib.sha256(body).digest() != invoice.document_sha256:
            _log.error("the document %s is not the one that was recorded, or missing", key)
            raise ProblemError(problems.INTERNAL, "the document is damaged; it can be made again")
        return body

    @operation("The seller's series", Answer(200, "All of them", SeriesList))
    async def series(self, request: web.Request) -> web.Response:
        """GET /v1/series."""
        seller_id = await self._keys.seller_of(request)
        try:
            found = await self._reader.series(seller_id)
        except PostgresUnavailableError:
            raise postgres_away() from None
        return json_answer(
            {
                "series": [
                    {
                        "series_id": series.series_id,
                        "policy": series.policy,
                        "next_number": series.next_number,
                        "issued": series.next_number - 1,
                    }
                    for series in found
                ]
            }
        )

    @operation(
        "What became of a number",
        Answer(200, "The invoice or credit note that has it", NumberView),
        parameters=[
            Parameter("series_id", "path", {"type": "string"}, "The series.", required=True),
            Parameter(
                "number", "path", {"type": "integer", "minimum": 1, "maximum": _NUMBER_MAX}, "1, 2, 3 …", required=True
            ),
        ],
        problems=[problems.NOT_FOUND],
    )
    async def number(self, request: web.Request) -> web.Response:
        """GET /v1/series/{series_id}/numbers/{number}."""
        seller_id = await self._keys.seller_of(request)
        series_id, digits = request.match_info["series_id"], request.match_info["number"]
        if not (digits.isascii() and digits.isdigit()) or not 1 <= int(digits[:20]) <= _NUMBER_MAX:
            raise ProblemError(problems.NOT_FOUND, "a number is 1, 2, 3 …")
        try:
            invoice = None
            if series_id.isprintable():
                invoice = await self._reader.number(seller_id, series_id, int(digits))
        except PostgresUnavailableError:
            raise postgres_away() from None
        if invoice is None:
            raise ProblemError(problems.NOT_FOUND, "this number is not taken in a series of yours")
        return json_answer(invoice_views.number_of(invoice))


def order_id_of(request: web.Request) -> str:
    """The order id of the path; raises `ProblemError` for what can be none."""
    order_id = request.match_info["order_id"]
    if check_order_id(order_id) is not None:
        raise ProblemError(problems.NOT_FOUND, "no order can have this id")
    return order_id


def _is_known(if_none_match: str | None, sha256: str) -> bool:
    """Whether the caller has the document already; weak comparison, as RFC 9110 wants it here."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or f'"{sha256}"' in tags


def _file_name(invoice_number: str) -> str:
    """The printed number, as a file may be called on every system; no path, no quotes, nothing to escape."""
    return f"{_UNSAFE_IN_FILE_NAME.sub('-', invoice_number).strip('.-') or 'invoice'}.pdf"


def _not_stored() -> ProblemError:
    return ProblemError(problems.NOT_STORED, "the document is being made", retry_after_seconds=_SECONDS_UNTIL_STORED)
