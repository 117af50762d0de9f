"""What a document calls itself, as the law of the seller's country words it."""

from domain.issuing import INVOICE

#: By language: invoice, credit note.
_TITLES = {
    "en": ("Invoice", "Credit note"),
    # "Gutschrift" is what a buyer issues (§ 14 (2) UStG); what corrects an invoice is a "Rechnungskorrektur".
    "de": ("Rechnung", "Rechnungskorrektur"),
    "fr": ("Facture", "Avoir"),
    # Real Decreto 1619/2012, article 15.
    "es": ("Factura", "Factura rectificativa"),
    # DPR 633/72, article 26.
    "it": ("Fattura", "Nota di credito"),
    # Ustawa o VAT, article 106j (2) 1.
    "pl": ("Faktura", "Faktura korygująca"),
    "nl": ("Factuur", "Creditfactuur"),
    # CIVA, articles 29 (7) and 36 (6).
    "pt": ("Fatura", "Nota de crédito"),
    "ja": ("請求書", "返還請求書"),
}
#: Of a whole order that was cancelled.
_CANCELLATIONS = {"de": "Stornorechnung"}
#: By language and the seller's country: what is worded differently there.
_LOCAL = {
    # § 11 (8) öUStG uses "Gutschrift" as Germany does; Switzerland's law has no such rule, and its trade says so.
    ("de", "CH"): ("Rechnung", "Gutschrift"),
    ("de", "LI"): ("Rechnung", "Gutschrift"),
    ("fr", "CH"): ("Facture", "Note de crédit"),
    ("fr", "BE"): ("Facture", "Note de crédit"),
    ("fr", "LU"): ("Facture", "Note de crédit"),
    ("nl", "BE"): ("Factuur", "Creditnota"),
}
#: Where a seller registered for the tax must write "Tax invoice": GST Act 1999 s 29-70 (AU), GST regulations (SG), CGST
#: Act s 31 (IN), VAT Act s 20 (ZA), Federal Decree-Law 8/2017 art. 65 (AE).
_TAX_INVOICE_COUNTRIES = frozenset({"AU", "SG", "IN", "ZA", "AE"})
#: For buyers without an address (Directive 2006/112/EC, article 226b).
_SIMPLIFIED = {"es": "Factura simplificada", "it": "Fattura semplificata", "pt": "Fatura simplificada"}
_QUALIFIED_NUMBER_LENGTH = len("T1234567890123")


def title(kind: str, language: str, country: str, tax_id: str, *, simplified: bool, cancelled: bool) -> str:
    """The title of an invoice or credit note in one of the languages, for a seller of `country`.

    `simplified`: the buyer has no address. `cancelled`: the credit note takes back a whole order.
    """
    titles = _LOCAL.get((language, country)) or _TITLES[language]
    if language == "ja" and _is_qualified(tax_id):
        # An issuer registered for the consumption tax: qualified invoices (消費税法 第57条の4).
        simple = "簡易" if simplified else ""
        return f"適格{simple}請求書" if kind == INVOICE else "適格返還請求書"
    if kind != INVOICE:
        local = (language, country) in _LOCAL
        return _CANCELLATIONS[language] if cancelled and not local and language in _CANCELLATIONS else titles[1]
    if simplified and language in _SIMPLIFIED:
        return _SIMPLIFIED[language]
    if language == "en" and tax_id and country in _TAX_INVOICE_COUNTRIES:
        return "Tax invoice"
    return titles[0]


def _is_qualified(tax_id: str) -> bool:
    return len(tax_id) == _QUALIFIED_NUMBER_LENGTH and tax_id[0] == "T" and tax_id[1:].isdecimal()
