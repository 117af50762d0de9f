"""Faust as its manual shows it: an agent that takes one event at a time, a table, and a row for each order.

It is fast to write, and loses or repeats numbers where it is killed: the table's change, the row and the offset are
kept one after the other. Settings come from PEER_BROKER and PEER_POSTGRES; the topic is `peer-orders`, of JSON.
"""

import os

import faust
import psycopg

from benchmarks.peers.faust_manual_topic import TOPIC


class Order(faust.Record):
    """What is numbered."""

    order_id: str
    currency: str


app = faust.App("peer", broker=f"kafka://{os.environ['PEER_BROKER']}", store="memory://", web_enabled=False)
orders = app.topic(TOPIC, key_type=bytes, value_type=Order)
numbers = app.Table("numbers", default=int)


@app.agent(orders)
async def number(stream: faust.StreamT[Order]) -> None:
    """Number each order as it comes."""
    async with await psycopg.AsyncConnection.connect(os.environ["PEER_POSTGRES"], autocommit=True) as connection:
        async for order in stream:
            numbers["invoices"] += 1
            await connection.execute(
                "INSERT INTO numbered (order_id, number) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (order.order_id, numbers["invoices"]),
            )


if __name__ == "__main__":
    app.main()
