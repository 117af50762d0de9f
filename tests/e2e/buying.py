"""Buyers: storefronts that post a checkout until they know what became of it, and remember what they were told."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from producers.client import Answer, GaplessClient
from producers.generate import checkouts
from tests.e2e.running import Running

#: What a buyer may be told in the end.
CONFIRMED, SOLD_OUT, DECLINED, CANCELLED = "confirmed", "out-of-stock", "payment-declined", "order-cancelled"


@dataclass
class Told:
    """What each buyer was told in the end, by order id."""

    outcomes: dict[str, str] = field(default_factory=dict)

    def count(self) -> Counter[str]:
        """How many were told what."""
        return Counter(self.outcomes.values())

    def those(self, outcome: str) -> set[str]:
        """Who was told this."""
        return {order_id for order_id, each in self.outcomes.items() if each == outcome}


def payloads(count: int, prefix: str, skus: list[str], **tokens: float) -> list[bytes]:
    """Checkouts of one piece each, every buyer another customer."""
    weights = tokens or {"tok_ok": 1.0}
    return list(checkouts(count, seed=1, skus=skus, customers=count, tokens=weights, prefix=prefix))


async def buy(
    running: Running, bodies: Iterable[bytes], *, at_once: int, wait_s: int = 10, give_up_after_s: float = 150.0
) -> Told:
    """Post all, `at_once` at a time, each until it is decided."""
    told = Told()
    source = iter(bodies)
    async with running.client(connections=at_once, give_up_after_s=give_up_after_s) as client:

        async def work() -> None:
            for body in source:
                order_id = json.loads(body)["order_id"]
                told.outcomes[order_id] = await _until_decided(client, body, wait_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
    return told


async def _until_decided(client: GaplessClient, body: bytes, wait_s: int) -> str:
    while True:
        answer: Answer = await client.post_checkout(body, wait_s)
        if answer.status != 202:
            return outcome_of(answer)


def outcome_of(answer: Answer) -> str:
    """Of a decided order: what the buyer was told."""
    value: dict[str, Any] = answer.json()
    if answer.status == 201:
        return CONFIRMED if value["state"] == "CONFIRMED" else str(value["state"])
    return str(value["type"]).rpartition("/")[2]


async def put_stock(running: Running, **levels: int) -> None:
    """Set the stock of these SKUs."""
    async with running.client() as client:
        for sku, on_hand in levels.items():
            answer = await client.put_stock(sku.replace("_", "-"), on_hand)
            assert answer.status == 200, answer.payload


async def level(running: Running, sku: str) -> dict[str, Any]:
    """What the shop says of a SKU."""
    async with running.client() as client:
        return (await client.get_stock(sku)).json()
