"""The effect of each statement of `queries.sql` on the fake Postgres. Locks are taken before anything is written.

An UPDATE first reads its row as committed, and only waits for it if it matches, as Postgres does at read committed.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sinks.postgres.session import SQL
from tests.simulation import order_statements
from tests.simulation.postgres import Backend, Rows, Statement, columns, unique
from tests.simulation.violation import require

MORE_COLUMNS = (
    "tax_number tax_name colour trading_name legal_id legal_id_scheme electronic_address electronic_address_scheme"
    " contact_name contact_phone contact_email language note payment_terms payment_days payment_means iban bic"
    " account_name"
).split()
SELLER_COLUMNS = [
    *"seller_id legal_name vat_id street city postal_code country time_zone numbering_policy number_format".split(),
    "logo_sha256",
    *MORE_COLUMNS,
]
#: Names of the columns, for statements that are read as mappings.
COLUMNS: dict[str, list[str]] = {SQL["read_sellers"]: SELLER_COLUMNS}

Parameters = Mapping[str, Any]
#: Statements that only the connection or the planner notices.
WITHOUT_EFFECT = ("SELECT 1", "DISCARD PLANS", SQL["wake_payments"])


def moves_of(p: Parameters) -> list[tuple[tuple[str, str, int], int, int]]:
    """The position's key, where it must stand, and where it goes: in the order in which they are locked."""
    rows = columns(p, "topics partitions first_offsets next_offsets")
    return sorted(((p["agent"], topic, partition), first, after) for topic, partition, first, after in rows)


def move_positions(tx: Backend, p: Parameters) -> Rows:
    moves = moves_of(p)
    for key, first, _ in moves:
        # Rows that match are locked, whatever becomes of the others.
        if tx.read("positions", key) == first:
            tx.lock("positions", key)
    if any(tx.read("positions", key) != first for key, first, _ in moves):
        return ()
    for key, _, after in moves:
        tx.write("positions", key, after)
    return ((tx.transaction,),)


def believed(tx: Backend, p: Parameters) -> Rows:
    server = datetime.fromtimestamp(tx.database.clock(), UTC)
    return ((p["now"] if abs(p["now"] - server) <= timedelta(minutes=1) else server,),)


def was_committed(tx: Backend, p: Parameters) -> Rows:
    return ((p["transaction_id"] in tx.database.committed,),)


def read_position(tx: Backend, p: Parameters) -> Rows:
    found = tx.read("positions", (p["agent"], p["topic"], p["partition"]))
    return () if found is None else ((found,),)


def make_positions(tx: Backend, p: Parameters) -> Rows:
    missing = [
        key for key in ((p["agent"], p["topic"], each) for each in p["partitions"]) if tx.read("positions", key) is None
    ]
    for key in missing:
        tx.lock("positions", key)
    for key in missing:
        # Another transaction may have inserted it during the wait for the lock.
        if tx.read("positions", key) is None:
            tx.write("positions", key, 0)
    return ()


def read_positions(tx: Backend, p: Parameters) -> Rows:
    found = {key: row for key, row in tx.database.table("positions").items() if key[0] == p["agent"]}
    for (table, key), row in tx.writes.items():
        if table == "positions" and isinstance(key, tuple) and key[0] == p["agent"]:
            found[key] = row
    return [(topic, partition, row) for (_, topic, partition), row in found.items()]


def read_sellers(tx: Backend, p: Parameters) -> Rows:
    sellers = tx.database.table("sellers")
    return [sellers[each] for each in p["seller_ids"] if each in sellers]


def read_seller_facts(tx: Backend, p: Parameters) -> Rows:
    sellers = tx.database.table("sellers")
    names = ("seller_id", "country", "vat_id", "tax_number", "tax_name")
    places = [SELLER_COLUMNS.index(name) for name in names]
    return [tuple(sellers[each][place] for place in places) for each in p["seller_ids"] if each in sellers]


def read_issued(tx: Backend, p: Parameters) -> Rows:
    found = []
    for key in columns(p, "seller_ids order_ids kinds refund_ids"):
        row = tx.read("issued", key)
        if row is not None:
            found.append((*key, row.content_sha256))
    return found


def read_preceding(tx: Backend, p: Parameters) -> Rows:
    found = []
    for seller_id, order_id in columns(p, "seller_ids order_ids"):
        row = tx.read("issued", (seller_id, order_id, "invoice", ""))
        if row is not None:
            found.append((seller_id, order_id, row.content_sha256, row.invoice_number, None))
    return found


def claim_order_ids(tx: Backend, p: Parameters) -> Rows:
    taken = []
    # A committed one is seen at once; an uncommitted one is waited for.
    free = [key for key in sorted(columns(p, "seller_ids order_ids")) if tx.read("order_ids", key) is None]
    for key in free:
        tx.lock("order_ids", key)
    for *names, kind in columns(p, "seller_ids order_ids kinds"):
        order = tuple(names)
        if order not in free or tx.read("order_ids", order) is not None:
            taken.append(order)
        else:
            tx.write("order_ids", order, kind)
    return taken


def read_order_owners(tx: Backend, p: Parameters) -> Rows:
    found = []
    for *names, kind in columns(p, "seller_ids order_ids kinds"):
        key = tuple(names)
        owner = tx.read("order_ids", key)
        if owner not in (None, kind):
            order = tx.read("orders", key)
            digest = None if order is None else hashlib.sha256(order.invoice_request).digest()
            found.append((*key, owner, order is not None and order.state == "CONFIRMED", digest))
    return found


def series_of(p: Parameters) -> list[tuple[str, int, Any]]:
    """Each series with how many numbers it gives, and the date, in the order in which they are locked."""
    return sorted(columns(p, "series_ids numbers issue_dates"))


def take_numbers(tx: Backend, p: Parameters) -> Rows:
    for series_id, _, _ in series_of(p):
        tx.lock("series", series_id)
    found = []
    for series_id, count, date in series_of(p):
        row = following(tx.read("series", series_id), p["issued_at"], date, count)
        tx.write("series", series_id, row)
        found.append((series_id, *row))
    return found


def following(row: Any, issued_at: Any, date: Any, count: int) -> tuple[int, Any, Any]:
    """A series' row after it has given so many numbers."""
    next_number, last_issued_at, last_issue_date = row or (1, issued_at, date)
    return (next_number + count, max(last_issued_at, issued_at), max(last_issue_date, date))


def read_series(tx: Backend, p: Parameters) -> Rows:
    return [(each,) for each in p["series_ids"] if tx.read("series", each) is not None]


def append_journal(tx: Backend, p: Parameters) -> Rows:
    rows: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
    for topic, partition, *row in columns(p, "topics partitions keys payloads occurred_ats"):
        rows.setdefault((topic, partition), []).append((*row, None))
    for output in sorted(rows):
        tx.lock("heads", output)
    found = []
    for output, its_rows in rows.items():
        first, published_seq = tx.read("heads", output) or (1, 0)
        tx.write("heads", output, (first + len(its_rows), published_seq))
        tx.insert("journal", {(*output, seq): row for seq, row in enumerate(its_rows, first)})
        found.append((*output, first))
    return found


class Invoice:
    """A row of `invoices`."""

    __slots__ = (
        "content_sha256",
        "event_seq",
        "invoice_number",
        "issued_at",
        "key",
        "number",
        "series_id",
        "source_offset",
        "source_partition",
    )

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.series_id, self.number = row[0], row[1]
        self.key = row[2:6]
        self.invoice_number, self.issued_at, self.content_sha256 = row[6:9]
        self.source_partition, self.source_offset, self.event_seq = row[9:12]


INVOICE_COLUMNS = (
    "series_ids numbers seller_ids order_ids kinds refund_ids invoice_numbers issued_ats digests partitions offsets"
    " event_seqs"
)


def insert_invoices(tx: Backend, p: Parameters) -> Rows:
    rows = [Invoice(row) for row in columns(p, INVOICE_COLUMNS)]
    tx.insert("invoices", unique("invoices", {(row.series_id, row.number): row for row in rows}, len(rows)))
    tx.insert("issued", unique("issued", {row.key: row for row in rows}, len(rows)))
    printed = {(row.key[0], row.invoice_number): row for row in rows}
    tx.insert("printed", unique("printed", printed, len(rows)))
    return ()


def insert_refused(tx: Backend, p: Parameters) -> Rows:
    rows = columns(p, "partitions offsets outcomes")
    tx.insert("refused", {(p["topic"], partition, offset): outcome for partition, offset, outcome in rows})
    return ()


def read_invoice_states(tx: Backend, p: Parameters) -> Rows:
    found = []
    for number in columns(p, "series_ids numbers"):
        invoice = tx.read("invoices", number)
        if invoice is None:
            continue
        event = tx.read("journal", (p["topic"], invoice.source_partition, invoice.event_seq))
        if event is not None and event[2] == invoice.issued_at:
            found.append((*number, event[1], tx.read("documents", number) is not None))
    return found


def insert_documents(tx: Backend, p: Parameters) -> Rows:
    rows = {(row[0], row[1]): row for row in columns(p, "series_ids numbers keys digests")}
    for number in rows:
        tx.lock("documents", number)
    new = [number for number in rows if tx.read("documents", number) is None]
    tx.insert("document_keys", {rows[number][2]: number for number in new})
    for number in new:
        tx.write("documents", number, rows[number])
    return new


def read_logos(_: Backend, __: Parameters) -> Rows:
    return ()


def read_unpublished(tx: Backend, _: Parameters) -> Rows:
    heads = tx.database.table("heads").items()
    return [(*key, published, next_seq) for key, (next_seq, published) in heads if next_seq - 1 > published]


def read_journal(tx: Backend, p: Parameters) -> Rows:
    found = []
    for topic, partition, after_seq, limit, since in columns(p, "topics partitions after_seqs limits sinces"):
        for seq in range(after_seq + 1, after_seq + limit + 1):
            row = tx.read("journal", (topic, partition, seq))
            if row is not None and (since is None or row[2] >= since):
                found.append((topic, partition, seq, *row))
    return found


def lock_output(tx: Backend, p: Parameters) -> Rows:
    key = (p["topic_number"], p["partition"])
    holder = tx.database.advisory.setdefault(key, tx)
    return ((holder is tx,),)


def join_relays(tx: Backend, p: Parameters) -> Rows:
    tx.database.relays.setdefault(tx)
    return ((True,),)


def read_relay_rank(tx: Backend, _: Parameters) -> Rows:
    relays = list(tx.database.relays)
    return ((relays.index(tx), len(relays)),)


def unlock_output(tx: Backend, p: Parameters) -> Rows:
    key = (p["topic_number"], p["partition"])
    require(tx.database.advisory.pop(key, None) is tx, "a relay gives up a lock that it doesn't hold")
    return ((True,),)


def mark_published(tx: Backend, p: Parameters) -> Rows:
    marks = sorted(((topic, partition), seq) for topic, partition, seq in columns(p, "topics partitions seqs"))

    def matches(key: tuple[str, int], seq: int) -> bool:
        next_seq, published = tx.read("heads", key)
        return bool(published < seq < next_seq)

    for key, seq in marks:
        if matches(key, seq):
            tx.lock("heads", key)
    for key, seq in marks:
        if matches(key, seq):
            tx.write("heads", key, (tx.read("heads", key)[0], seq))
    return ()


def lock_stock(tx: Backend, p: Parameters) -> Rows:
    found = [sku for sku in sorted(columns(p, "seller_ids skus")) if tx.read("stock", sku) is not None]
    for sku in found:
        tx.lock("stock", sku)
    return [(*sku, *tx.read("stock", sku)) for sku in found]


def write_stock(tx: Backend, p: Parameters) -> Rows:
    rows = list(columns(p, "seller_ids skus on_hands reserveds versions"))
    for row in rows:
        tx.lock("stock", row[:2])
    for row in rows:
        tx.write("stock", row[:2], row[2:])
    return ()


def nothing(_: Backend, __: Parameters) -> Rows:
    return ()


#: By name, as in `queries.sql`.
NAMED: dict[str, Statement] = {
    "move_positions": move_positions,
    "believed": believed,
    "was_committed": was_committed,
    "read_position": read_position,
    "make_positions": make_positions,
    "read_positions": read_positions,
    "read_sellers": read_sellers,
    "read_seller_facts": read_seller_facts,
    "read_issued": read_issued,
    "read_preceding": read_preceding,
    "claim_order_ids": claim_order_ids,
    "read_order_owners": read_order_owners,
    "take_numbers": take_numbers,
    "read_series": read_series,
    "append_journal": append_journal,
    "insert_invoices": insert_invoices,
    "insert_refused_requests": insert_refused,
    "read_invoice_states": read_invoice_states,
    "insert_documents": insert_documents,
    "read_logos": read_logos,
    "read_unpublished": read_unpublished,
    "read_journal": read_journal,
    "join_relays": join_relays,
    "read_relay_rank": read_relay_rank,
    "lock_output": lock_output,
    "unlock_output": unlock_output,
    "mark_published": mark_published,
    "lock_stock": lock_stock,
    "write_stock": write_stock,
}


def by_text(changed: Mapping[str, Statement]) -> dict[str, Statement]:
    """The statements by the text that the product sends, some of them replaced."""
    named = {**NAMED, **order_statements.NAMED, **changed}
    return {**dict.fromkeys(WITHOUT_EFFECT, nothing), **{SQL[name]: statement for name, statement in named.items()}}
