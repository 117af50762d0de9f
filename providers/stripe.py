"""Stripe, by PaymentIntents with manual capture.

- An intent is created first, under an idempotency key, which moves no money. Confirming it authorises, at most once: a
  confirmed intent refuses another confirmation. So the intent guards the money, and its state is what we ask for.
- Stripe stores the answer to an idempotency key, a 500 included, for 24 hours at least. So calls that an intent guards
  are sent under a new key each time. A refund, which nothing else guards, is always sent under the same key.

Sources: "Payment Intents", "Idempotent requests", "Place a hold on a payment method", "Currencies" in Stripe's
documentation.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import stripe

from domain.payment import (
    Absent,
    Action,
    Attempt,
    Declined,
    Known,
    ListedRefund,
    PaymentIdentity,
    Pending,
    ProviderAnswer,
    ProviderRefund,
    RefundPage,
    Succeeded,
    paid_order,
)
from domain.signature import TOLERANCE_SECONDS, SignatureVerdict
from providers.provider import ForbiddenError, NoAnswerError, NotNowError, UnknownOutcomeError

if TYPE_CHECKING:
    from stripe.params import PaymentIntentConfirmParams, RefundListParams

Value = TypeVar("Value")

#: Stripe stores an idempotency key for 24 hours at least; an older attempt's intent is searched for instead.
_KEY_KEPT_SECONDS = 20 * 3600.0
#: Keys under which to create an intent, in turn: the next one only if the answer to the former is a stored 500.
_CREATIONS_MAX = 5
#: Currencies that Stripe counts in other units than ISO 4217: Stripe's units in one of ours.
_UNITS = {"ISK": 100, "UGX": 100}
#: Currencies that Stripe counts in whole units: our units in one of Stripe's.
_WHOLES = {"MGA": 100}
#: The most that Stripe puts on a page.
_PAGE_REFUNDS_MAX = 100
_UNEXPECTED_STATE = ("payment_intent_unexpected_state", "charge_already_captured", "charge_already_refunded")


class StripeProvider:
    """Calls Stripe. Create it on the running event loop."""

    name = "stripe"

    def __init__(self, api_key: str, url: str | None = None) -> None:
        """`url` replaces Stripe's own address."""
        # aiohttp's default limit is 100 connections; our caller bounds the number of calls instead.
        connector = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=stripe.ca_bundle_path))
        self._http = stripe.AIOHTTPClient(timeout=None, connector=connector)
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": url} if url else {},
            http_client=self._http,
            # Our caller retries, and asks for the payment's state before each retry.
            max_network_retries=0,
        )

    async def authorize(self, attempt: Attempt, token: str) -> ProviderAnswer:
        """Create the intent, or find it, and confirm it with the buyer's payment method or confirmation token."""
        units = _stripe_units(attempt.amount_minor, attempt.currency)
        if units is None:
            return Declined("unsupported_amount")
        try:
            intent = await self._intent(attempt)
        except _RefusedError as refused:
            return Declined(refused.code)
        params: PaymentIntentConfirmParams = {
            # The buyer is not present to answer a bank's question, so a payment that needs it is declined.
            "error_on_requires_action": True,
        }
        params["confirmation_token" if token.startswith("ctoken_") else "payment_method"] = token
        try:
            confirmed = await _call(
                self._client.v1.payment_intents.confirm_async(
                    intent.id, params, {"idempotency_key": f"{attempt.provider_key}-confirm-{attempt.tries}"}
                )
            )
        except _RefusedError as refused:
            return await self._refused(attempt, intent.id, refused)
        return self._certain(attempt, _known_authorization(confirmed))

    async def capture(self, attempt: Attempt) -> ProviderAnswer:
        """Capture the intent."""
        units = _stripe_units(attempt.amount_minor, attempt.currency)
        if units is None:
            return Declined("unsupported_amount")
        reference = _reference(attempt)
        try:
            captured = await _call(
                self._client.v1.payment_intents.capture_async(
                    reference,
                    {"amount_to_capture": units},
                    {"idempotency_key": f"{attempt.provider_key}-{attempt.tries}"},
                )
            )
        except _RefusedError as refused:
            return await self._refused(attempt, reference, refused)
        return self._certain(attempt, _known_capture(captured))

    async def void(self, attempt: Attempt) -> ProviderAnswer:
        """Cancel the intent. To settle an authorisation, cancel its intent, or the one that it would create."""
        is_settling = attempt.action is Action.AUTHORIZE
        try:
            reference = (await self._intent(attempt)).id if is_settling else _reference(attempt)
        except _RefusedError as refused:
            # There is no intent, and none can be created.
            return Declined(refused.code)
        try:
            canceled = await _call(
                self._client.v1.payment_intents.cancel_async(
                    reference,
                    {"cancellation_reason": "abandoned"},
                    {"idempotency_key": f"{attempt.provider_key}-cancel-{attempt.tries}"},
                )
            )
        except _RefusedError as refused:
            if refused.code not in _UNEXPECTED_STATE:
                return Declined(refused.code, reference)
            canceled = await _call(self._client.v1.payment_intents.retrieve_async(reference))
        if canceled.status == "canceled":
            return Succeeded(reference)
        if is_settling:
            # Still in progress: an authorisation that may yet succeed is not settled.
            raise UnknownOutcomeError(f"the intent is {canceled.status}")
        return Declined(f"payment_{canceled.status}", reference)

    async def refund(self, attempt: Attempt) -> ProviderAnswer:
        """Refund a part of the intent."""
        units = _stripe_units(attempt.amount_minor, attempt.currency)
        if units is None:
            return Declined("unsupported_amount")
        reference = _reference(attempt)
        try:
            refund = await _call(
                self._client.v1.refunds.create_async(
                    {"payment_intent": reference, "amount": units, "metadata": _metadata(attempt)},
                    {"idempotency_key": attempt.provider_key},
                )
            )
        except _RefusedError as refused:
            return Declined(refused.code, reference)
        return self._certain(attempt, _known_refund(refund, reference))

    async def ask(self, attempt: Attempt) -> Known:
        """Read the intent, or its refunds."""
        if attempt.action is Action.AUTHORIZE:
            if _stripe_units(attempt.amount_minor, attempt.currency) is None:
                return Absent()
            try:
                return _known_authorization(await self._intent(attempt))
            except _RefusedError as refused:
                return Declined(refused.code)
        reference = _reference(attempt)
        if attempt.action is Action.REFUND:
            return await self._ask_refund(attempt, reference)
        intent = await _call(self._client.v1.payment_intents.retrieve_async(reference))
        return _known_capture(intent) if attempt.action is Action.CAPTURE else _known_void(intent)

    async def refunds(self, payment: PaymentIdentity) -> list[ProviderRefund]:
        """Read the intent's refunds, oldest first."""
        try:
            found = [_provider_refund(each) async for each in self._refunds(payment.reference)]
        except _RefusedError as refused:
            if refused.code == "resource_missing":
                return []
            raise UnknownOutcomeError(f"Stripe does not list the payment's refunds: {refused.code}") from None
        return [each for each in reversed(found) if each is not None]

    async def list_refunds(self, since: datetime, after: str) -> RefundPage | None:
        """Read a page of the account's refunds, each with its intent, whose metadata name the order."""
        params: RefundListParams = {
            "created": {"gte": int(since.timestamp())},
            "limit": _PAGE_REFUNDS_MAX,
            "expand": ["data.payment_intent"],
        }
        if after:
            params["starting_after"] = after
        try:
            page = await _call(self._client.v1.refunds.list_async(params))
        except _RefusedError as refused:
            if after and refused.code == "resource_missing":
                return None
            raise UnknownOutcomeError(f"Stripe does not list the account's refunds: {refused.code}") from None
        found = [each for each in map(_listed_refund, page.data) if each is not None]
        return RefundPage(found, page.data[-1].id if page.has_more and page.data else None)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def _ask_refund(self, attempt: Attempt, reference: str) -> Known:
        async for refund in self._refunds(reference):
            if _key(refund) == attempt.provider_key:
                return _known_refund(refund, reference)
        return Absent()

    async def _refunds(self, reference: str) -> "AsyncIterator[stripe.Refund]":
        """The intent's refunds, latest first."""
        params: RefundListParams = {"payment_intent": reference, "limit": _PAGE_REFUNDS_MAX}
        while True:
            page = await _call(self._client.v1.refunds.list_async(params))
            for refund in page.data:
                yield refund
            if not page.has_more or not page.data:
                return
            params["starting_after"] = page.data[-1].id

    async def _intent(self, attempt: Attempt) -> "stripe.PaymentIntent":
        """The attempt's intent in its current state; created if there is none. Moves no money."""
        intents = self._client.v1.payment_intents
        if attempt.age_seconds > _KEY_KEPT_SECONDS:
            found = await _call(
                intents.search_async({"query": f"metadata['gapless_key']:'{attempt.provider_key}'", "limit": 1})
            )
            if found.data:
                return await _call(intents.retrieve_async(found.data[0].id))
        units = _stripe_units(attempt.amount_minor, attempt.currency)
        if units is None:
            raise _RefusedError("unsupported_amount")
        for number in range(1, _CREATIONS_MAX + 1):
            try:
                created = await _call(
                    intents.create_async(
                        {
                            "amount": units,
                            "currency": attempt.currency.lower(),
                            "capture_method": "manual",
                            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                            "metadata": _metadata(attempt),
                        },
                        {"idempotency_key": f"{attempt.provider_key}-create-{number}"},
                    )
                )
            except _ReplayedError:
                # No caller ever received an intent under this key, so none was confirmed.
                continue
            # On the first try the answer is current. Later it may be the stored answer of the first try.
            return created if not attempt.may_have_acted else await _call(intents.retrieve_async(created.id))
        raise UnknownOutcomeError("Stripe can create no intent")

    async def _refused(self, attempt: Attempt, reference: str, refused: "_RefusedError") -> ProviderAnswer:
        """The outcome after a refusal, which is a success if the intent is already in the wanted state."""
        if refused.code not in _UNEXPECTED_STATE:
            return Declined(refused.code, reference)
        intent = await _call(self._client.v1.payment_intents.retrieve_async(reference))
        known = _known_authorization(intent) if attempt.action is Action.AUTHORIZE else _known_capture(intent)
        if isinstance(known, Absent):
            return Declined(f"payment_{intent.status}", reference)
        return self._certain(attempt, known)

    def _certain(self, attempt: Attempt, known: Known) -> ProviderAnswer:
        if isinstance(known, Succeeded | Declined):
            return known
        raise UnknownOutcomeError(f"Stripe has not decided on the {attempt.action}")


class _RefusedError(Exception):
    """Stripe refuses the request finally."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _ReplayedError(UnknownOutcomeError):
    """Stripe's stored answer to an idempotency key is a server error, and will stay so."""


async def _call(call: Awaitable[Value]) -> Value:
    """Await a call, and translate its errors. Stripe's own error texts may contain what was sent."""
    try:
        return await call
    except stripe.CardError as error:
        raise _RefusedError(_field(error.error, "decline_code") or error.code or "card_declined") from None
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise ForbiddenError(f"Stripe answered {error.http_status}: check the API key") from None
    except stripe.RateLimitError:
        raise NotNowError("Stripe limits the rate of requests") from None
    except (stripe.InvalidRequestError, stripe.IdempotencyError) as error:
        if error.http_status == 409 or error.code in ("lock_timeout", "idempotency_key_in_use"):
            raise NotNowError("another call for this payment is under way") from None
        raise _RefusedError(str(error.code or "invalid_request")) from None
    except stripe.APIConnectionError:
        raise NoAnswerError("no answer from Stripe") from None
    except stripe.StripeError as error:
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        if headers.get("idempotent-replayed") == "true":
            raise _ReplayedError("Stripe repeats a stored server error") from None
        raise UnknownOutcomeError(f"Stripe answered {error.http_status}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise NoAnswerError(type(error).__name__) from None


def _known_authorization(intent: "stripe.PaymentIntent") -> Known:
    match intent.status:
        case "requires_capture" | "succeeded":
            return Succeeded(intent.id)
        case "requires_payment_method" if _field(intent, "last_payment_error") is not None:
            error = _field(intent, "last_payment_error")
            return Declined(_field(error, "decline_code") or _field(error, "code") or "card_declined", intent.id)
        case "requires_payment_method" | "requires_confirmation" | "canceled":
            return Absent()
        case _:
            return Pending()


def _known_capture(intent: "stripe.PaymentIntent") -> Known:
    match intent.status:
        case "succeeded":
            return Succeeded(intent.id)
        case "requires_capture":
            return Absent()
        case "processing":
            return Pending()
        case status:
            return Declined(f"payment_{status}", intent.id)


def _known_void(intent: "stripe.PaymentIntent") -> Known:
    return Succeeded(intent.id) if intent.status == "canceled" else Absent()


def _known_refund(refund: "stripe.Refund", reference: str) -> Known:
    match refund.status:
        # Pending: Stripe has accepted it, and the buyer's bank has not.
        case "succeeded" | "pending":
            return Succeeded(reference)
        case "failed" | "canceled":
            return Declined(_field(refund, "failure_reason") or f"refund_{refund.status}", reference)
        case _:
            return Pending()


def _provider_refund(refund: "stripe.Refund") -> ProviderRefund | None:
    """The refund; None if it came to nothing."""
    known = _known_refund(refund, "")
    if isinstance(known, Declined):
        return None
    currency = refund.currency.upper()
    is_pending = isinstance(known, Pending)
    return ProviderRefund(refund.id, _minor_units(refund.amount, currency), currency, _key(refund), is_pending)


def _listed_refund(refund: "stripe.Refund") -> ListedRefund | None:
    """The refund; None if it came to nothing, or is not of a payment of ours."""
    metadata = _field(_field(refund, "payment_intent"), "metadata")
    order = paid_order(_field(metadata, "seller_id"), _field(metadata, "order_id"))
    if order is None or _provider_refund(refund) is None:
        return None
    return ListedRefund(order, refund.id, _key(refund))


def _key(refund: "stripe.Refund") -> str:
    """The provider key of our attempt; empty for a refund that is not ours."""
    return _field(_field(refund, "metadata"), "gapless_key") or ""


def _field(holder: object, name: str) -> Any:
    """A field that Stripe may leave out, for which its objects raise `AttributeError`; None without it."""
    return getattr(holder, name, None)


def _reference(attempt: Attempt) -> str:
    if attempt.authorization is None or not attempt.authorization.reference:
        raise UnknownOutcomeError("the authorisation has no reference")
    return attempt.authorization.reference


def _metadata(attempt: Attempt) -> dict[str, str]:
    return {"seller_id": attempt.seller_id, "order_id": attempt.order_id, "gapless_key": attempt.provider_key}


def _stripe_units(amount_minor: int, currency: str) -> int | None:
    """The amount in Stripe's units; None if it is not a whole number of them."""
    units, rest = divmod(amount_minor * _UNITS.get(currency, 1), _WHOLES.get(currency, 1))
    return None if rest else units


def _minor_units(units: int, currency: str) -> int:
    """Stripe's units as minor units; 0 if they are no whole number of them."""
    amount, rest = divmod(units * _WHOLES.get(currency, 1), _UNITS.get(currency, 1))
    return 0 if rest else amount


def verify_notice(secret: str, body: bytes, header: str) -> SignatureVerdict:
    """Whether a webhook is signed by Stripe and recent, by this machine's clock."""
    try:
        stripe.WebhookSignature.verify_header(body, header, secret, TOLERANCE_SECONDS)
    except stripe.SignatureVerificationError as error:
        return SignatureVerdict.STALE if "tolerance" in str(error) else SignatureVerdict.INVALID
    # Not UTF-8.
    except ValueError:
        return SignatureVerdict.INVALID
    return SignatureVerdict.VALID
