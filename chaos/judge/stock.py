"""No oversale: stock levels follow from orders and from events, and sellers are shown them."""

from collections import Counter, defaultdict

from chaos.judge.evidence import Evidence
from chaos.judge.ledger import Level, Order
from chaos.judge.topics import Moved

RULE = "stock"
#: States in which an order's pieces are reserved; from SHIPPED on they are out of stock.
_HOLDING = frozenset(("PLACED", "PAYMENT_PENDING", "CONFIRMED"))
#: The change of (on_hand, reserved) per piece, by cause.
_MOVES = {
    "set": (1, 0),
    "adjusted": (1, 0),
    "reserved": (0, 1),
    "retaken": (0, 1),
    "released": (0, -1),
    "shipped": (-1, -1),
}
_Sku = tuple[str, str]


def judge_stock(evidence: Evidence) -> None:
    """Checks all SKUs of the ledger, and those that were put into stock."""
    verdict, ledger, topics = evidence.verdict, evidence.ledger, evidence.topics
    held: Counter[_Sku] = Counter()
    shipped: Counter[_Sku] = Counter()
    for order in ledger.orders.values():
        into = shipped if order.was("SHIPPED") else held if order.state in _HOLDING else None
        if into is not None:
            for sku, pieces in (line for line in order.lines if line[0]):
                into[order.seller_id, sku] += pieces
    for key, level in ledger.stock.items():
        _judge_level(evidence, level, topics.stock.get(key, []), held[key], shipped[key])
    for key in topics.stock.keys() - ledger.stock.keys():
        verdict.add(RULE, key[1], f"has {len(topics.stock[key])} events, but no row")
    for key in (held + shipped).keys() - ledger.stock.keys():
        verdict.add(RULE, key[1], f"{held[key] + shipped[key]} pieces are sold, but there is no row")
    _judge_orders(evidence)
    for name, pieces in evidence.record.stock.items():
        key = (ledger.seller_id, name)
        verdict.counts["pieces put into stock"] += pieces
        if held[key] + shipped[key] > pieces:
            verdict.add(RULE, name, f"{held[key]} pieces are sold and {shipped[key]} shipped of {pieces}")
        row = ledger.stock.get(key)
        if row is None or row.on_hand + shipped[key] != pieces:
            verdict.add(RULE, name, f"{pieces} were put into stock, {shipped[key]} shipped; the row is {row}")
    for name, answer in evidence.shown.stock.items():
        verdict.counts["stock looked at over HTTP"] += 1
        row = ledger.stock.get((ledger.seller_id, name))
        body = answer.json()
        told = tuple(body.get(field) for field in ("on_hand", "reserved", "available", "version"))
        if row is None or told != (row.on_hand, row.reserved, row.on_hand - row.reserved, row.version):
            verdict.add(RULE, name, f"is shown as {answer.status} {body}, in the ledger is {row}")


def _judge_level(evidence: Evidence, level: Level, events: list[Moved], held: int, shipped: int) -> None:
    verdict, where = evidence.verdict, level.sku
    verdict.counts["skus"] += 1
    verdict.counts["stock events"] += len(events)
    if not 0 <= level.reserved <= level.on_hand:
        verdict.add(RULE, where, f"{level.reserved} of {level.on_hand} are reserved")
    if level.reserved != held:
        verdict.add(RULE, where, f"{level.reserved} are reserved, but open orders hold {held}")
    put = sum(each.quantity for each in events if each.cause in ("set", "adjusted"))
    if level.on_hand != put - shipped:
        verdict.add(RULE, where, f"{put} were put in and {shipped} shipped, but {level.on_hand} are there")
    on_hand = reserved = 0
    for version, event in enumerate(sorted(events, key=lambda each: each.version), 1):
        of_on_hand, of_reserved = _MOVES[event.cause]
        on_hand += of_on_hand * event.quantity
        reserved += of_reserved * event.quantity
        if (event.version, event.on_hand, event.reserved) != (version, on_hand, reserved):
            what = f"version {version} comes to {reserved} of {on_hand}, but the event says {event}"
            verdict.add(RULE, where, what)
            return
    if (on_hand, reserved, len(events)) != (level.on_hand, level.reserved, level.version):
        verdict.add(RULE, where, f"{len(events)} events come to {reserved} of {on_hand}, but the row is {level}")


def _judge_orders(evidence: Evidence) -> None:
    """Each order has moved its own pieces, as its history requires."""
    moved: dict[tuple[str, str], Counter[tuple[str, str, int]]] = defaultdict(Counter)
    for (seller_id, sku), events in evidence.topics.stock.items():
        for event in events:
            if event.order_id:
                moved[seller_id, event.order_id][event.cause, sku, event.quantity] += 1
    for key in moved.keys() | evidence.ledger.orders.keys():
        order = evidence.ledger.orders.get(key)
        wanted = Counter[tuple[str, str, int]]() if order is None else _moves_of(order)
        if moved.get(key, Counter()) != wanted:
            what = f"its history requires {dict(wanted)}, its events moved {dict(moved.get(key, {}))}"
            evidence.verdict.add(RULE, key[1], what)


def _moves_of(order: Order) -> Counter[tuple[str, str, int]]:
    pieces: Counter[str] = Counter()
    for sku, quantity in (line for line in order.lines if line[0]):
        pieces[sku] += quantity
    causes = []
    for step in order.history:
        if step.after == "PLACED":
            causes.append("reserved")
        elif step.after == "CANCELLED" and step.before != "CANCELLED":
            causes.append("released")
        elif step.after == "CONFIRMED" and step.before == "CANCELLED":
            causes.append("retaken")
        elif step.after == "SHIPPED":
            causes.append("shipped")
    return Counter((cause, sku, quantity) for cause in causes for sku, quantity in pieces.items())
