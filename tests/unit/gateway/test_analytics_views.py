"""Analytics in CSV: columns that can be added, and texts that no spreadsheet takes for a formula."""

import csv
import io

import pytest

from domain.analytics import Counted
from gateway.analytics.analytics_views import figures, series_csv, sku_view, skus_csv, text_cell
from sinks.postgres.analytics_reader import SkuSales, Sum

SUMS = [
    Sum(0, "EUR", Counted.PLACED, 3, 3000),
    Sum(0, "EUR", Counted.CONFIRMED, 2, 2500),
    Sum(0, "EUR", Counted.VOIDED, 1, 500),
    Sum(0, "JPY", Counted.PLACED, 1, 700),
    Sum(0, "", Counted.REFUSED, 4, 0),
]


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_currencies_are_not_added_and_revenue_is_less_what_was_voided() -> None:
    found = figures(SUMS)
    assert (found["placed"], found["refused"], found["confirmed"]) == (4, 4, 2)
    assert found["conversion"] == "0.2500"
    assert [(each["currency"], each["placed"], each["revenue"]) for each in found["amounts"]] == [
        ("EUR", "30.00", "20.00"),
        ("JPY", "700", "0"),
    ]


def test_a_column_of_counts_may_be_added_although_a_step_has_a_line_for_each_currency() -> None:
    lines = read(series_csv([{"at": "t1", "figures": figures(SUMS)}, {"at": "t2", "figures": figures([])}]))
    assert [(each["at"], each["currency"], each["placed"], each["revenue_amount"]) for each in lines] == [
        ("t1", "EUR", "4", "20.00"),
        ("t1", "JPY", "0", "0"),
        ("t2", "", "0", ""),
    ]
    assert sum(int(each["refused"]) for each in lines) == 4


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_sku_is_a_formula(text: str) -> None:
    assert text_cell(text) == f"'{text}"
    sku = sku_view(SkuSales(text, 1, 7, 10, 10, [("EUR", -500)]))
    [line] = read(skus_csv([sku]))
    assert line["sku"] == f"'{text}"
    # A negative amount is a number, and stays one.
    assert (line["net"], line["cover_days"]) == ("-5.00", "10.0")


def test_other_texts_are_as_they_are() -> None:
    for text in ("MUG", "M=1", 'a,"b"', "1"):
        [line] = read(skus_csv([sku_view(SkuSales(text, 0, 0, None, None, []))]))
        assert (line["sku"], line["on_hand"]) == (text, "")
