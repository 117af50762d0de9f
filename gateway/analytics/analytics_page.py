"""The page of a seller's analytics: `GET /a/{token}`, for whoever has the link, until it expires.

The page is written here, tables included; its script draws charts of them, and asks for the page again.
"""

import functools
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, TypedDict

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from yarl import URL

from domain.analytics import Step
from domain.analytics_link import read_analytics
from domain.document_link import TOKEN_CHARS_MAX
from gateway.analytics import analytics_views as views
from gateway.analytics.analytics_asked import SINCE, STEP, UNTIL, ZONE
from gateway.analytics.analytics_endpoints import PAGE_PATH, AnalyticsFigures, csv_answer
from gateway.analytics.analytics_shapes import SalesSeries
from gateway.http.openapi import DeclaredResponse, Parameter, open_operation, text
from gateway.http.problems import ProblemError
from sinks.postgres.lanes import PostgresUnavailableError

_TOKEN = Parameter("token", "path", text(TOKEN_CHARS_MAX), "The link's token.", required=True)
_PARAMETERS = (_TOKEN, STEP, ZONE, SINCE, UNTIL)
_RETRY_SECONDS = 10
#: Nothing from elsewhere, no inline script, no frame around it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none';"
    " base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    # The page's address is the secret.
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}
_HTML = "text/html"
_CSV = DeclaredResponse(200, "For spreadsheets", media_type="text/csv")
_ELSE = (
    DeclaredResponse(404, "A page that says that the link leads nowhere", media_type=_HTML),
    DeclaredResponse(410, "A page that says that the link has expired", media_type=_HTML),
    DeclaredResponse(422, "A page that says what is wrong with the time asked for", media_type=_HTML),
    DeclaredResponse(503, "A page that says that it is unavailable", media_type=_HTML),
)
_CHOICES = (
    {"name": "Last hour", "step": Step.MINUTE.value, "query": "step=minute"},
    {"name": "Last day", "step": Step.HOUR.value, "query": "step=hour"},
    {"name": "Last 30 days", "step": Step.DAY.value, "query": "step=day"},
)
#: What the page loads: the package and the file. The chart library is the dashboard's: one copy serves both.
_STATIC = {
    "analytics.js": ("gateway", "text/javascript"),
    "analytics.css": ("gateway", "text/css"),
    "uplot.js": ("monitor", "text/javascript"),
    "uplot.css": ("monitor", "text/css"),
}


class _Row(TypedDict):
    at: str
    placed: int
    confirmed: int
    revenues: list[str]


class AnalyticsPage:
    """Shows a seller's analytics to whoever has a link."""

    def __init__(
        self,
        figures: AnalyticsFigures,
        *,
        keys: Sequence[bytes],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._figures = figures
        self._keys = keys
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        """The page, its files for spreadsheets, and what it loads; open to all who have the link."""
        return [
            web.get(PAGE_PATH, self.show),
            web.get(f"{PAGE_PATH}/series.csv", self.series_csv),
            web.get(f"{PAGE_PATH}/skus.csv", self.skus_csv),
            *(_static(name) for name in _STATIC),
        ]

    @open_operation(
        "A seller's analytics: a page",
        DeclaredResponse(200, "The page", media_type=_HTML, headers=("Content-Security-Policy",)),
        *_ELSE,
        parameters=_PARAMETERS,
    )
    async def show(self, request: web.Request) -> web.Response:
        """GET /a/{token}."""

        async def page(seller_id: str) -> web.Response:
            series = await self._figures.series(request, seller_id)
            skus = await self._figures.skus(request, seller_id)
            query = request.rel_url.raw_query_string
            token = request.match_info["token"]
            currencies = [each["currency"] for each in series["totals"]["amounts"]]
            return _page(
                seller_id,
                step=series["step"],
                series=series,
                skus=skus["skus"],
                totals=_totals(series),
                currencies=currencies,
                rows=_rows(series, currencies),
                csv={name: str(URL(f"{token}/{name}.csv?{query}", encoded=True)) for name in ("series", "skus")},
            )

        return await self._answer(request, page)

    @open_operation("A series of a seller's analytics", _CSV, *_ELSE, parameters=_PARAMETERS)
    async def series_csv(self, request: web.Request) -> web.Response:
        """GET /a/{token}/series.csv."""

        async def series(seller_id: str) -> web.Response:
            return csv_answer("series", views.series_csv((await self._figures.series(request, seller_id))["steps"]))

        return await self._answer(request, series)

    @open_operation("The SKUs of a seller's analytics", _CSV, *_ELSE, parameters=_PARAMETERS)
    async def skus_csv(self, request: web.Request) -> web.Response:
        """GET /a/{token}/skus.csv."""

        async def skus(seller_id: str) -> web.Response:
            return csv_answer("skus", views.skus_csv((await self._figures.skus(request, seller_id))["skus"]))

        return await self._answer(request, skus)

    async def _answer(self, request: web.Request, show: Callable[[str], Awaitable[web.Response]]) -> web.Response:
        link = read_analytics(request.match_info["token"], self._keys)
        if link is None:
            return _page("?", 404, problem="This link leads nowhere. Ask for another.")
        if link.expires_at <= self._now().timestamp():
            return _page("?", 410, problem="This link has expired. Ask for another.")
        try:
            answer = await show(link.seller_id)
        except ProblemError as problem:
            where = f"{problem.field}: " if problem.field else ""
            return _page(link.seller_id, problem.kind.status, problem=f"{where}{problem.detail}")
        except PostgresUnavailableError:
            unavailable = _page(link.seller_id, 503, problem="The figures are unavailable. They are asked for again.")
            unavailable.headers["Retry-After"] = str(_RETRY_SECONDS)
            return unavailable
        answer.headers.update(_HEADERS)
        return answer


def _static(name: str) -> web.RouteDef:
    media_type = _STATIC[name][1]

    @open_operation("What the page of analytics loads", DeclaredResponse(200, "A file", media_type=media_type))
    async def load(_: web.Request) -> web.Response:
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=_read(name), content_type=media_type, charset="utf-8", headers=headers)

    return web.get(f"/analytics/{name}", load)


def _totals(series: SalesSeries) -> list[tuple[str, str]]:
    totals = series["totals"]
    conversion = totals["conversion"]
    names = ("placed", "refused", "confirmed", "declined", "cancelled", "refunds")
    counts = [(name, f"{totals[name]:,}") for name in names]  # type: ignore[literal-required]
    return [*counts, ("conversion", "–" if conversion is None else f"{float(conversion):.1%}")]


def _rows(series: SalesSeries, currencies: Sequence[str]) -> list[_Row]:
    rows: list[_Row] = []
    for step in series["steps"]:
        figures = step["figures"]
        revenues = {each["currency"]: each["revenue"] for each in figures["amounts"]}
        rows.append(
            {
                "at": step["at"],
                "placed": figures["placed"],
                "confirmed": figures["confirmed"],
                "revenues": [revenues.get(currency, "0") for currency in currencies],
            }
        )
    return rows


def _page(shop: str, status: int = 200, **values: Any) -> web.Response:
    shown = {"shop": shop, "step": "", "problem": "", "csv": None, "choices": _CHOICES if values.get("series") else ()}
    html = _template().render({**shown, **values})
    return web.Response(status=status, text=html, content_type=_HTML, charset="utf-8", headers=_HEADERS)


@functools.cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("gateway", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("analytics.html")


@functools.cache
def _read(name: str) -> bytes:
    return files(_STATIC[name][0]).joinpath("pages", name).read_bytes()
