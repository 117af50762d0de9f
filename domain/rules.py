"""Which category of VAT may stand on whose invoice: the rules of EN 16931 that need the seller, by their names there.

They are asked before there is a number, of new requests alone: what has its number keeps it. They hold for sellers in
the European Union whose tax is VAT. Elsewhere the categories are names for rates.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from domain.invoice import Invoiced, Priced
from domain.iso import COUNTRIES
from domain.refusals import TAX_RULE, Refusal
from domain.simplified import check_simplified

#: Countries of the EU, and Greece's and Northern Ireland's prefixes of VAT identifiers.
EU = frozenset("AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split())
_PREFIX_OF = {"GR": "EL"}
#: Parts of them are outside the territory of VAT without a country code of their own: exports go there too.
_WITH_TERRITORIES_OUTSIDE = frozenset("DE ES FI FR GR IT".split())
_VAT_ID = re.compile(r"([A-Z]{2})[0-9A-Z+*]{2,13}", re.ASCII)
_SPACING = re.compile(r"[ .\-]")
#: What the names of a category's rules begin with.
_RULES = {"S": "S", "Z": "Z", "E": "E", "AE": "AE", "K": "IC", "G": "G", "O": "O", "L": "AF", "M": "AG"}
#: Categories with a rate, even if it is zero: nothing exempts from it.
_NOT_EXEMPT = frozenset("SZLM")


@dataclass(frozen=True, slots=True)
class SellerFacts:
    """What the rules ask of a seller."""

    country: str
    vat_id: str | None
    #: Local tax registration, BT-32.
    tax_number: str = ""
    #: What the tax is called; empty for VAT.
    tax_name: str = ""

    @property
    def is_bound(self) -> bool:
        """Whether the rules hold for this seller."""
        return self.country in EU and self.tax_name in ("", "VAT")


def check_rules(request: Invoiced, priced: Priced, seller: SellerFacts) -> Refusal | None:
    """The first rule that the request breaks."""
    refusal = check_simplified(request, priced, seller.country)
    if refusal is not None or not seller.is_bound:
        return refusal
    places = _places(request)
    if len(places) == 1 and "S" in places and request["buyer"]["vat_id"] is None and request.get("details") is None:
        # As nearly all are.
        return None if seller.vat_id or seller.tax_number else _no_seller_id("S", places["S"], " or its tax number")
    return next(_broken(request, places, seller), None)


def is_vat_id(text: str, country: str) -> bool:
    """Whether it is a VAT identifier of a country of the EU, its check digits included; of `country` if not empty."""
    compact = _SPACING.sub("", text).upper()
    match = _VAT_ID.fullmatch(compact)
    if match is None:
        return False
    prefix = match.group(1)
    if country and prefix != _PREFIX_OF.get(country, country) and (prefix, country) != ("XI", "GB"):
        return False
    return _has_check_digits(prefix, compact)


def has_prefix(text: str) -> bool:
    """Whether it begins as VAT identifiers do, and has a digit: BR-CO-09."""
    compact = _SPACING.sub("", text).upper()
    match = _VAT_ID.fullmatch(compact)
    if match is None or not any(char.isdigit() for char in compact):
        return False
    return match.group(1) in COUNTRIES or match.group(1) in ("EL", "XI")


def _places(request: Invoiced) -> dict[str, str]:
    """The categories of the request, each with the path of the first field that has it."""
    places: dict[str, str] = {}
    for index, line in enumerate(request["lines"]):
        if line["vat_category"] not in places:
            places[line["vat_category"]] = f"lines[{index}].vat_category"
    details = request.get("details")
    if details is not None:
        for name, its in (("allowances", details["allowances"]), ("charges", details["charges"])):
            for index, each in enumerate(its):
                places.setdefault(each["vat_category"], f"{name}[{index}].vat_category")
    return places


def _broken(request: Invoiced, places: dict[str, str], seller: SellerFacts) -> Iterator[Refusal]:
    buyer = request["buyer"]
    vat_id = buyer["vat_id"]
    if "O" in places:
        yield from _broken_o(places, vat_id)
    if vat_id and buyer["address"]["country"] in (EU | {""}) and not has_prefix(vat_id):
        yield _breaks("buyer.vat_id", "BR-CO-09", "must be a VAT identifier with its country's prefix, such as FR…")
    for category, field in places.items():
        if category in ("K", "G") and not seller.vat_id:
            yield _no_seller_id(category, field, "")
        elif category in ("S", "Z", "E", "AE", "L", "M") and not (seller.vat_id or seller.tax_number):
            yield _no_seller_id(category, field, " or its tax number")
    if "AE" in places:
        yield from _broken_ae(request)
    if "K" in places:
        yield from _broken_k(request, seller)
    if "G" in places:
        yield from _broken_g(request, seller)
    yield from _broken_exemptions(request, places)


def _broken_o(places: dict[str, str], vat_id: str | None) -> Iterator[Refusal]:
    other = next((field for category, field in places.items() if category != "O"), None)
    if other is not None:
        detail = "must be O, as another line is: what is not subject to VAT stands on an invoice of its own"
        yield _breaks(other, "BR-O-11", detail)
    if vat_id:
        yield _breaks("buyer.vat_id", "BR-O-02", "must be left out of an invoice that is not subject to VAT (O)")


def _broken_ae(request: Invoiced) -> Iterator[Refusal]:
    buyer = request["buyer"]
    details = buyer.get("details")
    has_legal_id = details is not None and details["legal_id"] is not None
    if not buyer["vat_id"] and not has_legal_id:
        detail = "must be given, or the buyer's legal_id: who owes the VAT (AE) must be registered"
        yield _breaks("buyer.vat_id", "BR-AE-02", detail)
    if buyer["vat_id"] and buyer["address"]["country"] in EU and not is_vat_id(buyer["vat_id"], ""):
        yield _breaks("buyer.vat_id", "BR-AE-02", f"{buyer['vat_id']} is no VAT identifier: its digits don't agree")


def _broken_k(request: Invoiced, seller: SellerFacts) -> Iterator[Refusal]:
    vat_id = request["buyer"]["vat_id"]
    if not vat_id:
        yield _breaks("buyer.vat_id", "BR-IC-02", "must be given for a supply within the EU (K)")
        return
    if not is_vat_id(vat_id, ""):
        yield _breaks("buyer.vat_id", "BR-IC-02", f"{vat_id} is no VAT identifier: its digits don't agree")
    if is_vat_id(vat_id, seller.country):
        yield _breaks("buyer.vat_id", "BR-IC-02", "must be of another country of the EU than the seller's (K)")
    field, country = _destination(request)
    is_in_northern_ireland = country == "GB" and vat_id.upper().startswith("XI")
    if country == seller.country or (country not in EU and not is_in_northern_ireland):
        detail = f"must be another country of the EU than {seller.country}, to which the goods go (K)"
        yield _breaks(field, "BR-IC-12", detail)


def _broken_g(request: Invoiced, seller: SellerFacts) -> Iterator[Refusal]:
    field, country = _destination(request)
    if country == seller.country or (country in EU and country not in _WITH_TERRITORIES_OUTSIDE):
        yield _breaks(field, "BR-G-01", "must be outside the EU, to which an export (G) goes")


def _broken_exemptions(request: Invoiced, places: dict[str, str]) -> Iterator[Refusal]:
    details = request.get("details")
    if details is None:
        return
    for index, each in enumerate(details["exemptions"]):
        field = f"exemptions[{index}].vat_category"
        category = each["vat_category"]
        if category in _NOT_EXEMPT:
            yield _breaks(field, f"BR-{_RULES[category]}-10", f"must not be {category}, which is not exempt")
        if category not in places:
            yield _breaks(field, f"BR-{_RULES[category]}-01", f"is {category}, in which there is no line")


def _destination(request: Invoiced) -> tuple[str, str]:
    """The country that the goods go to, and the path of its field."""
    details = request.get("details")
    delivery = details["delivery"] if details is not None else None
    address = delivery["address"] if delivery is not None else None
    if address is not None:
        return "delivery.address.country", address["country"]
    return "buyer.address.country", request["buyer"]["address"]["country"]


def _no_seller_id(category: str, field: str, alternative: str) -> Refusal:
    detail = f"{category} needs the seller's VAT identifier{alternative}: set it with `gapless sellers set`"
    return _breaks(field, f"BR-{_RULES[category]}-02", detail)


def _breaks(field: str, rule: str, detail: str) -> Refusal:
    return Refusal(TAX_RULE, field, f"{detail} ({rule})")


@lru_cache(maxsize=16_384)
def _has_check_digits(prefix: str, compact: str) -> bool:
    # Loaded by country, with the first identifier of each.
    eu_vat: Any = import_module("stdnum.eu.vat")
    if prefix == "XI":
        gb_vat: Any = import_module("stdnum.gb.vat")
        return bool(gb_vat.is_valid(compact[2:]))
    return bool(eu_vat.is_valid(compact))
