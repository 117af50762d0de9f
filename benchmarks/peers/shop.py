"""A shop's orders, stock and invoices in Postgres, as a team without this project writes them.

Nothing here is shared with the product. Each method is one transaction, and harmless to repeat.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, LiteralString, Self

import msgspec
from psycopg import AsyncConnection, Rollback
from psycopg.types.json import Jsonb

#: Of each process; more of them only queue at the counter's row.
_CONNECTIONS = 16
#: An answered commit survives a power failure, as the product's do.
_OPTIONS = "-c synchronous_commit=on"
_EXPONENTS = {"JPY": 0, "KWD": 3}

TABLES: LiteralString = """
CREATE TABLE IF NOT EXISTS stock (sku text PRIMARY KEY, on_hand bigint NOT NULL, reserved bigint NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS orders (order_id text PRIMARY KEY, state text NOT NULL, body jsonb NOT NULL);
CREATE TABLE IF NOT EXISTS invoices (
    number bigint PRIMARY KEY, order_id text NOT NULL UNIQUE, issued_at timestamptz NOT NULL DEFAULT now(),
    currency text NOT NULL, net_minor bigint NOT NULL, tax_minor bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS counters (name text PRIMARY KEY, next_number bigint NOT NULL);
INSERT INTO counters VALUES ('invoices', 1) ON CONFLICT DO NOTHING;
"""
_PUT_STOCK: LiteralString = """
INSERT INTO stock (sku, on_hand) VALUES (%(sku)s, %(on_hand)s)
ON CONFLICT (sku) DO UPDATE SET on_hand = excluded.on_hand
"""
_RESERVE: LiteralString = """
UPDATE stock SET reserved = reserved + %(quantity)s WHERE sku = %(sku)s AND on_hand - reserved >= %(quantity)s
"""
_RELEASE: LiteralString = "UPDATE stock SET reserved = reserved - %(quantity)s WHERE sku = %(sku)s"
_PLACE: LiteralString = """
INSERT INTO orders (order_id, state, body) VALUES (%(order_id)s, %(state)s, %(body)s) ON CONFLICT DO NOTHING
"""
_FINISH: LiteralString = """
UPDATE orders SET state = %(state)s WHERE order_id = %(order_id)s AND state = 'PENDING'
"""
#: The counter's row is locked from here to the commit, so there is no gap; its statement is each transaction's last.
_NUMBER: LiteralString = """
WITH taken AS (
    UPDATE counters SET next_number = next_number + 1 WHERE name = 'invoices' RETURNING next_number - 1 AS number
)
INSERT INTO invoices (number, order_id, currency, net_minor, tax_minor)
SELECT number, %(order_id)s, %(currency)s, %(net_minor)s, %(tax_minor)s FROM taken RETURNING number
"""
_NUMBER_OF: LiteralString = "SELECT number FROM invoices WHERE order_id = %(order_id)s"


@dataclass(frozen=True, slots=True)
class Totals:
    """Amounts in minor units."""

    net_minor: int
    #: By rate, in percent.
    taxes_minor: Mapping[Decimal, int]

    @property
    def tax_minor(self) -> int:
        """Of all rates."""
        return sum(self.taxes_minor.values())

    @property
    def gross_minor(self) -> int:
        """What the buyer pays."""
        return self.net_minor + self.tax_minor


def exponent(currency: str) -> int:
    """The decimals of a currency's amounts."""
    return _EXPONENTS.get(currency, 2)


def totals(body: Mapping[str, Any]) -> Totals:
    """Lines rounded one by one, and the tax once for each rate, as EN 16931 has it."""
    minor = Decimal(10) ** exponent(body["currency"])
    nets: dict[Decimal, int] = defaultdict(int)
    for line in body["lines"]:
        amount = Decimal(line["quantity"]) * Decimal(line["unit_price"]) * minor
        nets[Decimal(line["vat_rate"])] += int(amount.quantize(Decimal(1), "ROUND_HALF_UP"))
    taxes = {rate: int((net * rate / 100).quantize(Decimal(1), "ROUND_HALF_UP")) for rate, net in nets.items()}
    return Totals(sum(nets.values()), taxes)


class Shop:
    """The tables, over connections that are lent to one transaction at a time."""

    def __init__(self, connections: list[AsyncConnection[Any]]) -> None:
        self._free: asyncio.Queue[AsyncConnection[Any]] = asyncio.Queue()
        for connection in connections:
            self._free.put_nowait(connection)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Self]:
        """Create the tables if they are missing, and connect."""
        connections = [await AsyncConnection.connect(url, autocommit=True, options=_OPTIONS)]
        try:
            await connections[0].execute(TABLES)
            while len(connections) < _CONNECTIONS:
                connections.append(await AsyncConnection.connect(url, autocommit=True, options=_OPTIONS))
            yield cls(connections)
        finally:
            for connection in connections:
                await connection.close()

    async def put_stock(self, sku: str, on_hand: int) -> None:
        """So many pieces are in the warehouse."""
        async with self._transaction() as connection:
            await connection.execute(_PUT_STOCK, {"sku": sku, "on_hand": on_hand})

    async def place(self, body: Mapping[str, Any]) -> bool:
        """Reserve all lines of a new order. False, and nothing is written, if there is not enough stock."""
        is_enough = True
        async with self._transaction() as connection:
            if await _insert(connection, body, "PENDING"):
                # In the order of their SKUs, so that two orders can't deadlock.
                for line in _by_sku(body):
                    is_enough = is_enough and (await connection.execute(_RESERVE, line)).rowcount == 1
                if not is_enough:
                    raise Rollback
        return is_enough

    async def cancel(self, body: Mapping[str, Any]) -> None:
        """Give back the pieces of an order that was not paid."""
        async with self._transaction() as connection:
            if await _finish(connection, body, "CANCELLED"):
                for line in _by_sku(body):
                    await connection.execute(_RELEASE, line)

    async def confirm(self, body: Mapping[str, Any]) -> int:
        """Confirm a paid order; returns its invoice's number."""
        async with self._transaction() as connection:
            is_first = await _finish(connection, body, "CONFIRMED")
            return await _number(connection, body) if is_first else await _number_of(connection, body)

    async def issue(self, body: Mapping[str, Any]) -> int:
        """Number an invoice that was requested directly."""
        async with self._transaction() as connection:
            is_first = await _insert(connection, body, "INVOICED")
            return await _number(connection, body) if is_first else await _number_of(connection, body)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        connection = await self._free.get()
        try:
            async with connection.transaction():
                yield connection
        finally:
            self._free.put_nowait(connection)


def _by_sku(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = ({"sku": line["sku"], "quantity": int(line["quantity"])} for line in body["lines"])
    return sorted(wanted, key=lambda line: str(line["sku"]))


async def _insert(connection: AsyncConnection[Any], body: Mapping[str, Any], state: str) -> bool:
    """Whether the order is new."""
    values = {"order_id": body["order_id"], "state": state, "body": Jsonb(body, msgspec.json.encode)}
    return (await connection.execute(_PLACE, values)).rowcount == 1


async def _finish(connection: AsyncConnection[Any], body: Mapping[str, Any], state: str) -> bool:
    """Whether the order was pending until now."""
    return (await connection.execute(_FINISH, {"order_id": body["order_id"], "state": state})).rowcount == 1


async def _number(connection: AsyncConnection[Any], body: Mapping[str, Any]) -> int:
    amounts = totals(body)
    values = {"net_minor": amounts.net_minor, "tax_minor": amounts.tax_minor}
    return await _fetch(connection, _NUMBER, {"order_id": body["order_id"], "currency": body["currency"], **values})


async def _number_of(connection: AsyncConnection[Any], body: Mapping[str, Any]) -> int:
    return await _fetch(connection, _NUMBER_OF, {"order_id": body["order_id"]})


async def _fetch(connection: AsyncConnection[Any], statement: LiteralString, values: Mapping[str, Any]) -> int:
    row = await (await connection.execute(statement, values)).fetchone()
    if row is None:
        raise LookupError(f"no number for {values['order_id']}")
    return int(row[0])
