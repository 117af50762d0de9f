"""The client of the local stack's payment provider, whose server is `local/provider.py`."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec

from domain.payment import (
    Absent,
    Action,
    Attempt,
    Declined,
    Known,
    ListedRefund,
    PaymentIdentity,
    ProviderAnswer,
    ProviderRefund,
    RefundPage,
    Succeeded,
    paid_order,
)
from providers.provider import ForbiddenError, NoAnswerError, NotNowError, UnknownOutcomeError


class LocalProvider:
    """Calls the local provider. Create it on the running event loop."""

    name = "local"

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._url = url.rstrip("/")
        headers = {"Content-Type": "application/json"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        # No limits here: the caller bounds the number of calls and the time of each.
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def authorize(self, attempt: Attempt, token: str) -> ProviderAnswer:
        """Authorise the amount."""
        body = {
            "key": attempt.provider_key,
            "amount_minor": attempt.amount_minor,
            "currency": attempt.currency,
            "token": token,
            "metadata": {"seller_id": attempt.seller_id, "order_id": attempt.order_id},
        }
        return _answer(*await self._call("POST", "/payments", body))

    async def capture(self, attempt: Attempt) -> ProviderAnswer:
        """Capture the authorised amount."""
        return await self._act(attempt, "capture")

    async def void(self, attempt: Attempt) -> ProviderAnswer:
        """Void the authorisation, or make sure that none can follow."""
        return await self._act(attempt, "void")

    async def refund(self, attempt: Attempt) -> ProviderAnswer:
        """Refund the amount of the attempt."""
        return await self._act(attempt, "refund")

    async def ask(self, attempt: Attempt) -> Known:
        """Read the payment's state."""
        status, payment = await self._call("GET", f"/payments/{attempt.payment_key}")
        if status == 404:
            return Absent()
        reference = str(payment["id"])
        if attempt.action is Action.AUTHORIZE:
            if payment["status"] == "declined":
                return Declined(str(payment["reason"]), reference)
            # A voided payment counts as absent: an authorisation under its key would fail.
            return Absent() if payment["status"] == "voided" else Succeeded(reference)
        return Succeeded(reference) if attempt.provider_key in payment["actions"] else Absent()

    async def refunds(self, payment: PaymentIdentity) -> list[ProviderRefund]:
        """Read the payment's refunds."""
        status, its = await self._call("GET", f"/payments/{payment.payment_key}")
        if status == 404:
            return []
        return [
            ProviderRefund(str(each["id"]), int(each["amount_minor"]), str(its["currency"]), str(each["key"]))
            for each in its["refunds"]
        ]

    async def list_refunds(self, since: datetime, after: str) -> RefundPage | None:
        """Read a page of all refunds."""
        query = urlencode({"since": since.timestamp(), "after": after})
        status, page = await self._call("GET", f"/refunds?{query}")
        if status == 404:
            return None
        listed = ((each, paid_order(each["seller_id"], each["order_id"])) for each in page["refunds"])
        refunds = [
            ListedRefund(order, str(each["id"]), str(each["key"])) for each, order in listed if order is not None
        ]
        return RefundPage(refunds, page["after"])

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _act(self, attempt: Attempt, verb: str) -> ProviderAnswer:
        body = {"key": attempt.provider_key, "amount_minor": attempt.amount_minor}
        return _answer(*await self._call("POST", f"/payments/{attempt.payment_key}/{verb}", body))

    async def _call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with self._session.request(method, self._url + path, data=data, allow_redirects=False) as response:
                status, content = response.status, await response.read()
        except (aiohttp.ClientError, OSError) as error:
            # Not the error's own text, which may contain what was sent.
            raise NoAnswerError(type(error).__name__) from None
        if status == 429:
            raise NotNowError("the provider limits the rate of requests")
        if status in (401, 403):
            raise ForbiddenError(f"the provider answered {status}: check the API key")
        if status not in (200, 402, 404, 409):
            raise UnknownOutcomeError(f"the provider answered {status}")
        try:
            return status, msgspec.json.decode(content, type=dict[str, Any])
        except msgspec.DecodeError:
            raise UnknownOutcomeError("the provider's answer is not JSON") from None


def _answer(status: int, payment: dict[str, Any]) -> ProviderAnswer:
    if status == 200:
        return Succeeded(str(payment["id"]))
    return Declined(str(payment.get("reason", "unknown-payment")), str(payment.get("id", "")))
