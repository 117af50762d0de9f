"""Kinds of damage to a shop, each with the rule under which the judge must report it, and a part of the report."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from chaos.judge.evidence import Evidence
from chaos.judge.topics import ProductSaid, Published, Topics
from chaos.judge.web import Answer
from chaos.record import Asked, Hooked, Kind, Mailed, Offered

_IN = "WHERE order_id = '{%s}'"
_INVOICED, _CONFIRMED, _SHIPPED, _DECLINED, _REFUNDED, _CANCELLED, _CREDITED = (
    _IN % name for name in ("invoiced", "confirmed", "shipped", "declined", "refunded", "cancelled", "credited")
)
_ANY_EVENT = "WHERE topic = 'order-events' AND seq = (SELECT max(seq) FROM journal WHERE topic = 'order-events')"

#: Name of the damage → statements, rule, and a part of the report.
LEDGER = {
    "an accepted invoice is deleted": (
        [f"DELETE FROM invoices {_INVOICED}"],
        "promises",
        "accepted, and has 0 invoices",
    ),
    "and leaves a gap": ([f"DELETE FROM invoices {_INVOICED}"], "numbers", "missing: ["),
    "a credit note is deleted": (
        [f"DELETE FROM invoices {_CREDITED} AND refund_id = 'CR-1'"],
        "promises",
        "accepted, and has neither a credit note nor a refusal",
    ),
    "another credit note was returned": (
        [f"UPDATE invoices SET invoice_number = 'CN-99' {_CREDITED} AND refund_id = 'CR-1'"],
        "promises",
        "was returned, CN-99 is in the ledger",
    ),
    "more is credited than was invoiced": (
        [
            f"UPDATE invoices SET net_minor = net_minor + 1, gross_minor = gross_minor + 1 {_CREDITED}"
            " AND refund_id = 'CR-1'"
        ],
        "money",
        "is left of its invoice after 2 credit notes",
    ),
    "all is credited, but not of the tax": (
        [
            f"UPDATE invoices SET net_minor = net_minor + 1, tax_minor = tax_minor - 1 {_CREDITED}"
            " AND refund_id = 'CR-1'"
        ],
        "money",
        "is left of its invoice after 2 credit notes",
    ),
    "a number is another": (
        [f"UPDATE invoices SET number = number + 1000 {_INVOICED}"],
        "numbers",
        "missing: [",
    ),
    "another number was returned": (
        [f"UPDATE invoices SET invoice_number = 'INV-99' {_INVOICED}"],
        "promises",
        "was returned, INV-99 is in the ledger",
    ),
    "a printed number is another": (
        [f"UPDATE invoices SET invoice_number = 'INV-99' {_CONFIRMED}"],
        "numbers",
        "is printed as INV-99",
    ),
    "a number has no invoice": (
        ["UPDATE series SET next_number = next_number + 1 WHERE series_id LIKE '%.invoice.%'"],
        "numbers",
        "the next number is",
    ),
    "dates run backwards": (
        ["UPDATE invoices SET issued_at = issued_at - interval '1 day' WHERE number > 1"],
        "numbers",
        "is dated before",
    ),
    "an invoice is another order's": (
        [f"UPDATE invoices SET order_id = '{{declined}}' {_CONFIRMED}"],
        "promises",
        "never was confirmed, and has the invoice",
    ),
    "an invoice of another amount": (
        [f"UPDATE invoices SET net_minor = net_minor + 1, gross_minor = gross_minor + 1 {_INVOICED}"],
        "promises",
        "the posted content to",
    ),
    "an accepted order is deleted": (
        [f"DELETE FROM {table} {_CONFIRMED}" for table in ("order_lines", "orders")],
        "promises",
        "has neither an order nor a rejection",
    ),
    "an order was never requested": (
        [f"UPDATE {table} SET order_id = order_id || '000' {_DECLINED}" for table in ("orders", "order_lines")],
        "promises",
        "was never requested: order",
    ),
    "an order of other content": (
        [f"UPDATE orders SET customer = 'C-17' {_CONFIRMED}"],
        "promises",
        "the order has a content that was never posted",
    ),
    "an order is left undecided": (
        [f"UPDATE orders SET state = 'PAYMENT_PENDING' {_DECLINED}"],
        "promises",
        "is still PAYMENT_PENDING",
    ),
    "a confirmed order never was": (
        [f"UPDATE orders SET history = history - 2 {_CONFIRMED}"],
        "promises",
        "the buyer was told: confirmed",
    ),
    "a step is missing in a history": (
        [f"UPDATE orders SET history = history - 2, version = version - 1 {_SHIPPED}"],
        "steps",
        "its history is impossible",
    ),
    "a state that the history doesn't have": (
        [f"UPDATE orders SET state = 'DELIVERED' {_SHIPPED}"],
        "steps",
        "is DELIVERED in version",
    ),
    "a step has no event": (
        [
            "UPDATE orders SET state = 'DELIVERED', version = version + 1, history = history || jsonb_build_object("
            f"'version', version + 1, 'from', state, 'to', 'DELIVERED', 'reason', 'deliver') {_SHIPPED}"
        ],
        "steps",
        "its events say",
    ),
    "a journal row is deleted": ([f"DELETE FROM journal {_ANY_EVENT}"], "journal", "missing in the journal: ["),
    "a journal row is altered": (
        [f"UPDATE journal SET payload = payload || 'x' {_ANY_EVENT}"],
        "journal",
        "differs from the journal",
    ),
    "a journal row exists twice": (
        [
            "INSERT INTO journal SELECT topic, partition, seq, key, payload, occurred_at + interval '1 s' FROM journal"
            f" {_ANY_EVENT}"
        ],
        "journal",
        "the journal has seq ",
    ),
    "a seq has no row": (
        ["UPDATE journal_heads SET next_seq = next_seq + 1 WHERE topic = 'invoice-events'"],
        "journal",
        "missing in the journal: [",
    ),
    "an event is not published": (
        ["UPDATE journal_published SET published_seq = published_seq - 1 WHERE topic = 'invoice-events'"],
        "journal",
        "published up to",
    ),
    "a refusal has no event": (
        [
            "INSERT INTO refused_requests SELECT 'invoice-requests', 0, 10^6, seller_id, order_id, kind, 'conflict',"
            f" '', '', NULL, now(), '' FROM invoices {_INVOICED}"
        ],
        "once",
        "0 times in the topic, 1 by the ledger",
    ),
    "a payment's end is another": (
        [f"UPDATE payment_attempts SET state = 'failed' {_DECLINED}"],
        "once",
        "0 times in the topic, 1 by the ledger",
    ),
    "more is reserved": (
        ["UPDATE stock SET reserved = reserved + 1 WHERE sku LIKE '%-ART-0'"],
        "stock",
        "are reserved, but open orders hold",
    ),
    "a piece is missing": (
        ["UPDATE stock SET on_hand = on_hand - 1 WHERE sku LIKE '%-ART-0'"],
        "stock",
        "were put into stock",
    ),
    "an order wants more": (
        [f"UPDATE order_lines SET quantity = quantity + 1 {_CONFIRMED}"],
        "stock",
        "its history requires",
    ),
    "more was sold than there was": (
        [f"UPDATE order_lines SET quantity = 2000000 {_CONFIRMED}"],
        "stock",
        "of 1000000",
    ),
    "a SKU has no row": (["DELETE FROM stock WHERE sku LIKE '%-ART-0'"], "stock", "the row is None"),
    "a second attempt": (
        [
            "INSERT INTO payment_attempts (seller_id, order_id, request_id, partition, action, amount_minor, currency,"
            " provider_key, state, next_try_at, created_at) SELECT seller_id, order_id, 'again', partition, action,"
            f" amount_minor, currency, 'k', state, now(), now() FROM payment_attempts {_CONFIRMED}"
        ],
        "money",
        "has a payment again (authorize) that nothing requires",
    ),
    "a payment is left open": (
        [f"UPDATE payment_attempts SET state = 'open' {_SHIPPED} AND action = 'capture'"],
        "money",
        "its payment capture is still open",
    ),
    "a credit note is missing": (
        [f"DELETE FROM invoices {_REFUNDED} AND kind = 'credit_note'"],
        "money",
        "its refund R-1 is done, with 0 credit notes",
    ),
    "a refund is of another amount": (
        [f"UPDATE refunds SET amount_minor = amount_minor - 1 {_REFUNDED}"],
        "money",
        "were refunded, at the provider",
    ),
    "a cancelled sale has no credit": (
        [f"DELETE FROM refunds {_CANCELLED}", f"DELETE FROM invoices {_CANCELLED} AND kind = 'credit_note'"],
        "money",
        "is CANCELLED, with the refunds []",
    ),
    "an invoice's document is missing": (
        ["DELETE FROM documents WHERE number = 1 AND series_id LIKE '%.invoice.%'"],
        "documents",
        "has no document",
    ),
    "a logo is lost": (["DELETE FROM logos"], "documents", "which Postgres does not have"),
    "a logo is another": (["UPDATE logos SET body = body || 'x'"], "documents", "which Postgres does not have"),
    "a document is another": (
        ["UPDATE documents SET sha256 = sha256('x') WHERE number = 1 AND series_id LIKE '%.invoice.%'"],
        "documents",
        "0 times in the topic, 1 by the ledger",
    ),
}


def _first(topics: Topics, topic: str) -> list[Published]:
    """The records of a topic's first partition that has some."""
    return next(records for (name, _), records in topics.published.items() if name == topic and len(records) > 2)


def _lose_record(evidence: Evidence) -> None:
    del _first(evidence.topics, "order-events")[1]


def _lose_last_record(evidence: Evidence) -> None:
    del _first(evidence.topics, "order-events")[-1]


def _swap_records(evidence: Evidence) -> None:
    records = _first(evidence.topics, "invoice-events")
    records[0], records[1] = records[1], records[0]


def _repeat_other_bytes(evidence: Evidence) -> None:
    records = _first(evidence.topics, "payment-events")
    records.append(records[0]._replace(digest=b"other"))


def _forge_record(evidence: Evidence) -> None:
    records = _first(evidence.topics, "inventory-events")
    records.append(Published(records[-1].offset + 1, None, b"forged"))


def _issue_twice(evidence: Evidence) -> None:
    evidence.topics.issued.append(evidence.topics.issued[0])


def _place_twice(evidence: Evidence) -> None:
    told = next(iter(evidence.topics.steps.values()))
    told.append(told[0])


def _stray_partition(evidence: Evidence) -> None:
    next(its for (topic, _), its in evidence.topics.partitions.items() if topic == "order-events").update((0, 1))


def _lose_stock_event(evidence: Evidence) -> None:
    events = next(iter(evidence.topics.stock.values()))
    events.remove(max(events, key=lambda each: each.version))


def _lose_dead_letter(evidence: Evidence) -> None:
    evidence.topics.dead.clear()


def _repeat_dead_letter(evidence: Evidence) -> None:
    letters = next(iter(evidence.topics.dead.values()))
    letters.append(letters[0])


def _alter_dead_letter(evidence: Evidence) -> None:
    letters = next(iter(evidence.topics.dead.values()))
    letters[0] = (letters[0][0], b"other")


def _lose_document_event(evidence: Evidence) -> None:
    evidence.topics.stored.pop()


def _show_other_document(evidence: Evidence) -> None:
    key, answer = next(iter(evidence.shown.documents.items()))
    evidence.shown.documents[key] = replace(answer, payload=answer.payload + b"\n")


def _name_other_logo(evidence: Evidence) -> None:
    logo = b"another logo"
    evidence.ledger.logos[hashlib.sha256(logo).hexdigest()] = logo
    evidence.topics.issued[:] = [
        each._replace(logo_sha256=hashlib.sha256(logo).hexdigest()) for each in evidence.topics.issued
    ]


def _look_for_no_logo(evidence: Evidence) -> None:
    evidence.shown.documents.clear()


def _show_no_invoice(evidence: Evidence) -> None:
    key = next(iter(evidence.shown.invoices))
    evidence.shown.invoices[key] = Answer(404, {}, b"{}")


def _show_other_stock(evidence: Evidence) -> None:
    key, answer = next(iter(evidence.shown.stock.items()))
    evidence.shown.stock[key] = replace(answer, payload=json.dumps({**answer.json(), "reserved": 10**6}).encode())


def _charge_twice(evidence: Evidence) -> None:
    payment = next(each for each in evidence.payments if each["acted"])
    evidence.payments.append({**payment, "key": "other"})


def _act_twice(evidence: Evidence) -> None:
    next(each for each in evidence.payments if each["acted"])["acted"] = 2


def _keep_money(evidence: Evidence) -> None:
    next(each for each in evidence.payments if each["status"] == "voided")["status"] = "authorized"


def _forget_payment(evidence: Evidence) -> None:
    evidence.payments[:] = [each for each in evidence.payments if each["status"] != "authorized"]


def _void_sold(evidence: Evidence) -> None:
    next(each for each in evidence.payments if each["captured_minor"])["status"] = "voided"


def _promise_invoice(evidence: Evidence) -> None:
    body = next(each for each in evidence.record.asked.values() if each.kind is Kind.INVOICE).bodies[0]
    asked = Asked(Kind.INVOICE, "never-posted", [{**body, "order_id": "never-posted"}], [(202, {})])
    evidence.record.asked[Kind.INVOICE, asked.order_id] = asked


def _promise_checkout(evidence: Evidence) -> None:
    asked = Asked(Kind.CHECKOUT, "never-posted", [], [(202, {})])
    evidence.record.asked[Kind.CHECKOUT, asked.order_id] = asked


def _post_other_content(evidence: Evidence) -> None:
    asked = next(each for each in evidence.record.asked.values() if each.kind is Kind.INVOICE and each.accepted)
    asked.bodies[:] = [{**body, "buyer": {**body["buyer"], "name": "Somebody else"}} for body in asked.bodies]


def _tell_declined(evidence: Evidence) -> None:
    answers = next(asked.answers for asked in evidence.record.asked.values() if 201 in dict(asked.answers))
    answers.append((402, {"type": "/problems/payment-declined"}))


def _tell_sold_out(evidence: Evidence) -> None:
    answers = next(asked.answers for asked in evidence.record.asked.values() if 201 in dict(asked.answers))
    answers[:] = [(409, {"type": "/problems/out-of-stock"})]


def _tell_conflict(evidence: Evidence) -> None:
    asked = next(each for each in evidence.record.asked.values() if each.accepted and len(each.bodies) == 1)
    asked.answers.append((409, {"type": "/problems/conflict"}))


def _command_unheard(evidence: Evidence) -> None:
    evidence.topics.answered.clear()


def _tell_a_number_of_a_checkout(evidence: Evidence) -> None:
    order_id = next(key[1] for key in evidence.ledger.orders if (Kind.CHECKOUT, key[1]) in evidence.record.asked)
    asked = Asked(Kind.INVOICE, order_id, [], [(200, {"number": 1})])
    evidence.record.asked[Kind.INVOICE, order_id] = asked


def _refuse_for_nobodys_checkout(evidence: Evidence) -> None:
    asked = next(
        each
        for each in evidence.record.asked.values()
        if each.kind is Kind.INVOICE and (Kind.CHECKOUT, each.order_id) not in evidence.record.asked
    )
    asked.answers.append((409, {"type": "/problems/already-ordered"}))


def _tell_of_another_refusal(evidence: Evidence) -> None:
    commanded = next(each for each in evidence.record.commanded if each.what == "shipments" and each.answers)
    commanded.answers[:] = [(409, {"type": "/problems/not-permitted"})] * 2


def _open_redriven(evidence: Evidence) -> None:
    """An invoice there is, but its dead letter is still open."""
    evidence.record.redriven[next(iter(evidence.topics.dead))] = evidence.ledger.invoices[0].order_id


def _redriven_in_vain(evidence: Evidence) -> None:
    origin = next(iter(evidence.topics.dead))
    evidence.ledger.letters[origin] = ["redriven"]
    evidence.record.redriven[origin] = "nobody's"


def _more_garbage(evidence: Evidence) -> None:
    evidence.record.garbage.add(("checkout-requests", 0, 10**6))


def _look_away(evidence: Evidence) -> None:
    evidence.shown.invoices.clear()


#: Name of the change → change, rule, and a part of the report.
def _receive_no_webhook(evidence: Evidence) -> None:
    evidence.record.hooked = []


def _hooked(sequence: int, webhook_id: str, *, signed: bool = True) -> Hooked:
    return Hooked(webhook_id, "W-1", sequence, "order.placed", 2, signed)


def _receive_webhooks_backwards(evidence: Evidence) -> None:
    evidence.record.hooked = [_hooked(2, "b"), _hooked(1, "a")]


def _receive_under_two_ids(evidence: Evidence) -> None:
    evidence.record.hooked = [_hooked(1, "a"), _hooked(1, "b")]


def _receive_unsigned(evidence: Evidence) -> None:
    evidence.record.hooked = [_hooked(1, "a", signed=False)]


def _mails(evidence: Evidence, message_ids: Sequence[str], *, confirmed: bool = True, to: str = "") -> None:
    """A mail for each checkout that was confirmed, or that was not, under each of these ids."""
    seller_id = evidence.ledger.seller_id
    evidence.record.mailed = [
        Mailed(f"<{order_id}-{message_id}>", f"Your order {order_id}", to or asked.bodies[0]["buyer"]["email"])
        for (kind, order_id), asked in evidence.record.asked.items()
        if kind is Kind.CHECKOUT
        for message_id in message_ids
        if any(step.after == "CONFIRMED" for step in evidence.topics.steps.get((seller_id, order_id), ())) is confirmed
    ]


def _mail_nothing(evidence: Evidence) -> None:
    evidence.record.mailed = []


def _mail_twice(evidence: Evidence) -> None:
    _mails(evidence, ["a", "b"])


def _mail_of_what_never_was(evidence: Evidence) -> None:
    _mails(evidence, ["a"], confirmed=False)


def _mail_to_another(evidence: Evidence) -> None:
    _mails(evidence, ["a"], to="somebody@else.example")


def _product(evidence: Evidence) -> tuple[Offered, list[ProductSaid]]:
    offered = next(iter(evidence.record.offered.values()))
    return offered, evidence.topics.products[evidence.ledger.seller_id, offered.product_id]


def _lose_product_event(evidence: Evidence) -> None:
    del _product(evidence)[1][0]


def _put_twice(evidence: Evidence) -> None:
    events = _product(evidence)[1]
    events[-1] = events[-1]._replace(price=events[0].price)


def _change_another_product(evidence: Evidence) -> None:
    events = _product(evidence)[1]
    events[0] = events[0]._replace(price="0.01")


def _accept_another_price(evidence: Evidence) -> None:
    offered, events = _product(evidence)
    offered.accepted[events[0].version] = events[1].price


def _show_what_never_was(evidence: Evidence) -> None:
    offered, events = _product(evidence)
    offered.shown.add((events[0].version, events[1].price))


def _show_an_old_product(evidence: Evidence) -> None:
    offered, events = _product(evidence)
    answer = evidence.shown.products[offered.product_id]
    old = answer.json() | {"version": events[0].version, "variants": [{"unit_price": events[0].price}]}
    evidence.shown.products[offered.product_id] = replace(answer, payload=json.dumps(old).encode())


def _find_an_old_product(evidence: Evidence) -> None:
    offered, events = _product(evidence)
    answer = evidence.shown.found[offered.product_id]
    hit = {"product_id": offered.product_id, "version": events[0].version, "price": events[0].price}
    evidence.shown.found[offered.product_id] = replace(answer, payload=json.dumps({"hits": [hit]}).encode())


def _find_nothing(evidence: Evidence) -> None:
    evidence.shown.found.update(dict.fromkeys(evidence.shown.found, Answer(503, {}, b"{}")))


def _look_at_no_product(evidence: Evidence) -> None:
    for offered in evidence.record.offered.values():
        offered.shown.clear()


EVIDENCE: dict[str, tuple[Callable[[Evidence], None], str, str]] = {
    "a record is lost": (_lose_record, "journal", "comes after"),
    "the last record is lost": (_lose_last_record, "journal", "marked as published up to"),
    "two records are in the wrong order": (_swap_records, "journal", "seq 2 comes after 0"),
    "a repeat has other bytes": (_repeat_other_bytes, "journal", "differs from the journal"),
    "a record is not the relay's": (_forge_record, "journal", "it has no seq"),
    "an invoice is issued twice": (_issue_twice, "once", "has 2 events about its issue"),
    "an order is placed twice": (_place_twice, "once", "2 times in the topic, 1 by the ledger"),
    "an order is in two partitions": (_stray_partition, "steps", "its events are in the partitions"),
    "a stock event is lost": (_lose_stock_event, "stock", "events come to"),
    "a product's event is lost": (_lose_product_event, "catalogue", "has events of the versions [2"),
    "a put was done twice": (_put_twice, "catalogue", "were put, each once"),
    "a product has a price that nobody put": (_change_another_product, "catalogue", "were put, each once"),
    "a put was answered with another version": (_accept_another_price, "catalogue", "its event says"),
    "buyers were shown what never was": (_show_what_never_was, "catalogue", "which never was"),
    "an old product is shown": (_show_an_old_product, "catalogue", "but its last event is"),
    "an old product is found": (_find_an_old_product, "catalogue", "is found as [(1, "),
    "a product is not found": (_find_nothing, "catalogue", "is found as [], not"),
    "nothing is found": (_find_nothing, "looked", "products found: none were seen"),
    "no buyer was shown a product": (_look_at_no_product, "looked", "products shown to buyers: none were seen"),
    "a dead letter is lost": (_lose_dead_letter, "dead letters", "has no dead letter"),
    "a dead letter has other bytes": (_alter_dead_letter, "dead letters", "has other bytes"),
    "a dead letter comes twice": (_repeat_dead_letter, "dead letters", "has 2 dead letters"),
    "what was redriven is open": (_open_redriven, "redriven", "is recorded as"),
    "what was redriven has no effect": (_redriven_in_vain, "redriven", "and has 0 invoices"),
    "garbage has no dead letter": (_more_garbage, "dead letters", "has no dead letter"),
    "a document has no event": (_lose_document_event, "documents", "0 times in the topic"),
    "other bytes are shown": (_show_other_document, "documents", "its bytes have"),
    "a document is without its logo": (_name_other_logo, "documents", "does not contain the logo"),
    "a webhook never arrived": (_receive_no_webhook, "webhooks", "nothing arrived of"),
    "webhooks came in another order": (_receive_webhooks_backwards, "webhooks", "came in the order [2, 1]"),
    "a webhook came under two ids": (_receive_under_two_ids, "webhooks", "1 webhooks came under 2 ids"),
    "a webhook is not signed": (_receive_unsigned, "webhooks", "is not signed"),
    "a mail never arrived": (_mail_nothing, "mails", "was confirmed, and no mail says so"),
    "a mail came under two ids": (_mail_twice, "mails", "is confirmed by mails with 2 Message-IDs"),
    "a mail confirms what was not confirmed": (_mail_of_what_never_was, "mails", "was never confirmed"),
    "a mail went to another": (_mail_to_another, "mails", "its mail went to somebody@else.example"),
    "no logo is looked for": (_look_for_no_logo, "looked", "logos looked for: none were seen"),
    "an invoice is not shown": (_show_no_invoice, "promises", "is shown as 404"),
    "another stock is shown": (_show_other_stock, "stock", "is shown as 200"),
    "an order is charged twice": (_charge_twice, "money", "was charged under 2 keys"),
    "a key is charged twice": (_act_twice, "money", "was charged 2 times under one key"),
    "a cancelled order's money stays authorised": (_keep_money, "money", "is cancelled, but its money is authorized"),
    "a confirmed order is not paid": (_forget_payment, "money", "the provider has no payment of it"),
    "a shipped order's money is gone": (_void_sold, "money", "but the provider has"),
    "an accepted invoice is missing": (_promise_invoice, "promises", "accepted, and has 0 invoices"),
    "an accepted checkout is missing": (_promise_checkout, "promises", "neither an order nor a rejection"),
    "another content was posted": (_post_other_content, "promises", "has a content never posted"),
    "told declined, and sold": (_tell_declined, "promises", "the buyer was told: declined"),
    "told sold out, and sold": (_tell_sold_out, "promises", "were told sold out but sold to"),
    "told of a conflict with nothing": (_tell_conflict, "promises", "only one content was posted"),
    "a command has no answer": (_command_unheard, "promises", "accepted, and never answered"),
    "two are told of one refusal": (_tell_of_another_refusal, "promises", "2 answers were refusals, but there are"),
    "a checkout's id has an invoice": (_tell_a_number_of_a_checkout, "promises", "the id belongs to a checkout"),
    "refused for a checkout that does not exist": (_refuse_for_nobodys_checkout, "promises", "an order that was never"),
    "nothing was looked at": (_look_away, "looked", "invoices looked at over HTTP: none were seen"),
}
