"""Bodies that real shops and accountants would send, in short, and the right answer of each.

Buyers, sellers and goods are invented. The samples of EN 16931 are the official ones' lines, allowances and amounts;
what each says it is due is `payable`.
"""

from dataclasses import dataclass, field
from typing import Any

ADDRESS = {"street": "1 Main St", "city": "Lyon", "postal_code": "69001", "country": "FR"}
BUYER: dict[str, Any] = {"name": "Zoë O'Neil", "email": "zoe@example.com", "address": ADDRESS}
GERMAN = {"name": "Kunden AG", "address": {**ADDRESS, "city": "Frankfurt", "postal_code": "60311", "country": "DE"}}


def line(quantity: str, unit_price: str, vat_rate: str, vat_category: str = "S", **more: Any) -> dict[str, Any]:
    """A line; `more` is what few lines have."""
    numbers = {"quantity": quantity, "unit_price": unit_price, "vat_rate": vat_rate, "vat_category": vat_category}
    return {"sku": "S-1", "description": "Tea", **numbers, **more}


def body(currency: str, *lines: dict[str, Any], buyer: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The body of a request for an invoice, without an order id."""
    return {"currency": currency, "buyer": buyer or BUYER, "lines": list(lines), **more}


def allowance(amount: str, vat_rate: str, vat_category: str = "S", reason: str = "Discount") -> dict[str, str]:
    """An allowance or charge of the document."""
    return {"amount": amount, "vat_rate": vat_rate, "vat_category": vat_category, "reason": reason}


@dataclass(frozen=True)
class Right:
    """A request that is right, and what it amounts to: net, tax, gross and what is due."""

    name: str
    body: dict[str, Any]
    net: str
    tax: str
    gross: str
    payable: str = ""
    more: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wrong:
    """A request that breaks a rule: the path of its field, and what names the rule."""

    name: str
    body: dict[str, Any]
    field: str
    rule: str


SHOP = [
    Right("a rate of three decimals", body("CAD", line("1", "100.00", "9.975")), "100.00", "9.98", "109.98"),
    Right("another one", body("USD", line("1", "7650.00", "8.425")), "7650.00", "644.51", "8294.51"),
    Right("79.20 with tax inside", body("EUR", line("1", "79.20", "19"), prices_include_tax=True),
          "66.55", "12.65", "79.20"),
    Right("79.20 by a rounding amount", body("EUR", line("1", "66.55", "19"), rounding_amount="0.01"),
          "66.55", "12.64", "79.19", "79.20"),
    Right("4.00 with tax inside at two rates",
          body("EUR", line("2", "1.96", "13"), line("2", "0.04", "24"), prices_include_tax=True),
          "3.53", "0.47", "4.00"),
    Right("1.00 with tax inside", body("CAD", line("1", "1.00", "13"), prices_include_tax=True),
          "0.88", "0.12", "1.00"),
    Right("screws, 12.34 for 7000", body("EUR", line("7000", "12.34", "21", base_quantity="7000", unit="C62")),
          "12.34", "2.59", "14.93"),
    Right("a price of ten decimals", body("EUR", line("7000", "0.0017628571", "21")), "12.34", "2.59", "14.93"),
    Right("a rate of 15 percent", body("NOK", line("1", "19935.66", "15")), "19935.66", "2990.35", "22926.01"),
    Right("half a cent of tax", body("SAR", line("1", "20000.5", "15")), "20000.50", "3000.08", "23000.58"),
    Right("a fraction of a quantity", body("RON", line("26935.78", "0.25", "19")), "6733.95", "1279.45", "8013.40"),
    Right("negative zeros", body("EUR", line("1", "-0.00", "-0", "Z"), line("1", "1.00", "20")),
          "1.00", "0.20", "1.20"),
    Right("shipping with tax inside, and a discount of ten percent",
          body("EUR", line("1", "39.99", "20"), line("1", "4.90", "20"), prices_include_tax=True,
               allowances=[{"percent": "10", "base_amount": "39.99", "vat_rate": "20", "vat_category": "S"}]),
          "34.07", "6.82", "40.89"),
    Right("tax in the seller's own currency",
          body("EUR", line("1", "100.00", "25"), accounting={"currency": "SEK", "exchange_rate": "11.0512"}),
          "100.00", "25.00", "125.00", more={"accounting_tax": "276.28"}),
    Right("yen", body("JPY", line("3", "110", "10"), prices_include_tax=True), "300", "30", "330"),
    Right("at a till, without an address", body("EUR", line("1", "9.90", "20"), buyer={"name": "Guest"}),
          "9.90", "1.98", "11.88"),
]  # fmt: skip

_E = [{"vat_category": "E", "reason": "Exempt"}]
_POWER = ["0.2185", "0.1022", "0.1299", "0.0405", "1.86", "0.1973"]

#: Where what a sample says of a line is not its product, `net` says so.
EN16931 = [
    Right("example 8: energy, prices for 12 months",
          body("EUR", line("16000", "0.0088", "21", unit="KWH"), line("16000", "0.00101", "21", unit="KWH"),
               line("132", "15.24", "21", base_quantity="12", unit="KW"), line("58", "1.53", "21", unit="KW"),
               line("1", "441", "21", base_quantity="12", unit="MON"),
               line("1", "678", "21", base_quantity="12", unit="MON"),
               *(line("1", price, "21") for price in ("83.34", "190.31", "64.21", "64.46")),
               payment={"due_date": "2014-11-24", "means": "30", "iban": "NL57 RABO 0107307510"},
               period={"start": "2014-10-01", "end": "2014-10-31"}, tax_point_date="2014-10-31",
               delivery={"date": "2014-10-31", "location_id": "871690930000478611"},
               attachments=[{"name": "Annex", "url": "https://example.com/annex.pdf"}]),
          "908.91", "190.87", "1099.78", "1099.78"),
    Right("four rates, and allowances of an exempt kind",
          body("SEK", line("1", "100", "6"), line("1", "50", "12"), line("1", "150", "12"), line("1", "400", "25"),
               allowances=[allowance("0.00", "6"), allowance("1.00", "0", "E")],
               charges=[allowance("1.00", "0", "E", "Handling"), allowance("0.00", "0", "E", "Other")],
               exemptions=_E, references={"buyer_reference": "R-1"}, payment={"due_date": "2020-02-14"}),
          "700.00", "130.00", "830.00", "830.00"),
    Right("a price and its discount",
          body("EUR", line("100", "0.1212", "25", gross_price="0.1346", price_discount="0.0134")),
          "12.12", "3.03", "15.15", "15.15"),
    Right("a credit note of an exempt supply, as its invoice",
          body("EUR", line("1", "100.11", "0", "E"), exemptions=_E), "100.11", "0.00", "100.11", "100.11"),
    Right("a telephone bill, rounded to whole crowns",
          body("SEK", line("77", "0.7", "25"), line("693.8", "0", "25", unit="MIN"),
               line("104", "0.7", "25", allowances=[{"amount": "50.00", "reason": "Free calls"}]),
               *(line(quantity, price, "25") for quantity, price in (
                   ("411.5", "0.5"), ("30", "1.5"), ("75.3", "2.55"), ("5.311", "15"), ("5", "2"), ("18.7", "2.65"),
                   ("9", "2.48"))),
               line("2", "27.5", "25", allowances=[{"amount": "5.00", "reason": "Rebate"}]), line("1", "100", "25"),
               rounding_amount="0.22"),
          "831.02", "207.76", "1038.78", "1039.00"),
    Right("not subject to VAT", body("EUR", line("1", "120", "0", "O"), buyer=GERMAN,
               exemptions=[{"vat_category": "O", "reason": "Not subject to VAT"}]),
          "120.00", "0.00", "120.00", "120.00"),
    Right("reverse charge with a charge",
          body("EUR", line("4", "52", "0", "AE", unit="HUR", gross_price="60", price_discount="8"),
               charges=[allowance("25.00", "0", "AE", "Delivery")], buyer={**GERMAN, "vat_id": "DE136695976"},
               exemptions=[{"vat_category": "AE", "code": "VATEX-EU-AE"}]),
          "233.00", "0.00", "233.00", "233.00"),
    Right("energy and water, paid in advance",
          body("EUR", *(line(quantity, _POWER[price], "19") for quantity, price in (
                   ("935", 0), ("119", 0), ("245.11", 1), ("24.4", 2), ("328", 3), ("3875", 3), ("1746", 3),
                   ("141.8", 2), ("401", 2), ("68.73", 2))),
               line("25", "1.86", "7", unit="MTQ"), line("4", "1.86", "7", unit="MTQ"),
               # Its product is 48.34: the price is a rounded one.
               line("245", "0.1973", "7", unit="DAY", net="48.33"), line("31", "0.1973", "7", unit="DAY"),
               prepaid_amount="1030.00"),
          "687.28", "117.58", "804.86", "-225.14"),
    Right("energy by kilowatt and year",
          body("EUR", line("31", "386.52", "19", base_quantity="366", unit="DAY"),
               # Its product is 6912.36: the price is a rounded one.
               line("2100", "3.2916", "19", unit="KWT", net="6912.37"),
               line("616290", "0.061232374", "19", unit="KWH")),
          "44682.01", "8489.58", "53171.59", "53171.59"),
    Right("the least that an invoice can say",
          body("EUR", line("30", "132.878", "19"), rounding_amount="0.01"), "3986.34", "757.40", "4743.74", "4743.75"),
    Right("allowances and charges everywhere, and tax in crowns",
          body("EUR",
               line("10", "410", "25", charges=[{"amount": "1.00", "reason": "Charge"}],
                    allowances=[{"amount": "101.00", "reason": "Discount", "reason_code": "95"}],
                    gross_price="410", price_discount="0"),
               line("10", "200", "0", "E", base_quantity="2"),
               line("10", "100", "25", charges=[{"amount": "1.00", "reason": "Charge"}],
                    allowances=[{"amount": "101.00", "reason": "Discount"}]),
               charges=[allowance("200.00", "25", reason="Cleaning")], allowances=[allowance("200.00", "25")],
               prepaid_amount="1000.00", accounting={"currency": "SEK", "exchange_rate": "8.0000000000"},
               exemptions=_E, tax_point_date="2021-06-30"),
          "5900.00", "1225.00", "7125.00", "6125.00", more={"accounting_tax": "9800.00"}),
    Right("a part invoice",
          body("EUR", line("3", "3.3333", "19", unit="MTK"), line("1", "5.5", "7", unit="KGM"),
               # The product of the last is 55.40: the price is a rounded one.
               line("20", "5.49", "7"), line("20", "2.77", "19", net="55.46"),
               allowances=[allowance("1.00", "19"), allowance("8.07", "7")],
               charges=[allowance("5.80", "7", reason="Shipping")], prepaid_amount="50.00",
               references={"purchase_order": "B123456789"}),
          "177.49", "20.16", "197.65", "147.65"),
    Right("a corrected invoice, as the invoice of what goes back",
          body("EUR", line("5", "1", "19"), line("2", "1.45", "7"),
               allowances=[allowance("0.10", "19"), allowance("0.06", "7"), allowance("0.05", "19"),
                           allowance("0.02", "7")],
               preceding_invoices=[{"number": "ABC-123", "issue_date": "2015-11-13"}]),
          "7.67", "1.12", "8.79", "8.79"),
    Right("a charge and a discount in francs",
          body("CHF", line("1", "0.98", "16", gross_price="1", price_discount="0.02"),
               charges=[allowance("0.50", "16", reason="Quick delivery")], allowances=[allowance("0.20", "16")],
               period={"start": "2016-09-01", "end": "2016-09-30"}, buyer={**GERMAN, "vat_id": "DE4711"}),
          "1.28", "0.20", "1.48", "1.48"),
]  # fmt: skip

#: Of which the samples are credit notes.
CREDITED = [each for each in EN16931 if each.name.startswith(("a credit note", "a corrected invoice"))]

_SUPPLY = line("1", "100.00", "0", "K")
_TO_GERMANY = {**GERMAN, "vat_id": "DE136695976"}
BROKEN = [
    Wrong("O beside S", body("EUR", line("1", "8.00", "0", "O"), line("1", "10.00", "20")),
          "lines[1].vat_category", "BR-O-11"),
    Wrong("O with the buyer's VAT id",
          body("EUR", line("1", "100.00", "0", "O"), buyer={**BUYER, "vat_id": "FR40303265045"}),
          "buyer.vat_id", "BR-O-02"),
    Wrong("AE without one", body("EUR", line("1", "100.00", "0", "AE")), "buyer.vat_id", "BR-AE-02"),
    Wrong("AE with one that is none",
          body("EUR", line("1", "100.00", "0", "AE"), buyer={**BUYER, "vat_id": "FR12345678901"}),
          "buyer.vat_id", "BR-AE-02"),
    Wrong("K without one", body("EUR", _SUPPLY, buyer=GERMAN), "buyer.vat_id", "BR-IC-02"),
    Wrong("K with one that is none", body("EUR", _SUPPLY, buyer={**GERMAN, "vat_id": "DE123456789"}),
          "buyer.vat_id", "BR-IC-02"),
    Wrong("K at home", body("EUR", _SUPPLY, buyer={**BUYER, "vat_id": "FR40303265045"}), "buyer.vat_id", "BR-IC-02"),
    Wrong("K to home", body("EUR", _SUPPLY, buyer={**_TO_GERMANY, "address": ADDRESS}),
          "buyer.address.country", "BR-IC-12"),
    Wrong("K to outside the EU", body("EUR", _SUPPLY, buyer=_TO_GERMANY,
                                      delivery={"address": {"country": "US"}}),
          "delivery.address.country", "BR-IC-12"),
    Wrong("G at home", body("EUR", line("1", "100.00", "0", "G")), "buyer.address.country", "BR-G-01"),
    Wrong("an allowance of another category", body("EUR", line("1", "8.00", "0", "O"),
                                                   allowances=[allowance("1.00", "20")]),
          "allowances[0].vat_category", "BR-O-11"),
    Wrong("a VAT id that is none", body("EUR", line("1", "1.00", "20"), buyer={**BUYER, "vat_id": "hello"}),
          "buyer.vat_id", "BR-CO-09"),
    Wrong("an exemption of what is taxed", body("EUR", line("1", "1.00", "20"),
                                                exemptions=[{"vat_category": "S", "reason": "None"}]),
          "exemptions[0].vat_category", "BR-S-10"),
    Wrong("too much for a till", body("EUR", line("1", "150.00", "20"), buyer={"name": "Guest"}),
          "buyer.address", "art. 220a"),
    Wrong("a till in another currency", body("USD", line("1", "1.00", "20"), buyer={"name": "Guest"}),
          "buyer.address", "art. 220a"),
    Wrong("reverse charge at a till", body("EUR", line("1", "1.00", "0", "AE"), buyer={"name": "Guest"}),
          "buyer.address", "220a"),
]  # fmt: skip
