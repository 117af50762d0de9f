"""Bodies of invoices and checkouts such as storefronts send: the same seed gives the same bodies, byte for byte."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from domain.iso import CURRENCY_EXPONENTS

LINES_MAX = 5

#: Name, street, city, postal code, country. Scripts that a document must show, not only the Latin one.
_BUYERS = (
    ("Zoë O'Neil", "12 Rue de l'Église", "Lyon", "69001", "FR"),
    ("Jürgen Weißmüller", "Königstraße 5", "Köln", "50667", "DE"),
    ("Małgorzata Wójcik", "ul. Świętokrzyska 14", "Łódź", "90-001", "PL"),
    ("Søren Ångström", "Nørrebrogade 44", "København", "2200", "DK"),
    ("José Muñoz Íñiguez", "Calle de Alcalá 99", "Madrid", "28009", "ES"),
    ("Ελένη Παπαδοπούλου", "Οδός Ερμού 25", "Αθήνα", "105 63", "GR"),
    ("Дмитро Шевченко", "вулиця Хрещатик, 22", "Київ", "01001", "UA"),
    ("Боян Йорданов", "бул. Витоша 100", "София", "1463", "BG"),
    ("محمد عبد الله", "شارع التحرير ١٢", "القاهرة", "11511", "EG"),
    ("ليلى حداد", "شارع الحمراء", "بيروت", "", "LB"),
    ("山田 太郎", "千代田1-1-1", "東京", "100-0001", "JP"),
    ("王小明", "南京东路100号", "上海", "200001", "CN"),
    ("김민준", "세종대로 110", "서울", "04524", "KR"),
    ("Nguyễn Thị Ánh", "36 Phố Hàng Đào", "Hà Nội", "100000", "VN"),
    ("Ada Lovelace", "1 St James's Square", "London", "SW1Y 4JU", "GB"),
)
_CURRENCIES = ("EUR", "EUR", "EUR", "EUR", "GBP", "USD", "PLN", "CHF", "SEK", "JPY", "KWD")
#: SKU, description, VAT rate and category, least and greatest price in hundredths.
_ARTICLES = (
    ("COF-250", "Café crème, 250 g", "20.00", "S", 690, 1_499),
    ("TEA-GRN", "Grüner Tee, lose", "7.00", "S", 450, 2_290),
    ("MUG-BLU", "Κούπα, μπλε", "24.00", "S", 800, 1_800),
    ("BK-1984", "Книга «1984»", "0.00", "Z", 900, 2_400),
    ("LMP-07", "デスクランプ", "10.00", "S", 2_900, 12_900),
    ("RUG-120", "سجادة يدوية", "5.50", "S", 4_900, 49_900),
    ("TSH-M", "T-shirt, size M", "20.00", "S", 1_290, 3_990),
    ("CRS-01", "Online course, exempt", "0.00", "E", 4_900, 19_900),
    ("KBD-DE", "Tastatur, deutsche Belegung", "19.00", "S", 3_990, 15_990),
    ("CBL-2M", "USB-C cable, 2 m", "21.00", "S", 590, 1_990),
)


def bodies(count: int, *, seed: int, prefix: str = "A") -> Iterator[dict[str, Any]]:
    """`count` bodies of `POST /v1/invoices`, with order ids `prefix-1`, `prefix-2` …"""
    chance = random.Random(seed)  # noqa: S311 - chosen to be repeatable, guards nothing.
    for index in range(1, count + 1):
        yield body(f"{prefix}-{index}", chance)


def body(order_id: str, chance: random.Random) -> dict[str, Any]:
    """One body, drawn from `chance`."""
    name, street, city, postal_code, country = chance.choice(_BUYERS)
    currency = chance.choice(_CURRENCIES)
    number = chance.randrange(1, 100_000)
    request: dict[str, Any] = {
        "order_id": order_id,
        "currency": currency,
        "buyer": {
            "name": name,
            "email": f"customer{number}@example.com",
            "address": {"street": street, "city": city, "postal_code": postal_code, "country": country},
        },
        "lines": [_line(currency, chance) for _ in range(chance.randint(1, LINES_MAX))],
    }
    if chance.random() < 0.2:
        request["note"] = chance.choice(("Merci !", "Leave it next door, please.", "Ευχαριστούμε", "ありがとう"))
    if chance.random() < 0.1:
        request["buyer"]["vat_id"] = f"{country}{number:09d}"
    return request


def checkouts(
    count: int,
    *,
    seed: int,
    skus: Sequence[str],
    customers: int,
    tokens: Mapping[str, float],
    prefix: str = "C",
) -> Iterator[bytes]:
    """`count` payloads of `POST /v1/checkouts`, each for one piece of one of the `skus`, in turn.

    Customers `prefix-customer-1` … buy in turn too; means of payment are drawn by their weights. Put together from
    text that is encoded once: a load tool has little time for each.
    """
    chance = random.Random(seed)  # noqa: S311 - chosen to be repeatable, guards nothing.
    buyers = [_json(_buyer(buyer)) for buyer in _BUYERS]
    lines = [_json([_piece(sku)]) for sku in skus]
    names, weights = list(tokens), list(tokens.values())
    for index in range(count):
        [token] = chance.choices(names, weights)
        order = f'"order_id":"{prefix}-{index + 1}","customer":"{prefix}-customer-{index % customers + 1}"'
        rest = f'"buyer":{buyers[index % len(buyers)]},"lines":{lines[index % len(lines)]}'
        yield f'{{{order},"payment_token":"{token}","currency":"EUR",{rest}}}'.encode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _buyer(buyer: tuple[str, str, str, str, str]) -> dict[str, Any]:
    name, street, city, postal_code, country = buyer
    address = {"street": street, "city": city, "postal_code": postal_code, "country": country}
    return {"name": name, "email": "customer@example.com", "address": address}


def _piece(sku: str) -> dict[str, str]:
    price = {"unit_price": "19.90", "vat_rate": "20.00", "vat_category": "S"}
    return {"sku": sku, "description": f"Article {sku}", "quantity": "1", **price}


def _line(currency: str, chance: random.Random) -> dict[str, str]:
    sku, description, rate, category, least, greatest = chance.choice(_ARTICLES)
    hundredths = chance.randint(least, greatest)
    price = f"{hundredths // 100}.{hundredths % 100:02d}" if CURRENCY_EXPONENTS[currency] else str(hundredths)
    return {
        "sku": sku,
        "description": description,
        "quantity": chance.choice(("1", "1", "1", "2", "3", "0.5")),
        "unit_price": price,
        "vat_rate": rate,
        "vat_category": category,
    }
