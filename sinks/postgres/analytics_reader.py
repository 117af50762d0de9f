"""Read by gateways: what the analytics agent has counted, with a time limit for every wait."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import LiteralString, NamedTuple

from domain.analytics import QUARTER_MINUTES, Counted, quarter_of
from sinks.postgres.lanes import Lane, check_url

#: The present rate of sale is that of this time.
COVER_DAYS = 7

_SERIES: LiteralString = """
    SELECT width_bucket(minute, %(bounds)s::int[]) - 1 AS step, currency, what, sum(events)::bigint AS events,
           sum(amount_minor)::bigint AS amount_minor
    FROM analytics_counts
    WHERE seller_id = %(seller_id)s AND minute >= %(first)s AND minute < %(last)s
    GROUP BY 1, 2, 3
"""
# The amounts in one pass for all SKUs that are shown: one for each would read all SKUs of the range as often.
_SKUS: LiteralString = """
    WITH sold AS (
        SELECT sku, sum(pieces)::bigint AS pieces FROM analytics_skus
        WHERE seller_id = %(seller_id)s AND minute >= %(first)s AND minute < %(last)s GROUP BY sku
    ), lately AS (
        SELECT sku, sum(pieces)::bigint AS pieces FROM analytics_skus
        WHERE seller_id = %(seller_id)s AND minute >= %(since)s AND minute < %(now)s GROUP BY sku
    ), top AS MATERIALIZED (
        SELECT coalesce(sold.sku, lately.sku) AS sku, coalesce(sold.pieces, 0) AS pieces,
               coalesce(lately.pieces, 0) AS lately, s.on_hand, s.on_hand - s.reserved AS available,
               row_number() OVER (
                   ORDER BY CASE WHEN %(by_cover)s AND coalesce(lately.pieces, 0) > 0
                                 THEN (s.on_hand - s.reserved)::numeric / lately.pieces END NULLS LAST,
                            coalesce(sold.pieces, 0) DESC, coalesce(sold.sku, lately.sku)
               ) AS place
        FROM sold FULL JOIN lately USING (sku)
        LEFT JOIN stock s ON s.seller_id = %(seller_id)s AND s.sku = coalesce(sold.sku, lately.sku)
        ORDER BY place LIMIT %(limit)s
    ), nets AS (
        SELECT sku, jsonb_agg(jsonb_build_array(currency, net) ORDER BY currency) AS nets FROM (
            SELECT sku, currency, sum(net_minor)::bigint AS net FROM analytics_skus
            WHERE seller_id = %(seller_id)s AND minute >= %(first)s AND minute < %(last)s AND currency <> ''
              AND sku = ANY(ARRAY(SELECT sku FROM top)) GROUP BY sku, currency
        ) by_currency GROUP BY sku
    )
    SELECT sku, pieces, lately, on_hand, available, coalesce(nets, '[]') AS nets
    FROM top LEFT JOIN nets USING (sku) ORDER BY place
"""
#: When the counts begin, where they do not begin with the first event there was.
_BEGINNING: LiteralString = "SELECT max(first_at) AS at FROM analytics_progress WHERE first_seq > 1"


class Sum(NamedTuple):
    """What was counted in a step of a series."""

    step: int
    currency: str
    what: Counted
    events: int
    amount_minor: int


class SkuSales(NamedTuple):
    """A SKU's sales and its stock."""

    sku: str
    #: Sold in the range asked for.
    pieces: int
    #: Sold in the last `COVER_DAYS`.
    lately: int
    #: None for a SKU without a row.
    on_hand: int | None
    available: int | None
    #: By currency, without tax.
    nets: list[tuple[str, int]]


class AnalyticsReader:
    """Reads for one gateway. Every method raises `PostgresUnavailableError`, within `lanes.READ_SECONDS_MAX`."""

    def __init__(self, url: str) -> None:
        """Connects on first use. Raises `ValueError`."""
        check_url(url)
        self._lane = Lane(url, read_only=True)

    async def series(self, seller_id: str, bounds: Sequence[int]) -> list[Sum]:
        """The sums between each two bounds, in minutes since 1970, in their order; what was not counted is absent."""
        rows = await self._lane.query(
            _SERIES, seller_id=seller_id, bounds=list(bounds), first=bounds[0], last=bounds[-1]
        )
        return [Sum(**{**row, "what": Counted(row["what"])}) for row in rows]

    async def skus(
        self, seller_id: str, first: int, last: int, now: datetime, limit: int, *, by_cover: bool
    ) -> list[SkuSales]:
        """The SKUs that sold most from minute `first` to `last`, or those whose stock ends first at the present rate.

        All quarters of an hour that have a part of it are counted whole.
        """
        minute = int(now.timestamp()) // 60
        rows = await self._lane.query(
            _SKUS,
            seller_id=seller_id,
            first=quarter_of(first),
            last=quarter_of(last + QUARTER_MINUTES - 1),
            since=quarter_of(minute - int(timedelta(days=COVER_DAYS).total_seconds()) // 60),
            now=minute + 1,
            by_cover=by_cover,
            limit=limit,
        )
        return [SkuSales(**{**row, "nets": [(currency, net) for currency, net in row["nets"]]}) for row in rows]

    async def beginning(self) -> datetime | None:
        """When the counts begin; None if they have every event there was."""
        [row] = await self._lane.query(_BEGINNING)
        at: datetime | None = row["at"]
        return at

    async def close(self) -> None:
        """Close the connection, even a hanging one."""
        await self._lane.close()
