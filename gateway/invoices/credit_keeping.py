"""Requests for credit notes: kept in Kafka, waited for, and answered with what was decided."""

from dataclasses import dataclass

from aiohttp import web

from admission.hints import Hints, credit_name, of_credits
from gateway.http import problems, telemetry
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake
from gateway.http.openapi import DeclaredResponse
from gateway.http.parameters import wait_seconds
from gateway.http.problems import ProblemError
from gateway.http.waiting import Waiters, until_known
from gateway.invoices import invoice_views
from gateway.invoices.invoice_views import AcceptedCredit, CreditNoteView
from runtime.publisher import Delivered
from schemas.catalog import (
    CREDIT_NOTE_ISSUED,
    INVOICE_EVENTS,
    INVOICE_REQUEST_CONFLICTED,
    INVOICE_REQUEST_REJECTED,
    INVOICE_REQUESTS,
    Topic,
)
from schemas.codec import DecodeError, decode
from sinks.postgres.invoices_reader import InvoicesReader
from sinks.postgres.lanes import PostgresUnavailableError

#: A credit is decided within some 30 ms; `Prefer: wait=0` skips the wait.
WAIT_SECONDS_DEFAULT = 5
RESPONSES = (
    DeclaredResponse(200, "The credit note has its number, within the wait", CreditNoteView),
    DeclaredResponse(202, "Accepted, and not decided yet", AcceptedCredit, headers=("Location", "Retry-After")),
)


@dataclass(slots=True)
class CreditOutcome:
    """The outcome of one request for a credit note."""

    reader: InvoicesReader
    seller_id: str
    order_id: str
    credit_note_id: str
    #: What a repeat must equal.
    content_sha256: bytes
    #: The request says all that its credit note does; otherwise only what is to be taken back.
    is_external: bool
    #: The record's place in its topic; None before it has one.
    delivered: Delivered | None = None

    async def look(self) -> CreditNoteView | None:
        """The credit note in Postgres; raises `ProblemError` if it says something else, or was refused."""
        try:
            notes = await self.reader.credit_notes(self.seller_id, self.order_id)
            note = next((each for each in notes if each.refund_id == self.credit_note_id), None)
            if note is None and self.delivered is not None:
                for refused in await self.reader.refused_credits(self.seller_id, self.order_id):
                    if (refused.partition, refused.log_offset) == self.delivered:
                        raise problems.rejected(refused.reason, refused.detail)
        except PostgresUnavailableError:
            return None
        if note is None:
            return None
        if (note.content_sha256 if self.is_external else note.asked_sha256) != self.content_sha256:
            raise _conflict()
        return invoice_views.credit_note(note)

    async def judge(self, event: bytes) -> CreditNoteView | None:
        """The outcome in an event of this order; None if the event is about something else."""
        kinds = (CREDIT_NOTE_ISSUED, INVOICE_REQUEST_CONFLICTED, INVOICE_REQUEST_REJECTED)
        try:
            schema, value = decode(event, *kinds, bytes_max=INVOICE_EVENTS.value_bytes_max)
        except DecodeError:
            return None
        if value["seller_id"] != self.seller_id:
            return None
        if CREDIT_NOTE_ISSUED.describes(value, schema):
            return await self.look() if value["refund_id"] == self.credit_note_id else None
        if (value["source_partition"], value["source_offset"]) != self.delivered:
            return None
        if INVOICE_REQUEST_REJECTED.describes(value, schema):
            raise problems.rejected(value["reason"], value["detail"])
        raise _conflict()


@dataclass(frozen=True, slots=True)
class CreditKeeping:
    """Publishes requests for credit notes to `topic`, and waits; `waiters` are woken by the invoice events."""

    intake: Intake
    hints: Hints
    waiters: Waiters
    topic: Topic = INVOICE_REQUESTS

    async def answer(self, request: web.Request, outcome: CreditOutcome, payload: bytes) -> web.Response:
        """The credit note, now or within the wait, or that the request is accepted. Raises `ProblemError`."""
        note = await outcome.look()
        if note is None:
            note = await self._keep_and_wait(outcome, payload, wait_seconds(request.headers, WAIT_SECONDS_DEFAULT))
        if note is not None:
            return json_answer(note)
        answer = invoice_views.accepted_credit(outcome.order_id, outcome.credit_note_id)
        headers = {"Location": answer["links"]["self"], "Retry-After": "1"}
        return json_answer(answer, status=202, headers=headers)

    async def _keep_and_wait(self, outcome: CreditOutcome, payload: bytes, wait: int) -> CreditNoteView | None:
        """The credit note; None if it is not known in time. Raises `ProblemError`."""
        key = outcome.order_id.encode()
        with self.waiters.waiting(key, wait) as waiter:
            outcome.delivered = await self.intake.keep(self.topic.name, key, payload)
            telemetry.COMMANDS.labels("credit").inc()
            name = credit_name(outcome.order_id, outcome.credit_note_id)
            await self.hints.remember(of_credits(outcome.seller_id), name, outcome.content_sha256)
            return None if waiter is None else await until_known(waiter, outcome, wait, look_at_once=False)


def _conflict() -> ProblemError:
    detail = "`credit_note_id` was already used with different content; the first credit note stands"
    return ProblemError(problems.CREDIT_CONFLICT, detail, field="credit_note_id")
