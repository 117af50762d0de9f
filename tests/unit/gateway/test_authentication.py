"""A route's declaration authenticates its callers: no handler can forget it, and none is called without a key."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway import registry
from gateway.app import Gateway
from gateway.http import openapi
from gateway.http.listening import ListeningSite
from gateway.http.server import BoundedRunner
from runtime.settings import load

#: What anybody may call, besides the registry, which is public as a whole.
OPEN = {
    # Signed, for people without a key.
    "GET /d/{token}",
    # The same, with what the page loads.
    "GET /a/{token}",
    "GET /a/{token}/series.csv",
    "GET /a/{token}/skus.csv",
    "GET /analytics/analytics.css",
    "GET /analytics/analytics.js",
    "GET /analytics/uplot.css",
    "GET /analytics/uplot.js",
    # For buyers, who have no key.
    "GET /v1/catalogue/{seller_id}/products",
    "GET /v1/catalogue/{seller_id}/products/{product_id}",
    "GET /v1/catalogue/{seller_id}/search",
    "GET /v1/images/{seller_id}/{name}",
    "GET /t/{token}",
    # What the interface is, for tools and for people.
    "GET /asyncapi.json",
    "GET /docs",
    "GET /docs/redoc-3.0.1.js",
    "GET /docs/topics",
    "GET /healthz",
    "GET /openapi.json",
    "GET /problems/{name}",
    "GET /readyz",
    # Its body is signed instead.
    "POST /v1/providers/{provider}/notices",
}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """With all its routes, and no service behind them: what needs one before it looks for a key fails."""
    made = Gateway(
        load(
            kafka_bootstrap="127.0.0.1:1",
            postgres_url="postgresql://nobody@127.0.0.1:1/nothing",
            redis_url="redis://127.0.0.1:1",
            objects_url=tmp_path.as_uri(),
        )
    )
    yield made
    await made.stop()


async def test_every_route_answers_401_without_a_key_unless_it_is_declared_open(gateway: Gateway) -> None:
    runner = BoundedRunner(gateway.application, access_log=None, seller_of=lambda _: None)
    await runner.setup()
    await ListeningSite(runner, "127.0.0.1", 0).start()
    paths: dict[str, dict[str, Any]] = openapi.document(gateway.application)["paths"]
    answered_otherwise = set()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        for path, method in [(path, method.upper()) for path, methods in paths.items() for method in methods]:
            # Neither what stands in the path nor the body can be read: the key comes first.
            url = re.sub(r"{\w+}", "%00", path)
            async with client.request(method, url, data=b"\0") as answer:
                if answer.status != 401:
                    answered_otherwise.add(f"{method} {path}")
                if method == "GET":
                    async with client.head(url) as head:
                        assert (head.status == 401) == (answer.status == 401), path
    await runner.cleanup()
    assert {each for each in answered_otherwise if not registry.owns(each.partition(" ")[2])} == OPEN
    assert len(paths) > 25
