"""Who may see what the monitor shows, and how its pages are guarded."""

import hashlib
import http
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

import monitor
from local.layout import free_port
from monitor.app import Monitor
from runtime.settings import Settings, SettingsError, load
from sinks.postgres.dead_letters import STATES

TOKEN = "correct horse battery"
PAGES = Path(monitor.__file__).parent / "pages"
HTML = {"Accept": "text/html"}


def settings(token: str | None = TOKEN, port: int | None = None) -> Settings:
    """Of a monitor whose servers are away: nobody listens at port 1."""
    return load(
        kafka_bootstrap="127.0.0.1:1",
        postgres_url="postgresql://nobody@127.0.0.1:1/none",
        metrics_port=free_port() if port is None else port,
        monitor_token=token,
    )


@pytest.fixture
async def served() -> AsyncIterator[Monitor]:
    """A monitor that serves, and can't measure."""
    made = Monitor(settings())
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def browser(served: Monitor) -> AsyncIterator[aiohttp.ClientSession]:
    """Keeps cookies, also those of an address without a name."""
    async with aiohttp.ClientSession(served.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/state",
        "/events",
        "/orders?wanted=A-1",
        "/series?seller=demo",
        "/payments",
        "/stock",
        "/dead-letters",
        "/dead-letters/0-1",
    ],
)
async def test_figures_are_for_operators_alone(browser: aiohttp.ClientSession, path: str) -> None:
    async with browser.get(path) as answer:
        assert answer.status == http.HTTPStatus.UNAUTHORIZED
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "GAPLESS_MONITOR_TOKEN" in (await answer.json())["error"]
    async with browser.get(path, headers={"Authorization": "Bearer wrong"}) as answer:
        assert answer.status == http.HTTPStatus.UNAUTHORIZED


async def test_a_browser_without_a_token_gets_the_form(browser: aiohttp.ClientSession) -> None:
    async with browser.get("/", headers=HTML) as answer:
        assert answer.status == http.HTTPStatus.UNAUTHORIZED
        assert 'action="/login"' in await answer.text()


async def test_the_link_lets_in_and_its_token_does_not_stay_in_the_address(browser: aiohttp.ClientSession) -> None:
    async with browser.get("/login", params={"token": TOKEN}) as answer:
        assert answer.status == http.HTTPStatus.OK
        assert answer.url.path == "/"
        assert not answer.url.query
        assert 'data-page="stages"' in await answer.text()
    [cookie] = browser.cookie_jar
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert TOKEN not in cookie.value


async def test_the_form_lets_in(browser: aiohttp.ClientSession) -> None:
    async with browser.post("/login", data={"token": f" {TOKEN} "}) as answer:
        assert answer.url.path == "/"
        assert answer.status == http.HTTPStatus.OK


@pytest.mark.parametrize("token", ["wrong", "", "é"])
async def test_a_wrong_token_does_not(browser: aiohttp.ClientSession, token: str) -> None:
    async with browser.get("/login", params={"token": token}) as answer:
        assert answer.status == http.HTTPStatus.UNAUTHORIZED
    async with browser.post("/login", data={"token": token}) as answer:
        assert answer.status == http.HTTPStatus.UNAUTHORIZED
    assert not list(browser.cookie_jar)


async def test_a_forged_cookie_does_not(browser: aiohttp.ClientSession, served: Monitor) -> None:
    port = served.url.rpartition(":")[2]
    async with browser.get("/state", cookies={f"gapless_monitor_{port}": TOKEN}) as answer:
        assert answer.status == http.HTTPStatus.UNAUTHORIZED


async def test_programs_send_the_token(browser: aiohttp.ClientSession) -> None:
    """Before the first measurement there is nothing to tell, which is no 401."""
    async with browser.get("/state", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
        assert answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE


@pytest.mark.parametrize("seller", ["", " ", "a\nb", "x" * 257])
async def test_what_can_be_no_seller_is_refused(browser: aiohttp.ClientSession, seller: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with browser.get("/series", params={"seller": seller}, headers=headers) as answer:
        assert answer.status == http.HTTPStatus.BAD_REQUEST
        assert (await answer.json())["error"] == "`seller` must be the id of a seller"


@pytest.mark.parametrize("wanted", ["", " ", "a\nb", "x" * 257])
async def test_what_can_be_no_order_is_refused(browser: aiohttp.ClientSession, wanted: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with browser.get("/orders", params={"wanted": wanted}, headers=headers) as answer:
        assert answer.status == http.HTTPStatus.BAD_REQUEST
        assert "`wanted` must be" in (await answer.json())["error"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("?since=yesterday", "`since` must be a time in ISO 8601, such as 2026-11-29T14:03Z"),
        ("?state=gone", "`state` must be one of open, redriven, discarded"),
        ("?order=a%0Ab", "`order` is too long, or holds control characters"),
        ("?after=x", "'x' is no dead letter's id, such as 3-17: its partition and its seq"),
        ("/x", "'x' is no dead letter's id, such as 3-17: its partition and its seq"),
    ],
)
async def test_a_question_about_dead_letters_that_makes_no_sense_is_refused(
    browser: aiohttp.ClientSession, asked: str, said: str
) -> None:
    async with browser.get(f"/dead-letters{asked}", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
        assert answer.status == http.HTTPStatus.BAD_REQUEST
        assert (await answer.json())["error"] == said


def test_the_page_offers_every_state_of_a_dead_letter() -> None:
    text = (PAGES / "index.html").read_text()
    assert re.findall("<option>(.*?)</option>", text) == list(STATES)


@pytest.mark.parametrize("path", ["/payments", "/stock", "/dead-letters", "/dead-letters/0-1"])
async def test_nothing_is_known_without_postgres(browser: aiohttp.ClientSession, path: str) -> None:
    async with browser.get(path, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
        assert answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE
        assert (await answer.json())["error"].startswith("Postgres is unavailable: ")


async def test_orders_can_not_be_found_without_postgres(browser: aiohttp.ClientSession) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with browser.get("/orders", params={"wanted": "A-1"}, headers=headers) as answer:
        assert answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE
        assert (await answer.json())["error"].startswith("Postgres is unavailable: ")


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
async def test_metrics_and_health_are_for_all(browser: aiohttp.ClientSession, path: str) -> None:
    async with browser.get(path) as answer:
        assert answer.status == http.HTTPStatus.OK


async def test_a_monitor_that_can_not_measure_is_not_ready(browser: aiohttp.ClientSession) -> None:
    async with browser.get("/readyz") as answer:
        assert answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE
        assert (await answer.json())["measurements"] == "none yet"


@pytest.mark.parametrize("path", ["/login", "/metrics", "/dashboard.js", "/pages.js", "/nowhere"])
async def test_every_answer_forbids_what_a_page_does_not_need(browser: aiohttp.ClientSession, path: str) -> None:
    async with browser.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_pages_need_nothing_from_elsewhere_and_no_inline_script() -> None:
    """The policy would forbid it, and the page would stay empty."""
    for page in PAGES.glob("*.html"):
        text = page.read_text()
        assert "//" not in text.replace("<!doctype html>", ""), page
        assert "<script>" not in text
        assert "style=" not in text
        assert " on" not in " ".join(part.split(">")[0] for part in text.split("<")[1:] if part[0].isalpha())


def test_the_charting_library_is_the_one_that_was_published() -> None:
    """Byte for byte, with its licence."""
    for line in (PAGES / "uplot.sha256").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((PAGES / name).read_bytes()).hexdigest() == digest, name
    assert "MIT License" in (PAGES / "uplot.LICENSE").read_text()


@pytest.mark.parametrize("token", [None, "short"])
async def test_without_a_token_it_does_not_start(token: str | None) -> None:
    with pytest.raises(SettingsError, match="GAPLESS_MONITOR_TOKEN: must have 16 characters or more"):
        Monitor(settings(token))


async def test_a_probe_without_a_key_does_not_start() -> None:
    asked = settings().model_copy(update={"probe_url": "http://127.0.0.1:1"})
    with pytest.raises(SettingsError, match="GAPLESS_PROBE_API_KEY: must be set"):
        Monitor(asked)


async def test_without_a_port_it_does_not_start() -> None:
    with pytest.raises(SettingsError, match="GAPLESS_METRICS_PORT: must be set"):
        Monitor(settings(port=0))


async def test_a_port_that_is_taken_is_named(served: Monitor) -> None:
    other = Monitor(settings(port=int(served.url.rpartition(":")[2])))
    with pytest.raises(SettingsError, match="GAPLESS_METRICS_PORT: cannot listen at"):
        await other.start()
