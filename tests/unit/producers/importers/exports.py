"""Exports for tests: Shopify's columns, an order in them, and what an importer makes of a file."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from domain.invoice import Priced, compare_claims, price
from domain.refusals import Refusal
from gateway.http import bodies
from producers.importers.files import found
from producers.importers.found import File, Found, Options, Rejected, Request, Skipped

COLUMNS = (
    "Name,Email,Financial Status,Paid at,Fulfillment Status,Currency,Subtotal,Shipping,Taxes,Total,Discount Code,"
    "Discount Amount,Shipping Method,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,"
    "Lineitem taxable,Billing Name,Billing Street,Billing Address1,Billing Address2,Billing Company,Billing City,"
    "Billing Zip,Billing Country,Shipping Name,Shipping City,Shipping Country,Notes,Cancelled at,Payment Method,"
    "Refunded Amount,Lineitem discount,Tax 1 Name,Tax 1 Value,Tax 2 Name,Tax 2 Value,Tax 3 Name,Tax 3 Value,"
    "Tax 4 Name,Tax 4 Value,Tax 5 Name,Tax 5 Value,Duties"
).split(",")
#: Prices without tax: 2 x 10.00 + 5.00 shipping, 20% on top.
ORDER = {
    "Name": "#1001",
    "Email": "zoe@example.com",
    "Financial Status": "paid",
    "Paid at": "2025-10-07 09:50:26 +0200",
    "Currency": "EUR",
    "Subtotal": "20.00",
    "Shipping": "5.00",
    "Taxes": "5.00",
    "Total": "30.00",
    "Discount Amount": "0.00",
    "Shipping Method": "Colissimo",
    "Lineitem quantity": "2",
    "Lineitem name": "Café, moulu",
    "Lineitem price": "10.00",
    "Lineitem sku": "CAF-1",
    "Lineitem taxable": "true",
    "Billing Name": "Zoë O'Neil",
    "Billing Street": "1 rue de l'Église",
    "Billing City": "Lyon",
    "Billing Zip": "'69001",
    "Billing Country": "FR",
    "Tax 1 Name": "VAT 20%",
    "Tax 1 Value": "5.00",
}
#: Prices with the tax inside them, and no shipping: 12.10, of which 2.10 are tax.
INSIDE = {
    **ORDER,
    "Subtotal": "12.10",
    "Shipping": "0.00",
    "Taxes": "2.10",
    "Total": "12.10",
    "Lineitem quantity": "1",
    "Lineitem price": "12.10",
    "Lineitem name": "Tea",
    "Tax 1 Name": "NL btw 21%",
    "Tax 1 Value": "2.10",
}
ITEM = {
    "Name": "#1001",
    "Lineitem quantity": "1",
    "Lineitem name": "Thé",
    "Lineitem price": "7.50",
    "Lineitem sku": "T",
}


def text(rows: Iterable[Mapping[str, str]], columns: Sequence[str] = COLUMNS, separator: str = ",") -> str:
    """The rows as an export writes them."""
    lines = io.StringIO()
    writer = csv.writer(lines, delimiter=separator)
    writer.writerow(columns)
    for row in rows:
        unknown = set(row) - set(columns)
        if unknown:
            raise ValueError(f"no such column: {unknown}")
        writer.writerow([row.get(column, "") for column in columns])
    return lines.getvalue()


def read_bytes(folder: Path, content: bytes, name: str = "orders.csv", **options: Any) -> list[Found]:
    """What is found in a file of this content."""
    path = folder / name
    path.write_bytes(content)
    return list(found([File(path, Options(**options))]))


def read(folder: Path, *rows: Mapping[str, str], columns: Sequence[str] = COLUMNS, **options: Any) -> list[Found]:
    """What is found in an export with these rows."""
    return read_bytes(folder, text(rows, columns).encode(), **options)


def body(each: Found) -> dict[str, Any]:
    """The body of what must be a request."""
    assert isinstance(each, Request), each
    made: dict[str, Any] = json.loads(each.payload)
    return made


def reason(each: Found) -> str:
    """Why an order was rejected."""
    assert isinstance(each, Rejected), each
    return str(each)


def bodies_of(each: Iterable[Found]) -> list[dict[str, Any]]:
    """The bodies of the requests among what was found."""
    return [body(one) for one in each if not isinstance(one, Skipped)]


def priced(each: Found) -> Priced:
    """What the gateway makes of it: the totals that the shop claims."""
    asked = bodies.read_invoice(json.dumps(body(each)).encode())
    result = price(bodies.as_record(asked, "seller", bodies.order_id(asked, None), 0))
    assert not isinstance(result, Refusal), result
    assert compare_claims(result, bodies.claims(asked), asked.currency) is None
    return result
