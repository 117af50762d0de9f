"""What real shops, accountants and clients send, and what each of it amounts to."""

import json
from typing import Any, cast

import pytest

from audit.arithmetic import check_sums
from chaos.judge import amounts as judged
from domain.credit import credit, quantities
from domain.invoice import Priced, compare_claims, price
from domain.money import SCALE, minor, minor_text
from domain.records import InvoiceIssued, InvoiceRequest
from domain.refusals import TAX_RULE, TOTALS_DISAGREE, Refusal
from domain.rules import SellerFacts, check_rules
from gateway.http import bodies
from schemas import catalog
from schemas.codec import decode, encode
from tests.cases.requests import ADDRESS, BROKEN, BUYER, CREDITED, EN16931, SHOP, Right, Wrong, body, line

SELLER = SellerFacts("FR", "FR40303265045")


def read(asked: dict[str, Any]) -> InvoiceRequest:
    """As it goes to Kafka."""
    given = bodies.read_invoice(json.dumps(asked).encode())
    record = bodies.as_record(given, "demo", "CASE-1", 0)
    payload = encode(catalog.INVOICE_REQUEST, record)
    decoded = decode(payload, catalog.INVOICE_REQUEST, bytes_max=len(payload))[1]
    assert price(record) == price(decoded)
    return decoded


@pytest.mark.parametrize("case", SHOP + EN16931, ids=lambda case: case.name)
def test_a_request_amounts_to_what_is_right(case: Right) -> None:
    record = read(case.body)
    priced = price(record)
    assert isinstance(priced, Priced), priced
    totals = {"net": case.net, "tax": case.tax, "gross": case.gross, "payable": case.payable or case.gross}
    claimed = bodies.claims(bodies.read_invoice(json.dumps({**case.body, "totals": totals}).encode()))
    assert len(claimed) == len(totals) + sum("net" in each for each in case.body["lines"])
    assert compare_claims(priced, claimed, record["currency"]) is None
    assert check_rules(record, priced, SELLER) is None
    if "accounting_tax" in case.more:
        assert priced.details is not None
        assert priced.details["accounting_tax_minor"] is not None
        assert minor_text(priced.details["accounting_tax_minor"], "SEK") == case.more["accounting_tax"]


@pytest.mark.parametrize("case", SHOP + EN16931, ids=lambda case: case.name)
def test_audit_and_judge_come_to_the_same_by_arithmetic_of_their_own(case: Right) -> None:
    record = read(case.body)
    priced = price(record)
    assert isinstance(priced, Priced)
    totals = {
        "net_minor": priced.net_minor,
        "tax_minor": priced.tax_minor,
        "gross_minor": priced.gross_minor,
        "per_rate": list(priced.per_rate),
        "details": priced.details,
    }
    lines: list[dict[str, Any]] = [
        {**each, "net_minor": net} for each, net in zip(record["lines"], priced.nets_minor, strict=True)
    ]
    said = {"lines": lines, "totals": totals, "currency": record["currency"], "details": record["details"]}
    assert list(check_sums(cast(InvoiceIssued, said))) == []
    told = judged.totals(list(lines), record["currency"], record["details"])
    assert told == (priced.net_minor, priced.tax_minor, priced.gross_minor)
    assert judged.content(case.body) == judged.content(record)
    off = {**said, "totals": {**totals, "tax_minor": priced.tax_minor + 1, "gross_minor": priced.gross_minor + 1}}
    assert list(check_sums(cast(InvoiceIssued, off))) != []


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_a_broken_rule_is_named_with_its_field(case: Wrong) -> None:
    record = read(case.body)
    priced = price(record)
    assert isinstance(priced, Priced)
    refusal = check_rules(record, priced, SELLER)
    assert refusal is not None
    assert (refusal.reason, refusal.field) == (TAX_RULE, case.field)
    assert case.rule in refusal.detail


def test_what_is_taxed_needs_a_registered_seller() -> None:
    record = read(body("EUR", line("1", "1.00", "20")))
    priced = price(record)
    assert isinstance(priced, Priced)
    refusal = check_rules(record, priced, SellerFacts("FR", None))
    assert refusal is not None
    assert "BR-S-02" in refusal.detail
    assert check_rules(record, priced, SellerFacts("FR", None, tax_number="1234")) is None
    assert check_rules(record, priced, SellerFacts("US", None)) is None
    assert check_rules(record, priced, SellerFacts("FR", None, tax_name="GST")) is None


def test_street_and_description_keep_their_lines_and_others_have_spaces() -> None:
    address = {**ADDRESS, "street": "1 Main St\r\nBack door", "city": "Lyon\n"}
    buyer = {**BUYER, "name": " Zoë\tO'Neil\n", "address": address}
    record = read(body("EUR", line("1", "1.00", "20", description="Tea\nGreen\tleaf", note="a\r\nb"), buyer=buyer))
    assert record["buyer"]["name"] == "Zoë O'Neil"
    assert record["buyer"]["address"]["street"] == "1 Main St\nBack door"
    assert record["buyer"]["address"]["city"] == "Lyon"
    assert record["lines"][0]["description"] == "Tea\nGreen leaf"
    its = record["lines"][0]["details"]
    assert its is not None
    assert its["note"] == "a\nb"
    assert isinstance(price(record), Priced)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"payment": {"iban": "DE00370400440532013000"}}, "payment.iban"),
        ({"payment": {"means": "58"}}, "payment.iban"),
        ({"payment": {"means": "999"}}, "payment.means"),
        ({"payment": {"bic": "X"}}, "payment.bic"),
        ({"payment": {"due_date": "2026-02-30"}}, "payment.due_date"),
        ({"payment": {"card_last_digits": "411111111111"}}, "payment.card_last_digits"),
        ({"period": {"start": "2026-02-01", "end": "2026-01-01"}}, "period.end"),
        ({"delivery": {"address": {"country": "XX"}}}, "delivery.address.country"),
        ({"allowances": [{"vat_category": "S", "vat_rate": "20"}]}, "allowances[0].amount"),
        ({"allowances": [{"amount": "1.001", "vat_category": "S", "vat_rate": "20"}]}, "allowances[0].amount"),
        ({"charges": [{"amount": "1", "vat_category": "S", "vat_rate": "0"}]}, "charges[0].vat_rate"),
        ({"charges": [{"amount": "1", "vat_category": "S", "vat_rate": "1", "reason_code": "95"}]},
         "charges[0].reason_code"),
        ({"rounding_amount": "a"}, "rounding_amount"),
        ({"accounting": {"currency": "EUR", "exchange_rate": "1"}}, "accounting.currency"),
        ({"accounting": {"currency": "SEK", "exchange_rate": "0"}}, "accounting.exchange_rate"),
        ({"exemptions": [{"vat_category": "E", "code": "X"}]}, "exemptions[0].code"),
        ({"exemptions": [{"vat_category": "E"}]}, "exemptions[0].reason"),
        ({"notes": [{"text": "x", "subject_code": "x"}]}, "notes[0].subject_code"),
        ({"language": "english!"}, "language"),
        ({"attachments": [{"name": "x", "url": "ftp://x"}]}, "attachments[0].url"),
        ({"preceding_invoices": [{"number": "1", "issue_date": "soon"}]}, "preceding_invoices[0].issue_date"),
        ({"references": {"project": "x" * 201}}, "references.project"),
        ({"lines": [line("1", "1", "20", unit="PIECE")]}, "lines[0].unit"),
        ({"lines": [line("1", "1", "20", base_quantity="0")]}, "lines[0].base_quantity"),
        ({"lines": [line("1", "1", "20", gross_price="3", price_discount="1")]}, "lines[0].unit_price"),
        ({"lines": [line("1", "1", "20", allowances=[{"amount": "1", "reason_code": "PC"}])]},
         "lines[0].allowances[0].reason_code"),
        ({"buyer": {**BUYER, "electronic_address": {"id": "x", "scheme": "9999"}}}, "buyer.electronic_address.scheme"),
        ({"buyer": {**BUYER, "contact": {"email": "nobody"}}}, "buyer.contact.email"),
    ],
)  # fmt: skip
def test_what_few_requests_say_is_checked_field_by_field(more: dict[str, Any], field: str) -> None:
    refusal = price(read({**body("EUR", line("1", "1.00", "20")), **more}))
    assert isinstance(refusal, Refusal), refusal
    assert refusal.field == field


def test_a_net_amount_that_no_rounded_price_explains_is_refused() -> None:
    """A price rounded to two decimals is off by half a cent: 20 x 2.77 is from 55.30 to 55.50."""
    for net, is_right in (("55.30", True), ("55.50", True), ("55.29", False), ("55.51", False)):
        asked = bodies.read_invoice(json.dumps(body("EUR", line("20", "2.77", "19", net=net))).encode())
        priced = price(bodies.as_record(asked, "demo", "CASE-1", 0))
        assert isinstance(priced, Priced)
        refusal = compare_claims(priced, bodies.claims(asked), "EUR")
        assert (refusal is None) == is_right, net
        if refusal is not None:
            assert (refusal.reason, refusal.field) == (TOTALS_DISAGREE, "lines[0].net")
            assert "55.40" in refusal.detail
        elif net != "55.40":
            details = bodies.as_record(asked, "demo", "CASE-1", 0)["lines"][0]["details"]
            assert details is not None
            (change,) = (*details["allowances"], *details["charges"])
            assert (change["amount"], change["reason"]) == ("0.10", "Rounding")


def test_a_net_amount_beside_a_lines_own_allowances_and_where_prices_include_tax() -> None:
    its = line("20", "2.77", "19", allowances=[{"percent": "10", "reason": "Discount"}], net="49.92")
    asked = bodies.read_invoice(json.dumps(body("EUR", its, line("2", "3", "19", net="6"))).encode())
    priced = price(bodies.as_record(asked, "demo", "CASE-1", 0))
    assert isinstance(priced, Priced)
    assert priced.nets_minor == (4992, 600)
    assert compare_claims(priced, bodies.claims(asked), "EUR") is None
    for net, is_right in (("66.55", True), ("66.56", False)):
        inside = body("EUR", line("1", "79.20", "19", net=net), prices_include_tax=True)
        asked = bodies.read_invoice(json.dumps(inside).encode())
        priced = price(bodies.as_record(asked, "demo", "CASE-1", 0))
        assert isinstance(priced, Priced)
        assert (compare_claims(priced, bodies.claims(asked), "EUR") is None) == is_right


def test_a_tax_that_is_not_its_rates_share_is_refused() -> None:
    """One sample says 757.41 for 19% of 3986.34, which is 757.4046: BR-CO-17 has it rounded to 757.40.

    What it says is due, 4743.75, is said with a rounding amount.
    """
    (case,) = (each for each in EN16931 if each.name == "the least that an invoice can say")
    asked = bodies.read_invoice(json.dumps({**case.body, "totals": {"tax": "757.41"}}).encode())
    priced = price(bodies.as_record(asked, "demo", "CASE-1", 0))
    assert isinstance(priced, Priced)
    refusal = compare_claims(priced, bodies.claims(asked), "EUR")
    assert refusal is not None
    assert (refusal.reason, refusal.field) == (TOTALS_DISAGREE, "totals.tax")


def test_a_buyers_vat_identifier_that_is_made_up_is_refused_under_reverse_charge() -> None:
    """One sample names DE152138634, whose check digit would be another; with a real one it is as the sample says."""
    (case,) = (each for each in EN16931 if each.name == "reverse charge with a charge")
    record = read({**case.body, "buyer": {**case.body["buyer"], "vat_id": "DE152138634"}})
    priced = price(record)
    assert isinstance(priced, Priced)
    refusal = check_rules(record, priced, SELLER)
    assert refusal is not None
    assert (refusal.reason, refusal.field) == (TAX_RULE, "buyer.vat_id")
    assert "BR-AE-02" in refusal.detail


@pytest.mark.parametrize("case", CREDITED, ids=lambda case: case.name)
def test_what_was_invoiced_is_credited_to_the_cent(case: Right) -> None:
    """Two samples are credit notes: of an exempt supply, and one that says with minus signs what goes back.

    A credit note says it in positive amounts, and whole or piece by piece it comes to the sample's totals.
    """
    order = read(case.body)
    whole = dict(enumerate(quantities(order)))
    at_once = credit(order, {}, whole)
    said = (at_once.net_minor, at_once.tax_minor, at_once.gross_minor)
    assert said == tuple(minor(text, order["currency"]) for text in (case.net, case.tax, case.gross))
    given = dict.fromkeys(whole, 0)
    notes = []
    for index, pieces in whole.items():
        for _ in range(pieces // SCALE):
            notes.append(credit(order, given, {index: SCALE}))
            given[index] += SCALE
    assert tuple(sum(getattr(each, name) for each in notes) for name in ("net_minor", "tax_minor")) == said[:2]
