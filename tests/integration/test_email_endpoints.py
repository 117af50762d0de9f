"""/v1/email on a real gateway, each answer held against the OpenAPI document; and the same on the command line."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from domain.email import BUYER_TYPES
from gapless.email import email as command
from tests.conftest import Services
from tests.integration.gateways import KEYS, Client, Topics, running
from tests.integration.hooks_world import Query, changed
from tests.integration.mail_world import Mails, MailServer, mail_server, mails
from tests.integration.test_email import until_state

SENDER = "shop@shop.example"


@pytest.fixture
async def client(services: Services, ledger: str, topics: Topics) -> AsyncIterator[Client]:
    async with running(services, ledger, topics) as made:
        yield made


@pytest.fixture
async def inbox() -> AsyncIterator[MailServer]:
    async with mail_server() as made:
        yield made


@pytest.fixture
async def world(ledger_url: str, tmp_path: Path, inbox: MailServer) -> AsyncIterator[Mails]:
    async with mails(ledger_url, tmp_path, inbox.port) as made:
        yield made


async def turn_on(client: Client, **changes: Any) -> Any:
    """The settings, as the answer has them."""
    answer = await client.call("PUT", "/v1/email", json={"sender": SENDER, **changes})
    assert answer.status == 200, answer.body
    return answer.json


async def test_e_mail_is_turned_on_changed_and_off(client: Client) -> None:
    assert (await client.get("/v1/email")).status == 404
    made = await turn_on(client)
    assert (made["sender"], made["documents"], made["state"], made["events"]) == (SENDER, "attached", "active", [])
    assert made["event_types"] == dict(BUYER_TYPES)
    changed_ = await turn_on(client, events=["order.shipped"], state="paused", reply_to="help@shop.example")
    assert (await client.get("/v1/email")).json == changed_
    assert changed_ == {**made, "events": ["order.shipped"], "state": "paused", "reply_to": "help@shop.example"}
    assert (await client.as_(KEYS["other"]).get("/v1/email")).status == 404
    assert (await client.call("DELETE", "/v1/email")).status == 204
    assert (await client.call("DELETE", "/v1/email")).status == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sender": "shop"}, "sender"),
        ({"reply_to": "help"}, "reply_to"),
        ({"events": ["order.placed"]}, "events"),
        ({"documents": "fax"}, "documents"),
        ({"state": "off"}, "state"),
    ],
)
async def test_a_wrong_setting_is_named(changes: dict[str, Any], field: str, client: Client) -> None:
    answer = await client.call("PUT", "/v1/email", json={"sender": SENDER, **changes})
    assert answer.status == 422
    assert field in str(answer.json)


async def test_a_webhook_endpoint_and_e_mail_are_not_mistaken_for_each_other(client: Client, query: Query) -> None:
    await turn_on(client)
    assert (await client.get("/v1/webhooks")).json["endpoints"] == []
    [(name,)] = query("SELECT endpoint_id FROM webhook_endpoints")
    path = f"/v1/webhooks/{name}"
    answers = [
        await client.get(path), await client.get(f"{path}/secret"), await client.call("POST", f"{path}/secret"),
        await client.call("PATCH", path, json={"state": "paused"}), await client.call("DELETE", path),
        await client.call("POST", f"{path}/test"),
    ]  # fmt: skip
    assert [answer.status for answer in answers] == [404] * len(answers)
    assert (await client.get("/v1/email")).json["state"] == "active"


async def test_a_mail_is_logged_bounces_and_is_sent_again(
    client: Client, world: Mails, inbox: MailServer, query: Query
) -> None:
    await turn_on(client)
    await world.order("A-1")
    await world.happen(changed("A-1"))
    await until_state(query, "delivered")
    [listed] = (await client.get("/v1/email/deliveries?order_id=A-1")).json["deliveries"]
    assert (listed["type"], listed["state"], listed["status"], listed["bounce"]) == (
        "order.confirmed", "delivered", 250, None,
    )  # fmt: skip
    details = (await client.get(f"/v1/email/deliveries/{listed['id']}")).json
    assert [each["answer"] for each in details["tries"]] == ["taken"]
    assert (await client.get("/v1/email/deliveries/msg_1")).status == 404

    bounce = {"message_id": inbox.received[0].message_id, "reason": "no such user", "permanent": True}
    assert (await client.as_(KEYS["other"]).call("POST", "/v1/email/bounces", json=bounce)).status == 404
    assert (await client.call("POST", "/v1/email/bounces", json={**bounce, "message_id": "<1@x>"})).status == 404
    assert (await client.call("POST", "/v1/email/bounces", json=bounce)).status == 204
    [listed] = (await client.get("/v1/email/deliveries?state=bounced")).json["deliveries"]
    assert listed["bounce"] == "permanent: no such user"
    assert listed["bounced_at"] is not None

    again = {"state": "bounced", "dry_run": False}
    assert (await client.call("POST", "/v1/email/replay", json={"state": "bounced"})).json == {
        "count": 1,
        "dry_run": True,
    }
    assert (await client.call("POST", "/v1/email/replay", json=again)).json == {"count": 1, "dry_run": False}
    await inbox.until(2)
    await until_state(query, "delivered")
    assert len({mail.message_id for mail in inbox.received}) == 1


async def test_a_test_mail_is_sent_where_it_is_asked_for(client: Client, world: Mails, inbox: MailServer) -> None:
    assert (await client.call("POST", "/v1/email/test", json={"to": "me@example.com"})).status == 404
    await turn_on(client)
    assert (await client.call("POST", "/v1/email/test", json={"to": "me at home"})).status == 422
    sent = await client.call("POST", "/v1/email/test", json={"to": "me@example.com"})
    assert sent.status == 202
    [mail] = await inbox.until(1)
    assert sent.json["delivery_id"] in mail.message_id


async def test_the_command_line_does_the_same(
    world: Mails, ledger_url: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPLESS_POSTGRES_URL", ledger_url)

    async def gapless(*arguments: str) -> Result:
        # In a thread: it runs an event loop of its own.
        return await asyncio.to_thread(CliRunner().invoke, command, arguments)

    assert "turns it on" in (await gapless("show", "demo")).output
    assert (await gapless("set", "demo")).exit_code == 2
    assert "sender: is no e-mail address" in (await gapless("set", "demo", "--from", "shop")).output
    assert (await gapless("set", "demo", "--from", SENDER)).exit_code == 0
    shown = (await gapless("set", "demo", "--events", "order.shipped", "--documents", "link")).output
    assert shown.splitlines() == [
        "state      active",
        f"from       {SENDER}",
        f"reply to   {SENDER}",
        "events     order.shipped",
        "documents  link",
    ]
    assert (await gapless("show", "demo")).output == shown
    sent = (await gapless("test", "demo", "me@example.com")).output.strip()
    await until_state(query, "delivered")
    assert sent in (await gapless("log", "demo")).output
    assert "1 would be sent again" in (await gapless("replay", "demo", sent, "--dry-run")).output
    assert "paused" in (await gapless("set", "demo", "--state", "paused")).output
    assert "1 are sent again" in (await gapless("replay", "demo", "--state", "delivered")).output
    assert query("SELECT state FROM deliveries") == [("open",)]
    assert (await gapless("off", "demo")).output == "e-mail is off\n"
    assert query("SELECT count(*) FROM deliveries") == [(0,)]
