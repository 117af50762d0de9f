"""The statements about orders, refunds and payment attempts, on the fake Postgres."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from tests.simulation.postgres import Backend, Rows, Statement, columns, unique

Parameters = Mapping[str, Any]


class Order(NamedTuple):
    """A row of `orders`."""

    partition: int
    state: str
    version: int
    reason: str
    currency: str
    gross_minor: int
    invoice_request: bytes
    content_sha256: bytes
    source_offset: int
    payment_token: str
    hold_expires_at: Any


class Paying(NamedTuple):
    """A row of `payment_attempts`."""

    partition: int
    action: str
    amount_minor: int
    currency: str
    provider_key: str
    state: str
    tries: int
    next_try_at: float
    give_up_at: float | None
    reference: str
    created_at: float
    settling: bool = False
    leased_by: str | None = None


_ORDER_COLUMNS = "seller_ids order_ids partitions states histories currencies grosses requests digests offsets tokens"


def read_order_digests(tx: Backend, p: Parameters) -> Rows:
    found = []
    for key in columns(p, "seller_ids order_ids"):
        order = tx.read("orders", key)
        if order is not None:
            found.append((*key, order.content_sha256))
    return found


def insert_orders(tx: Backend, p: Parameters) -> Rows:
    found = list(columns(p, _ORDER_COLUMNS))
    rows = {}
    for seller_id, order_id, partition, state, history, currency, gross, request, digest, offset, token in found:
        rows[(seller_id, order_id)] = Order(
            partition,
            state,
            len(json.loads(history)),
            json.loads(history)[-1]["reason"],
            currency,
            gross,
            request,
            digest,
            offset,
            token,
            p["hold_expires_at"],
        )
    tx.insert("orders", unique("orders", rows, len(found)))
    return ()


def insert_order_lines(tx: Backend, p: Parameters) -> Rows:
    lines: dict[Any, list[tuple[Any, ...]]] = {}
    for seller_id, order_id, _, sku, quantity in columns(p, "seller_ids order_ids lines skus quantities"):
        lines.setdefault((seller_id, order_id), []).append((seller_id, order_id, sku, quantity, 0))
    tx.insert("lines", lines)
    return ()


def lock_orders(tx: Backend, p: Parameters) -> Rows:
    found = [key for key in sorted(columns(p, "seller_ids order_ids")) if tx.read("orders", key) is not None]
    for key in found:
        tx.lock("orders", key)
    # No order is delivered in a history.
    return [(*key, *tx.read("orders", key)[:7], False) for key in found]


def read_order_lines(tx: Backend, p: Parameters) -> Rows:
    return [line for key in columns(p, "seller_ids order_ids") for line in tx.read("lines", key) or ()]


def write_order_states(tx: Backend, p: Parameters) -> Rows:
    rows = {}
    for seller_id, order_id, state, version, history in columns(p, "seller_ids order_ids states versions histories"):
        rows[(seller_id, order_id)] = (state, version, json.loads(history)[-1]["reason"])
    for key in rows:
        tx.lock("orders", key)
    for key, (state, version, reason) in rows.items():
        tx.write("orders", key, tx.read("orders", key)._replace(state=state, version=version, reason=reason))
    return ()


def read_expired_holds(tx: Backend, p: Parameters) -> Rows:
    return [
        key
        for key, order in tx.database.table("orders").items()
        if order.state == "PAYMENT_PENDING" and order.hold_expires_at <= p["now"]
    ][: p["limit"]]


def read_refunds(tx: Backend, p: Parameters) -> Rows:
    found = []
    for key in columns(p, "seller_ids order_ids"):
        found += [(*key, *row) for row in (tx.read("refunds", key) or {}).values()]
    return found


def insert_refunds(tx: Backend, p: Parameters) -> Rows:
    # Of one order at a time: its row is locked, so no other transaction writes them.
    names = "seller_ids order_ids refund_ids lines amounts states reasons requests for_all_left"
    for seller_id, order_id, refund_id, lines, *rest in columns(p, names):
        key = (seller_id, order_id)
        tx.lock("refunds", key)
        rows = tx.read("refunds", key) or {}
        tx.write("refunds", key, {**rows, refund_id: (refund_id, json.loads(lines), *rest)})
    return ()


def write_refund_states(tx: Backend, p: Parameters) -> Rows:
    for seller_id, order_id, refund_id, state in columns(p, "seller_ids order_ids refund_ids states"):
        key = (seller_id, order_id)
        tx.lock("refunds", key)
        rows = tx.read("refunds", key)
        name, lines, amount, _, *rest = rows[refund_id]
        tx.write("refunds", key, {**rows, refund_id: (name, lines, amount, state, *rest)})
    return ()


def write_refunded(tx: Backend, p: Parameters) -> Rows:
    for seller_id, order_id, line, refunded in columns(p, "seller_ids order_ids lines refundeds"):
        key = (seller_id, order_id)
        tx.lock("lines", key)
        rows = list(tx.read("lines", key))
        rows[line] = (*rows[line][:4], refunded)
        tx.write("lines", key, rows)
    return ()


def read_attempt_states(tx: Backend, p: Parameters) -> Rows:
    return _of_attempts(tx, p, lambda row: (row.state,))


def read_payment_attempts(tx: Backend, p: Parameters) -> Rows:
    return _of_attempts(tx, p, lambda _: ())


def _of_attempts(tx: Backend, p: Parameters, rest: Callable[[Paying], tuple[Any, ...]]) -> Rows:
    keys = columns(p, "seller_ids order_ids request_ids")
    return [(*key, *rest(row)) for key in keys if (row := tx.read("attempts", key)) is not None]


_ATTEMPT_COLUMNS = "seller_ids order_ids request_ids partitions actions amounts currencies provider_keys give_up_ats"


def insert_payment_attempts(tx: Backend, p: Parameters) -> Rows:
    now = tx.database.clock()
    rows = {}
    for *names, partition, action, amount, currency, key, give_up_at in columns(p, _ATTEMPT_COLUMNS):
        order = tx.read("orders", tuple(names[:2]))
        owes = order is not None and (order.partition, order.currency) == (partition, currency)
        if owes and amount <= order.gross_minor:
            rows[tuple(names)] = Paying(partition, action, amount, currency, key, "open", 0, now, give_up_at, "", now)
    for attempt in sorted(rows):
        tx.lock("attempts", attempt)
    for attempt, row in rows.items():
        if tx.read("attempts", attempt) is None:
            tx.write("attempts", attempt, row)
    return ()


def take_payment_attempts(tx: Backend, p: Parameters) -> Rows:
    now = tx.database.clock()
    due = sorted(
        (row.next_try_at, key)
        for key, row in tx.database.table("attempts").items()
        if row.state == "open" and row.next_try_at <= now and ("attempts", key) not in tx.database.locks
    )
    found = []
    for _, key in due[: p["limit"]]:
        tx.lock("attempts", key)
        row = tx.read("attempts", key)
        row = row._replace(tries=row.tries + 1, next_try_at=now + p["lease"], leased_by=p["slot"])
        tx.write("attempts", key, row)
        token = tx.read("orders", key[:2]).payment_token
        about = (row.partition, row.action, row.amount_minor, row.currency, row.provider_key, row.tries)
        since = (_expired(row, now), now - row.created_at, row.settling)
        found.append((*key, *about, *since, token, *_prior(tx, key), None, p["provider"], None))
    return found


def _expired(row: Paying, now: float) -> bool:
    return row.give_up_at is not None and row.give_up_at <= now


def _prior(tx: Backend, key: tuple[str, str, str]) -> tuple[str | None, str | None]:
    row = tx.read("attempts", (*key[:2], "authorize")) if key[2] != "authorize" else None
    return (None, None) if row is None else (row.state, row.reference)


def finish_payment_attempts(tx: Backend, p: Parameters, among: Collection[str] = ("open",)) -> Rows:
    outcomes = {row[0]: row for row in columns(p, "provider_keys states references")}
    open_ones = _by_provider_key(tx, outcomes, among)
    for key in open_ones.values():
        tx.lock("attempts", key)
    done = []
    for name, key in open_ones.items():
        _, state, reference = outcomes[name]
        row = tx.read("attempts", key)
        if row.state in among and not (row.settling and state == "succeeded"):
            tx.write("attempts", key, row._replace(state=state, reference=reference))
            done.append((name,))
    return done


def settle_payment_attempt(tx: Backend, p: Parameters) -> Rows:
    for key in _by_provider_key(tx, {p["provider_key"]: None}).values():
        tx.lock("attempts", key)
        row = tx.read("attempts", key)
        if row.state == "open":
            tx.write("attempts", key, row._replace(settling=True))
            return [(p["provider_key"],)]
    return ()


def retry_payment_attempts(tx: Backend, p: Parameters) -> Rows:
    wanted = {name: (tries, after) for name, tries, after in columns(p, "provider_keys tries afters")}
    open_ones = _by_provider_key(tx, wanted)
    for key in open_ones.values():
        tx.lock("attempts", key)
    for name, key in open_ones.items():
        row = tx.read("attempts", key)
        tries, after = wanted[name]
        if row.state == "open" and row.tries == tries:
            tx.write("attempts", key, row._replace(next_try_at=tx.database.clock() + after, leased_by=None))
    return ()


def end_payment_leases(tx: Backend, p: Parameters) -> Rows:
    now = tx.database.clock()
    found = []
    for key, seen in sorted(tx.database.table("attempts").items()):
        if seen.state == "open" and seen.next_try_at > now and seen.leased_by == p["slot"]:
            tx.lock("attempts", key)
            row = tx.read("attempts", key)
            if row.state == "open" and row.next_try_at > now and row.leased_by == p["slot"]:
                tx.write("attempts", key, row._replace(next_try_at=now, leased_by=None))
                found.append((row.provider_key,))
    return found


def _by_provider_key(tx: Backend, names: Mapping[str, Any], among: Collection[str] = ("open",)) -> dict[str, Any]:
    """The open attempts with these provider keys, in order."""
    found = {
        row.provider_key: key
        for key, row in tx.database.table("attempts").items()
        if row.provider_key in names and row.state in among
    }
    return dict(sorted(found.items()))


#: By name, as in `queries.sql`.
NAMED: dict[str, Statement] = {
    each.__name__: each
    for each in (
        read_order_digests,
        insert_orders,
        insert_order_lines,
        lock_orders,
        read_order_lines,
        write_order_states,
        read_expired_holds,
        read_refunds,
        insert_refunds,
        write_refund_states,
        write_refunded,
        read_attempt_states,
        read_payment_attempts,
        insert_payment_attempts,
        take_payment_attempts,
        finish_payment_attempts,
        settle_payment_attempt,
        retry_payment_attempts,
        end_payment_leases,
    )
}
