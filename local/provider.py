"""A payment provider for tests: `python -m local.provider --port 4242 --data FOLDER`.

It is idempotent by key as real providers are, and fails as real ones do, driven by the token or by a seed. It writes
its decisions to a file before it answers, so it may be killed at any moment. `docs/payments.md` describes its API.
"""

import argparse
import asyncio
import hashlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from aiohttp import web

from local.provider_book import Book, BookedPayment, change, payment_id
from local.provider_notices import NoticeSender
from runtime.settings import ENV_PREFIX, SettingsError, refuse_unknown

_log = logging.getLogger(__name__)

#: Tokens and the fault that each causes; other tokens are declined as unknown.
TOKENS = {
    "tok_ok": "",
    "tok_decline": "decline",
    "tok_slow": "slow",
    "tok_timeout": "timeout",
    "tok_timeout_charged": "timeout_charged",
    "tok_timeout_always": "timeout_always",
    "tok_5xx": "5xx",
    "tok_cut": "cut",
    "tok_late": "late",
    "tok_duplicate": "duplicate",
}
#: Faults of every call with the token, and faults of the first call only.
ALWAYS = ("slow", "duplicate", "timeout_always")
ONCE = ("timeout", "timeout_charged", "cut", "late")
_5XX = ("5xx", "5xx", "5xx_charged")
#: Faults that a seed chooses from.
FAULTS = ("timeout", "timeout_charged", "5xx", "5xx_charged", "cut", "slow", "duplicate")
_SLOW_S = 3.0
#: Seconds; longer than callers wait for an answer and then ask for the payment's state.
_TOO_LATE_S = 12.0
_LATE_S = 0.3
#: Seconds; longer than any caller waits.
_SILENCE_S = 60.0
_PAGE_REFUNDS_MAX = 100


class Authorize(msgspec.Struct):
    """Body of POST /payments."""

    key: str
    amount_minor: int
    currency: str
    token: str
    metadata: dict[str, str]


class Act(msgspec.Struct):
    """Body of POST /payments/{key}/{verb}."""

    key: str
    amount_minor: int


class DashboardRefund(msgspec.Struct):
    """Body of POST /dashboard/refunds; without an amount, all that is left."""

    order_id: str
    seller_id: str | None = None
    amount_minor: int | None = None


class Behaviour(msgspec.Struct):
    """Configurable behaviour; PUT /behaviour changes it at run time."""

    #: Latency of every call.
    delay_ms: float = 0.0
    #: Share of calls that fail, whatever their token; the seed determines which ones and how.
    faults: float = 0.0
    seed: int = 0
    #: Share of changes that are announced by webhook; changes by tokens with faults always are.
    notices: float = 0.0
    #: The same of refunds in the dashboard, of which nobody else tells.
    dashboard_notices: float = 1.0
    #: Seconds that a call with tok_slow takes.
    slow_s: float = _SLOW_S
    #: Seconds until a call with tok_late has its effect.
    late_s: float = _TOO_LATE_S


class Seen(msgspec.Struct):
    """How a caller has used a key. In memory only."""

    sent: int = 0
    #: Repeated without asking for the payment's state in between.
    blind: int = 0
    asked_since: bool = True


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_ENCODER = msgspec.json.Encoder()


class Simulator:
    """The HTTP handlers."""

    def __init__(self, book: Book, behaviour: Behaviour, notices: NoticeSender, api_key: str | None) -> None:
        self._book = book
        self._behaviour = behaviour
        self._notices = notices
        self._authorization = None if api_key is None else f"Bearer {api_key}"
        self._seen: dict[str, Seen] = {}
        #: By payment, the keys of the actions requested for it, carried out or not.
        self._keys_of: dict[str, set[str]] = {}
        self._calls = 0
        self._authorize = msgspec.json.Decoder(Authorize)
        self._act = msgspec.json.Decoder(Act)
        self._dashboard_refund = msgspec.json.Decoder(DashboardRefund)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.add_routes(
            [
                web.post("/payments", self.authorize),
                web.get("/payments/{key}", self.ask),
                web.post("/payments/{key}/{verb:capture|void|refund}", self.act),
                web.get("/refunds", self.list_refunds),
                web.post("/dashboard/refunds", self.refund_in_dashboard),
                web.get("/ledger", self.ledger),
                web.put("/behaviour", self.behave),
                web.get("/readyz", self.ready),
            ]
        )
        return app

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """POST /payments."""
        if not self._permitted(request):
            return _json(401, {"reason": "unauthorized"})
        try:
            body = self._authorize.decode(await request.read())
        except msgspec.DecodeError as error:
            return _json(400, {"reason": str(error)})
        seen = self._note(body.key)
        fault = self._fault(body.key, seen.sent, TOKENS.get(body.token))
        await self._delay(fault)
        if fault in ("timeout", "timeout_always"):
            await asyncio.sleep(_SILENCE_S)
            return _json(504, {"reason": "timeout"})
        if fault == "5xx":
            return _json(500, {"reason": "internal"})
        payment = self._book.payments.get(body.key)
        if payment is None:
            payment = self._decide(body)
            self._book.keep(payment)
            self._announce(payment, payment.status, fault)
        return await self._answer(request, payment, fault, 200 if payment.status == "authorized" else 402)

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """GET /payments/{key}."""
        if not self._permitted(request):
            return _json(401, {"reason": "unauthorized"})
        key = request.match_info["key"]
        payment = self._book.payments.get(key)
        for each in (key, *self._keys_of.get(key, ())):
            if each in self._seen:
                self._seen[each].asked_since = True
        await self._delay("")
        return _json(404, {"reason": "unknown-payment"}) if payment is None else _json(200, payment)

    async def act(self, request: web.Request) -> web.StreamResponse:
        """POST /payments/{key}/capture, void and refund."""
        if not self._permitted(request):
            return _json(401, {"reason": "unauthorized"})
        try:
            body = self._act.decode(await request.read())
        except msgspec.DecodeError as error:
            return _json(400, {"reason": str(error)})
        key, verb = request.match_info["key"], request.match_info["verb"]
        payment = self._book.payments.get(key)
        # A payment is settled by a void under the authorisation's own key.
        use = f"{verb}/{body.key}"
        seen = self._note(use)
        self._keys_of.setdefault(key, set()).add(use)
        fault = self._fault(body.key, seen.sent, None if payment is None else TOKENS.get(payment.token))
        await self._delay(fault)
        if fault in ("timeout", "timeout_always"):
            await asyncio.sleep(_SILENCE_S)
            return _json(504, {"reason": "timeout"})
        if fault == "5xx":
            return _json(500, {"reason": "internal"})
        payment = self._book.payments.get(key)
        if payment is None:
            if verb != "void":
                return _json(404, {"reason": "unknown-payment"})
            payment = BookedPayment(key, payment_id(key), "", "", "", 0, "", "voided", "voided", actions={body.key: 0})
            self._book.keep(payment)
        elif body.key not in payment.actions:
            reason = change(payment, verb, body.key, body.amount_minor, time.time())
            if reason:
                return _json(409, {"id": payment.id, "reason": reason})
            self._book.keep(payment)
            self._announce(payment, verb, fault)
        return await self._answer(request, payment, fault, 200)

    async def refund_in_dashboard(self, request: web.Request) -> web.StreamResponse:
        """POST /dashboard/refunds: a person at the merchant's refunds an order's payment, without asking gapless."""
        try:
            body = self._dashboard_refund.decode(await request.read())
        except msgspec.DecodeError as error:
            return _json(400, {"reason": str(error)})
        paid = [
            each
            for each in self._book.payments.values()
            if each.order_id == body.order_id and body.seller_id in (None, each.seller_id) and each.captured_minor
        ]
        if len(paid) != 1:
            return _json(404, {"reason": f"{len(paid)} captured payments of this order_id: name the seller_id, too"})
        [payment] = paid
        left = payment.captured_minor - payment.refunded_minor
        amount_minor = left if body.amount_minor is None else body.amount_minor
        if amount_minor <= 0:
            return _json(409, {"id": payment.id, "reason": "amount_too_small"})
        reason = change(payment, "refund", "", amount_minor, time.time())
        if reason:
            return _json(409, {"id": payment.id, "reason": reason})
        self._book.keep(payment)
        made = payment.refunds[-1]
        if _chances(self._behaviour.seed, made.id, 0)[0] < self._behaviour.dashboard_notices:
            self._notices.announce(payment, "refund")
        return _json(200, made)

    async def list_refunds(self, request: web.Request) -> web.StreamResponse:
        """GET /refunds?since=…&after=…: a page of the refunds of all payments, latest first."""
        if not self._permitted(request):
            return _json(401, {"reason": "unauthorized"})
        try:
            since = float(request.query.get("since", "0"))
        except ValueError:
            return _json(400, {"reason": "since: must be seconds since 1970"})
        await self._delay("")
        listed = self._book.refunds(since)
        after = request.query.get("after", "")
        first = 0
        if after:
            first = next((place for place, (_, each) in enumerate(listed, 1) if each.id == after), -1)
            if first < 0:
                return _json(404, {"reason": "unknown-refund"})
        page = listed[first : first + _PAGE_REFUNDS_MAX]
        refunds = [
            {**msgspec.to_builtins(each), "seller_id": payment.seller_id, "order_id": payment.order_id}
            for payment, each in page
        ]
        is_last = first + len(page) == len(listed)
        return _json(200, {"refunds": refunds, "after": None if is_last else page[-1][1].id})

    async def ledger(self, request: web.Request) -> web.StreamResponse:
        """GET /ledger: every payment, and how its keys were used."""
        nothing = Seen()
        payments = []
        for payment in self._book.payments.values():
            keys = (payment.key, *self._keys_of.get(payment.key, ()))
            blind = sum(self._seen.get(key, nothing).blind for key in keys)
            sent = self._seen.get(payment.key, nothing).sent
            listed = msgspec.to_builtins(payment)
            del listed["token"]
            payments.append({**listed, "sent": sent, "blind": blind})
        return _json(200, {"payments": payments, "calls": self._calls})

    async def behave(self, request: web.Request) -> web.StreamResponse:
        """PUT /behaviour: change the fields that are given."""
        try:
            given = msgspec.json.decode(await request.read(), type=dict[str, Any])
            self._behaviour = msgspec.convert({**msgspec.to_builtins(self._behaviour), **given}, Behaviour)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            return _json(400, {"reason": str(error)})
        return _json(200, self._behaviour)

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """GET /readyz."""
        return _json(200, {"status": "ready"})

    def _permitted(self, request: web.Request) -> bool:
        self._calls += 1
        return self._authorization is None or request.headers.get("Authorization") == self._authorization

    def _note(self, key: str) -> Seen:
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = Seen()
        elif not seen.asked_since:
            seen.blind += 1
        seen.sent += 1
        seen.asked_since = False
        return seen

    def _fault(self, key: str, nth: int, own: str | None) -> str:
        """The fault of the nth call under a key; empty for none. `own` is the fault of its token."""
        if own in ALWAYS or (own in ONCE and nth == 1):
            return own
        if own == "5xx" and nth <= len(_5XX):
            return _5XX[nth - 1]
        chance, which = _chances(self._behaviour.seed, key, nth)
        return FAULTS[int(which * len(FAULTS))] if chance < self._behaviour.faults else ""

    async def _delay(self, fault: str) -> None:
        own = {"slow": self._behaviour.slow_s, "late": self._behaviour.late_s}
        delay = own.get(fault, self._behaviour.delay_ms / 1000)
        if delay > 0:
            await asyncio.sleep(delay)

    def _decide(self, body: Authorize) -> BookedPayment:
        seller_id, order_id = body.metadata.get("seller_id", ""), body.metadata.get("order_id", "")
        reason = ""
        if body.token not in TOKENS:
            reason = "unknown_token"
        elif TOKENS[body.token] == "decline":
            reason = "card_declined"
        return BookedPayment(
            body.key,
            payment_id(body.key),
            seller_id,
            order_id,
            body.token,
            body.amount_minor,
            body.currency,
            "declined" if reason else "authorized",
            reason,
            acted=0 if reason else 1,
        )

    def _announce(self, payment: BookedPayment, kind: str, fault: str) -> None:
        """Send a webhook. It is queued before the answer, and may arrive before it."""
        if fault == "duplicate":
            self._notices.announce(payment, kind, times=2)
        elif fault:
            # Delayed, so that it may arrive after the notice of the next change.
            self._notices.announce(payment, kind, after_s=_LATE_S)
        elif _chances(self._behaviour.seed, payment.id, 0)[0] < self._behaviour.notices:
            self._notices.announce(payment, kind)

    async def _answer(
        self, request: web.Request, payment: BookedPayment, fault: str, status: int
    ) -> web.StreamResponse:
        if fault == "timeout_charged":
            await asyncio.sleep(_SILENCE_S)
        if fault == "5xx_charged":
            return _json(500, {"reason": "internal"})
        if fault == "cut" and request.transport is not None:
            request.transport.abort()
        if fault == "duplicate":
            await asyncio.sleep(_LATE_S)
        return _json(status, {"id": payment.id, "status": payment.status, "reason": payment.reason})


def _chances(seed: int, key: str, nth: int) -> tuple[float, float]:
    """Two numbers in [0, 1) that depend on the arguments only, so that a run can be replayed in any order."""
    digest = hashlib.blake2b(f"{seed}/{key}/{nth}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4]) / 2**32, int.from_bytes(digest[4:]) / 2**32


def _json(status: int, value: Any) -> web.Response:
    return web.Response(status=status, body=_ENCODER.encode(value), content_type="application/json")


def _secret(name: str) -> str | None:
    """A secret from the environment; on a command line other users could see it."""
    path = os.environ.get(f"{ENV_PREFIX}{name}_FILE")
    return Path(path).read_text().strip() if path else os.environ.get(f"{ENV_PREFIX}{name}")


async def _serve(arguments: argparse.Namespace) -> None:
    behaviour = Behaviour(arguments.delay_ms, arguments.faults, arguments.seed, arguments.notices)
    book = Book(arguments.data)
    notices = NoticeSender(arguments.webhook_url, _secret("PROVIDER_WEBHOOK_SECRET"))
    runner = web.AppRunner(
        Simulator(book, behaviour, notices, _secret("PROVIDER_API_KEY")).app(), access_log=None, shutdown_timeout=1.0
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await notices.start()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", arguments.port, backlog=4096).start()
    _log.info("payment provider listening on port %d, seed %d", arguments.port, arguments.seed)
    await stop.wait()
    await runner.cleanup()
    await notices.stop()
    book.close()


def main(given: list[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.provider", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the file with all payments")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="latency of every call")
    parser.add_argument("--seed", type=int, default=0, help="determines which calls fail, and how")
    parser.add_argument("--faults", type=float, default=0.0, help="share of calls that fail")
    parser.add_argument("--notices", type=float, default=0.0, help="share of ordinary changes announced by webhook")
    parser.add_argument("--webhook-url", help="URL for notices; without a secret none are sent")
    arguments = parser.parse_args(given)
    try:
        refuse_unknown()
    except SettingsError as error:
        sys.exit(str(error))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    uvloop.run(_serve(arguments))


if __name__ == "__main__":
    main()
