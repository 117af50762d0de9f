"""Documents rendered per second on one core, and what a document weighs.

`python -m benchmarks.documents`: the median of several runs over invoices that all differ, the fonts loaded before.
"""

import asyncio
import statistics
import time
from collections.abc import Callable

import psutil

from benchmarks.result import Result
from documents.render import render, warm
from domain.money import divide_half_away, scaled
from domain.records import Address, InvoiceIssued, InvoiceLine
from streams.invoice_events import TEMPLATE_VERSION
from streams.rendering import Renderer

RUNS = 7
DOCUMENTS_PER_RUN = 200
#: Of typical ones, on one core.
RATE_MIN = 150.0

_STREETS = ("1 Main St", "24 rue de la République", "Hauptstraße 5", "Calle Mayor 12", "Nørregade 8")
_CITIES = ("Lyon", "Zürich", "Málaga", "København", "Göteborg", "Kraków", "Łódź", "Praha")
_GIVEN = ("Zoë", "José", "Anna", "Søren", "Jürgen", "Élodie", "Chloé", "Tom", "Ines", "Björn")
_FAMILY = ("O'Neil", "García", "Müller", "Smith", "Dvořák", "Nowak", "Lefèvre", "Jensen", "Rossi", "Åkesson")
_THINGS = (
    "Café crème, 250 g",
    "Croissant au beurre",
    "Espresso cups, set of 4",
    "Grinder",
    "Filter papers, 100",
    "Delivery",
)


def invoice(number: int, lines: int, thing: Callable[[int], str], buyer_name: str) -> InvoiceIssued:
    """An event; each number gives another."""
    items: list[InvoiceLine] = []
    net = 0
    for place in range(lines):
        quantity, cents = (number + place) % 9 + 1, (number * 37 + place * 911) % 20_000 + 99
        net += quantity * cents
        items.append(
            {
                "sku": f"S-{(number * 7 + place) % 10_000}",
                "description": thing(number + place),
                "quantity": str(quantity),
                "unit_price": f"{cents // 100}.{cents % 100:02d}",
                "vat_rate": "20.00",
                "vat_category": "S",
                "net_minor": quantity * cents,
            }
        )
    tax = divide_half_away(net * scaled("20.00", 2), 10_000)
    seller = number % 20
    return {
        "seller_id": f"seller-{seller}",
        "order_id": f"A-{1_000_000 + number}",
        "kind": "invoice",
        "series_id": f"seller-{seller}.invoice.2026",
        "number": number + 1,
        "invoice_number": f"INV-2026-{number:06d}",
        "issued_at": 1_795_254_000_000_000 + number * 1_000,
        "issue_date": "2026-11-21",
        "currency": "EUR",
        "note": "Thank you for your order.",
        "buyer": {
            "name": buyer_name,
            "email": f"customer{number}@example.com",
            "vat_id": None,
            "address": _address(number),
        },
        "seller": {
            "legal_name": f"Maison Dupont & Söhne {seller}",
            "vat_id": f"FR123456789{seller:02d}",
            "address": _address(seller),
            "logo_sha256": None,
        },
        "lines": items,
        "totals": {
            "net_minor": net,
            "tax_minor": tax,
            "gross_minor": net + tax,
            "per_rate": [{"vat_category": "S", "vat_rate": "20.00", "taxable_minor": net, "tax_minor": tax}],
        },
        "template_version": TEMPLATE_VERSION,
    }


def typical(number: int) -> InvoiceIssued:
    """Three to five lines in Latin letters, other names and goods each time."""
    name = f"{_GIVEN[number % 10]} {_FAMILY[number // 10 % 10]}"
    return invoice(number, 3 + number % 3, lambda place: _THINGS[place % len(_THINGS)], name)


def _address(number: int) -> Address:
    return {
        "street": f"{_STREETS[number % len(_STREETS)]}, {number % 300}",
        "city": _CITIES[number % len(_CITIES)],
        "postal_code": f"{10_000 + number % 80_000}",
        "country": ("FR", "CH", "ES", "DK", "SE", "PL", "CZ")[number % 7],
    }


KINDS: dict[str, Callable[[int], InvoiceIssued]] = {
    "3-5 lines, Latin": typical,
    "5 lines, Cyrillic": lambda number: invoice(number, 5, lambda place: f"Чай чёрный № {place}", "Екатерина Щёголева"),
    "5 lines, Arabic": lambda number: invoice(number, 5, lambda place: f"قهوة عربية {place}", "عبد الرحمن القحطاني"),
    "5 lines, Japanese": lambda number: invoice(number, 5, lambda place: f"有機緑茶 {place}", "山田 太郎"),
    "100 lines, Latin": lambda number: invoice(
        number, 100, lambda place: f"{_THINGS[place % 6]} {place}", "Zoë O'Neil"
    ),
}


def run() -> list[Result]:
    """Measure."""
    begun = time.perf_counter()
    warm()
    results = [Result("fonts loaded", (time.perf_counter() - begun) * 1000, "ms", note="once in each process")]
    number = 0
    for kind, make in KINDS.items():
        count = DOCUMENTS_PER_RUN if make is typical else DOCUMENTS_PER_RUN // 10
        rates: list[float] = []
        sizes: list[int] = []
        for _ in range(RUNS):
            events = [make(number + place) for place in range(count)]
            number += count
            # Of this process only: the machine may have other work.
            begun = time.process_time()
            sizes += [len(render(event, None)) for event in events]
            rates.append(count / (time.process_time() - begun))
        note = f"median of {RUNS}; slowest {min(rates):,.0f}; {statistics.median(sizes) / 1000:.1f} kB each"
        target = RATE_MIN if make is typical else None
        results.append(Result(kind, statistics.median(rates), "documents/s of a core", target, note=note))
    return [*results, asyncio.run(_memory())]


async def _memory() -> Result:
    renderer = Renderer(1)
    try:
        for kind in KINDS.values():
            await renderer.render_many([(kind(number), None) for number in range(50)])
        resident = max(each.memory_info().rss for each in psutil.Process().children())
    finally:
        renderer.close()
    return Result("memory of a process that renders", resident / 1e6, "MB", 250.0, less_is_better=True)


if __name__ == "__main__":
    for result in run():
        print(f"{result.name:34} {result.value:8,.0f} {result.unit}  {result.note}")
