"""Analytics as the API shows them."""

from typing import TypedDict


class SalesAmounts(TypedDict):
    """Of one currency, in decimal text; `revenue` is what was confirmed, less what was voided."""

    currency: str
    placed: str
    revenue: str
    captured: str
    refunded: str
    invoiced: str
    credited: str


class SalesFigures(TypedDict):
    """What was counted in a part of time. `conversion` is the part of the orders placed or refused that was confirmed.

    It is null without any.
    """

    placed: int
    refused: int
    confirmed: int
    declined: int
    cancelled: int
    voided: int
    captures: int
    refunds: int
    invoices: int
    credit_notes: int
    conversion: str | None
    amounts: list[SalesAmounts]


class SalesStep(TypedDict):
    """A step of a series: from `at` to the next step's."""

    at: str
    figures: SalesFigures


class SalesSeries(TypedDict):
    """A series, and its totals. `counted_since` is null if every event there ever was is counted."""

    zone: str
    step: str
    since: str
    until: str
    counted_since: str | None
    totals: SalesFigures
    steps: list[SalesStep]


class SkuNet(TypedDict):
    """Invoiced less credited, without tax."""

    currency: str
    net: str


class SkuSalesView(TypedDict):
    """A SKU. `cover_days`: how long what is available lasts, at the rate of the last 7 days; null if none was sold."""

    sku: str
    sold: int
    sold_in_7_days: int
    on_hand: int | None
    available: int | None
    cover_days: str | None
    amounts: list[SkuNet]


class SkuSalesList(TypedDict):
    """SKUs, those first that were asked for first."""

    zone: str
    since: str
    until: str
    counted_since: str | None
    skus: list[SkuSalesView]
