"""The test's own record of what was promised, compared with the ledger without the product's help."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psycopg

from domain.invoice import Priced, price
from producers.client import Answer

PROMISES = (200, 202)


@dataclass
class Judge:
    """Remembers each order that was promised, and every content that was posted under its id."""

    promised: set[str] = field(default_factory=set)
    posted: dict[str, set[bytes]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)

    def hear(self, payload: bytes, answer: Answer) -> None:
        """For `load.run`: note an answer."""
        body: dict[str, Any] = json.loads(payload)
        self.statuses[answer.status] += 1
        if answer.status in PROMISES:
            self.promised.add(body["order_id"])

    def know(self, payloads: list[bytes]) -> None:
        """Note what is about to be posted, whether or not it will be answered."""
        for payload in payloads:
            body = json.loads(payload)
            self.posted.setdefault(body["order_id"], set()).add(_digest(body))

    def assert_kept(self, ledger: psycopg.Connection[tuple[object, ...]]) -> None:
        """Every promise has exactly one invoice, made from something that was posted under its id."""
        rows = ledger.execute(
            "SELECT order_id, content_sha256 FROM invoices WHERE order_id = ANY(%s)", (list(self.posted),)
        ).fetchall()
        invoices = Counter(str(order_id) for order_id, _ in rows)
        missing = sorted(self.promised - invoices.keys())
        assert not missing, f"{len(missing)} promised orders have no invoice: {missing[:10]}"
        twice = [order_id for order_id, count in invoices.items() if count > 1]
        assert not twice, f"{len(twice)} orders have two invoices: {twice[:10]}"
        strange = [order_id for order_id, digest in rows if digest not in self.posted[str(order_id)]]
        assert not strange, f"{len(strange)} invoices were made from what nobody posted: {strange[:10]}"


def _digest(body: dict[str, Any]) -> bytes:
    buyer = {"vat_id": None, **body["buyer"]}
    result = price({"note": None, "kind": "invoice", "seller_id": "demo", **body, "buyer": buyer})
    assert isinstance(result, Priced), result
    return result.content_sha256
