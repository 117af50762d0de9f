"""/v1/webhooks: a seller's endpoints, the log of what was sent to them, and replays."""

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from domain.delivery import DeliveryState
from domain.invoice import ORDER_ID_CHARS_MAX
from domain.refusals import INVALID_FIELD, Refusal
from domain.webhook import EVENT_TYPES
from gateway.http import bodies, parameters, problems
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, Parameter, operation, text
from gateway.http.problems import ProblemError
from gateway.invoices.invoice_views import time_text
from gateway.webhooks.webhook_shapes import (
    CreatedEndpoint,
    DeliveryDetailsView,
    DeliveryList,
    DeliveryView,
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
from sinks.postgres import webhooks as store
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.session import Connection
from sinks.postgres.webhooks import DeliverySummary, Endpoint, LogFilter, Secrets, Webhooks

_BODY_BYTES_MAX = 64 * 1024
#: Far more than an id has.
_ID_CHARS_MAX = 80

_ENDPOINT = Parameter("endpoint_id", "path", text(_ID_CHARS_MAX), "The endpoint's id.", required=True)
_DELIVERY = Parameter("delivery_id", "path", text(_ID_CHARS_MAX), "The delivery's id.", required=True)
_STATE = Parameter("state", "query", {"enum": [each.value for each in DeliveryState]}, "Only deliveries in this state.")
_ORDER = Parameter("order_id", "query", text(ORDER_ID_CHARS_MAX), "Only deliveries about this order.")

_new_decoder = msgspec.json.Decoder(NewEndpoint)
_change_decoder = msgspec.json.Decoder(EndpointChange)
_replay_decoder = msgspec.json.Decoder(ReplayRequest)

_Result = TypeVar("_Result")


class WebhookEndpoints:
    """Shows and changes endpoints, in Postgres directly: senders and agents read them there."""

    def __init__(self, intake: Intake, webhooks: Webhooks, *, may_be_plain: bool) -> None:
        """`may_be_plain` permits http URLs."""
        self._intake = intake
        self._webhooks = webhooks
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
                    may_be_plain=self._may_be_plain,
                )
            )
        endpoint, secrets = _not_refused(made)
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
        return json_answer(_shown(_found(_not_refused(changed))))

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
        secrets = _found(await self._do(lambda each: store.read_secrets(each, seller_id, name)))
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
        secrets = _found(await self._do(lambda each: store.rotate(each, seller_id, name, _now(), os.urandom)))
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
        parameters=[_ENDPOINT, _STATE, _ORDER, *parameters.PAGE],
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD],
    )
    async def deliveries(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/webhooks/{endpoint_id}/deliveries."""
        name, query = _name(request), request.query
        limit = parameters.limit_of(query)
        wanted = LogFilter(order_id=_plain(query.get("order_id")), state=query.get("state"))
        if wanted.state is not None and wanted.state not in set(DeliveryState):
            raise _invalid("state", f"must be one of {', '.join(DeliveryState)}")
        before = None
        if "cursor" in query:
            (before,) = parameters.read_cursor(query["cursor"], tuple[str])
            if _plain(before) is None:
                raise parameters.foreign_cursor()

        async def read(connection: Connection) -> tuple[Endpoint | None, list[DeliverySummary]]:
            found = await store.read_log(connection, seller_id, name, wanted, before, limit + 1)
            return None if found else await store.read(connection, seller_id, name), found

        endpoint, found = await self._do(read)
        if not found:
            _found(endpoint)
        following = parameters.cursor(found[limit - 1].delivery_id) if len(found) > limit else None
        body: DeliveryList = {"deliveries": [_delivery(each) for each in found[:limit]], "next": following}
        return json_answer(body)

    @operation(
        "A delivery, with what was sent and every answer",
        DeclaredResponse(200, "The delivery", DeliveryDetailsView),
        parameters=[_ENDPOINT, _DELIVERY],
        problems=[problems.NOT_FOUND],
    )
    async def delivery(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/webhooks/{endpoint_id}/deliveries/{delivery_id}."""
        name, delivery = _name(request), _plain(request.match_info["delivery_id"])
        found = _found(
            None
            if delivery is None
            else await self._do(lambda each: store.read_delivery(each, seller_id, name, delivery))
        )
        body: DeliveryDetailsView = {
            **_delivery(found.summary),
            "payload": found.payload.decode(),
            "tries": [
                {
                    "at": time_text(each.tried_at),
                    "url": each.url,
                    "seconds": round(each.seconds, 3),
                    "status": each.status,
                    "error": each.error or None,
                    "answer": each.answer,
                }
                for each in found.attempts
            ],
        }
        return json_answer(body)

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
            wanted = _filter(asked)

            async def replay(connection: Connection) -> int | Refusal:
                _found(await store.read(connection, seller_id, name))
                return await store.replay(connection, seller_id, name, wanted, dry_run=asked.dry_run)

            count = _not_refused(await self._do(replay))
        body: Replayed = {"count": count, "dry_run": asked.dry_run}
        return json_answer(body)

    async def _do(self, call: Callable[[Connection], Awaitable[_Result]]) -> _Result:
        try:
            return await self._webhooks.do(call)
        except PostgresUnavailableError:
            raise problems.postgres_unavailable() from None


def _filter(asked: ReplayRequest) -> LogFilter:
    ids = () if asked.delivery_ids is UNSET else tuple(asked.delivery_ids)
    if any(_plain(each) is None for each in ids):
        raise _invalid("delivery_ids", "holds something that is no id")
    order_id = None if asked.order_id is UNSET else _plain(asked.order_id)
    if order_id is None and asked.order_id is not UNSET:
        raise _invalid("order_id", "is no order id")
    state = None if asked.state is UNSET else asked.state
    if state not in (None, DeliveryState.DEAD, DeliveryState.DELIVERED):
        raise _invalid("state", f"must be {DeliveryState.DEAD} or {DeliveryState.DELIVERED}")
    since, until = _time("since", asked.since), _time("until", asked.until)
    if not ids and order_id is None and state is None and since is None:
        raise _invalid("since", "say which: delivery_ids, order_id, state or since")
    return LogFilter(ids, order_id, state, since, until)


def _time(field: str, given: str | UnsetType) -> datetime | None:
    if given is UNSET:
        return None
    try:
        moment = datetime.fromisoformat(given)
        # Years that no id of ours can begin with, and times without a zone.
        if moment.utcoffset() is None or not 1970 < moment.year < 9000:
            raise ValueError
    except ValueError:
        raise _invalid(field, "must be a time with its zone, such as 2026-11-29T14:03:00Z") from None
    return moment


def _name(request: web.Request) -> str:
    name = _plain(request.match_info["endpoint_id"])
    if name is None:
        raise _unknown()
    return name


def _plain(given: str | None) -> str | None:
    """The text, if Postgres can look it up."""
    return given if given is not None and given.isprintable() and len(given) <= _ID_CHARS_MAX else None


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


def _delivery(each: DeliverySummary) -> DeliveryView:
    return {
        "id": each.delivery_id,
        "order_id": each.order_id or None,
        "sequence": each.sequence,
        "type": each.type,
        "state": each.state,
        "created_at": time_text(each.created_at),
        "finished_at": None if each.finished_at is None else time_text(each.finished_at),
        "next_try_at": None if each.next_try_at is None else time_text(each.next_try_at),
        "attempts": each.attempts,
        "status": each.status,
        "error": each.error or None,
    }


def _not_refused(result: _Result | Refusal) -> _Result:
    if isinstance(result, Refusal):
        raise problems.refused(result)
    return result


def _found(result: _Result | None) -> _Result:
    if result is None:
        raise _unknown()
    return result


def _unknown() -> ProblemError:
    return ProblemError(problems.NOT_FOUND, "there is no such webhook endpoint or delivery")


def _invalid(field: str, detail: str) -> ProblemError:
    return problems.refused(Refusal(INVALID_FIELD, field, detail))


def _now() -> datetime:
    return datetime.now(UTC)
