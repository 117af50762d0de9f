"""E-mail, from the event on the topic to the mail server: to the right buyer, in order, and none lost."""

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
from aiohttp import web

from domain import document_link
from domain.email import ATTACHED, LINK
from domain.refusals import Refusal
from local.layout import free_port
from schemas import catalog
from sinks.postgres import deliveries
from sinks.postgres import email as store
from sinks.postgres.deliveries import CHANCE_BYTES, Disabled
from streams.email import DOCUMENT_BYTES_MAX, LINK_DAYS, Links
from tests.conftest import Services
from tests.integration.gateways import until
from tests.integration.hooks_world import Query, accept, changed, hooks, receiver
from tests.integration.mail_world import PDF, Mails, MailServer, Received, mail_server, mails


@pytest.fixture
async def inbox() -> AsyncIterator[MailServer]:
    async with mail_server() as made:
        yield made


@pytest.fixture
async def world(ledger_url: str, tmp_path: Path, inbox: MailServer) -> AsyncIterator[Mails]:
    async with mails(ledger_url, tmp_path, inbox.port) as made:
        yield made


async def until_state(query: Query, state: str, count: int = 1) -> None:
    """Wait for so many deliveries in a state."""
    counted = "SELECT count(*) FROM deliveries WHERE state = %s"
    await until(lambda: asyncio.to_thread(query, counted, state), lambda rows: rows == [(count,)])


async def test_a_confirmed_order_is_mailed_to_its_buyer(world: Mails, inbox: MailServer, query: Query) -> None:
    await world.turn_on(reply_to="help@shop.example")
    await world.order("A-1")
    await world.happen(changed("A-1"))
    [mail] = await inbox.until(1)
    assert (mail.sender, mail.recipients) == ("shop@xn--bcher-kva.example", ["zoe@example.com"])
    assert mail.subject == "Votre commande A-1"
    assert "Café crème, 250 g" in mail.text
    assert mail.message["Reply-To"] == "help@shop.example"
    await until_state(query, "delivered")
    [(delivery, status)] = query("SELECT delivery_id, status FROM delivery_attempts")
    assert mail.message_id == f"<{delivery}@xn--bcher-kva.example>"
    assert status == 250


async def test_rows_and_log_hold_no_address(world: Mails, inbox: MailServer, query: Query) -> None:
    await world.turn_on()
    await world.order("A-1", name="Zoë O'Neil")
    await world.happen(changed("A-1"))
    await until_state(query, "delivered")
    shown = str(query("SELECT d::text, convert_from(payload, 'UTF8') FROM deliveries d")) + str(
        query("SELECT a::text FROM delivery_attempts a")
    )
    assert "zoe" not in shown.lower().replace("o'neil", "")
    assert "neil" not in shown.lower()


async def test_invoices_and_credit_notes_come_with_their_documents(world: Mails, inbox: MailServer) -> None:
    await world.turn_on()
    await world.order("A-1")
    invoice = await world.document("A-1", PDF)
    credit = await world.document("A-1", PDF + b"credit", number=2, refund_id="R-1")
    await world.happen(invoice, credit, topic=catalog.INVOICE_EVENTS)
    first, second = await inbox.until(2)
    assert first.files == [("R_2026_1.pdf", PDF)]
    assert second.files == [("CN_2026_2.pdf", PDF + b"credit")]
    assert "Facture R/2026/1" in first.text
    assert "Avoir CN/2026/2" in second.text


async def test_a_document_too_large_for_a_mail_is_left_out_and_said_so(world: Mails, inbox: MailServer) -> None:
    await world.turn_on()
    await world.order("A-1")
    await world.happen(await world.document("A-1", size=DOCUMENT_BYTES_MAX + 1), topic=catalog.INVOICE_EVENTS)
    [mail] = await inbox.until(1)
    assert mail.files == []
    assert "trop volumineux" in mail.text


async def test_a_document_is_linked_where_the_seller_wants_that_or_it_is_too_large(
    ledger_url: str, tmp_path: Path, inbox: MailServer
) -> None:
    keys = "k" * 32
    key = document_link.keys_of(keys)
    world = Mails(ledger_url, tmp_path, inbox.port)
    world.links = Links("https://pay.shop.example/", keys)
    await world.open()
    await world.start()
    try:
        await world.turn_on(documents=LINK)
        await world.order("A-1")
        events = [await world.document("A-1"), await world.document("A-1", PDF + b"2", number=2, refund_id="R-1")]
        await world.happen(*events, topic=catalog.INVOICE_EVENTS)
        await inbox.until(2)
        await world.turn_on(documents=ATTACHED)
        await world.order("B-1")
        large = await world.document("B-1", PDF + b"3", number=3, size=DOCUMENT_BYTES_MAX + 1)
        await world.happen(large, topic=catalog.INVOICE_EVENTS)
        await inbox.until(3)
    finally:
        await world.close()
    found = []
    for mail in inbox.received:
        assert mail.files == []
        [url] = re.findall(r"https://pay\.shop\.example/d/(\S+)", mail.text)
        html = mail.message.get_body(("html",))
        assert html is not None
        assert f'href="https://pay.shop.example/d/{url}"' in html.get_content()
        link = document_link.read(url, key)
        assert link is not None
        days = document_link.seconds_left(link, datetime.now(UTC)) / 86_400
        assert LINK_DAYS - 1 < days <= LINK_DAYS
        found.append(link[:3])
    assert found == [("demo", "A-1", ""), ("demo", "A-1", "R-1"), ("demo", "B-1", "")]


async def test_a_document_that_is_lost_or_damaged_is_never_mailed(
    world: Mails, inbox: MailServer, query: Query, tmp_path: Path
) -> None:
    await world.turn_on()
    for number, order_id in enumerate(("A-1", "B-1"), 1):
        await world.order(order_id)
        event = await world.document(order_id, PDF + order_id.encode(), number=number)
        [file] = await asyncio.to_thread(lambda n: list(tmp_path.rglob(f"{n}-*.pdf")), number)
        if order_id == "A-1":
            file.unlink()
        else:
            file.write_bytes(b"something else")
        await world.happen(event, topic=catalog.INVOICE_EVENTS)
    await until_state(query, "dead", 2)
    assert inbox.received == []
    errors = [str(error) for (error,) in query("SELECT error FROM delivery_attempts ORDER BY tried_at")]
    assert "the object store has no invoices/demo/2026/1-" in errors[0]
    assert "is not what the ledger says" in errors[1]


async def test_only_what_is_wanted_is_mailed_and_only_to_buyers_with_an_address(
    world: Mails, inbox: MailServer, query: Query
) -> None:
    await world.turn_on("order.shipped")
    await world.turn_on(seller_id="other")
    for order_id, mail in (("A-1", "zoe@example.com"), ("B-1", "")):
        await world.order(order_id, mail)
    await world.happen(
        changed("A-1"), changed("B-1", "SHIPPED"), changed("A-1", "SHIPPED"), changed("A-1", "DELIVERED")
    )
    await until_state(query, "delivered")
    assert query("SELECT order_id, type, sequence FROM deliveries") == [("A-1", "order.shipped", 1)]
    assert [mail.subject for mail in inbox.received] == ["Votre commande A-1 est en route"]


async def test_a_webhook_and_a_mail_of_one_event_don_t_disturb_each_other(world: Mails, query: Query) -> None:
    """The sender of e-mail leaves webhooks to theirs."""
    await world.turn_on()
    await world.order("A-1")
    async with receiver(accept) as there:
        await world.add(there.url)
        await world.happen(changed("A-1"))
        await until_state(query, "delivered")
        assert there.received == []
    assert query("SELECT e.channel, d.state FROM deliveries d JOIN webhook_endpoints e ON e.endpoint_id = d.destination"
                 " ORDER BY 1") == [("email", "delivered"), ("webhook", "open")]  # fmt: skip


async def test_a_mail_that_is_not_taken_now_is_tried_three_times_under_one_id(
    world: Mails, inbox: MailServer, query: Query
) -> None:
    async def busy(_: Received) -> str:
        return "451 try again later"

    inbox.behave = busy
    await world.turn_on()
    await world.order("A-1")
    await world.happen(changed("A-1"))
    await until_state(query, "dead")
    assert len(inbox.received) == 3
    assert len({mail.content for mail in inbox.received}) == 1
    assert query("SELECT status, answer FROM delivery_attempts") == [(451, "try again later")] * 3


@pytest.mark.parametrize("at_recipient", [True, False])
async def test_a_mail_that_is_refused_is_given_up_at_once(
    at_recipient: bool, world: Mails, inbox: MailServer, query: Query
) -> None:
    async def no(mail: Received) -> str:
        return "250 taken" if mail.recipients == ["good@example.com"] else "550 no such user"

    if at_recipient:
        inbox.recipient = "550 no such user"
    else:
        inbox.behave = no
    await world.turn_on()
    await world.order("A-1")
    await world.happen(changed("A-1"))
    await until_state(query, "dead")
    [(status, error, answer)] = query("SELECT status, error, answer FROM delivery_attempts")
    assert (status, error, answer) == (550, "the mail server has refused it: 550", "no such user")
    inbox.recipient, inbox.behave = "250 ok", no
    await world.order("B-1", "good@example.com")
    await world.happen(changed("B-1"))
    await until_state(query, "delivered")


async def test_the_mails_of_an_order_come_in_its_order_and_others_don_t_wait(
    world: Mails, inbox: MailServer, query: Query
) -> None:
    failed = 0

    async def fail_twice(mail: Received) -> str:
        nonlocal failed
        if "A-1" in mail.subject and failed < 2:
            failed += 1
            return "451 later"
        return "250 taken"

    inbox.behave = fail_twice
    await world.turn_on()
    for order_id in ("A-1", "B-1"):
        await world.order(order_id)
    await world.happen(changed("A-1"), changed("A-1", "SHIPPED"), changed("A-1", "DELIVERED"), changed("B-1"))
    await until_state(query, "delivered", 4)
    subjects = [mail.subject for mail in inbox.received if "A-1" in mail.subject]
    assert subjects == [
        *["Votre commande A-1"] * 3,
        "Votre commande A-1 est en route",
        "Votre commande A-1 a été livrée",
    ]


@pytest.mark.parametrize("how", ["hang", "cut"])
async def test_a_lost_answer_is_not_a_lost_mail(how: str, world: Mails, inbox: MailServer, query: Query) -> None:
    """It may come twice then, under one Message-ID."""
    let_go = asyncio.Event()

    async def lose_first(_: Received) -> str:
        if len(inbox.received) == 1:
            if how == "cut":
                inbox.cut()
            await let_go.wait()
        return "250 taken"

    inbox.behave = lose_first
    await world.turn_on()
    await world.order("A-1")
    await world.happen(changed("A-1"))
    await until_state(query, "delivered")
    let_go.set()
    assert len(inbox.received) == 2
    assert len({mail.message_id for mail in inbox.received}) == 1
    assert query("SELECT tries FROM deliveries") == [(2,)]


async def test_a_mail_server_that_is_down_is_waited_for_and_costs_no_try(
    ledger_url: str, tmp_path: Path, query: Query
) -> None:
    port = free_port()
    async with mails(ledger_url, tmp_path, port) as world:
        await world.turn_on()
        await world.order("A-1")
        await world.happen(changed("A-1"))
        tried = "SELECT count(*) FROM delivery_attempts"
        await until(lambda: asyncio.to_thread(query, tried), lambda rows: rows[0][0] > 3)
        assert query("SELECT state FROM deliveries") == [("open",)]
        async with mail_server(port=port) as inbox:
            await inbox.until(1)
            await until_state(query, "delivered")
            assert query("SELECT tries FROM deliveries") == [(1,)]
            await world.stop()


@pytest.mark.usefixtures("empty_outputs")
async def test_mails_that_nobody_sends_are_counted(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    """A seller has turned them on, and no sender has a mail server: only these figures tell of it."""
    world = Mails(ledger_url, tmp_path, 0)
    await world.open()
    await world.turn_on()
    await world.order("A-1")
    await world.happen(changed("A-1"))
    # The events were given to the agent by hand: a sender finds no log that ends before its position.
    query("DELETE FROM positions")
    port = free_port()
    environment = {
        **os.environ,
        "GAPLESS_POSTGRES_URL": ledger_url,
        "GAPLESS_KAFKA_BOOTSTRAP": services.kafka_bootstrap,
        "GAPLESS_METRICS_PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gapless", "deliveries", env=environment)
    try:

        def metrics() -> str:
            with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
                return str(answer.read().decode())
            return ""

        due = 'gapless_deliveries_due{channel="email"} 1.0'
        text = await until(lambda: asyncio.to_thread(metrics), lambda text: due in text)
        oldest = re.search(r'^gapless_deliveries_oldest_seconds{channel="email"} (\S+)', text, re.MULTILINE)
        assert oldest is not None
        assert float(oldest[1]) > 0
    finally:
        process.kill()
        await process.wait()
    await world.close()


async def test_connections_are_used_again(world: Mails, inbox: MailServer, query: Query) -> None:
    await world.turn_on()
    for number in range(1, 21):
        await world.order(f"A-{number}")
        await world.happen(changed(f"A-{number}"))
        await until_state(query, "delivered", number)
    assert inbox.connections == 1


async def test_a_connection_that_the_server_has_closed_costs_no_try(
    world: Mails, inbox: MailServer, query: Query
) -> None:
    await world.turn_on()
    await world.order("A-1")
    await world.order("B-1")
    await world.happen(changed("A-1"))
    await until_state(query, "delivered")
    inbox.cut()
    await world.happen(changed("B-1"))
    await until_state(query, "delivered", 2)
    assert query("SELECT error FROM delivery_attempts") == [("",)] * 2


async def test_a_connection_that_the_server_wants_no_longer_costs_no_try(
    world: Mails, inbox: MailServer, query: Query
) -> None:
    inbox.again = "421 enough of this connection"
    await world.turn_on()
    for count, order_id in enumerate(("A-1", "B-1"), 1):
        await world.order(order_id)
        await world.happen(changed(order_id))
        await until_state(query, "delivered", count)
    assert inbox.connections == 2
    assert query("SELECT error FROM delivery_attempts") == [("",)] * 2


async def test_refused_mails_keep_no_other_waiting(
    world: Mails, inbox: MailServer, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    """The server has answered each of them: it is well."""
    inbox.recipient = "550 no such user"
    await world.turn_on()
    for number in range(1, 9):
        await world.order(f"A-{number}")
        await world.happen(changed(f"A-{number}"))
        await until_state(query, "dead", number)
    assert "does not answer" not in caplog.text


async def test_a_sender_that_is_killed_sends_again_what_it_had_under_way(
    ledger_url: str, tmp_path: Path, query: Query
) -> None:
    """Between DATA and the row: twice under one Message-ID, never lost, and each order in its order."""
    reached, let_go = asyncio.Event(), asyncio.Event()

    async def hang_first(_: Received) -> str:
        if not let_go.is_set():
            reached.set()
            await let_go.wait()
        return "250 taken"

    async with mail_server(hang_first) as inbox:
        world = Mails(ledger_url, tmp_path, inbox.port)
        world.calls_timeout = 30
        await world.open()
        await world.start()
        await world.turn_on()
        await world.order("A-1")
        await world.happen(changed("A-1"), changed("A-1", "SHIPPED"))
        await reached.wait()
        # As `kill -9` leaves it: nothing is written, no lease is given back.
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("streams.delivery_rows.ledger.release_deliveries", _nothing)
            await world.stop()
        let_go.set()
        await world.start()
        await until_state(query, "delivered", 2)
        confirmed = [mail for mail in inbox.received if mail.subject == "Votre commande A-1"]
        assert [mail.subject for mail in inbox.received[-2:]] == [
            "Votre commande A-1",
            "Votre commande A-1 est en route",
        ]
        assert len(confirmed) == 2
        assert len({mail.message_id for mail in confirmed}) == 1
        await world.close()


async def _nothing(*_: object) -> None:
    """Write nothing."""


async def test_an_address_beyond_ascii_needs_a_server_that_takes_it(
    ledger_url: str, tmp_path: Path, query: Query
) -> None:
    for takes_utf8, state in ((True, "delivered"), (False, "dead")):
        order_id = f"U-{state}"
        async with mail_server(takes_utf8=takes_utf8) as inbox, mails(ledger_url, tmp_path, inbox.port) as world:
            await world.turn_on()
            await world.order(order_id, "zoë@bücher.example")
            await world.happen(changed(order_id))
            await until_state(query, state)
            if takes_utf8:
                assert inbox.received[0].recipients == ["zoë@xn--bcher-kva.example"]
            else:
                assert inbox.received == []
    [(error,)] = query("SELECT error FROM delivery_attempts WHERE error <> ''")
    assert "SMTPUTF8" in str(error)


async def test_an_address_that_no_server_takes_is_a_dead_letter_with_its_reason(
    world: Mails, inbox: MailServer, query: Query
) -> None:
    await world.turn_on()
    await world.order("A-1", "zoe@a_b.example")
    await world.happen(changed("A-1"))
    await until_state(query, "dead")
    assert query("SELECT error FROM delivery_attempts") == [
        ("the buyer's e-mail address has a domain that can't exist",)
    ]


async def test_a_test_mail_goes_where_it_was_asked_for(
    world: Mails, inbox: MailServer, ledger_url: str, query: Query
) -> None:
    async with await psycopg.AsyncConnection.connect(ledger_url, autocommit=True) as connection:
        now = datetime.now(UTC)
        assert await store.send_test(connection, "demo", "me@example.com", now, os.urandom) is None
        await world.turn_on()
        assert isinstance(await store.send_test(connection, "demo", "me@", now, os.urandom), Refusal)
        made = await store.send_test(connection, "demo", "me@example.com", now, os.urandom)
    [mail] = await inbox.until(1)
    assert mail.recipients == ["me@example.com"]
    assert str(made) in mail.message_id


async def test_a_seller_is_told_of_a_webhook_endpoint_that_was_disabled(
    world: Mails, inbox: MailServer, ledger_url: str
) -> None:
    await world.turn_on(reply_to="ops@shop.example")
    endpoint, _ = await world.add("http://127.0.0.1:9/hooks")
    silent, _ = await world.add("http://127.0.0.1:9/hooks", seller_id="other")
    disabled = [Disabled(endpoint.endpoint_id, "failing"), Disabled(silent.endpoint_id, "gone")]
    async with (
        await psycopg.AsyncConnection.connect(ledger_url, autocommit=True) as connection,
        connection.transaction(),
    ):
        await store.add_notices(connection, disabled, datetime.now(UTC), os.urandom)
    [mail] = await inbox.until(1)
    assert mail.recipients == ["ops@shop.example"]
    assert "http://127.0.0.1:9/hooks" in mail.text


async def test_the_sender_that_disables_an_endpoint_tells_its_seller(
    world: Mails, inbox: MailServer, ledger_url: str, query: Query
) -> None:
    await world.turn_on("order.shipped")

    async def gone(_: Any) -> web.Response:
        return web.Response(status=410)

    async with receiver(gone) as there, hooks(ledger_url) as webhooks:
        await webhooks.add(there.url)
        await webhooks.happen(changed("A-1"))
        [mail] = await inbox.until(1)
    assert there.url in mail.text
    assert query("SELECT state FROM webhook_endpoints WHERE channel = 'webhook'") == [("disabled",)]
    assert query("SELECT count(*) FROM deliveries WHERE type = 'webhook.disabled'") == [(1,)]


async def test_a_bounce_is_noted_on_its_delivery(
    world: Mails, inbox: MailServer, ledger_url: str, query: Query
) -> None:
    await world.turn_on()
    await world.order("A-1")
    await world.happen(changed("A-1"))
    await until_state(query, "delivered")
    message_id = inbox.received[0].message_id
    now = datetime.now(UTC)
    async with await psycopg.AsyncConnection.connect(ledger_url, autocommit=True) as connection:

        async def bounce(seller_id: str, message_id: str, reason: str, is_permanent: bool) -> Any:
            return await store.record_bounce(
                connection, seller_id, message_id, reason, is_permanent=is_permanent, now=now
            )

        assert await bounce("other", message_id, "full", True) is False
        assert await bounce("demo", "<1@example.com>", "full", True) is False
        unknown = deliveries.delivery_id(now, bytes(CHANCE_BYTES))
        assert await bounce("demo", f"<{unknown}@example.com>", "full", True) is False
        assert isinstance(await bounce("demo", message_id, "", True), Refusal)
        assert await bounce("demo", message_id, "mailbox full", False) is True
        assert query("SELECT state, bounce FROM deliveries") == [("delivered", "transient: mailbox full")]
        assert await bounce("demo", message_id, "no such user", True) is True
        assert await bounce("demo", message_id, "mailbox full", False) is True
        assert query("SELECT state, bounce FROM deliveries") == [("bounced", "permanent: no such user")]
        # One that is given up stays so.
        query("UPDATE deliveries SET state = 'dead'")
        assert await bounce("demo", message_id, "no such user", True) is True
    assert query("SELECT state, bounce FROM deliveries") == [("dead", "permanent: no such user")]


async def test_settings_are_replaced_and_turned_off(
    world: Mails, inbox: MailServer, ledger_url: str, query: Query
) -> None:
    made = await world.turn_on()
    changed_ = await world.turn_on("order.shipped", sender="other@shop.example")
    assert changed_.endpoint_id == made.endpoint_id
    assert (changed_.sender, changed_.events, changed_.documents) == ("other@shop.example", ["order.shipped"], ATTACHED)
    async with await psycopg.AsyncConnection.connect(ledger_url, autocommit=True) as connection:
        assert await store.delete(connection, "demo") is True
        assert await store.delete(connection, "demo") is False
        assert await store.read(connection, "demo") is None
    await world.order("A-1")
    await world.happen(changed("A-1", "SHIPPED"))
    assert query("SELECT count(*) FROM deliveries") == [(0,)]
