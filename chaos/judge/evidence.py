"""All that the rules judge by, read once: the record of promises, and what the stack shows."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg

from chaos.judge import ledger as sql
from chaos.judge import topics as kafka
from chaos.judge.ledger import Invoice, Ledger
from chaos.judge.topics import Topics
from chaos.judge.verdict import Access, Verdict
from chaos.judge.web import Answer, UnreachableError, Web, get_all, path_of
from chaos.record import Kind, Record

#: Limits of what is read one by one over HTTP; from Postgres and the topics everything is read.
ORDERS_MAX = 200
DOCUMENTS_MAX = 100
SKUS_MAX = 100
NUMBERS_MAX = 40
_SERIES = "/v1/series?limit=100"
_T = TypeVar("_T")


@dataclass(slots=True)
class Shown:
    """Answers of the gateway, by what was asked for."""

    invoices: dict[str, Answer] = field(default_factory=dict)
    orders: dict[str, Answer] = field(default_factory=dict)
    documents: dict[tuple[str, int], Answer] = field(default_factory=dict)
    stock: dict[str, Answer] = field(default_factory=dict)
    #: As buyers see them.
    products: dict[str, Answer] = field(default_factory=dict)
    #: What a search for each finds.
    found: dict[str, Answer] = field(default_factory=dict)
    numbers: dict[tuple[str, int], Answer] = field(default_factory=dict)
    #: One answer per page.
    series: list[Answer] = field(default_factory=list)


@dataclass(slots=True)
class Evidence:
    """The input of the rules, which add violations to `verdict`."""

    record: Record
    ledger: Ledger
    topics: Topics
    shown: Shown
    #: Payments in the provider's ledger.
    payments: list[dict[str, Any]]
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def invoices(self) -> dict[sql.OrderKey, list[Invoice]]:
        """Invoices by order; more than one per order is a violation."""
        return _grouped(each for each in self.ledger.invoices if each.kind == "invoice")

    @property
    def credit_notes(self) -> dict[sql.OrderKey, list[Invoice]]:
        """Credit notes by order."""
        return _grouped(each for each in self.ledger.invoices if each.kind != "invoice")

    def same(self, rule: str, what: str, found: Counter[_T], wanted: Counter[_T]) -> None:
        """Report each difference between the counts `found` in topics and those `wanted` by the ledger."""
        for each in (found - wanted).keys() | (wanted - found).keys():
            self.verdict.add(rule, f"{what} {each}", f"{found[each]} times in the topic, {wanted[each]} by the ledger")


def gather(access: Access, record: Record, connection: sql.Connection) -> Evidence:
    """Read all evidence. Raises `UnreachableError`, `psycopg.Error` and `KafkaException`."""
    web = Web(access.gateway_url, access.api_key)
    try:
        ledger = sql.read(connection, access.api_key)
        topics = kafka.read(access.kafka_bootstrap, web, ledger.journal, record.garbage | record.forged)
        return Evidence(record, ledger, topics, _look(access, record, ledger), _payments(access.provider_url))
    finally:
        web.close()


def connect(access: Access) -> sql.Connection:
    """A connection whose statements all read the same snapshot."""
    connection = psycopg.connect(access.postgres_url, connect_timeout=10)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    return connection


def _grouped(invoices: Iterable[Invoice]) -> dict[sql.OrderKey, list[Invoice]]:
    grouped: dict[sql.OrderKey, list[Invoice]] = defaultdict(list)
    for each in invoices:
        grouped[each.order].append(each)
    return grouped


def _look(access: Access, record: Record, ledger: Ledger) -> Shown:
    """Read a sample over HTTP; the same record gives the same sample."""
    chance = random.Random(0)
    accepted = {
        kind: [each.order_id for each in record.asked.values() if each.kind is kind and each.accepted] for kind in Kind
    }
    ours = [each for each in ledger.invoices if each.seller_id == ledger.seller_id]
    asked = {each.order_id for each in record.asked.values()}
    # Prefer this run's rows: those of earlier runs on the stack were checked then.
    recent = [each for each in ours if each.order_id in asked] or ours
    invoices = {each: path_of("v1", "invoices", each) for each in _some(chance, accepted[Kind.INVOICE], ORDERS_MAX)}
    orders = {each: path_of("v1", "orders", each) for each in _some(chance, accepted[Kind.CHECKOUT], ORDERS_MAX)}
    stock = {each: path_of("v1", "stock", each) for each in _some(chance, list(record.stock), SKUS_MAX)}
    documents = {(each.series_id, each.number): _document_path(each) for each in _some(chance, recent, DOCUMENTS_MAX)}
    numbers = {
        (each.series_id, each.number): path_of("v1", "series", each.series_id, "numbers", str(each.number))
        for each in _some(chance, recent, NUMBERS_MAX)
    }
    products = {each: path_of("v1", "catalogue", ledger.seller_id, "products", each) for each in record.offered}
    found = {each: f"{path_of('v1', 'catalogue', ledger.seller_id, 'search')}?q={each}" for each in record.offered}
    wanted = (invoices, orders, stock, products, found, documents, numbers)
    paths = list(dict.fromkeys([_SERIES, *(path for each in wanted for path in each.values())]))
    answers = dict(zip(paths, get_all(access.gateway_url, access.api_key, paths), strict=True))
    series = [answers[_SERIES]]
    while following := series[-1].json().get("next"):
        series += get_all(access.gateway_url, access.api_key, [f"{_SERIES}&cursor={following}"])
    return Shown(
        {each: answers[path] for each, path in invoices.items()},
        {each: answers[path] for each, path in orders.items()},
        {each: answers[path] for each, path in documents.items()},
        {each: answers[path] for each, path in stock.items()},
        {each: answers[path] for each, path in products.items()},
        {each: answers[path] for each, path in found.items()},
        {each: answers[path] for each, path in numbers.items()},
        series,
    )


def _document_path(invoice: Invoice) -> str:
    path = path_of("v1", "invoices", invoice.order_id)
    credit_note = "" if invoice.kind == "invoice" else path_of("credit-notes", invoice.refund_id)
    return f"{path}{credit_note}/document"


def _some(chance: random.Random, all_of_it: list[_T], most: int) -> list[_T]:
    return all_of_it if len(all_of_it) <= most else chance.sample(all_of_it, most)


def _payments(provider_url: str) -> list[dict[str, Any]]:
    if not provider_url:
        raise UnreachableError("the URL of the payment provider's ledger is not set")
    web = Web(provider_url)
    try:
        answer = web.get("/ledger")
    finally:
        web.close()
    payments = answer.json().get("payments")
    if answer.status != 200 or not isinstance(payments, list):
        raise UnreachableError(f"the provider's ledger: {answer.status} {answer.payload[:200]!r}")
    return payments
