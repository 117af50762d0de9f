"""/v1/analytics: what a seller sells, as series and by SKU; and links to the page that shows it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from aiohttp import web

from domain.analytics_link import AnalyticsLink, sign_analytics
from domain.refusals import INVALID_FIELD, Refusal
from gateway.analytics import analytics_views as views
from gateway.analytics.analytics_asked import SINCE, STEP, UNTIL, ZONE, Asked, read_asked
from gateway.analytics.analytics_shapes import SalesSeries, SkuSalesList
from gateway.http import parameters, problems
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake
from gateway.http.openapi import DeclaredResponse, Parameter, operation
from gateway.http.parameters import LIMIT_DEFAULT, LIMIT_MAX
from gateway.links import LinkRequest, LinkView, link_answer, seconds_asked
from sinks.postgres.analytics_reader import AnalyticsReader
from sinks.postgres.orders_reader import OrdersReader

PAGE_PATH = "/a/{token}"
#: A working day: who has the link sees what the seller earns.
SECONDS_DEFAULT = 12 * 3_600
SOLD, COVER = "sold", "cover"
_CSV = "text/csv"
_LIMIT = Parameter(
    "limit",
    "query",
    {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
    "How many SKUs there are at most.",
)
_BY = Parameter(
    "by",
    "query",
    {"type": "string", "enum": [SOLD, COVER], "default": SOLD},
    "`sold`: those that sold most first. `cover`: those whose stock ends first.",
)
_SERIES_PARAMETERS = (STEP, ZONE, SINCE, UNTIL)
_SKU_PARAMETERS = (_BY, _LIMIT, STEP, ZONE, SINCE, UNTIL)


class AnalyticsFigures:
    """Reads what the API and the page show."""

    def __init__(
        self, reader: AnalyticsReader, orders: OrdersReader, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._reader = reader
        self._orders = orders
        self._now = now

    async def asked(self, request: web.Request, seller_id: str) -> Asked:
        """What the request asks for. Raises `ProblemError`, and `PostgresUnavailableError`."""
        shop = await self._orders.shop(seller_id)
        return read_asked(request.query, "UTC" if shop is None else shop.time_zone, self._now())

    async def series(self, request: web.Request, seller_id: str) -> SalesSeries:
        """A series. Raises as `asked` does."""
        asked = await self.asked(request, seller_id)
        sums = await self._reader.series(seller_id, asked.cut.minutes)
        return {
            "zone": asked.zone,
            "step": asked.step.value,
            "since": views.local_text(asked.cut.since),
            "until": views.local_text(asked.cut.until),
            "counted_since": await self._beginning(),
            "totals": views.figures(sums),
            "steps": views.steps(asked.cut, sums),
        }

    async def skus(self, request: web.Request, seller_id: str) -> SkuSalesList:
        """SKUs. Raises as `asked` does."""
        by = request.query.get("by", SOLD)
        if by not in (SOLD, COVER):
            raise problems.refused(Refusal(INVALID_FIELD, "by", f"must be {SOLD} or {COVER}"))
        limit = parameters.limit_of(request.query)
        asked = await self.asked(request, seller_id)
        minutes = asked.cut.minutes
        found = await self._reader.skus(seller_id, minutes[0], minutes[-1], self._now(), limit, by_cover=by == COVER)
        return {
            "zone": asked.zone,
            "since": views.local_text(asked.cut.since),
            "until": views.local_text(asked.cut.until),
            "counted_since": await self._beginning(),
            "skus": [views.sku_view(each) for each in found],
        }

    async def _beginning(self) -> str | None:
        at = await self._reader.beginning()
        return None if at is None else views.local_text(at.astimezone(UTC))


class AnalyticsEndpoints:
    """Shows a seller's analytics to whoever has the seller's key."""

    def __init__(
        self, intake: Intake, figures: AnalyticsFigures, *, keys: Sequence[bytes], public_url: str | None
    ) -> None:
        """The first of `keys` signs; without any there are no links. `public_url` None: as the caller addresses us."""
        self._intake = intake
        self._figures = figures
        self._keys = keys
        self._public_url = public_url

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        return [
            web.get("/v1/analytics/series", self.series),
            web.get("/v1/analytics/series.csv", self.series_csv),
            web.get("/v1/analytics/skus", self.skus),
            web.get("/v1/analytics/skus.csv", self.skus_csv),
            web.post("/v1/analytics/link", self.link),
        ]

    @operation(
        "What was sold, by minute, hour or day",
        DeclaredResponse(200, "A series and its totals", SalesSeries),
        parameters=_SERIES_PARAMETERS,
        problems=[problems.INVALID_FIELD],
    )
    async def series(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/analytics/series."""
        with problems.needing_postgres():
            return json_answer(await self._figures.series(request, seller_id))

    @operation(
        "The same for spreadsheets",
        DeclaredResponse(200, "A line for each step and currency", media_type=_CSV),
        parameters=_SERIES_PARAMETERS,
        problems=[problems.INVALID_FIELD],
    )
    async def series_csv(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/analytics/series.csv."""
        with problems.needing_postgres():
            return csv_answer("series", views.series_csv((await self._figures.series(request, seller_id))["steps"]))

    @operation(
        "The SKUs that sell most, or whose stock ends first",
        DeclaredResponse(200, "SKUs with their sales, stock and cover", SkuSalesList),
        parameters=_SKU_PARAMETERS,
        problems=[problems.INVALID_FIELD],
    )
    async def skus(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/analytics/skus."""
        with problems.needing_postgres():
            return json_answer(await self._figures.skus(request, seller_id))

    @operation(
        "The same for spreadsheets",
        DeclaredResponse(200, "A line for each SKU and currency", media_type=_CSV),
        parameters=_SKU_PARAMETERS,
        problems=[problems.INVALID_FIELD],
    )
    async def skus_csv(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/analytics/skus.csv."""
        with problems.needing_postgres():
            return csv_answer("skus", views.skus_csv((await self._figures.skus(request, seller_id))["skus"]))

    @operation(
        "A link to the page of the seller's analytics, for browsers",
        DeclaredResponse(201, "The link", LinkView),
        body=LinkRequest,
        needs_body=False,
        problems=[problems.NOT_FOUND, problems.INVALID_FIELD],
    )
    async def link(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/analytics/link."""
        with self._intake.place(request, seller_id):
            seconds = await seconds_asked(request, SECONDS_DEFAULT, can_sign=bool(self._keys))
        expires_at = int(datetime.now(UTC).timestamp()) + seconds
        token = sign_analytics(AnalyticsLink(seller_id, expires_at), self._keys[0])
        return link_answer(request, self._public_url, PAGE_PATH.format(token=token), expires_at)


def csv_answer(name: str, body: str) -> web.Response:
    """A file for spreadsheets."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', "Cache-Control": "private, no-store"}
    return web.Response(text=body, content_type=_CSV, charset="utf-8", headers=headers)
