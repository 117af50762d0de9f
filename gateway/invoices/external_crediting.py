"""POST /v1/credit-notes: a credit note of an invoice that was issued elsewhere, such as before the move to gapless."""

from time import time_ns

from aiohttp import web

from admission.hints import Hints
from domain.credit import check_asked_refund_id
from domain.external import credit_external
from domain.invoice import Priced, check_order_id, compare_claims
from domain.order import REASON_CHARS_MAX
from domain.records import CreditNoteRequest, InvoiceRequest
from domain.refusals import Refusal
from domain.rules import check_rules
from domain.texts import check_text
from gateway.http import bodies, problems, telemetry
from gateway.http.auth import KEYS
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import operation
from gateway.http.parameters import IDEMPOTENCY_KEY, PREFER, chosen_id
from gateway.http.problems import ProblemError
from gateway.http.waiting import Waiters
from gateway.invoices.credit_keeping import RESPONSES, CreditKeeping, CreditOutcome
from schemas.catalog import CREDIT_NOTE_REQUEST, INVOICE_REQUESTS, Topic
from schemas.codec import encode
from sinks.postgres.invoices_reader import InvoicesReader
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.order_ids import CHECKOUT


class ExternalCrediting:
    """Accepts credit notes of external invoices. The invoices agent decides whether the order id is free for them."""

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
        self._reader = reader
        self._keeping = CreditKeeping(intake, hints, waiters, topic)

    def routes(self) -> list[web.RouteDef]:
        """The resource."""
        return [web.post("/v1/credit-notes", self.post)]

    @operation(
        "Ask for a credit note of an invoice that was issued elsewhere",
        *RESPONSES,
        body=bodies.CreditNoteRequest,
        parameters=[IDEMPOTENCY_KEY, PREFER],
        problems=[
            problems.CREDIT_NOTE_ID_MISSING,
            problems.CREDIT_NOTE_ID_AMBIGUOUS,
            problems.ALREADY_INVOICED,
            problems.ALREADY_ORDERED,
            problems.CREDIT_CONFLICT,
            *problems.RULES,
            problems.NOT_ACKNOWLEDGED,
        ],
    )
    async def post(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/credit-notes."""
        with self._intake.place(request, seller_id):
            asked = bodies.read_credit_note(await read_body(request))
            request[telemetry.ORDER_ID] = asked.order_id
            record = bodies.as_record(asked, seller_id, asked.order_id, time_ns() // 1000)
            note, priced = _note(record, asked, request.headers.get("Idempotency-Key"))
            names = seller_id, asked.order_id, note["refund_id"]
            outcome = CreditOutcome(self._reader, *names, priced.content_sha256, is_external=True)
            # Not of what has its number: a rule may be younger than that.
            if await outcome.look() is None:
                facts = await request.app[KEYS].facts_of(seller_id)
                broken = None if facts is None else check_rules(record, priced, facts)
                if broken is not None:
                    raise problems.refused(broken)
                await self._refuse_taken(seller_id, asked.order_id)
            return await self._keeping.answer(request, outcome, encode(CREDIT_NOTE_REQUEST, note))

    async def _refuse_taken(self, seller_id: str, order_id: str) -> None:
        """Raise `ProblemError` if the order id is another's. If that can't be determined here, the agent decides."""
        try:
            known = await self._reader.outcome(seller_id, order_id)
        except PostgresUnavailableError:
            return
        if known.owner == CHECKOUT:
            detail = "`order_id` belongs to a checkout: refund its order, and the refund has its credit note"
            raise ProblemError(problems.ALREADY_ORDERED, detail, field="order_id")
        if known.invoice is not None:
            detail = "`order_id` has an invoice that was issued here: credit it at its own credit-notes"
            raise ProblemError(problems.ALREADY_INVOICED, detail, field="order_id")


def _note(
    record: InvoiceRequest, asked: bodies.CreditNoteRequest, idempotency_key: str | None
) -> tuple[CreditNoteRequest, Priced]:
    """The request as it goes to Kafka, and its amounts; raises `ProblemError`."""
    credit_note_id = chosen_id(
        "credit_note_id",
        asked.credit_note_id if isinstance(asked.credit_note_id, str) else None,
        idempotency_key,
        problems.CREDIT_NOTE_ID_MISSING,
        problems.CREDIT_NOTE_ID_AMBIGUOUS,
    )
    refusal = check_asked_refund_id(credit_note_id)
    if refusal is not None:
        raise problems.refused(Refusal(refusal.reason, "credit_note_id", refusal.detail))
    reason = asked.reason or ""
    refusal = check_order_id(record["order_id"]) or check_text("reason", reason, REASON_CHARS_MAX)
    made = credit_external(record, credit_note_id, reason) if refusal is None else refusal
    if isinstance(made, Refusal):
        raise problems.refused(made)
    refusal = compare_claims(made[1], bodies.claims(asked), asked.currency)
    if refusal is not None:
        raise problems.refused(refusal)
    return made
