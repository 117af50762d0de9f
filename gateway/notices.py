"""POST /v1/providers/{provider}/notices: a payment provider says that something has happened to a payment.

It only hastens the question that would be asked anyway, so what it says decides nothing. It is signed all the same:
nobody else should make us ask.
"""

from time import time, time_ns
from typing import Any

import msgspec
from aiohttp import web

from domain.invoice import check_order_id
from domain.numbering import SELLER_ID
from domain.signature import Verdict, verify
from gateway import problems
from gateway.intake import Intake, read_body
from gateway.openapi import Answer, Parameter, operation
from gateway.problems import ProblemError
from runtime.settings import Settings
from schemas.catalog import PAYMENT_NOTICE, PAYMENT_NOTICES, Topic
from schemas.codec import encode

#: A notice of Stripe's carries the whole payment: some 5 KB.
BODY_BYTES_MAX = 64 * 1024
EVENT_ID_CHARS_MAX = 255


#: The header that bears the signature, by provider.
SIGNATURE_HEADERS = {"stripe": "Stripe-Signature", "local": "Provider-Signature"}


class NoticeObject(msgspec.Struct):
    """The payment; its metadata says which order it is for."""

    metadata: dict[str, Any] = {}


class NoticeData(msgspec.Struct):
    """What it is about."""

    object: NoticeObject


class Notice(msgspec.Struct):
    """As Stripe writes it, and the local provider too; what is not named here is not looked at."""

    id: str
    data: NoticeData


class Notices:
    """Takes the notices of the one provider that the settings name."""

    def __init__(self, intake: Intake, settings: Settings, *, topic: Topic = PAYMENT_NOTICES) -> None:
        """Notices go to `topic`."""
        secret = settings.provider_webhook_secret
        self._secret = None if secret is None else secret.get_secret_value()
        self._provider = settings.provider
        self._intake = intake
        self._topic = topic.name
        self._decoder = msgspec.json.Decoder(Notice)

    def routes(self) -> list[web.RouteDef]:
        """The one."""
        return [web.post("/v1/providers/{provider}/notices", self.post)]

    @operation(
        "A payment provider's notice",
        Answer(202, "Kept, or of no interest"),
        body=Notice,
        parameters=[
            Parameter("provider", "path", {"enum": list(SIGNATURE_HEADERS)}, "Who says so.", required=True),
            *(
                Parameter(header, "header", {"type": "string"}, f"{provider}'s signature of the body.")
                for provider, header in SIGNATURE_HEADERS.items()
            ),
        ],
        needs_key=False,
        problems=[problems.NOT_FOUND, problems.UNSIGNED, problems.NOT_ACKNOWLEDGED],
    )
    async def post(self, request: web.Request) -> web.Response:
        """202 once the notice is kept; also for one about a payment that is none of ours."""
        provider = request.match_info["provider"]
        if not self._secret or provider != self._provider:
            raise ProblemError(problems.NOT_FOUND, "there is no resource at this path")
        if request.content_length is not None and request.content_length > BODY_BYTES_MAX:
            raise ProblemError(problems.TOO_LARGE, f"a notice has at most {BODY_BYTES_MAX} bytes")
        with self._intake.place(request):
            body = await read_body(request)
            self._check(request, body)
            return await self._keep(provider, body)

    def _check(self, request: web.Request, body: bytes) -> None:
        header = request.headers.get(SIGNATURE_HEADERS[self._provider], "")
        verdict = self._verdict(body, header)
        if verdict is Verdict.STALE:
            raise ProblemError(problems.UNSIGNED, "the signature is too old")
        if verdict is not Verdict.VALID:
            raise ProblemError(problems.UNSIGNED, "the notice is not taken")

    def _verdict(self, body: bytes, header: str) -> Verdict:
        secret = self._secret or ""
        if self._provider == "stripe":
            # On use: the package is large, and most gateways do without.
            from sinks.payments.stripe import verify_notice

            return verify_notice(secret, body, header)
        return verify(secret, body, header, int(time()))

    async def _keep(self, provider: str, body: bytes) -> web.Response:
        try:
            notice = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ProblemError(problems.MALFORMED, "this is no notice") from None
        metadata = notice.data.object.metadata
        seller_id, order_id = metadata.get("seller_id"), metadata.get("order_id")
        if not _is_ours(seller_id, order_id):
            # The account is used for other things as well. Any other answer would have it sent again for days.
            return web.Response(status=202)
        value = {
            "received_at": time_ns() // 1000,
            "seller_id": seller_id,
            "order_id": order_id,
            "provider": provider,
            "event_id": notice.id[:EVENT_ID_CHARS_MAX],
        }
        await self._intake.keep(self._topic, str(order_id).encode(), encode(PAYMENT_NOTICE, value))
        return web.Response(status=202)


def _is_ours(seller_id: object, order_id: object) -> bool:
    return (
        isinstance(seller_id, str)
        and isinstance(order_id, str)
        and SELLER_ID.fullmatch(seller_id) is not None
        and check_order_id(order_id) is None
    )
