"""The local provider's webhooks."""

import asyncio
import time

import aiohttp
import msgspec

from domain.signature import sign
from local.provider_book import BookedPayment
from runtime.exits import end_if_failed

_NOTICES_MAX = 20_000
_NOTICE_CALLS_MAX = 16
_NOTICE_TRIES_MAX = 5


class NoticeSender:
    """Sends signed webhooks, a few at a time, and retries those that fail."""

    def __init__(self, url: str | None, secret: str | None) -> None:
        self._url = url
        self._secret = secret
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_NOTICES_MAX)
        self._number = 0
        self._senders: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Start sending."""
        if self._url is not None and self._secret is not None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
            self._senders = [asyncio.create_task(self._send_each()) for _ in range(_NOTICE_CALLS_MAX)]
            for sender in self._senders:
                sender.add_done_callback(end_if_failed)

    def announce(self, payment: BookedPayment, kind: str, *, times: int = 1, after_s: float = 0.0) -> None:
        """Queue a notice, to be sent `times` times, not before `after_s` from now."""
        if not self._senders:
            return
        self._number += 1
        body = msgspec.json.encode(
            {
                "id": f"evt_{payment.key[:12]}_{self._number}",
                "type": f"payment.{kind}",
                "created": int(time.time()),
                "data": {
                    "object": {
                        "id": payment.id,
                        "metadata": {"seller_id": payment.seller_id, "order_id": payment.order_id},
                    }
                },
            }
        )
        for _ in range(times):
            if not self._queue.full():  # Real providers lose notices, too.
                self._queue.put_nowait((time.monotonic() + after_s, body))

    async def stop(self) -> None:
        """Stop sending."""
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _send_each(self) -> None:
        while True:
            due, body = await self._queue.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._send(body)

    async def _send(self, body: bytes) -> None:
        if self._session is None or self._url is None or self._secret is None:
            return
        for number in range(_NOTICE_TRIES_MAX):
            headers = {
                "Content-Type": "application/json",
                "Provider-Signature": sign(self._secret, body, int(time.time())),
            }
            try:
                async with self._session.post(self._url, data=body, headers=headers) as response:
                    if response.status < 500:
                        return
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(0.2 * 2**number)
