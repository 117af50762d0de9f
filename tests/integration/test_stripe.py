"""Stripe's adapter: its calls with Stripe's own mock server, its decisions with a server that stores intents.

stripe-mock checks every request against Stripe's published API and answers with examples, without storing anything. So
what depends on stored intents is tested with a small server that behaves as Stripe's documentation says.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from stripe import InvalidRequestError, StripeClient

from domain.order import OrderIdentity
from domain.payment import (
    Absent,
    Action,
    Attempt,
    AttemptState,
    Declined,
    ListedRefund,
    PaymentIdentity,
    Pending,
    Prior,
    ProviderRefund,
    RefundPage,
    Succeeded,
    provider_key,
)
from local.layout import free_port
from providers.provider import ForbiddenError, NotNowError, UnknownOutcomeError
from providers.stripe import StripeProvider

STRIPE_MOCK = "github.com/stripe/stripe-mock@v0.203.0"
BUILD_SECONDS_MAX = 400


def attempt(action: Action = Action.AUTHORIZE, **changes: Any) -> Attempt:
    request_id = {Action.REFUND: "refund:R-1"}.get(action, action.value)
    made = Attempt(
        "demo",
        "A",
        request_id,
        0,
        action,
        4798,
        "EUR",
        provider_key("demo", "A", request_id),
        tries=1,
        may_have_acted=False,
        authorization=None if action is Action.AUTHORIZE else Prior(AttemptState.SUCCEEDED, "pi_1"),
    )
    return replace(made, **changes)


PAYMENT = PaymentIdentity("demo", "A", "pi_1")


@pytest.fixture(scope="module")
def stripe_mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running stripe-mock, built once and stored in the user's cache."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("GO IS NOT INSTALLED: the Stripe adapter's requests were NOT checked against stripe-mock")
    folder = Path.home() / ".cache" / "gapless" / STRIPE_MOCK.rpartition("@")[2]
    binary = folder / "stripe-mock"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        built = subprocess.run(
            [go, "install", STRIPE_MOCK],
            env={**os.environ, "GOBIN": str(folder), "GOFLAGS": "-mod=mod"},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS_MAX,
            check=False,
        )
        if built.returncode != 0:
            pytest.skip(f"STRIPE-MOCK CANNOT BE BUILT, the adapter's requests were NOT checked: {built.stderr[-300:]}")
    port = free_port()
    with subprocess.Popen([binary, "-http-port", str(port)], stdout=subprocess.DEVNULL) as process:
        try:
            _await_port(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise AssertionError("stripe-mock does not start") from None
            time.sleep(0.05)


@pytest.fixture
async def mocked(stripe_mock: str) -> AsyncIterator[StripeProvider]:
    made = StripeProvider("sk_test_123", stripe_mock)
    yield made
    await made.close()


@pytest.mark.parametrize("token", ["pm_card_visa", "ctoken_1"])
async def test_stripe_takes_our_authorisation(mocked: StripeProvider, token: str) -> None:
    """The mock's example is an intent whose last payment has failed, whatever was sent."""
    assert isinstance(await mocked.authorize(attempt(), token), Declined)


async def test_stripe_takes_our_other_calls(mocked: StripeProvider) -> None:
    """Each request is checked against the published API; the answers' content does not matter here."""
    old = attempt(age_seconds=90_000.0, may_have_acted=True)
    assert isinstance(await mocked.ask(attempt()), Declined)
    assert isinstance(await mocked.ask(old), Declined)
    assert isinstance(await mocked.refund(attempt(Action.REFUND)), Succeeded)
    assert isinstance(await mocked.ask(attempt(Action.REFUND)), Absent)
    assert [each.refund[:3] for each in await mocked.refunds(PAYMENT)] == ["re_"]
    # The example's intent is none of gapless'.
    assert await mocked.list_refunds(datetime.now(UTC), "re_1") == RefundPage([], None)
    assert isinstance(await mocked.ask(attempt(Action.CAPTURE)), Declined)
    assert isinstance(await mocked.ask(attempt(Action.VOID)), Absent)
    assert isinstance(await mocked.void(attempt(Action.VOID)), Declined)
    with pytest.raises(UnknownOutcomeError):
        await mocked.void(attempt())
    assert isinstance(await mocked.capture(attempt(Action.CAPTURE)), Declined)


async def test_the_mock_refuses_what_is_no_key(stripe_mock: str) -> None:
    provider = StripeProvider("no key", stripe_mock)
    with pytest.raises(ForbiddenError):
        await provider.ask(attempt())
    await provider.close()


def test_the_mock_refuses_what_the_api_does_not_know(stripe_mock: str) -> None:
    """Otherwise the mock's acceptance of our calls would mean nothing."""
    client = StripeClient("sk_test_123", base_addresses={"api": stripe_mock})
    with pytest.raises(InvalidRequestError):
        client.v1.refunds.create({"payment_intent": "pi_1", "amonut": 1})  # type: ignore[arg-type]


class Stripe:
    """Stores intents, and answers by idempotency key, as Stripe documents both. `faults` are used one per call."""

    def __init__(self) -> None:
        self.intents: dict[str, dict[str, Any]] = {}
        self.refunds: list[dict[str, Any]] = []
        self.replies: dict[str, tuple[int, dict[str, Any]]] = {}
        self.faults: list[str] = []
        self.charged = 0
        self.decline: str | None = None
        self.requests: list[tuple[str, str]] = []
        self.ids = count(1)
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Handle any request."""
        verb = request.path.removeprefix("/v1/")
        self.requests.append((request.method, verb))
        form = dict(await request.post())
        key = request.headers.get("Idempotency-Key")
        if request.method == "POST" and key in self.replies:
            status, body = self.replies[key]
            return web.json_response(body, status=status, headers={"Idempotent-Replayed": "true"})
        fault = self.faults.pop(0) if self.faults else ""
        if fault in ("401", "429"):
            return _error(int(fault), "lock_timeout" if fault == "429" else None)
        if fault == "500":
            reply: tuple[int, dict[str, Any]] = (500, {"error": {"type": "api_error"}})
        else:
            reply = self.act(request.method, verb, form, dict(request.query))
        if request.method == "POST" and key is not None:
            self.replies[key] = reply
        if fault == "500 after":
            self.replies[key or ""] = reply = (500, {"error": {"type": "api_error"}})
        if fault == "cut" and request.transport is not None:
            request.transport.abort()
        return web.json_response(reply[1], status=reply[0])

    def act(self, method: str, path: str, form: dict[str, Any], query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Carry the request out."""
        name, *rest = path.split("/")
        if name == "refunds":
            if method == "POST":
                made = {
                    "id": f"re_{next(self.ids)}",
                    "object": "refund",
                    "status": "succeeded",
                    "metadata": _meta(form),
                    "currency": self.intents[form["payment_intent"]]["currency"],
                    "payment_intent": form["payment_intent"],
                    "created": 1_000,
                }
                self.refunds.insert(0, {**made, "amount": int(form["amount"])})
                return 200, self.refunds[0]
            if "payment_intent" not in query:
                return self.list_all(query)
            if query["payment_intent"] not in self.intents:
                return 404, {"error": {"type": "invalid_request_error", "code": "resource_missing"}}
            after = query.get("starting_after")
            first = 0 if after is None else [each["id"] for each in self.refunds].index(after) + 1
            page = self.refunds[first : first + 100]
            return 200, {"object": "list", "data": page, "has_more": first + 100 < len(self.refunds), "url": "/"}
        if not rest:
            number = f"pi_{next(self.ids)}"
            made = {"id": number, "object": "payment_intent", "status": "requires_payment_method"}
            self.intents[number] = {**made, "last_payment_error": None, "metadata": _meta(form), **_amounts(form)}
            return 200, dict(self.intents[number])
        if rest[0] == "search":
            wanted = query["query"].split("'")[3]
            found = [each for each in self.intents.values() if each["metadata"]["gapless_key"] == wanted]
            return 200, {"object": "search_result", "data": found, "has_more": False, "url": "/"}
        intent = self.intents[rest[0]]
        return (200, dict(intent)) if method == "GET" else self.change(intent, rest[1])

    def list_all(self, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """A page of the refunds of the account, latest first, with their intents if they are asked for."""
        made = [each for each in self.refunds if each["created"] >= int(query["created[gte]"])]
        first, after = 0, query.get("starting_after")
        if after is not None:
            if after not in [each["id"] for each in self.refunds]:
                return 404, {"error": {"type": "invalid_request_error", "code": "resource_missing"}}
            first = [each["id"] for each in made].index(after) + 1
        end = first + int(query["limit"])
        page = made[first:end]
        if query.get("expand[0]") == "data.payment_intent":
            page = [{**each, "payment_intent": self.intents.get(each["payment_intent"] or "")} for each in page]
        return 200, {"object": "list", "data": page, "has_more": end < len(made), "url": "/"}

    def change(self, intent: dict[str, Any], verb: str) -> tuple[int, dict[str, Any]]:
        """Confirm, capture or cancel, once."""
        before = {"confirm": ("requires_payment_method",), "capture": ("requires_capture",)}
        if intent["status"] not in before.get(verb, ("requires_payment_method", "requires_capture", "processing")):
            return 400, {"error": {"type": "invalid_request_error", "code": "payment_intent_unexpected_state"}}
        if verb == "confirm" and self.decline is not None:
            error = {"type": "card_error", "code": "card_declined", "decline_code": self.decline}
            intent["last_payment_error"] = error
            return 402, {"error": error}
        self.charged += verb == "confirm"
        intent["status"] = {"confirm": "requires_capture", "capture": "succeeded", "cancel": "canceled"}[verb]
        return 200, dict(intent)


def _meta(form: dict[str, Any]) -> dict[str, Any]:
    return {name[len("metadata[") : -1]: value for name, value in form.items() if name.startswith("metadata[")}


def _amounts(form: dict[str, Any]) -> dict[str, Any]:
    return {"amount": int(form["amount"]), "currency": form["currency"], "capture_method": form["capture_method"]}


def _error(status: int, code: str | None) -> web.StreamResponse:
    return web.json_response({"error": {"type": "invalid_request_error", "code": code}}, status=status)


@pytest.fixture
async def stripe() -> AsyncIterator[Stripe]:
    made = Stripe()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    made.url = f"http://127.0.0.1:{free_port()}"
    await web.TCPSite(runner, "127.0.0.1", int(made.url.rpartition(":")[2])).start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def provider(stripe: Stripe) -> AsyncIterator[StripeProvider]:
    made = StripeProvider("sk_test_123", stripe.url)
    yield made
    await made.close()


async def test_an_intent_is_authorised_captured_and_refunded(stripe: Stripe, provider: StripeProvider) -> None:
    authorized = await provider.authorize(attempt(), "pm_card_visa")
    assert authorized == Succeeded("pi_1")
    assert stripe.intents["pi_1"]["capture_method"] == "manual"
    assert await provider.capture(attempt(Action.CAPTURE)) == Succeeded("pi_1")
    assert await provider.refund(attempt(Action.REFUND, amount_minor=100)) == Succeeded("pi_1")
    assert await provider.refund(attempt(Action.REFUND, amount_minor=100, tries=2)) == Succeeded("pi_1")
    assert [each["amount"] for each in stripe.refunds] == [100]
    assert await provider.ask(attempt(Action.CAPTURE)) == Succeeded("pi_1")
    assert await provider.ask(attempt(Action.REFUND)) == Succeeded("pi_1")
    # An action that is done already succeeds.
    assert await provider.capture(attempt(Action.CAPTURE, tries=2)) == Succeeded("pi_1")


async def test_a_decline_is_told_with_its_code_and_found_again(stripe: Stripe, provider: StripeProvider) -> None:
    stripe.decline = "insufficient_funds"
    assert await provider.authorize(attempt(), "pm_x") == Declined("insufficient_funds", "pi_1")
    again = attempt(tries=2, may_have_acted=True)
    assert await provider.ask(again) == Declined("insufficient_funds", "pi_1")


@pytest.mark.parametrize("fault", ["500", "500 after", "cut"])
@pytest.mark.parametrize("calls_before", [0, 1])
async def test_after_a_fault_the_intent_is_asked_for_and_charged_once(
    fault: str, calls_before: int, stripe: Stripe, provider: StripeProvider
) -> None:
    """With `calls_before` 0 the fault is at the creation; with 1, at the confirmation."""
    stripe.faults = [""] * calls_before + [fault]
    with pytest.raises(UnknownOutcomeError):
        await provider.authorize(attempt(), "pm_x")
    for tries in range(2, 5):
        now = attempt(tries=tries, may_have_acted=True)
        known = await provider.ask(now)
        if isinstance(known, Succeeded):
            break
        assert isinstance(known, Absent)
        await provider.authorize(now, "pm_x")
    assert isinstance(known, Succeeded)
    assert stripe.charged == 1


async def test_an_authorisation_older_than_idempotency_keys_is_searched_for(
    stripe: Stripe, provider: StripeProvider
) -> None:
    await provider.authorize(attempt(), "pm_x")
    stripe.replies.clear()
    old = attempt(tries=2, may_have_acted=True, age_seconds=30 * 3600)
    assert await provider.ask(old) == Succeeded("pi_1")
    assert len(stripe.intents) == 1


async def test_what_is_given_up_can_not_be_confirmed_any_more(stripe: Stripe, provider: StripeProvider) -> None:
    stripe.faults = ["", "500"]
    with pytest.raises(UnknownOutcomeError):
        await provider.authorize(attempt(), "pm_x")
    late = attempt(tries=2, may_have_acted=True, expired=True)
    assert await provider.void(late) == Succeeded("pi_1")
    assert await provider.void(replace(late, tries=3)) == Succeeded("pi_1")
    assert await provider.authorize(replace(late, tries=4), "pm_x") == Declined("payment_canceled", "pi_1")
    assert stripe.charged == 0


async def test_a_void_lets_go_and_is_no_second_time_needed(stripe: Stripe, provider: StripeProvider) -> None:
    await provider.authorize(attempt(), "pm_x")
    assert await provider.ask(attempt(Action.VOID)) == Absent()
    assert await provider.void(attempt(Action.VOID)) == Succeeded("pi_1")
    assert await provider.void(attempt(Action.VOID, tries=2)) == Succeeded("pi_1")
    assert await provider.ask(attempt(Action.VOID)) == Succeeded("pi_1")


async def test_a_refund_is_found_behind_a_hundred_others(stripe: Stripe, provider: StripeProvider) -> None:
    await provider.authorize(attempt(), "pm_x")
    await provider.refund(attempt(Action.REFUND))
    for number in range(120):
        stripe.refunds.insert(0, {**stripe.refunds[-1], "id": f"re_o{number}", "metadata": {}})
    assert await provider.ask(attempt(Action.REFUND)) == Succeeded("pi_1")


async def test_refunds_made_in_the_dashboard_are_listed_with_ours(stripe: Stripe, provider: StripeProvider) -> None:
    """Oldest first, behind a hundred others; one that has failed moved no money."""
    await provider.authorize(attempt(), "pm_x")
    await provider.refund(attempt(Action.REFUND, amount_minor=100))
    ours = stripe.refunds[0]
    # The dashboard's have no metadata of ours, and some have none at all.
    others: list[dict[str, Any]] = [{"metadata": {}, "id": f"re_o{number}", "amount": 1} for number in range(120)]
    others += [
        {"metadata": None, "id": "re_p", "amount": 2, "status": "requires_action"},
        {"metadata": {"why": "broken"}, "id": "re_f", "amount": 3, "status": "failed"},
        {"metadata": {}, "id": "re_c", "amount": 3, "status": "canceled"},
        {"metadata": {}, "id": "re_a", "amount": 4, "status": "pending"},
    ]
    for each in others:
        stripe.refunds.insert(0, {**ours, **each})
    found = await provider.refunds(PAYMENT)
    key = provider_key("demo", "A", "refund:R-1")
    assert found[0] == ProviderRefund(ours["id"], 100, "EUR", key)
    assert [each.refund for each in found[1:121]] == [f"re_o{number}" for number in range(120)]
    assert found[121:] == [ProviderRefund("re_p", 2, "EUR", is_pending=True), ProviderRefund("re_a", 4, "EUR")]


async def test_the_accounts_refunds_are_listed_by_page_with_the_orders_of_their_intents(
    stripe: Stripe, provider: StripeProvider
) -> None:
    """Others' payments are in the account, too: without our metadata, or without an intent."""
    await provider.authorize(attempt(), "pm_x")
    await provider.refund(attempt(Action.REFUND, amount_minor=100))
    ours = stripe.refunds[0]
    stripe.intents["pi_others"] = {**stripe.intents["pi_1"], "id": "pi_others", "metadata": {"order_id": "A"}}
    others: list[dict[str, Any]] = [{"metadata": {}, "id": f"re_o{number}", "created": 2_000} for number in range(96)]
    others += [
        {"metadata": None, "id": "re_others", "payment_intent": "pi_others", "created": 2_000},
        {"metadata": {}, "id": "re_charge", "payment_intent": None, "created": 2_000},
        {"metadata": {}, "id": "re_failed", "status": "failed", "created": 2_000},
        {"metadata": {}, "id": "re_pending", "status": "requires_action", "created": 2_001},
    ]
    for each in others:
        stripe.refunds.insert(0, {**ours, **each})
    long_ago = datetime.fromtimestamp(900, UTC)
    first = await provider.list_refunds(long_ago, "")
    assert first is not None
    order = OrderIdentity("demo", "A")
    assert first.refunds[:2] == [ListedRefund(order, "re_pending"), ListedRefund(order, "re_o95")]
    assert (len(first.refunds), first.after) == (97, "re_o0")
    key = provider_key("demo", "A", "refund:R-1")
    assert await provider.list_refunds(long_ago, "re_o0") == RefundPage([ListedRefund(order, ours["id"], key)], None)
    late = datetime.fromtimestamp(2_001, UTC)
    assert await provider.list_refunds(late, "") == RefundPage([ListedRefund(order, "re_pending")], None)
    assert await provider.list_refunds(long_ago, "re_unknown") is None


async def test_a_payment_that_stripe_does_not_know_has_no_refunds(stripe: Stripe, provider: StripeProvider) -> None:
    assert await provider.refunds(PAYMENT) == []


@pytest.mark.parametrize(
    ("currency", "units", "minor"),
    [("EUR", 4798, 4798), ("JPY", 500, 500), ("ISK", 500, 5), ("MGA", 5, 500), ("ISK", 7, 0)],
)
async def test_amounts_of_refunds_are_read_in_stripes_units(
    currency: str, units: int, minor: int, stripe: Stripe, provider: StripeProvider
) -> None:
    """0 stands for what the currency can't express."""
    await provider.authorize(attempt(currency=currency, amount_minor=500), "pm_x")
    stripe.refunds.append(
        {"id": "re_1", "object": "refund", "status": "succeeded", "amount": units, "currency": currency.lower()}
    )
    assert await provider.refunds(PAYMENT) == [ProviderRefund("re_1", minor, currency)]


async def test_what_stripe_is_still_at_is_pending(stripe: Stripe, provider: StripeProvider) -> None:
    await provider.authorize(attempt(), "pm_x")
    stripe.intents["pi_1"]["status"] = "processing"
    assert await provider.ask(attempt(may_have_acted=True)) == Pending()


async def test_errors_say_what_to_do_and_not_what_was_sent(stripe: Stripe, provider: StripeProvider) -> None:
    stripe.faults = ["429", "401", "cut"]
    with pytest.raises(NotNowError):
        await provider.ask(attempt())
    with pytest.raises(ForbiddenError):
        await provider.ask(attempt())
    with pytest.raises(UnknownOutcomeError) as caught:
        await provider.authorize(attempt(), "pm_secret")
    assert "pm_secret" not in repr(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("currency", "minor", "sent"), [("EUR", 4798, 4798), ("JPY", 500, 500), ("ISK", 5, 500), ("MGA", 500, 5)]
)
async def test_amounts_are_said_in_stripes_units(
    currency: str, minor: int, sent: int, stripe: Stripe, provider: StripeProvider
) -> None:
    await provider.authorize(attempt(currency=currency, amount_minor=minor), "pm_x")
    assert stripe.intents["pi_1"]["amount"] == sent


async def test_an_amount_that_can_not_be_said_is_declined(stripe: Stripe, provider: StripeProvider) -> None:
    assert await provider.authorize(attempt(currency="MGA", amount_minor=501), "pm_x") == Declined("unsupported_amount")
    assert stripe.requests == []
