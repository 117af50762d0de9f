"""/v1/email: a seller's e-mail, the log of what was sent, replays, and bounces."""

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET

from domain.email import ATTACHED, BUYER_TYPES
from domain.refusals import Refusal
from gateway.email.email_shapes import BounceRequest, EmailRequest, EmailSettingsView, EmailTestRequest
from gateway.http import bodies, problems
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, operation
from gateway.http.problems import ProblemError
from gateway.invoices.invoice_views import time_text
from gateway.webhooks.delivery_views import (
    DELIVERY,
    LOG,
    asked_log,
    details_view,
    not_refused,
    page_view,
    plain,
    replay_filter,
)
from gateway.webhooks.webhook_shapes import DeliveryDetailsView, DeliveryList, Replayed, ReplayRequest, TestSent
from sinks.postgres import delivery_log
from sinks.postgres import email as store
from sinks.postgres.delivery_log import DeliveryDetails, DeliverySummary
from sinks.postgres.email import EmailSettings
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.session import Connection
from sinks.postgres.webhooks import ACTIVE, Webhooks

_BODY_BYTES_MAX = 64 * 1024

_settings_decoder = msgspec.json.Decoder(EmailRequest)
_test_decoder = msgspec.json.Decoder(EmailTestRequest)
_bounce_decoder = msgspec.json.Decoder(BounceRequest)
_replay_decoder = msgspec.json.Decoder(ReplayRequest)

_Result = TypeVar("_Result")


class EmailEndpoints:
    """Shows and changes the settings, in Postgres directly: senders and agents read them there."""

    def __init__(self, intake: Intake, calls: Webhooks) -> None:
        """`calls` reach Postgres; they are shared with webhooks."""
        self._intake = intake
        self._calls = calls

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        return [
            web.get("/v1/email", self.get),
            web.put("/v1/email", self.put),
            web.delete("/v1/email", self.delete),
            web.post("/v1/email/test", self.test),
            web.get("/v1/email/deliveries", self.deliveries),
            web.get("/v1/email/deliveries/{delivery_id}", self.delivery),
            web.post("/v1/email/replay", self.replay),
            web.post("/v1/email/bounces", self.bounce),
        ]

    @operation(
        "The settings of e-mail to buyers",
        DeclaredResponse(200, "The settings, and all types of mails", EmailSettingsView),
        problems=[problems.NOT_FOUND],
    )
    async def get(self, _: web.Request, seller_id: str) -> web.Response:
        """GET /v1/email."""
        return json_answer(_shown(_found(await self._do(lambda each: store.read(each, seller_id)))))

    @operation(
        "Turn e-mail to buyers on, or change all of its settings",
        DeclaredResponse(200, "The settings as they are now", EmailSettingsView),
        body=EmailRequest,
        problems=[problems.INVALID_FIELD],
    )
    async def put(self, request: web.Request, seller_id: str) -> web.Response:
        """PUT /v1/email."""
        with self._intake.place(request, seller_id):
            asked = bodies.decode_small(_settings_decoder, await read_body(request, _BODY_BYTES_MAX))
            made = await self._do(
                lambda each: store.put(
                    each,
                    seller_id,
                    sender=asked.sender,
                    reply_to="" if asked.reply_to is UNSET else asked.reply_to,
                    events=[] if asked.events is UNSET else asked.events,
                    documents=ATTACHED if asked.documents is UNSET else asked.documents,
                    state=ACTIVE if asked.state is UNSET else asked.state,
                    now=_now(),
                    chance=os.urandom,
                )
            )
        return json_answer(_shown(not_refused(made)))

    @operation(
        "Turn e-mail to buyers off, with what is still to be sent",
        DeclaredResponse(204, "It is off"),
        problems=[problems.NOT_FOUND],
    )
    async def delete(self, _: web.Request, seller_id: str) -> web.Response:
        """DELETE /v1/email."""
        if not await self._do(lambda each: store.delete(each, seller_id)):
            raise _off()
        return web.Response(status=204)

    @operation(
        "Send a test mail",
        DeclaredResponse(202, "It is sent soon", TestSent),
        body=EmailTestRequest,
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD],
    )
    async def test(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/email/test."""
        with self._intake.place(request, seller_id):
            asked = bodies.decode_small(_test_decoder, await read_body(request, _BODY_BYTES_MAX))
            sent = await self._do(lambda each: store.send_test(each, seller_id, asked.to, _now(), os.urandom))
        body: TestSent = {"delivery_id": _found(not_refused(sent))}
        return json_answer(body, status=202)

    @operation(
        "The mails, newest first",
        DeclaredResponse(200, "A page of deliveries", DeliveryList),
        parameters=[*LOG],
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD],
    )
    async def deliveries(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/email/deliveries."""
        wanted, before, limit = asked_log(request)

        async def read(connection: Connection) -> list[DeliverySummary]:
            name = await _endpoint(connection, seller_id)
            return await delivery_log.read_log(connection, seller_id, name, wanted, before, limit + 1)

        return json_answer(page_view(await self._do(read), limit))

    @operation(
        "A mail, with every answer of the mail server",
        DeclaredResponse(200, "The delivery", DeliveryDetailsView),
        parameters=[DELIVERY],
        problems=[problems.NOT_FOUND],
    )
    async def delivery(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/email/deliveries/{delivery_id}."""
        delivery = plain(request.match_info["delivery_id"])

        async def read(connection: Connection) -> DeliveryDetails | None:
            name = await _endpoint(connection, seller_id)
            return await delivery_log.read_delivery(connection, seller_id, name, delivery) if delivery else None

        found = await self._do(read)
        if found is None:
            raise ProblemError(problems.NOT_FOUND, "there is no such delivery")
        return json_answer(details_view(found))

    @operation(
        "Send finished mails again, with their own Message-IDs",
        DeclaredResponse(200, "How many are sent again", Replayed),
        body=ReplayRequest,
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD],
    )
    async def replay(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/email/replay."""
        with self._intake.place(request, seller_id):
            asked = bodies.decode_small(_replay_decoder, await read_body(request, _BODY_BYTES_MAX))
            wanted = replay_filter(asked)

            async def replay(connection: Connection) -> int | Refusal:
                name = await _endpoint(connection, seller_id)
                return await delivery_log.replay(connection, seller_id, name, wanted, dry_run=asked.dry_run)

            count = not_refused(await self._do(replay))
        body: Replayed = {"count": count, "dry_run": asked.dry_run}
        return json_answer(body)

    @operation(
        "Note that a mail came back",
        DeclaredResponse(204, "It is noted on its delivery"),
        body=BounceRequest,
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD],
    )
    async def bounce(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/email/bounces."""
        with self._intake.place(request, seller_id):
            asked = bodies.decode_small(_bounce_decoder, await read_body(request, _BODY_BYTES_MAX))
            is_known = not_refused(
                await self._do(
                    lambda each: store.record_bounce(
                        each, seller_id, asked.message_id, asked.reason, is_permanent=asked.permanent, now=_now()
                    )
                )
            )
        if not is_known:
            raise ProblemError(problems.NOT_FOUND, "there is no delivery with this `message_id`")
        return web.Response(status=204)

    async def _do(self, call: Callable[[Connection], Awaitable[_Result]]) -> _Result:
        try:
            return await self._calls.do(call)
        except PostgresUnavailableError:
            raise problems.postgres_unavailable() from None


async def _endpoint(connection: Connection, seller_id: str) -> str:
    """The id by which the seller's mails are logged."""
    return _found(await store.read(connection, seller_id)).endpoint_id


def _shown(settings: EmailSettings) -> EmailSettingsView:
    return {
        "sender": settings.sender,
        "reply_to": settings.reply_to,
        "events": settings.events,
        "documents": settings.documents,
        "state": settings.state,
        "failing_since": None if settings.failing_since is None else time_text(settings.failing_since),
        "created_at": time_text(settings.created_at),
        "event_types": dict(BUYER_TYPES),
    }


def _found(result: _Result | None) -> _Result:
    if result is None:
        raise _off()
    return result


def _off() -> ProblemError:
    return ProblemError(problems.NOT_FOUND, "e-mail is off: PUT /v1/email turns it on")


def _now() -> datetime:
    return datetime.now(UTC)
