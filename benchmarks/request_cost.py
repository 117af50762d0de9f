"""CPU time of one plain request, step by step, in one process: what the gateway does with it, and what the agents do.

`python -m benchmarks.request_cost --against FOLDER` compares this tree with another checkout of the project: a process
for each, which take turns, and the ratio is taken turn by turn.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time_ns
from typing import Any

ORDERS = 400
ROUNDS = 15
#: Lines of an order.
SIZES = (1, 5)

#: µs an order, by step and by the lines of an order: one turn.
Turn = dict[str, float]


def steps(lines: int) -> dict[str, tuple[Callable[[Any], object], list[Any]]]:
    """Each step, and the `ORDERS` values that it is applied to. Modules are those of the tree that is measured."""
    import msgspec

    from domain.checkout import check
    from domain.invoice import price
    from gateway.http import bodies
    from producers.generate import body
    from schemas import catalog
    from schemas.codec import decode, encode

    chance = random.Random(1)
    asked = [body(f"A-{index}", chance) for index in range(ORDERS)]
    for each in asked:
        each["lines"] = (each["lines"] * lines)[:lines]
        for line in each["lines"]:
            line["quantity"] = "2"
    texts = [msgspec.json.encode(each) for each in asked]
    requests = [bodies.read_invoice(each) for each in texts]
    records = [bodies.as_record(each, "demo", str(each.order_id), 1) for each in requests]
    payloads = [encode(catalog.INVOICE_REQUEST, each) for each in records]
    decoded = [_decoded(decode, catalog.INVOICE_REQUEST, each) for each in payloads]
    events = [_event(record, price(record)) for record in decoded]
    checkout_texts = [msgspec.json.encode({**each, "payment_token": "tok_visa", "customer": "C-1"}) for each in asked]
    checkouts = [bodies.read_checkout(each) for each in checkout_texts]
    checkout_records = [bodies.as_checkout(each, "demo", str(each.order_id), 1) for each in checkouts]
    checkout_payloads = [encode(catalog.CHECKOUT_REQUEST, each) for each in checkout_records]
    return {
        "read": (bodies.read_invoice, texts),
        "record": (lambda each: bodies.as_record(each, "demo", "A-1", 1), requests),
        "price": (price, records),
        "encode": (lambda each: encode(catalog.INVOICE_REQUEST, each), records),
        "decode": (lambda each: _decoded(decode, catalog.INVOICE_REQUEST, each), payloads),
        "price decoded": (price, decoded),
        "encode event": (lambda each: encode(catalog.INVOICE_ISSUED, each), events),
        "checkout: read": (bodies.read_checkout, checkout_texts),
        "checkout: record": (lambda each: bodies.as_checkout(each, "demo", "A-1", 1), checkouts),
        "checkout: check": (check, checkout_records),
        "checkout: encode": (lambda each: encode(catalog.CHECKOUT_REQUEST, each), checkout_records),
        "checkout: decode": (lambda each: _decoded(decode, catalog.CHECKOUT_REQUEST, each), checkout_payloads),
    }


def _decoded(decode: Callable[..., Any], schema: object, payload: bytes) -> Any:
    return decode(payload, schema, bytes_max=2**20)[1]


def _event(record: Any, priced: Any) -> dict[str, Any]:
    """`InvoiceIssued` of a record, as the invoices agent makes it."""
    address = {"street": "12 Rue de la République", "city": "Lyon", "postal_code": "69001", "country": "FR"}
    return {
        **record,
        "series_id": "demo/invoice/0",
        "number": 1,
        "invoice_number": "INV-0-1",
        "issued_at": 1,
        "issue_date": "2026-11-29",
        "seller": {"legal_name": "Example Shop SAS", "vat_id": "FR403", "address": address, "logo_sha256": None},
        "lines": [{**line, "net_minor": net} for line, net in zip(record["lines"], priced.nets_minor, strict=True)],
        "totals": {
            "net_minor": priced.net_minor,
            "tax_minor": priced.tax_minor,
            "gross_minor": priced.gross_minor,
            "per_rate": list(priced.per_rate),
            "details": None,
        },
        "paid_on": "",
        "template_version": 2,
    }


def answer_turns() -> None:
    """Measure a turn for each line of standard input, and write it as a line of JSON."""
    measured = {(size, name): step for size in SIZES for name, step in steps(size).items()}
    for _ in sys.stdin:
        turn: Turn = {}
        for (size, name), (step, values) in measured.items():
            began = process_time_ns()
            for value in values:
                step(value)
            turn[f"{name}, {size} lines"] = (process_time_ns() - began) / 1000 / len(values)
        print(json.dumps(turn), flush=True)


@contextmanager
def _process(tree: Path) -> Iterator[Callable[[], Turn]]:
    """A process on the tree's modules, which measures a turn when called."""
    command = [sys.executable, "-P", __file__, "--answer"]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        talk_in, talk_out = process.stdin, process.stdout

        def turn() -> Turn:
            talk_in.write("\n")
            talk_in.flush()
            measured: Turn = json.loads(talk_out.readline())
            return measured

        # The first one warms caches up.
        turn()
        yield turn
        talk_in.close()


def main() -> None:
    """Print µs an order of each step; with `--against` those of both trees and their ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.request_cost", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--against", type=Path, help="another checkout of the project, such as a git worktree")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each tree")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        answer_turns()
        return
    here = Path(__file__).parents[1]
    there = arguments.against or here
    with _process(there) as theirs, _process(here) as ours:
        pairs = [(theirs(), ours()) for _ in range(arguments.rounds)]
    print(f"{'µs an order':30} {'against':>8} {'here':>8} {'ratio':>7}")
    for name in pairs[0][1]:
        # The fastest turns: whatever else runs on the machine only makes a turn slower.
        before, after = min(a[name] for a, _ in pairs), min(b[name] for _, b in pairs)
        print(f"{name:30} {before:8.2f} {after:8.2f} {after / before:7.2f}")


if __name__ == "__main__":
    main()
