"""/v1/analytics and its page, on a real Postgres."""

import csv
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.conftest import Services
from tests.integration.gateways import KEYS, Client, Topics, running

Query = Callable[..., list[tuple[Any, ...]]]
#: In the hour before last, whole: far from the present, whenever the test runs.
AT = (datetime.now(UTC) - timedelta(hours=3)).replace(minute=0, second=0, microsecond=0)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
async def client(services: Services, ledger: str, topics: Topics) -> AsyncIterator[Client]:
    async with running(services, ledger, topics, link_keys="k" * 40) as made:
        yield made


@pytest.fixture
def counted(query: Query) -> None:
    """Two sellers' counts."""
    minute = int(AT.timestamp()) // 60
    for seller, offset, currency, what, events, amount in (
        ("demo", 0, "EUR", "placed", 3, 3000),
        ("demo", 1, "EUR", "placed", 1, 700),
        ("demo", 61, "EUR", "confirmed", 2, 2000),
        ("demo", 61, "JPY", "confirmed", 1, 900),
        ("demo", 2, "", "refused", 1, 0),
        ("other", 0, "EUR", "placed", 100, 10**6),
    ):
        query(
            "INSERT INTO analytics_counts VALUES (%s, %s, 0, %s, %s, %s, %s)",
            seller, minute + offset, currency, what, events, amount,
        )  # fmt: skip
    for seller, sku, currency, pieces, net in (
        ("demo", "MUG", "", 14, 0), ("demo", "MUG", "EUR", 0, 2500), ("demo", HOSTILE, "", 3, 0),
        ("other", "MUG", "", 99, 0),
    ):  # fmt: skip
        query(
            "INSERT INTO analytics_skus VALUES (%s, %s, %s, 1, %s, %s, %s)",
            seller, minute - minute % 15, sku, currency, pieces, net,
        )  # fmt: skip
    query("INSERT INTO stock VALUES ('demo', 'MUG', 10, 4, 1), ('other', %s, 5, 0, 1)", HOSTILE)


def span(**more: str) -> str:
    wanted = {"since": AT.isoformat(), "until": (AT + timedelta(hours=2)).isoformat(), **more}
    return "?" + "&".join(f"{name}={quote(value)}" for name, value in wanted.items())


@pytest.mark.usefixtures("counted")
async def test_a_seller_sees_what_was_counted_of_its_own(client: Client) -> None:
    answer = await client.get("/v1/analytics/series" + span())
    assert answer.status == 200
    series = answer.json
    assert [each["figures"]["placed"] for each in series["steps"]] == [4, 0]
    assert [each["figures"]["confirmed"] for each in series["steps"]] == [0, 3]
    assert (series["totals"]["conversion"], series["totals"]["refused"]) == ("0.6000", 1)
    assert [(each["currency"], each["placed"], each["revenue"]) for each in series["totals"]["amounts"]] == [
        ("EUR", "37.00", "20.00"),
        ("JPY", "0", "900"),
    ]
    assert series["counted_since"] is None
    other = (await client.as_(KEYS["other"]).get("/v1/analytics/series" + span())).json
    assert other["totals"]["placed"] == 100


@pytest.mark.usefixtures("counted")
async def test_days_begin_in_the_zone(client: Client, query: Query) -> None:
    """The seller's, or the one asked for."""
    query("UPDATE sellers SET time_zone = 'Asia/Kolkata'")
    series = (await client.get("/v1/analytics/series" + span(step="day"))).json
    assert series["zone"] == "Asia/Kolkata"
    assert all(each["at"].endswith("T00:00:00+05:30") for each in series["steps"])
    assert series["totals"]["placed"] == 4
    elsewhere = (await client.get("/v1/analytics/series" + span(step="day", zone="Asia/Kathmandu"))).json
    assert all(each["at"].endswith("T00:00:00+05:45") for each in elsewhere["steps"])


@pytest.mark.usefixtures("counted")
async def test_skus_have_their_sales_their_stock_and_how_long_it_lasts(client: Client) -> None:
    found = (await client.get("/v1/analytics/skus" + span())).json
    assert found["skus"] == [
        {
            "sku": "MUG", "sold": 14, "sold_in_7_days": 14, "on_hand": 10, "available": 6, "cover_days": "3.0",
            "amounts": [{"currency": "EUR", "net": "25.00"}],
        },
        # Another seller's stock of a SKU of the same name is nobody's here.
        {
            "sku": HOSTILE, "sold": 3, "sold_in_7_days": 3, "on_hand": None, "available": None, "cover_days": None,
            "amounts": [],
        },
    ]  # fmt: skip
    assert [
        each["sku"] for each in (await client.get("/v1/analytics/skus" + span(by="cover", limit="1"))).json["skus"]
    ] == ["MUG"]


@pytest.mark.usefixtures("counted")
async def test_a_range_that_ends_within_a_quarter_has_all_of_it(client: Client) -> None:
    """Or what was sold last would not be shown until the quarter ends."""
    until = (AT + timedelta(minutes=5)).isoformat()
    found = (await client.get("/v1/analytics/skus" + span(step="minute", until=until))).json
    assert [each["sold"] for each in found["skus"]] == [14, 3]


@pytest.mark.usefixtures("counted")
async def test_the_same_for_spreadsheets(client: Client) -> None:
    answer = await client.get("/v1/analytics/series.csv" + span())
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [(each["currency"], each["placed"], each["revenue_amount"]) for each in lines] == [
        ("EUR", "4", "0.00"), ("EUR", "0", "20.00"), ("JPY", "0", "900"),
    ]  # fmt: skip
    answer = await client.get("/v1/analytics/skus.csv" + span())
    assert [each["sku"] for each in csv.DictReader(io.StringIO(answer.body.decode()))] == ["MUG", HOSTILE]


@pytest.mark.parametrize(
    ("query_string", "field"),
    [
        ("?zone=Mars/Olympus", "zone"),
        ("?zone=../../etc/passwd", "zone"),
        ("?step=week", "step"),
        ("?since=yesterday", "since"),
        ("?since=9999-12-31T23:59:59Z", "since"),
        ("?since=2026-11-02&until=2026-11-01", "until"),
        ("?since=2020-01-01", "step"),
        ("?since=2020-01-01&step=minute", "step"),
    ],
)
async def test_a_wrong_range_is_refused_by_its_parameter(client: Client, query_string: str, field: str) -> None:
    for resource in ("series", "skus.csv"):
        answer = await client.get(f"/v1/analytics/{resource}{query_string}")
        assert (answer.status, answer.json["field"]) == (422, field)
    assert (await client.get("/v1/analytics/skus?by=luck")).json["field"] == "by"


@pytest.mark.usefixtures("counted")
async def test_the_page_is_for_who_has_a_link(client: Client) -> None:
    """And shows hostile texts as texts."""
    made = await client.call("POST", "/v1/analytics/link")
    assert made.status == 201
    path = urlsplit(made.json["url"]).path
    anybody = client.as_(None)
    page = await anybody.get(path + span())
    assert page.status == 200
    text = page.body.decode()
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert 'data-currency="JPY"' in text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    downloaded = await anybody.get(f"{path}/series.csv{span()}")
    assert downloaded.body.startswith(b"at,currency,placed,")
    assert (await anybody.get(path + "?zone=%3Cb%3E")).status == 422
    assert (await anybody.get(path[:-1] + ("A" if path[-1] != "A" else "B") + "x")).status == 404
    for name in ("uplot.js", "uplot.css", "analytics.js", "analytics.css"):
        assert (await anybody.get(f"/analytics/{name}")).status == 200
    assert (await anybody.get("/analytics/index.html")).status == 404
