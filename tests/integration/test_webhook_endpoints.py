"""/v1/webhooks on a real gateway, each answer held against the OpenAPI document; and the same on the command line."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from click.testing import CliRunner

from gapless.webhooks import webhooks as command
from tests.conftest import Services
from tests.integration.gateways import KEYS, Client, Topics, running
from tests.integration.hooks_world import Hooks, Query, changed

URL = "https://shop.example/hooks"


@pytest.fixture
async def client(services: Services, ledger: str, topics: Topics) -> AsyncIterator[Client]:
    async with running(services, ledger, topics) as made:
        yield made


async def add(client: Client, url: str = URL, **more: Any) -> Any:
    """A new endpoint, as the answer has it."""
    answer = await client.call("POST", "/v1/webhooks", json={"url": url, **more})
    assert answer.status == 201, answer.body
    return answer.json


async def test_an_endpoint_is_added_changed_and_removed(client: Client) -> None:
    made = await add(client, events=["order.placed"], description="Lyon")
    assert made["secret"].startswith("whsec_")
    assert made["public_key"].startswith("whpk_")
    path = f"/v1/webhooks/{made['id']}"
    shown = {name: value for name, value in made.items() if name not in ("secret", "public_key")}
    assert (await client.get(path)).json == shown
    listed = (await client.get("/v1/webhooks")).json
    assert listed["endpoints"] == [shown]
    assert "order.shipped" in listed["event_types"]
    changed = await client.call("PATCH", path, json={"events": [], "state": "paused"})
    assert changed.json == {**shown, "events": [], "state": "paused"}
    assert (await client.get(f"{path}/secret")).json["secret"] == made["secret"]
    rotated = await client.call("POST", f"{path}/secret")
    assert (rotated.status, rotated.headers["Cache-Control"]) == (201, "no-store")
    assert (await client.get(f"{path}/secret")).json == rotated.json != {"secret": made["secret"]}
    assert (await client.call("DELETE", path)).status == 204
    assert (await client.call("DELETE", path)).status == 404
    assert (await client.get("/v1/webhooks")).json["endpoints"] == []


async def test_another_sellers_endpoint_does_not_exist(client: Client) -> None:
    made = await add(client)
    other = client.as_(KEYS["other"])
    path = f"/v1/webhooks/{made['id']}"
    asked = [
        await other.get(path), await other.get(f"{path}/secret"), await other.get(f"{path}/deliveries"),
        await other.get(f"{path}/deliveries/msg_1"), await other.call("PATCH", path, json={"state": "paused"}),
        await other.call("POST", f"{path}/secret"), await other.call("POST", f"{path}/test"),
        await other.call("POST", f"{path}/replay", json={"state": "dead"}), await other.call("DELETE", path),
    ]  # fmt: skip
    assert [each.status for each in asked] == [404] * len(asked)
    assert (await client.get(path)).json["state"] == "active"
    assert (await client.as_(None).get("/v1/webhooks")).status == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "http://shop.example"}, "url"),
        ({"url": "https://user:pw@shop.example"}, "url"),
        ({"url": URL, "events": ["order.paid"]}, "events"),
        ({"url": URL, "events": ["order.placed", "order.placed"]}, "events"),
        ({"url": URL, "description": "x" * 201}, "description"),
        ({"url": URL, "description": "a\u0000b"}, "description"),
    ],
)
async def test_a_field_that_breaks_a_rule_is_named(client: Client, body: dict[str, Any], field: str) -> None:
    answer = await client.call("POST", "/v1/webhooks", json=body)
    assert (answer.status, answer.json["field"]) == (422, field)


async def test_a_url_stands_for_one_endpoint_and_a_seller_has_twenty_at_most(client: Client) -> None:
    await add(client)
    assert (await client.call("POST", "/v1/webhooks", json={"url": URL})).status == 422
    for number in range(19):
        await add(client, f"{URL}/{number}")
    refused = await client.call("POST", "/v1/webhooks", json={"url": f"{URL}/20"})
    assert (refused.status, "20 endpoints" in refused.json["detail"]) == (422, True)


async def test_the_log_shows_what_was_written_and_a_replay_is_a_dry_run_at_first(
    client: Client, ledger: str, query: Query
) -> None:
    made = await add(client)
    path = f"/v1/webhooks/{made['id']}"
    test = await client.call("POST", f"{path}/test")
    assert test.status == 202
    world = Hooks(ledger)
    await world.open()
    await world.happen(changed("A-1"), changed("A-1", "SHIPPED"), changed("B-1"))
    await world.close()
    first = (await client.get(f"{path}/deliveries?limit=3")).json
    second = (await client.get(f"{path}/deliveries?limit=3&cursor={first['next']}")).json
    shown = [(each["order_id"], each["sequence"], each["type"]) for each in first["deliveries"] + second["deliveries"]]
    assert sorted(shown, key=str) == sorted(
        [
            ("A-1", 1, "order.confirmed"), ("A-1", 2, "order.shipped"), ("B-1", 1, "order.confirmed"),
            (None, 1, "webhook.test"),
        ],
        key=str,
    )  # fmt: skip
    assert second["next"] is None
    assert len((await client.get(f"{path}/deliveries?order_id=A-1&state=open")).json["deliveries"]) == 2
    assert (await client.get(f"{path}/deliveries?state=lost")).status == 422
    details = (await client.get(f"{path}/deliveries/{test.json['delivery_id']}")).json
    assert json.loads(details["payload"])["type"] == "webhook.test"
    query("UPDATE deliveries SET state = 'dead', next_try_at = NULL WHERE order_id = 'A-1'")
    asked = {"state": "dead", "since": "2026-01-01T00:00:00Z"}
    assert (await client.call("POST", f"{path}/replay", json=asked)).json == {"count": 2, "dry_run": True}
    real = await client.call("POST", f"{path}/replay", json={**asked, "dry_run": False})
    assert real.json == {"count": 2, "dry_run": False}
    due = query("SELECT sequence FROM deliveries WHERE order_id = 'A-1' AND next_try_at IS NOT NULL")
    assert due == [(1,)]
    for wrong in ({}, {"state": "open"}, {"since": "yesterday"}, {"delivery_ids": ["\u0000"]}):
        assert (await client.call("POST", f"{path}/replay", json=wrong)).status == 422, wrong


def test_the_command_line_does_the_same(ledger_url: str, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPLESS_POSTGRES_URL", ledger_url)

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(command, list(words))
        assert result.exit_code == code, result.output
        return result.output

    endpoint, secret, public = run("add", "demo", URL, "--events", "order.placed,order.shipped").splitlines()
    assert "whsec_" in secret
    assert "whpk_" in public
    assert "1 endpoints" in run("list", "demo")
    assert "paused" in run("set", "demo", endpoint, "--state", "paused")
    assert run("secret", "demo", endpoint).splitlines()[0] == secret
    assert "not set" in run("encrypt", code=1)
    monkeypatch.setenv("GAPLESS_SECRET_KEYS", "k" * 32)
    assert run("encrypt") == "encrypted 1 of 1\n"
    assert run("secret", "demo", endpoint).splitlines()[0] == secret
    monkeypatch.setenv("GAPLESS_SECRET_KEYS", "other" * 8)
    assert "no key" in run("secret", "demo", endpoint, code=1)
    assert "nothing was changed" in run("encrypt", code=1)
    monkeypatch.setenv("GAPLESS_SECRET_KEYS", "k" * 32)
    assert run("secret", "demo", endpoint, "--rotate").splitlines()[0] != secret
    delivery = run("test", "demo", endpoint).strip()
    assert delivery in run("log", "demo", endpoint)
    query("UPDATE deliveries SET state = 'dead', next_try_at = NULL")
    assert run("replay", "demo", endpoint, "--state", "dead", "--dry-run") == "1 would be sent again\n"
    assert run("replay", "demo", endpoint, delivery) == "1 are sent again\n"
    assert "say which" in run("replay", "demo", endpoint, code=2)
    assert "no such endpoint" in run("test", "other", endpoint, code=1)
    assert "there is no seller" in run("add", "nobody", URL, code=1)
    assert run("remove", "demo", endpoint) == f"removed {endpoint}\n"
