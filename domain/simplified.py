"""Invoices without the buyer's address: the simplified invoice of Directive 2006/112/EC, articles 220a and 226b.

Each country of the EU permits it up to an amount, tax included: 100 EUR by article 220a, more where article 238 was
used. Reverse charge and supplies within the EU are excluded by article 220a (2). Where a country permits more for some
trades, such as Spain and Portugal for retail, the amount is the one for all of them.
"""

from typing import NamedTuple

from domain.invoice import Invoiced, Priced
from domain.iso import CURRENCY_EXPONENTS
from domain.money import minor_text
from domain.refusals import TAX_RULE, Refusal


class Limit(NamedTuple):
    """Up to how much, in whole units of which currency, by which law."""

    amount: int
    currency: str
    law: str
    #: Whether the buyer's VAT identifier or legal id must stand in for the address.
    needs_id: bool = False


#: What each country of the EU has to permit.
_EVERYWHERE = Limit(100, "EUR", "Directive 2006/112/EC, art. 220a")
#: By the seller's country; of a country of the EU that is not here it is the Directive's. France has none of its own:
#: up to 150 EUR its CGI (annexe II, art. 242 nonies A, II) spares the seller's VAT identifier, not the buyer's address.
LIMITS: dict[str, Limit] = {
    **dict.fromkeys("BE BG CY EE FR GR HR HU IE LT LU LV MT NL RO SI".split(), _EVERYWHERE),
    "AT": Limit(400, "EUR", "UStG 1994 § 11 (6)"),
    "CZ": Limit(10_000, "CZK", "zákon 235/2004 Sb. § 30 (1)"),
    "DE": Limit(250, "EUR", "UStDV § 33"),
    "DK": Limit(3_000, "DKK", "momsbekendtgørelsen, kapitel 12: forenklede fakturaer"),
    "ES": Limit(400, "EUR", "Real Decreto 1619/2012, art. 4 (1) a)"),
    "FI": Limit(400, "EUR", "arvonlisäverolaki 209 f §"),
    "IT": Limit(400, "EUR", "D.P.R. 633/1972, art. 21-bis; D.M. 10 maggio 2019, art. 1", needs_id=True),
    "PL": Limit(450, "PLN", "ustawa o VAT, art. 106e ust. 5 pkt 3"),
    "PT": Limit(100, "EUR", "Código do IVA, art. 40 (1) b)"),
    "SE": Limit(4_000, "SEK", "mervärdesskattelagen (2023:200) 17 kap. 26 §"),
    "SK": Limit(100, "EUR", "zákon 222/2004 Z. z. § 74 (3) a)"),
    "GB": Limit(250, "GBP", "VAT Regulations 1995, reg. 16 (1)"),
    "CH": Limit(400, "CHF", "MWSTV Art. 57"),
}
_OUTSIDE_EU = frozenset({"GB", "CH"})
_EXCLUDED = frozenset({"AE", "K"})


def check_simplified(request: Invoiced, priced: Priced, country: str) -> Refusal | None:
    """Whether the request has an address, or may do without it, by the law of the seller's country."""
    buyer = request["buyer"]
    limit = LIMITS.get(country)
    if buyer["address"]["country"] or limit is None:
        return None
    field = "buyer.address"
    excluded = next((line["vat_category"] for line in request["lines"] if line["vat_category"] in _EXCLUDED), None)
    if excluded is not None:
        return Refusal(TAX_RULE, field, f"must be given in category {excluded} (Directive 2006/112/EC, art. 220a (2))")
    if request["currency"] == _EVERYWHERE.currency != limit.currency and country not in _OUTSIDE_EU:
        limit = _EVERYWHERE
    most = f"{limit.amount} {limit.currency}"
    if request["currency"] != limit.currency:
        detail = f"must be given: without it an invoice is a simplified one, up to {most} and in {limit.currency}"
        return Refusal(TAX_RULE, field, f"{detail} ({limit.law})")
    if priced.gross_minor > limit.amount * 10 ** CURRENCY_EXPONENTS[limit.currency]:
        total = minor_text(priced.gross_minor, limit.currency)
        detail = f"must be given: without it an invoice is a simplified one, up to {most} ({limit.law}), and this is"
        return Refusal(TAX_RULE, field, f"{detail} {total}")
    details = buyer.get("details")
    if limit.needs_id and not buyer["vat_id"] and (details is None or details["legal_id"] is None):
        detail = "must be given, or the buyer's vat_id or legal_id in its place"
        return Refusal(TAX_RULE, field, f"{detail} ({limit.law})")
    return None
