"""The words of a document in one language."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Each text as it is printed; `{tax}` is what the tax is called, other braces name what they hold."""

    #: What the tax is called where the seller gives it no other name.
    tax: str
    invoice_number: str
    credit_note_number: str
    issue_date: str
    order: str
    seller: str
    buyer: str
    credited_to: str
    deliver_to: str
    tax_id: str
    tax_number: str
    legal_id: str
    contact: str
    description: str
    sku: str
    quantity: str
    unit_price: str
    unit_price_with_tax: str
    net: str
    carried: str
    brought: str
    page: str
    rate: str
    taxable: str
    sum_of_lines: str
    allowances: str
    charges: str
    total_net: str
    total_gross: str
    prepaid: str
    rounding: str
    due: str
    paid: str
    credited: str
    payment: str
    paid_on: str
    paid_by: str
    pay_by: str
    pay: str
    nothing_due: str
    refunded_on: str
    debit: str
    debit_on: str
    terms: str
    due_date: str
    means_of_payment: str
    account_name: str
    remittance: str
    mandate: str
    creditor_id: str
    account: str
    scan: str
    #: By UNCL4461 code.
    means: Mapping[str, str]
    card: str
    tax_point: str
    delivery_date: str
    period: str
    buyer_reference: str
    project: str
    contract: str
    purchase_order: str
    sales_order: str
    receiving_advice: str
    despatch_advice: str
    tender: str
    preceding: str
    preceding_dated: str
    earlier: str
    list_price: str
    per: str
    allowance: str
    charge: str
    order_line: str
    buyer_item: str
    #: What a category is called beside its rate, by UNCL5305 code; the standard one needs no name.
    categories: Mapping[str, str]
    #: What an invoice must say about a supply without tax (Directive 2006/112/EC, article 226 (11), (11a)) where the
    #: event says nothing else; by UNCL5305 code.
    notices: Mapping[str, str]
    note: str
    reason: str
    attachments: str
    accounting: str
    #: Units that CLDR has no names for, by UN/ECE Recommendation 20 or 21 code.
    units: Mapping[str, str]


def means(cash: str, cheque: str, transfer: str, card: str, debit: str, online: str) -> Mapping[str, str]:
    """Names by the codes of UNCL4461."""
    return {
        "10": cash,
        "20": cheque,
        "30": transfer,
        "31": transfer,
        "42": transfer,
        "58": transfer,
        "48": card,
        "54": card,
        "55": card,
        "49": debit,
        "59": debit,
        "68": online,
    }


def units(
    piece: str, pair: str, dozen: str, set_of: str, box: str, pack: str, bag: str, bottle: str, carton: str,
    pallet: str, lump_sum: str, service: str, person: str,
) -> Mapping[str, str]:  # fmt: skip
    """Names by the codes of Recommendations 20 and 21. Pieces are named only where a line says so by another code."""
    return {
        "EA": piece,
        "NAR": piece,
        "NMB": piece,
        "XPP": piece,
        "PR": pair,
        "DZN": dozen,
        "SET": set_of,
        "BX": box,
        "XBX": box,
        "PK": pack,
        "XPK": pack,
        "XBG": bag,
        "XBO": bottle,
        "CT": carton,
        "XCT": carton,
        "XPX": pallet,
        "LS": lump_sum,
        "E48": service,
        "AS": set_of,
        "XPA": pack,
        "XSA": bag,
        "IE": person,
    }
