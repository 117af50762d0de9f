"""Search workers on the session's services: products and stock written to a ledger, and published as the relay does."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psycopg
from confluent_kafka import Producer

from domain.records import Product, SynonymGroup
from domain.search import SearchAnswer, SearchQuestion
from gateway.products.product_shapes import ProductBody, as_record
from runtime.kafka import end_offsets
from runtime.settings import load
from schemas import catalog
from search.app import SearchWorker
from search.changes import TOPICS
from sinks.postgres.products import ProductResult, Products, PutProduct
from sinks.postgres.stock import SetOnHand, Stock
from sinks.postgres.synonyms import Synonyms
from tests.conftest import PARTITIONS, Services
from tests.integration.gateways import until

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
ENDS = [(topic.name, number) for topic in TOPICS for number in range(PARTITIONS)]


def mug(sku: str = "MUG", **changes: Any) -> Product:
    """A product as the journal has it."""
    return product_of(
        {
            "texts": [{"language": "en", "name": "Mug", "description": "For café crème."}],
            "currency": "EUR",
            "vat_category": "S",
            "vat_rate": "20.00",
            "categories": ["kitchen/mugs"],
            "variants": [{"sku": sku, "unit_price": "9.90"}],
            **changes,
        }
    )


def product_of(body: Mapping[str, Any]) -> Product:
    """A product as `PUT /v1/products` reads it."""
    return as_record(msgspec.convert(dict(body), ProductBody))


@dataclass
class Town:
    """A ledger whose journal is published on demand."""

    services: Services
    ledger: str
    published: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.products = Products(self.ledger)
        self.stock = Stock(self.ledger)
        self.synonyms = Synonyms(self.ledger)

    async def close(self) -> None:
        await self.products.close()
        await self.stock.close()
        await self.synonyms.close()

    async def put(self, product_id: str, product: Product | None, seller_id: str = "demo") -> ProductResult:
        """Write a product, or delete it."""
        [result] = await self.products.change(seller_id, [PutProduct(product_id, product)], PARTITIONS, NOW)
        return result

    async def set_stock(self, sku: str, on_hand: int, seller_id: str = "demo") -> None:
        """Set how many pieces there are."""
        await self.stock.change(SetOnHand(seller_id, sku, on_hand), PARTITIONS, NOW)

    async def put_synonyms(self, *groups: tuple[str, ...], seller_id: str = "demo") -> None:
        """Set what means the same."""
        made: list[SynonymGroup] = [{"words": [{"text": each} for each in group], "also_finds": []} for group in groups]
        await self.synonyms.put(seller_id, made, lambda _: True, PARTITIONS, NOW)

    def publish(self) -> None:
        """What the relay does: the journal's new rows to their topics."""
        producer = Producer({"bootstrap.servers": self.services.kafka_bootstrap, "acks": "all"})
        with psycopg.connect(self.ledger, autocommit=True) as connection:
            rows = connection.execute("SELECT topic, partition, seq, key, payload FROM journal ORDER BY 1, 2, 3")
            for topic, partition, seq, key, payload in rows.fetchall():
                if seq > self.published.get((topic, partition), 0):
                    headers: list[tuple[str, str | bytes | None]] = [(catalog.SEQ_HEADER, str(seq).encode())]
                    producer.produce(topic, payload, key, partition, headers=headers)
                    self.published[topic, partition] = seq
        assert producer.flush(60) == 0

    def ends(self) -> dict[tuple[str, int], int]:
        """Where the topics end now."""
        return end_offsets(self.services.kafka_bootstrap, ENDS)


@dataclass(frozen=True)
class Searcher:
    """A worker in the test's own process, asked as a gateway asks it."""

    worker: SearchWorker
    town: Town

    async def caught_up(self) -> None:
        """Wait until its index has all that is published."""
        ends = self.town.ends()

        async def is_at() -> bool:
            return self.worker.follower is not None and self.worker.follower.is_at(ends)

        await until(is_at, bool)

    async def ask(self, text: str = "", seller_id: str = "demo", **more: Any) -> SearchAnswer:
        """What it finds."""
        body = msgspec.json.encode(SearchQuestion(seller_id, text, **more))
        async with aiohttp.ClientSession() as session, session.post(f"{self.worker.url}/search", data=body) as response:
            answer = await response.read()
            assert response.status == 200, answer
            return msgspec.json.decode(answer, type=SearchAnswer)

    async def found(self, text: str = "", **more: Any) -> list[str]:
        """The ids of the products that it finds."""
        return [hit["product_id"] for hit in (await self.ask(text, **more))["hits"]]


@contextlib.asynccontextmanager
async def searching(town: Town, folder: Path, **more: Any) -> AsyncIterator[Searcher]:
    """A worker with its index in this folder, caught up."""
    usual = {
        "kafka_bootstrap": town.services.kafka_bootstrap,
        "postgres_url": town.ledger,
        "worker_data": folder,
        "search_port": 0,
    }
    worker = SearchWorker(load(**usual | more))
    await worker.start()
    try:
        await worker.preparing
        searcher = Searcher(worker, town)
        await searcher.caught_up()
        yield searcher
    finally:
        await worker.stop()
