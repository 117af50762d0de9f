"""Sums as the API and the page show them, in JSON and in CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime

from domain.analytics import Counted, Range, cover_days, share
from domain.money import minor_text
from gateway.analytics.analytics_shapes import SalesAmounts, SalesFigures, SalesStep, SkuSalesView
from sinks.postgres.analytics_reader import COVER_DAYS, SkuSales, Sum

#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_COUNTS = (
    "placed", "refused", "confirmed", "declined", "cancelled", "voided", "captures", "refunds", "invoices",
    "credit_notes",
)  # fmt: skip
_AMOUNTS = ("placed", "revenue", "captured", "refunded", "invoiced", "credited")


def figures(sums: Iterable[Sum]) -> SalesFigures:
    """The figures of some sums."""
    events = dict.fromkeys(Counted, 0)
    minors: dict[str, dict[Counted, int]] = {}
    for each in sums:
        events[each.what] += each.events
        if each.currency:
            amounts = minors.setdefault(each.currency, dict.fromkeys(Counted, 0))
            amounts[each.what] += each.amount_minor
    return {
        "placed": events[Counted.PLACED],
        "refused": events[Counted.REFUSED],
        "confirmed": events[Counted.CONFIRMED],
        "declined": events[Counted.DECLINED],
        "cancelled": events[Counted.CANCELLED],
        "voided": events[Counted.VOIDED],
        "captures": events[Counted.CAPTURED],
        "refunds": events[Counted.REFUNDED],
        "invoices": events[Counted.INVOICED],
        "credit_notes": events[Counted.CREDITED],
        "conversion": share(events[Counted.CONFIRMED], events[Counted.PLACED] + events[Counted.REFUSED]),
        "amounts": [_amounts(currency, minors[currency]) for currency in sorted(minors)],
    }


def _amounts(currency: str, minors: dict[Counted, int]) -> SalesAmounts:
    return {
        "currency": currency,
        "placed": minor_text(minors[Counted.PLACED], currency),
        "revenue": minor_text(minors[Counted.CONFIRMED] - minors[Counted.VOIDED], currency),
        "captured": minor_text(minors[Counted.CAPTURED], currency),
        "refunded": minor_text(minors[Counted.REFUNDED], currency),
        "invoiced": minor_text(minors[Counted.INVOICED], currency),
        "credited": minor_text(minors[Counted.CREDITED], currency),
    }


def steps(cut: Range, sums: Iterable[Sum]) -> list[SalesStep]:
    """Every step of the range, those in which nothing happened included."""
    by_step: list[list[Sum]] = [[] for _ in cut.bounds[:-1]]
    for each in sums:
        by_step[each.step].append(each)
    return [{"at": local_text(at), "figures": figures(its)} for at, its in zip(cut.bounds[:-1], by_step, strict=True)]


def local_text(at: datetime) -> str:
    """RFC 3339, with the offset that the zone has then."""
    return at.isoformat(timespec="seconds")


def sku_view(sales: SkuSales) -> SkuSalesView:
    """A SKU."""
    return {
        "sku": sales.sku,
        "sold": sales.pieces,
        "sold_in_7_days": sales.lately,
        "on_hand": sales.on_hand,
        "available": sales.available,
        "cover_days": None if sales.available is None else cover_days(sales.available, sales.lately, COVER_DAYS),
        "amounts": [{"currency": currency, "net": minor_text(net, currency)} for currency, net in sales.nets],
    }


def series_csv(series: Sequence[SalesStep]) -> str:
    """A line for each step and currency. A step's counts stand in its first line alone, so that columns may be added.

    A step without amounts has one line, without a currency.
    """
    lines: list[list[object]] = [["at", "currency", *_COUNTS, *(f"{name}_amount" for name in _AMOUNTS)]]
    for step in series:
        counts: list[object] = [step["figures"][name] for name in _COUNTS]  # type: ignore[literal-required]
        its: list[SalesAmounts | None] = [*step["figures"]["amounts"]]
        for amounts in its or [None]:
            shown = [""] * len(_AMOUNTS) if amounts is None else [amounts[name] for name in _AMOUNTS]  # type: ignore[literal-required]
            lines.append([step["at"], "" if amounts is None else amounts["currency"], *counts, *shown])
            counts = [0] * len(_COUNTS)
    return _csv(lines)


def skus_csv(skus: Iterable[SkuSalesView]) -> str:
    """A line for each SKU and currency; a SKU without amounts has one, without a currency."""
    names = ("sold", "sold_in_7_days", "on_hand", "available", "cover_days")
    lines: list[list[object]] = [["sku", *names, "currency", "net"]]
    for sku in skus:
        nets: list[tuple[str, str]] = [(each["currency"], each["net"]) for each in sku["amounts"]]
        for currency, net in nets or [("", "")]:
            lines.append([text_cell(sku["sku"]), *(sku[name] for name in names), currency, net])  # type: ignore[literal-required]
    return _csv(lines)


def text_cell(text: str) -> str:
    """Somebody's text as a cell that no spreadsheet takes for a formula: with an apostrophe before it, if need be."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _csv(lines: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue()
