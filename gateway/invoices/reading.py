"""GET: orders, documents, series. Another seller's are not found."""

from typing import TypedDict

from aiohttp import web

from admission.hints import Hints, Silence
from domain.credit import REFUND_ID_CHARS_MAX
from gateway.http import parameters, problems
from gateway.http.bodies import json_answer
from gateway.http.openapi import DeclaredResponse, ForSellers, Parameter, operation, text
from gateway.http.parameters import ORDER_ID, order_id_of, whole_number
from gateway.http.problems import ProblemError
from gateway.invoices import invoice_views
from gateway.invoices.invoice_views import (
    AcceptedInvoice,
    CreditNoteView,
    InvoiceView,
    NumberView,
    RejectedCredit,
    RejectedInvoice,
)
from gateway.invoices.stored_documents import (
    DOCUMENT_RESPONSES,
    IF_NONE_MATCH,
    PRIVATE,
    StoredDocuments,
)
from sinks.postgres.invoices_reader import InvoicesReader
from sinks.postgres.lanes import PostgresUnavailableError

_NUMBER_MAX = 2**63 - 1
_SECONDS_UNTIL_ISSUED = 1
#: The detail of a 404 where a missing hint proves nothing.
WHY_UNKNOWN = {
    Silence.UNAVAILABLE: "no order with this id is known; whether it was accepted a moment ago is unknown,"
    " because Redis is unavailable",
    Silence.FORGOTTEN: "no order with this id is known; if it was accepted a moment ago, Redis has lost its note,"
    " and it will be here soon",
}

#: In the path of a credit note.
REFUND = Parameter("refund_id", "path", text(REFUND_ID_CHARS_MAX), "The refund's id, or cancellation.", required=True)


class SeriesView(TypedDict):
    """A series of numbers; all below `next_number` are taken."""

    series_id: str
    policy: str
    next_number: int
    issued: int


class SeriesList(TypedDict):
    """A page of a seller's series."""

    series: list[SeriesView]
    next: str | None


class CreditNoteList(TypedDict):
    """An order's credit notes, and the latest that were asked for and rejected."""

    order_id: str
    credit_notes: list[CreditNoteView]
    rejected: list[RejectedCredit]


def _document_operation(summary: str, *parameters: Parameter) -> ForSellers:
    return operation(
        summary,
        *DOCUMENT_RESPONSES,
        parameters=[*parameters, IF_NONE_MATCH],
        problems=[problems.NOT_FOUND, problems.NOT_STORED],
    )


class InvoiceReading:
    """Reads invoices from Postgres, and from the hints where Postgres does not have them yet."""

    def __init__(self, reader: InvoicesReader, hints: Hints, documents: StoredDocuments) -> None:
        self._reader = reader
        self._hints = hints
        self._documents = documents

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        return [
            web.get("/v1/invoices/{order_id}", self.invoice),
            web.get("/v1/invoices/{order_id}/document", self.document),
            web.get("/v1/invoices/{order_id}/credit-notes", self.credit_notes),
            web.get("/v1/invoices/{order_id}/credit-notes/{refund_id}/document", self.credit_note_document),
            web.get("/v1/series", self.series),
            web.get("/v1/series/{series_id}/numbers/{number}", self.number),
        ]

    @operation(
        "An order's invoice",
        DeclaredResponse(200, "The order as it stands", (InvoiceView, AcceptedInvoice, RejectedInvoice)),
        parameters=[ORDER_ID],
        problems=[problems.NOT_FOUND],
    )
    async def invoice(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/invoices/{order_id}."""
        order_id = order_id_of(request)
        try:
            outcome = await self._reader.outcome(seller_id, order_id)
            if outcome.invoice is not None:
                return json_answer(invoice_views.known(order_id, outcome, await self._reader.event(outcome.invoice)))
        except PostgresUnavailableError:
            return await self._hinted_invoice(seller_id, order_id)
        if outcome.refused:
            return json_answer(invoice_views.known(order_id, outcome, None))
        hint = await self._hints.known(seller_id, order_id)
        if isinstance(hint, bytes) or await self._documents.is_sold(seller_id, order_id, outcome):
            return json_answer(invoice_views.accepted(order_id), headers={"Retry-After": str(_SECONDS_UNTIL_ISSUED)})
        if isinstance(hint, Silence):
            raise ProblemError(problems.NOT_FOUND, WHY_UNKNOWN[hint], retry_after_seconds=_SECONDS_UNTIL_ISSUED)
        raise ProblemError(problems.NOT_FOUND, "no order with this id is known")

    async def _hinted_invoice(self, seller_id: str, order_id: str) -> web.Response:
        """The response without Postgres' data."""
        if isinstance(await self._hints.known(seller_id, order_id), bytes):
            return json_answer(invoice_views.accepted(order_id), headers={"Retry-After": "2"})
        raise problems.postgres_unavailable()

    @_document_operation("An invoice's document", ORDER_ID)
    async def document(self, request: web.Request, seller_id: str) -> web.StreamResponse:
        """GET /v1/invoices/{order_id}/document."""
        invoice = await self._documents.invoice(seller_id, order_id_of(request))
        return await self._documents.answer(request, invoice, PRIVATE)

    @operation(
        "An order's credit notes, oldest first",
        DeclaredResponse(200, "All of them", CreditNoteList),
        parameters=[ORDER_ID],
        problems=[problems.NOT_FOUND],
    )
    async def credit_notes(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/invoices/{order_id}/credit-notes."""
        order_id = order_id_of(request)
        with problems.needing_postgres():
            found = await self._reader.credit_notes(seller_id, order_id)
            refused = await self._reader.refused_credits(seller_id, order_id)
        body: CreditNoteList = {
            "order_id": order_id,
            "credit_notes": [invoice_views.credit_note(each) for each in found],
            "rejected": [invoice_views.rejected_credit(each) for each in refused if each.is_rejected],
        }
        return json_answer(body)

    @_document_operation("A credit note's document", ORDER_ID, REFUND)
    async def credit_note_document(self, request: web.Request, seller_id: str) -> web.StreamResponse:
        """GET /v1/invoices/{order_id}/credit-notes/{refund_id}/document."""
        refund_id = request.match_info["refund_id"]
        credit_note = await self._documents.credit_note(seller_id, order_id_of(request), refund_id)
        return await self._documents.answer(request, credit_note, PRIVATE)

    @operation(
        "The seller's series, by id",
        DeclaredResponse(200, "A page of them", SeriesList),
        parameters=parameters.PAGE,
        problems=[problems.INVALID_FIELD],
    )
    async def series(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/series, in the order of their ids."""
        limit = parameters.limit_of(request.query)
        after = ""
        if "cursor" in request.query:
            (after,) = parameters.read_cursor(request.query["cursor"], tuple[str])
            if not after.isprintable():
                raise parameters.foreign_cursor()
        with problems.needing_postgres():
            found = await self._reader.series_list(seller_id, after, limit + 1)
        return json_answer(
            {
                "series": [
                    {
                        "series_id": series.series_id,
                        "policy": series.policy,
                        "next_number": series.next_number,
                        "issued": series.next_number - 1,
                    }
                    for series in found[:limit]
                ],
                "next": parameters.cursor(found[limit - 1].series_id) if len(found) > limit else None,
            }
        )

    @operation(
        "What became of a number",
        DeclaredResponse(200, "The invoice or credit note that has it", NumberView),
        parameters=[
            Parameter("series_id", "path", {"type": "string"}, "The series.", required=True),
            Parameter(
                "number", "path", {"type": "integer", "minimum": 1, "maximum": _NUMBER_MAX}, "1, 2, 3 …", required=True
            ),
        ],
        problems=[problems.NOT_FOUND],
    )
    async def number(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/series/{series_id}/numbers/{number}."""
        series_id, digits = request.match_info["series_id"], request.match_info["number"]
        number = whole_number(digits, 1, _NUMBER_MAX)
        if number is None:
            raise ProblemError(problems.NOT_FOUND, "a number must be 1, 2, 3 …")
        with problems.needing_postgres():
            invoice = None
            if series_id.isprintable():
                invoice = await self._reader.number(seller_id, series_id, number)
        if invoice is None:
            raise ProblemError(problems.NOT_FOUND, "no series of this seller has this number")
        return json_answer(invoice_views.number_of(invoice))
