"""/v1/webhooks: a seller's endpoints, the log of what was sent to them, and replays."""

import logging
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET

from domain.refusals import Refusal
from domain.webhook import EVENT_TYPES
from gateway.http import bodies, problems
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, Parameter, operation, text
from gateway.http.problems import ProblemError
from gateway.invoices.invoice_views import time_text
from gateway.webhooks.delivery_views import (
    DELIVERY,
    ID_CHARS_MAX,
    LOG,
    asked_log,
    details_view,
    not_refused,
    page_view,
    plain,
    replay_filter,
)
from gateway.webhooks.webhook_shapes import (
    CreatedEndpoint,
    DeliveryDetailsView,
    DeliveryList,
    EndpointChange,
    EndpointList,
    EndpointSecrets,
    EndpointView,
    NewEndpoint,
    Replayed,
    ReplayRequest,
    TestSent,
)
from providers.webhooks import public_key_text, secret_text
from sinks.postgres import delivery_log
from sinks.postgres import webhooks as store
from sinks.postgres.delivery_log import DeliverySummary
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.sealing import Sealing, UnreadableSecretError
from sinks.postgres.session import Connection
from sinks.postgres.webhooks import Endpoint, Secrets, Webhooks

_log = logging.getLogger(__name__)

_BODY_BYTES_MAX = 64 * 1024

_ENDPOINT = Parameter("endpoint_id", "path", text(ID_CHARS_MAX), "The endpoint's id.", required=True)

_new_decoder = msgspec.json.Decoder(NewEndpoint)
_change_decoder = msgspec.json.Decoder(EndpointChange)
_replay_decoder = msgspec.json.Decoder(ReplayRequest)

_Result = TypeVar("_Result")


class WebhookEndpoints:
    """Shows and changes endpoints, in Postgres directly: senders and agents read them there."""

    def __init__(self, intake: Intake, webhooks: Webhooks, sealing: Sealing, *, may_be_plain: bool) -> None:
        """`may_be_plain` permits http URLs."""
        self._intake = intake
        self._webhooks = webhooks
        self._sealing = sealing
        self._may_be_plain = may_be_plain

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        one = "/v1/webhooks/{endpoint_id}"
        return [
            web.get("/v1/webhooks", self.get_all),
            web.post("/v1/webhooks", self.create),
            web.get(one, self.get),
            web.patch(one, self.change),
            web.delete(one, self.delete),
            web.get(f"{one}/secret", self.secret),
            web.post(f"{one}/secret", self.rotate),
            web.post(f"{one}/test", self.test),
            web.get(f"{one}/deliveries", self.deliveries),
            web.get(f"{one}/deliveries/{{delivery_id}}", self.delivery),
            web.post(f"{one}/replay", self.replay),
        ]

    @operation(
        "The webhook endpoints, oldest first, and all types of events",
        DeclaredResponse(200, "All of them", EndpointList),
    )
    async def get_all(self, _: web.Request, seller_id: str) -> web.Response:
        """GET /v1/webhooks."""
        found = await self._do(lambda connection: store.read_all(connection, seller_id))
        body: EndpointList = {"endpoints": [_shown(each) for each in found], "event_types": dict(EVENT_TYPES)}
        return json_answer(body)

    @operation(
        "Add a webhook endpoint",
        DeclaredResponse(201, "The endpoint, with the secret that its deliveries are signed with", CreatedEndpoint),
        body=NewEndpoint,
        problems=[problems.INVALID_FIELD],
    )
    async def create(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/webhooks."""
        with self._intake.place(request, seller_id):
            asked = bodies.decode_small(_new_decoder, await read_body(request, _BODY_BYTES_MAX))
            events = [] if asked.events is UNSET else asked.events
            description = "" if asked.description is UNSET else asked.description
            made = await self._do(
                lambda connection: store.create(
                    connection,
                    seller_id,
                    asked.url,
                    events,
                    description,
                    _now(),
                    os.urandom,
                    self._sealing,
                    may_be_plain=self._may_be_plain,
                )
            )
        endpoint, secrets = not_refused(made)
        body: CreatedEndpoint = {**_shown(endpoint), **_secrets(secrets)}
        return json_answer(body, status=201, headers={"Cache-Control": "no-store"})

    @operation(
        "A webhook endpoint",
        DeclaredResponse(200, "The endpoint", EndpointView),
        parameters=[_ENDPOINT],
        problems=[problems.NOT_FOUND],
    )
    async def get(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/webhooks/{endpoint_id}."""
        name = _name(request)
        return json_answer(_shown(_found(await self._do(lambda each: store.read(each, seller_id, name)))))

    @operation(
        "Change, pause or resume a webhook endpoint",
        DeclaredResponse(200, "The endpoint as it is now", EndpointView),
        body=EndpointChange,
        parameters=[_ENDPOINT],
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD],
    )
    async def change(self, request: web.Request, seller_id: str) -> web.Response:
        """PATCH /v1/webhooks/{endpoint_id}."""
        name = _name(request)
        with self._intake.place(request, seller_id):
            asked = bodies.decode_small(_change_decoder, await read_body(request, _BODY_BYTES_MAX))
            given = {field: getattr(asked, field) for field in ("url", "events", "description", "state")}
            changes = {field: value for field, value in given.items() if value is not UNSET}
            changed = await self._do(
                lambda each: store.update(each, seller_id, name, changes, may_be_plain=self._may_be_plain)
            )
        return json_answer(_shown(_found(not_refused(changed))))

    @operation(
        "Delete a webhook endpoint, and what is still to be sent to it",
        DeclaredResponse(204, "It is gone"),
        parameters=[_ENDPOINT],
        problems=[problems.NOT_FOUND],
    )
    async def delete(self, request: web.Request, seller_id: str) -> web.Response:
        """DELETE /v1/webhooks/{endpoint_id}."""
        name = _name(request)
        if not await self._do(lambda each: store.delete(each, seller_id, name)):
            raise _unknown()
        return web.Response(status=204)

    @operation(
        "What a webhook endpoint's deliveries are verified with",
        DeclaredResponse(200, "The current secrets", EndpointSecrets),
        parameters=[_ENDPOINT],
        problems=[problems.NOT_FOUND],
    )
    async def secret(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/webhooks/{endpoint_id}/secret."""
        name = _name(request)
        secrets = _found(await self._do(lambda each: store.read_secrets(each, seller_id, name, self._sealing)))
        return json_answer(_secrets(secrets), headers={"Cache-Control": "no-store"})

    @operation(
        "Rotate a webhook endpoint's secrets: the ones before sign along for 24 hours",
        DeclaredResponse(201, "The new secrets", EndpointSecrets),
        parameters=[_ENDPOINT],
        problems=[problems.NOT_FOUND],
    )
    async def rotate(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/webhooks/{endpoint_id}/secret."""
        name = _name(request)
        secrets = _found(
            await self._do(lambda each: store.rotate(each, seller_id, name, _now(), os.urandom, self._sealing))
        )
        return json_answer(_secrets(secrets), status=201, headers={"Cache-Control": "no-store"})

    @operation(
        "Send a test event",
        DeclaredResponse(202, "It is sent soon", TestSent),
        parameters=[_ENDPOINT],
        problems=[problems.NOT_FOUND],
    )
    async def test(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/webhooks/{endpoint_id}/test."""
        name = _name(request)
        sent = _found(await self._do(lambda each: store.send_test(each, seller_id, name, _now(), os.urandom)))
        body: TestSent = {"delivery_id": sent}
        return json_answer(body, status=202)

    @operation(
        "What was sent to a webhook endpoint, newest first",
        DeclaredResponse(200, "A page of deliveries", DeliveryList),
        parameters=[_ENDPOINT, *LOG],
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD],
    )
    async def deliveries(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/webhooks/{endpoint_id}/deliveries."""
        name = _name(request)
        wanted, before, limit = asked_log(request)

        async def read(connection: Connection) -> tuple[Endpoint | None, list[DeliverySummary]]:
            found = await delivery_log.read_log(connection, seller_id, name, wanted, before, limit + 1)
            return None if found else await store.read(connection, seller_id, name), found

        endpoint, found = await self._do(read)
        if not found:
            _found(endpoint)
        return json_answer(page_view(found, limit))

    @operation(
        "A delivery, with what was sent and every answer",
        DeclaredResponse(200, "The delivery", DeliveryDetailsView),
        parameters=[_ENDPOINT, DELIVERY],
        problems=[problems.NOT_FOUND],
    )
    async def delivery(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/webhooks/{endpoint_id}/deliveries/{delivery_id}."""
        name, delivery = _name(request), plain(request.match_info["delivery_id"])
        found = _found(
            None
            if delivery is None
            else await self._do(lambda each: delivery_log.read_delivery(each, seller_id, name, delivery))
        )
        return json_answer(details_view(found))

    @operation(
        "Send finished deliveries again, under their own ids",
        DeclaredResponse(200, "How many are sent again", Replayed),
        body=ReplayRequest,
        parameters=[_ENDPOINT],
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD],
    )
    async def replay(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/webhooks/{endpoint_id}/replay."""
        name = _name(request)
        with self._intake.place(request, seller_id):
            asked = bodies.decode_small(_replay_decoder, await read_body(request, _BODY_BYTES_MAX))
            wanted = replay_filter(asked)

            async def replay(connection: Connection) -> int | Refusal:
                _found(await store.read(connection, seller_id, name))
                return await delivery_log.replay(connection, seller_id, name, wanted, dry_run=asked.dry_run)

            count = not_refused(await self._do(replay))
        body: Replayed = {"count": count, "dry_run": asked.dry_run}
        return json_answer(body)

    async def _do(self, call: Callable[[Connection], Awaitable[_Result]]) -> _Result:
        try:
            return await self._webhooks.do(call)
        except PostgresUnavailableError:
            raise problems.postgres_unavailable() from None
        except UnreadableSecretError as error:
            _log.error("the secrets of a webhook endpoint can't be read: %s", error)
            raise ProblemError(
                problems.INTERNAL,
                "the secrets can't be read: rotate them, or have the operator correct the keys",
            ) from None


def _name(request: web.Request) -> str:
    name = plain(request.match_info["endpoint_id"])
    if name is None:
        raise _unknown()
    return name


def _shown(endpoint: Endpoint) -> EndpointView:
    return {
        "id": endpoint.endpoint_id,
        "url": endpoint.url,
        "events": endpoint.events,
        "description": endpoint.description,
        "state": endpoint.state,
        "disabled_reason": endpoint.disabled_reason or None,
        "failing_since": None if endpoint.failing_since is None else time_text(endpoint.failing_since),
        "created_at": time_text(endpoint.created_at),
    }


def _secrets(secrets: Secrets) -> EndpointSecrets:
    return {"secret": secret_text(secrets.hmac_secret), "public_key": public_key_text(secrets.ed25519_seed)}


def _found(result: _Result | None) -> _Result:
    if result is None:
        raise _unknown()
    return result


def _unknown() -> ProblemError:
    return ProblemError(problems.NOT_FOUND, "there is no such webhook endpoint or delivery")


def _now() -> datetime:
    return datetime.now(UTC)
