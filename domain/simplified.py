"""Invoices without the buyer's address: the simplified invoice of Directive 2006/112/EC, articles 220a and 226b.

Each country of the EU permits it up to an amount: 100 EUR by article 220a, up to 400 EUR where article 238 was used.
Reverse charge and supplies within the EU are excluded by article 220a (2).
"""

from domain.invoice import Invoiced, Priced
from domain.iso import CURRENCY_EXPONENTS
from domain.money import minor_text
from domain.refusals import TAX_RULE, Refusal

#: Up to how much, in whole units of which currency, by the seller's country; with the law that says so. Of another
#: country of the EU it is the Directive's 100 EUR.
LIMITS: dict[str, tuple[int, str, str]] = {
    "AT": (400, "EUR", "UStG § 11 (6)"),
    "CZ": (10_000, "CZK", "zákon 235/2004 Sb. § 30 (1)"),
    "DE": (250, "EUR", "UStDV § 33"),
    "ES": (400, "EUR", "Real Decreto 1619/2012, art. 4 (1)"),
    "FI": (400, "EUR", "Arvonlisäverolaki 209 f §"),
    "FR": (150, "EUR", "CGI, annexe II, art. 242 nonies A, II"),
    "IT": (400, "EUR", "D.P.R. 633/1972, art. 21-bis; D.M. 10 maggio 2019"),
    "PL": (450, "PLN", "ustawa o VAT, art. 106e ust. 5 pkt 3"),
    "SE": (4_000, "SEK", "mervärdesskattelagen (2023:200) 17 kap. 26 §"),
    "GB": (250, "GBP", "VAT Regulations 1995, reg. 16 (1)"),
    "CH": (400, "CHF", "MWSTV Art. 57"),
    **dict.fromkeys(
        "BE BG CY DK EE GR HR HU IE LT LU LV MT NL PT RO SI SK".split(),
        (100, "EUR", "Directive 2006/112/EC, art. 220a"),
    ),
}
_EXCLUDED = frozenset({"AE", "K"})


def check_simplified(request: Invoiced, priced: Priced, country: str) -> Refusal | None:
    """Whether the request has an address, or may do without it, by the law of the seller's country."""
    if request["buyer"]["address"]["country"]:
        return None
    limit = LIMITS.get(country)
    if limit is None:
        return None
    amount, currency, law = limit
    field = "buyer.address"
    excluded = next((line["vat_category"] for line in request["lines"] if line["vat_category"] in _EXCLUDED), None)
    if excluded is not None:
        return Refusal(TAX_RULE, field, f"must be given in category {excluded} (Directive 2006/112/EC, art. 220a (2))")
    most = f"{amount} {currency}"
    if request["currency"] != currency:
        detail = f"must be given: without it an invoice is a simplified one, up to {most} and in {currency} ({law})"
        return Refusal(TAX_RULE, field, detail)
    if priced.gross_minor > amount * 10 ** CURRENCY_EXPONENTS[currency]:
        total = minor_text(priced.gross_minor, currency)
        detail = f"must be given: without it an invoice is a simplified one, up to {most} ({law}), and this is {total}"
        return Refusal(TAX_RULE, field, detail)
    return None
