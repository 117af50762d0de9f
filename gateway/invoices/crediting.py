"""POST /v1/invoices/{order_id}/credit-notes: credit an invoice that was asked for directly, in part or whole."""

from time import time_ns
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from admission.hints import Hints, Silence
from domain.credit import REFUND_ID_CHARS_MAX
from domain.crediting import CheckedCredit, check_credit
from domain.invoice import LINES_MAX
from domain.order import REASON_CHARS_MAX
from domain.records import CreditRequest
from domain.refusals import Refusal
from gateway.http import bodies, problems, telemetry
from gateway.http.details import Decimal
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import described, limits, operation
from gateway.http.parameters import IDEMPOTENCY_KEY, ORDER_ID, PREFER, chosen_id, order_id_of
from gateway.http.problems import ProblemError
from gateway.http.waiting import Waiters
from gateway.invoices.credit_keeping import RESPONSES, CreditKeeping, CreditOutcome
from gateway.invoices.reading import WHY_UNKNOWN
from schemas.catalog import CREDIT_REQUEST, INVOICE_REQUESTS, Topic
from schemas.codec import encode
from sinks.postgres.invoices_reader import InvoicesReader
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.order_ids import CHECKOUT


class CreditLine(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of one line of the invoice; the first line is 0."""

    line: Annotated[int, limits(minimum=0, maximum=LINES_MAX - 1)]
    quantity: Annotated[Decimal, described("Above zero, also of a line that took something back.")]


class CreditCommand(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a credit; without lines and amount it is of all that is left."""

    credit_note_id: Annotated[str, limits(minLength=1, maxLength=REFUND_ID_CHARS_MAX)] | UnsetType = UNSET
    lines: Annotated[list[CreditLine], limits(minItems=1, maxItems=LINES_MAX)] | UnsetType | None = UNSET
    amount: Annotated[Decimal, described("With tax; instead of lines.")] | UnsetType | None = UNSET
    reason: Annotated[str, limits(maxLength=REASON_CHARS_MAX), described("Is printed.")] | UnsetType | None = UNSET


_decoder = msgspec.json.Decoder(CreditCommand)


class InvoiceCrediting:
    """Accepts credits of invoices. The invoices agent decides them; here only what can't be right is refused."""

    def __init__(
        self,
        intake: Intake,
        hints: Hints,
        reader: InvoicesReader,
        waiters: Waiters,
        *,
        topic: Topic = INVOICE_REQUESTS,
    ) -> None:
        """Requests go to `topic`; `waiters` are woken by the invoice events."""
        self._intake = intake
        self._hints = hints
        self._reader = reader
        self._keeping = CreditKeeping(intake, hints, waiters, topic)

    def routes(self) -> list[web.RouteDef]:
        """The resource."""
        return [web.post("/v1/invoices/{order_id}/credit-notes", self.post)]

    @operation(
        "Credit an invoice, or a part of it",
        *RESPONSES,
        body=CreditCommand,
        needs_body=False,
        parameters=[ORDER_ID, IDEMPOTENCY_KEY, PREFER],
        problems=[
            problems.NOT_FOUND,
            problems.CREDIT_NOTE_ID_MISSING,
            problems.CREDIT_NOTE_ID_AMBIGUOUS,
            problems.NOT_INVOICED,
            problems.ALREADY_ORDERED,
            problems.CREDIT_CONFLICT,
            problems.CREDIT_TOO_LARGE,
            problems.INVALID_FIELD,
            problems.NOT_ACKNOWLEDGED,
        ],
    )
    async def post(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/invoices/{order_id}/credit-notes."""
        order_id = request[telemetry.ORDER_ID] = order_id_of(request)
        with self._intake.place(request, seller_id):
            body = await read_body(request)
            record, checked = _read(seller_id, order_id, body, request.headers.get("Idempotency-Key"))
            await self._refuse_without_invoice(seller_id, order_id)
            names = seller_id, order_id, record["credit_note_id"]
            outcome = CreditOutcome(self._reader, *names, checked.content_sha256, is_external=False)
            return await self._keeping.answer(request, outcome, encode(CREDIT_REQUEST, record))

    async def _refuse_without_invoice(self, seller_id: str, order_id: str) -> None:
        """Raise `ProblemError` without an invoice to credit. If that can't be determined here, the agent decides."""
        try:
            known = await self._reader.outcome(seller_id, order_id)
        except PostgresUnavailableError:
            return
        if known.owner == CHECKOUT:
            detail = "this invoice is a checkout's: refund its order, and the refund has its credit note"
            raise ProblemError(problems.ALREADY_ORDERED, detail)
        if known.invoice is not None:
            return
        hint = None if known.refused else await self._hints.known(seller_id, order_id)
        if isinstance(hint, bytes):
            raise ProblemError(problems.NOT_INVOICED, "the invoice has no number yet", retry_after_seconds=1)
        if isinstance(hint, Silence):
            raise ProblemError(problems.NOT_FOUND, WHY_UNKNOWN[hint], retry_after_seconds=1)
        raise ProblemError(problems.NOT_FOUND, "no invoice of this order is known")


def _read(
    seller_id: str, order_id: str, body: bytes, idempotency_key: str | None
) -> tuple[CreditRequest, CheckedCredit]:
    """The request, checked without its invoice; raises `ProblemError`."""
    asked = bodies.decode_small(_decoder, body) if body else CreditCommand()
    credit_note_id = chosen_id(
        "credit_note_id",
        None if asked.credit_note_id is UNSET else asked.credit_note_id,
        idempotency_key,
        problems.CREDIT_NOTE_ID_MISSING,
        problems.CREDIT_NOTE_ID_AMBIGUOUS,
    )
    record: CreditRequest = {
        "received_at": time_ns() // 1000,
        "seller_id": seller_id,
        "order_id": order_id,
        "credit_note_id": credit_note_id,
        "reason": asked.reason or "",
        "lines": [{"line": each.line, "quantity": each.quantity} for each in asked.lines or ()],
        "amount": asked.amount or "",
    }
    refusal = _check_lines(asked)
    checked = check_credit(record) if refusal is None else refusal
    if isinstance(checked, Refusal):
        raise problems.refused(checked)
    return record, checked


def _check_lines(asked: CreditCommand) -> Refusal | None:
    """What the record can't say: that the lines are none, which is not all that is left, and lines out of bounds."""
    if asked.lines == [] or asked.amount == "":
        field = "lines" if asked.lines == [] else "amount"
        return Refusal(problems.INVALID_FIELD.name, field, "must not be empty: omit it to credit all that is left")
    for index, each in enumerate(asked.lines or ()):
        if not 0 <= each.line < LINES_MAX:
            detail = "must be a line of the invoice, the first is 0"
            return Refusal(problems.INVALID_FIELD.name, f"lines[{index}].line", detail)
    return None
