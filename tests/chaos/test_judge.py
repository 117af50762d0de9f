"""The judge finds nothing wrong with a drained real shop, and finds every damage to it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from chaos.judge import amounts
from chaos.judge.judge import judge
from chaos.record import Kind
from tests.chaos import judged
from tests.chaos.damage import EVIDENCE, LEDGER
from tests.chaos.judged import Shop


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """One shop for all tests: their changes are rolled back, or made to a copy of the evidence."""
    with judged.shop() as made:
        yield made


def test_a_quiet_shop_has_nothing_wrong_and_everything_was_looked_at(shop: Shop) -> None:
    verdict = shop.otherwise(lambda _: None)
    assert verdict.shown == []
    assert verdict.holds
    counts = verdict.counts
    record = shop.record
    assert counts["invoices accepted"] == sum(
        each.accepted for each in record.asked.values() if each.kind is Kind.INVOICE
    )
    assert counts["checkouts accepted"] == sum(
        each.accepted for each in record.asked.values() if each.kind is Kind.CHECKOUT
    )
    assert counts["numbers"] == counts["issued events"] == counts["documents"] > 20
    assert counts["records read"] == counts["journal rows"] > 100
    assert counts["dead letters"] == 1
    assert counts["logos looked for"] == counts["documents looked at over HTTP"] > 20
    for what in (
        "orders REFUNDED",
        "orders CANCELLED",
        "orders SHIPPED",
        "commands accepted",
        "told of a conflict",
        "credits accepted",
        "credits refused",
    ):
        assert counts[what], what


@pytest.mark.parametrize("damage", LEDGER)
def test_damage_to_the_ledger_is_told(shop: Shop, damage: str) -> None:
    statements, rule, words = LEDGER[damage]
    verdict = shop.damaged(*statements)
    assert any(each.startswith(f"{rule}: ") and words in each for each in verdict.shown), verdict.shown


@pytest.mark.parametrize("change", EVIDENCE)
def test_what_was_told_or_shown_otherwise_is_told(shop: Shop, change: str) -> None:
    function, rule, words = EVIDENCE[change]
    verdict = shop.otherwise(function)
    assert any(each.startswith(f"{rule}: ") and words in each for each in verdict.shown), verdict.shown


def test_a_forged_record_on_a_real_topic_is_told(shop: Shop) -> None:
    """The last test with this shop, because the record stays on its topic."""
    topic, partition, offset = shop.produce("inventory-events", b"\0forged", seq=b"1")
    verdict = judge(shop.access, shop.record)
    where = f"journal: {topic}/{partition} offset {offset}: seq 1 differs from the journal"
    assert where in verdict.shown


def test_a_judge_who_cannot_look_says_so(shop: Shop) -> None:
    verdict = judge(replace(shop.access, provider_url=""), shop.record)
    assert list(verdict.violations) == ["looked"]


@pytest.mark.parametrize(
    ("quantity", "unit_price", "currency", "net", "tax"),
    [
        ("1", "0.125", "EUR", 13, 3),
        ("0.5", "0.01", "EUR", 1, 0),
        ("-1", "0.125", "EUR", -13, -3),
        ("1", "2.5", "JPY", 3, 1),
    ],
)
def test_halves_are_rounded_away_from_zero(quantity: str, unit_price: str, currency: str, net: int, tax: int) -> None:
    line = {"quantity": quantity, "unit_price": unit_price, "vat_rate": "20.00", "vat_category": "S"}
    assert amounts.totals([line], currency) == (net, tax, net + tax)


def test_tax_is_rounded_once_for_each_rate() -> None:
    line = {"quantity": "1", "unit_price": "0.12", "vat_rate": "20", "vat_category": "S"}
    assert amounts.totals([line, {**line, "vat_rate": "20.00"}], "EUR") == (24, 5, 29)
