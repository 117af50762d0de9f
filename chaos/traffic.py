"""Storefronts of every kind: invoices, checkouts, repeats, conflicts and commands, all written to the record."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from chaos.record import Asked, Commanded, Kind, Record
from producers.client import GaplessClient, GatewayAnswer, UnavailableError
from producers.generate import body as invoice_body

#: Kinds of requests, by weight.
_SHARES: Mapping[str, float] = {
    "invoice": 40,
    "checkout": 40,
    "repeat": 10,
    "conflict": 3,
    "twins": 3,
    "command": 7,
}
#: The share of invoices that are credited.
_CREDITED = 0.1
#: Payment tokens, by weight: most pay, and each kind of failure occurs.
TOKENS: Mapping[str, float] = {
    "tok_ok": 85,
    "tok_decline": 7,
    "tok_slow": 3,
    "tok_5xx": 2,
    "tok_cut": 2,
    "tok_duplicate": 1,
}
PLENTY = 1_000_000
#: Pieces of the one article that sells out.
SCARCE = 25
ARTICLES = 4
_IN_FLIGHT_MAX = 128
_WAIT_S = 5
_BUYER = {
    "name": "Zoë O'Neil",
    "email": "zoe@example.com",
    "address": {"street": "12 Rue de l'Église", "city": "Lyon", "postal_code": "69001", "country": "FR"},
}


class Shop:
    """Makes requests, drawn from `chance`, and records each before it is sent. Ids begin with `prefix`."""

    def __init__(self, chance: random.Random, record: Record, prefix: str) -> None:
        self.chance = chance
        self.record = record
        self.prefix = prefix
        self.scarce = f"{prefix}-SCARCE"
        self.articles = [*(f"{prefix}-ART-{number}" for number in range(ARTICLES)), self.scarce]
        self._count = 0

    def invoice(self, **changes: Any) -> Asked:
        """A new order's invoice request; `changes` replace fields of its body."""
        return self.record.ask(Kind.INVOICE, {**invoice_body(self._new_id("I"), self.chance), **changes})

    def checkout(
        self,
        *,
        token: str | None = None,
        sku: str | None = None,
        quantity: int | None = None,
        order_id: str | None = None,
        customer: str | None = None,
    ) -> Asked:
        """A new order of a new customer; what isn't given is drawn."""
        order_id = order_id or self._new_id("C")
        skus = [sku] if sku else self.chance.sample(self.articles, self.chance.choice((1, 1, 1, 2, 3)))
        lines = [self._line(each, quantity or self.chance.choice((1, 1, 2, 3))) for each in skus]
        names, weights = list(TOKENS), list(TOKENS.values())
        body = {
            "order_id": order_id,
            "customer": customer or f"{order_id}-customer",
            "payment_token": token or self.chance.choices(names, weights)[0],
            "currency": "EUR",
            "buyer": _BUYER,
            "lines": lines,
        }
        return self.record.ask(Kind.CHECKOUT, body)

    def conflict(self, asked: Asked) -> Mapping[str, Any]:
        """Different content under an id that was used already."""
        body = {**asked.bodies[0], "note": f"another, {self.chance.randrange(1000)}"}
        self.record.ask(asked.kind, body)
        return body

    def twin(self, asked: Asked) -> Asked:
        """An invoice request under a checkout's id, or the reverse: one of the two must be refused."""
        if asked.kind is Kind.INVOICE:
            return self.checkout(order_id=asked.order_id)
        return self.record.ask(Kind.INVOICE, invoice_body(asked.order_id, self.chance))

    def earlier(self) -> Asked | None:
        """A random recent order; None before the first."""
        everything = list(self.record.asked.values())
        return self.chance.choice(everything[-500:]) if everything else None

    def _new_id(self, kind: str) -> str:
        self._count += 1
        return f"{self.prefix}-{kind}-{self._count}"

    def _line(self, sku: str, quantity: int) -> dict[str, Any]:
        price = self.chance.choice(("19.90", "0.99", "250.00"))
        line = {"sku": sku, "description": f"Article {sku}", "quantity": str(quantity), "unit_price": price}
        return {**line, "vat_rate": "20.00", "vat_category": "S"}


class Traffic:
    """Sends a shop's requests at a rate until it is stopped."""

    def __init__(self, client: GaplessClient, shop: Shop, rate: float) -> None:
        self.client = client
        self.shop = shop
        self.rate = rate
        self._record = shop.record
        self._stopping = asyncio.Event()
        self._room = asyncio.Semaphore(_IN_FLIGHT_MAX)
        #: Orders known to be confirmed or shipped, for commands.
        self._confirmed: list[str] = []
        self._shipped: list[str] = []

    async def prepare(self) -> None:
        """Set the stock of the shop's articles."""
        for sku in self.shop.articles:
            await self.stock(sku, SCARCE if sku == self.shop.scarce else PLENTY)

    async def stock(self, sku: str, pieces: int) -> None:
        """Set the stock of an article that has no orders yet."""
        answer = await self.client.put_stock(sku, pieces)
        if answer.status != 200:
            raise RuntimeError(f"the stock of {sku} can't be set: {answer.status} {answer.payload[:200]!r}")
        self._record.stock[sku] = pieces

    def stop(self) -> None:
        """Send no new requests."""
        self._stopping.set()

    async def run(self) -> None:
        """Send until `stop`, and return when every request is answered or given up."""
        begin = time.monotonic()
        sent = 0
        async with asyncio.TaskGroup() as group:
            while not self._stopping.is_set():
                await self._room.acquire()
                group.create_task(self._one())
                sent += 1
                await asyncio.sleep(max(0.0, begin + sent / self.rate - time.monotonic()))

    async def post(
        self, asked: Asked, body: Mapping[str, Any] | None = None, wait_s: int | None = None
    ) -> GatewayAnswer | None:
        """Post a body of an order, by default the first; None if the client gave up without an answer."""
        post = self.client.post_invoice if asked.kind is Kind.INVOICE else self.client.post_checkout
        return await self.noted(asked, lambda: post(body or asked.bodies[0], wait_s))

    async def noted(
        self, asked: Asked | Commanded, send: Callable[[], Awaitable[GatewayAnswer]]
    ) -> GatewayAnswer | None:
        """Send, and record the answer."""
        try:
            answer = await send()
        except UnavailableError:
            self._record.unanswered += 1
            return None
        self._record.answer(asked, answer.status, answer.json())
        return answer

    async def _one(self) -> None:
        try:
            chance = self.shop.chance
            what = chance.choices(list(_SHARES), list(_SHARES.values()))[0]
            wait_s = _WAIT_S if chance.random() < 0.5 else None
            earlier = self.shop.earlier()
            if what == "command" and self._confirmed:
                await self._command()
            elif what == "repeat" and earlier is not None:
                await self.post(earlier)
            elif what == "conflict" and earlier is not None:
                await self.post(earlier, self.shop.conflict(earlier))
            elif what == "twins":
                asked = self.shop.checkout() if chance.random() < 0.5 else self.shop.invoice()
                await asyncio.gather(*(self.post(each, wait_s=wait_s) for each in (asked, self.shop.twin(asked))))
            elif what == "invoice":
                asked = self.shop.invoice()
                await self.post(asked, wait_s=wait_s)
                if chance.random() < _CREDITED:
                    await self._credit(asked.order_id)
            else:
                asked = self.shop.checkout()
                answer = await self.post(asked, wait_s=wait_s)
                if answer is not None and answer.status == 201:
                    self._confirmed.append(asked.order_id)
        finally:
            self._room.release()

    async def _command(self) -> None:
        chance, client = self.shop.chance, self.client
        if self._shipped and chance.random() < 0.5:
            order_id = chance.choice(self._shipped)
            if chance.random() < 0.5:
                await self._commanded(order_id, "deliveries", {}, lambda: client.deliver(order_id))
            else:
                refund_id = f"R-{chance.randrange(10**6)}"
                body = {"refund_id": refund_id}
                await self._commanded(order_id, "refunds", body, lambda: client.refund(order_id, refund_id))
            return
        order_id = chance.choice(self._confirmed)
        if chance.random() < 0.2:
            await self._hasty(order_id)
        elif chance.random() < 0.7:
            answer = await self.ship(order_id)
            if answer is not None and answer.status == 200:
                self._shipped.append(order_id)
        else:
            await self._commanded(order_id, "cancellations", {}, lambda: client.cancel(order_id))

    async def ship(self, order_id: str) -> GatewayAnswer | None:
        """Ship an order, and record the answer."""
        return await self._commanded(order_id, "shipments", {}, lambda: self.client.ship(order_id, wait_s=_WAIT_S))

    async def _credit(self, order_id: str) -> None:
        """Credit a part of an invoice twice under one id, and all that is left at the same time."""
        ids = ("CR-1", "1.00"), ("CR-1", "1.00"), ("CR-2", None)
        await asyncio.gather(*(self.credit(order_id, *each) for each in ids))

    async def credit(self, order_id: str, credit_note_id: str, amount: str | None) -> GatewayAnswer | None:
        """Credit an invoice, by so much or all that is left, and record the answer."""
        body = {"credit_note_id": credit_note_id, "amount": amount}
        return await self._commanded(
            order_id, "credit-notes", body, lambda: self.client.credit(order_id, credit_note_id, amount, wait_s=_WAIT_S)
        )

    async def _hasty(self, order_id: str) -> None:
        """Request one refund twice, around the shipment that it requires: the first may be refused, the second done."""
        refund_id = f"R-{self.shop.chance.randrange(10**6)}"

        async def refund() -> None:
            body = {"refund_id": refund_id}
            await self._commanded(
                order_id, "refunds", body, lambda: self.client.refund(order_id, refund_id, wait_s=_WAIT_S)
            )

        ship = self._commanded(order_id, "shipments", {}, lambda: self.client.ship(order_id, wait_s=_WAIT_S))
        await asyncio.gather(refund(), ship, refund())

    async def _commanded(
        self, order_id: str, what: str, body: Mapping[str, Any], send: Callable[[], Awaitable[GatewayAnswer]]
    ) -> GatewayAnswer | None:
        commanded = Commanded(order_id, what, body)
        self._record.commanded.append(commanded)
        return await self.noted(commanded, send)
