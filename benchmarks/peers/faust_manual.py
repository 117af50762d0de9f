"""Faust as its manual shows it: an agent that takes one event after the other, a table, and a row for each order.

It is quick to write. Where it is killed, numbers are skipped or used twice: the row, the table's record and the offset
are written one after the other. The broker and the database come from PEER_BROKER and PEER_POSTGRES.
"""

import os
from typing import Any

import faust
import psycopg

from benchmarks.peers.shop import totals

#: Bodies of `POST /v1/invoices`, as JSON.
TOPIC = "peer-invoices"
_INSERT = """
INSERT INTO invoices (number, order_id, currency, net_minor, tax_minor) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""


def main() -> None:
    """Run the worker; Faust reads the command line."""
    app = faust.App("peer", broker=f"kafka://{os.environ['PEER_BROKER']}", store="memory://", web_enabled=False)
    requests = app.topic(TOPIC, value_serializer="json")
    numbers = app.Table("numbers", default=int)

    @app.agent(requests)
    async def issue(stream: faust.StreamT[dict[str, Any]]) -> None:
        async with await psycopg.AsyncConnection.connect(os.environ["PEER_POSTGRES"], autocommit=True) as connection:
            async for body in stream:
                numbers["invoices"] += 1
                amounts = totals(body)
                values = (numbers["invoices"], body["order_id"], body["currency"], amounts.net_minor, amounts.tax_minor)
                await connection.execute(_INSERT, values)

    app.main()


if __name__ == "__main__":
    main()
