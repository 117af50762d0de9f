"""POST /v1/providers/{provider}/notices: a payment provider says that something has happened to a payment.

It only hastens the question that would be asked anyway, so what it says decides nothing. It is signed all the same:
nobody else should make us ask.
"""

from time import time, time_ns
from typing import Any

import msgspec
from aiohttp import web

from domain.payment import paid_order
from domain.records import PaymentNotice
from domain.signature import SignatureVerdict, verify
from gateway.http import bodies, problems, telemetry
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, Parameter, open_operation
from gateway.http.problems import ProblemError
from runtime.settings import Settings
from schemas.catalog import PAYMENT_NOTICE, PAYMENT_NOTICES, Topic
from schemas.codec import encode

#: A notice of Stripe's carries the whole payment: some 5 KB.
BODY_BYTES_MAX = 64 * 1024
EVENT_ID_CHARS_MAX = 255
KIND_CHARS_MAX = 100


#: The header that bears the signature, by provider.
SIGNATURE_HEADERS = {"stripe": "Stripe-Signature", "local": "Provider-Signature"}


class Notice(msgspec.Struct):
    """A notice as Stripe and the local provider write it; other fields are ignored.

    `data.object.metadata` says which order it is about. A provider's account is used for other things as well, whose
    notices have none of it, or something else in its place.
    """

    id: str = ""
    #: Such as `charge.refunded`.
    type: Any = None
    data: Any = None


class NoticeIntake:
    """Accepts notices of the provider in the settings, and publishes those about orders to the payments agent."""

    def __init__(self, intake: Intake, settings: Settings, *, topic: Topic = PAYMENT_NOTICES) -> None:
        """Notices are published to `topic`. Without a webhook secret in `settings`, every request gets 404."""
        secret = settings.provider_webhook_secret
        self._secret = None if secret is None else secret.get_secret_value()
        self._provider = settings.provider
        self._intake = intake
        self._topic = topic.name
        self._decoder = msgspec.json.Decoder(Notice)

    def routes(self) -> list[web.RouteDef]:
        """The resource."""
        return [web.post("/v1/providers/{provider}/notices", self.post)]

    @open_operation(
        "A payment provider's notice",
        DeclaredResponse(202, "Accepted, or of no interest"),
        body=Notice,
        parameters=[
            Parameter("provider", "path", {"enum": list(SIGNATURE_HEADERS)}, "Who says so.", required=True),
            *(
                Parameter(header, "header", {"type": "string"}, f"{provider}'s signature of the body.")
                for provider, header in SIGNATURE_HEADERS.items()
            ),
        ],
        problems=[problems.NOT_FOUND, problems.UNSIGNED, problems.NOT_ACKNOWLEDGED],
    )
    async def post(self, request: web.Request) -> web.Response:
        """202 once the brokers have acknowledged the notice, or if it is not about an order of ours.

        Raises `ProblemError` for another provider, a missing, wrong or stale signature, and without acknowledgement.
        """
        provider = request.match_info["provider"]
        if not self._secret or provider != self._provider:
            raise ProblemError(problems.NOT_FOUND, "there is no resource at this path")
        with self._intake.place(request, None):
            body = await read_body(request, BODY_BYTES_MAX)
            self._check(request, body)
            return await self._keep(request, provider, body)

    def _check(self, request: web.Request, body: bytes) -> None:
        header = request.headers.get(SIGNATURE_HEADERS[self._provider], "")
        verdict = self._verdict(body, header)
        if verdict is SignatureVerdict.STALE:
            raise ProblemError(problems.UNSIGNED, "the signature is too old")
        if verdict is not SignatureVerdict.VALID:
            raise ProblemError(problems.UNSIGNED, "the notice's signature is missing or wrong")

    def _verdict(self, body: bytes, header: str) -> SignatureVerdict:
        secret = self._secret or ""
        if self._provider == "stripe":
            # On use: the package is large, and most gateways do without.
            from providers.stripe import verify_notice

            return verify_notice(secret, body, header)
        return verify(secret, body, header, int(time()))

    async def _keep(self, request: web.Request, provider: str, body: bytes) -> web.Response:
        notice = bodies.decode(self._decoder, body)
        metadata = _inner(notice.data, "object", "metadata")
        order = paid_order(_inner(metadata, "seller_id"), _inner(metadata, "order_id"))
        if order is None:
            # The account is used for other things as well. Any other answer would have it sent again for days.
            return web.Response(status=202)
        seller_id, order_id = order
        request[telemetry.SELLER_ID], request[telemetry.ORDER_ID] = seller_id, order_id
        value: PaymentNotice = {
            "received_at": time_ns() // 1000,
            "seller_id": seller_id,
            "order_id": order_id,
            "provider": provider,
            "event_id": notice.id[:EVENT_ID_CHARS_MAX],
            "kind": notice.type[:KIND_CHARS_MAX] if isinstance(notice.type, str) else None,
        }
        await self._intake.keep(self._topic, order_id.encode(), encode(PAYMENT_NOTICE, value))
        return web.Response(status=202)


def _inner(node: Any, *names: str) -> Any:
    """The value under these names, one inside the other; None if there is none."""
    for name in names:
        node = node.get(name) if isinstance(node, dict) else None
    return node
