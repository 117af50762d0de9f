"""Webhooks, from the event on the topic to the receiver: signed, in the order of each order, and none lost."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain.delivery import Unanswered
from providers.webhooks import Signer, WebhookCalls
from schemas import catalog
from sinks.postgres import deliveries, delivery_log, webhooks
from sinks.postgres.delivery_log import LogFilter
from sinks.postgres.sealing import Sealing, UnreadableSecretError
from streams.sender import SenderPolicy
from tests.integration.gateways import until
from tests.integration.hooks_world import (
    LOOPBACK,
    QUICK,
    Hooks,
    Query,
    Received,
    changed,
    hooks,
    receiver,
    verifies,
)
from tests.unit.domain.test_addresses import REFUSED


@pytest.fixture
async def world(ledger_url: str) -> AsyncIterator[Hooks]:
    async with hooks(ledger_url) as made:
        yield made


def states(query: Query) -> dict[tuple[str, int], str]:
    """Order and sequence → state."""
    rows = query("SELECT order_id, sequence, state FROM deliveries")
    return {(order_id, sequence): state for order_id, sequence, state in rows}


async def until_delivered(query: Query, count: int) -> None:
    """Wait until so many are written down as delivered."""
    counted = "SELECT count(*) FROM deliveries WHERE state = 'delivered'"
    await until(lambda: asyncio.to_thread(query, counted), lambda rows: rows == [(count,)])


async def on(world: Hooks, act: Any) -> Any:
    """Do it with a connection of its own."""
    async with await psycopg.AsyncConnection.connect(world.url, autocommit=True) as connection:
        return await act(connection)


async def test_an_event_reaches_the_endpoint_signed(world: Hooks) -> None:
    """A stock verifier takes it; the body has the type, the time, the sequence and the data."""
    async with receiver() as there:
        _, secrets = await world.add(there.url)
        await world.happen(changed("A-1"), changed("A-1", "SHIPPED", version=4))
        first, second = await there.until(2)
    assert first.json == {
        "type": "order.confirmed",
        "timestamp": "2026-11-18T11:06:40.000Z",
        "sequence": 1,
        "data": {
            "seller_id": "demo",
            "order_id": "A-1",
            "state": "CONFIRMED",
            "from": "PAYMENT_PENDING",
            "version": 3,
            "reason": "payment-authorized",
            "detail": "",
            "command_id": None,
            "links": {"self": "/v1/orders/A-1"},
        },
    }
    assert (second.json["type"], second.json["sequence"]) == ("order.shipped", 2)
    assert first.webhook_id != second.webhook_id
    assert verifies(first, secrets)
    content = f"{first.webhook_id}.{first.headers['webhook-timestamp']}.".encode() + first.body
    [v1a] = [each[4:] for each in first.headers["webhook-signature"].split(" ") if each[:4] == "v1a,"]
    Ed25519PrivateKey.from_private_bytes(secrets.ed25519_seed).public_key().verify(base64.b64decode(v1a), content)


async def test_each_endpoint_gets_its_sellers_events_that_it_wants(world: Hooks) -> None:
    """With a sequence of its own; what happened before it was there is not sent to it."""
    async with receiver() as all_of_them, receiver() as shipped, receiver() as others:
        await world.add(others.url, seller_id="other")
        await world.happen(changed("A-0"))
        await world.add(all_of_them.url)
        await world.add(shipped.url, "order.shipped")
        await world.happen(changed("A-1"), changed("A-1", "SHIPPED"), changed("B-1", seller_id="other"))
        await all_of_them.until(2)
        await shipped.until(1)
        await others.until(1)
        assert all_of_them.of("A-1") == [1, 2]
        assert [each.place for each in shipped.received] == [("A-1", 1)]
        assert [each.place for each in others.received] == [("B-1", 1)]


async def test_what_the_relay_repeats_is_sent_once(world: Hooks, query: Query) -> None:
    """Within a batch and in a later one."""
    async with receiver() as there:
        await world.add(there.url)
        records = await world.published(changed("A-1"), changed("A-2"))
        await world.run([*records, *records])
        await world.run(records)
        await world.happen(changed("A-3"))
        await until_delivered(query, 3)
        assert sorted(each.place for each in there.received) == [("A-1", 1), ("A-2", 1), ("A-3", 1)]


async def test_events_that_the_journal_does_not_have_are_told_to_nobody(world: Hooks, query: Query) -> None:
    """Whoever can write to the topic could otherwise tell a shop that an order is paid."""
    async with receiver() as there:
        await world.add(there.url)
        [honest] = await world.published(changed("A-1"))
        forged = replace(honest, value=changed("A-1", "DELIVERED"))
        without = replace(honest, headers=())
        await world.run([forged, without, honest])
        await until_delivered(query, 1)
        assert [each.json["type"] for each in there.received] == ["order.confirmed"]
    dead = query("SELECT count(*) FROM journal WHERE topic = %s", catalog.DEAD_LETTERS.name)
    assert dead == [(2,)]


async def test_a_failing_order_delays_no_other_and_keeps_its_own_order(world: Hooks, query: Query) -> None:
    """Those behind it wait; once it is given up they follow, and the hole shows in the sequence."""

    async def behave(received: Received) -> web.StreamResponse:
        return web.Response(status=500 if received.place == ("A-1", 1) else 204, text="no, not this one")

    async with receiver(behave) as there:
        endpoint, _ = await world.add(there.url)
        await world.happen(changed("A-1"), changed("A-1", "SHIPPED"), *(changed(f"B-{n}") for n in range(20)))
        await until(
            lambda: asyncio.to_thread(states, query),
            lambda found: found[("A-1", 2)] == "delivered" and sum(s == "delivered" for s in found.values()) == 21,
        )
        assert states(query)["A-1", 1] == "dead"
        # Four tries under one id; all other orders had theirs before the last of them.
        assert there.of("A-1") == [1, 1, 1, 1, 2]
        assert len({each.webhook_id for each in there.received if each.place == ("A-1", 1)}) == 1
    [failed] = query("SELECT delivery_id FROM deliveries WHERE state = 'dead'")
    details = await on(
        world, lambda each: delivery_log.read_delivery(each, "demo", endpoint.endpoint_id, str(failed[0]))
    )
    assert [(each.status, each.answer) for each in details.attempts] == [(500, "no, not this one")] * 4


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(status: int, world: Hooks, query: Query) -> None:
    async with receiver() as elsewhere:

        async def behave(_: Received) -> web.StreamResponse:
            return web.Response(status=status, headers={"Location": elsewhere.url})

        async with receiver(behave) as there:
            await world.add(there.url)
            await world.happen(changed("A-1"))
            await until(lambda: asyncio.to_thread(states, query), lambda found: found[("A-1", 1)] == "dead")
            assert len(there.received) == 4
        assert elsewhere.received == []


async def test_410_disables_the_endpoint_and_loses_nothing(world: Hooks, query: Query) -> None:
    """Made active again, it gets what was open."""
    status = 410

    async def behave(_: Received) -> web.StreamResponse:
        return web.Response(status=status)

    async with receiver(behave) as there:
        endpoint, _ = await world.add(there.url)
        await world.happen(changed("A-1"))
        await until(
            lambda: asyncio.to_thread(query, "SELECT state, disabled_reason FROM webhook_endpoints"),
            lambda rows: rows == [("disabled", "gone")],
        )
        await world.happen(changed("A-1", "SHIPPED"))
        assert len(there.received) == 1
        status = 204
        update = {"state": "active"}
        await on(world, lambda each: webhooks.update(each, "demo", endpoint.endpoint_id, update, may_be_plain=True))
        await until_delivered(query, 1)
        assert there.of("A-1") == [1, 1]


async def test_an_endpoint_that_takes_nothing_for_days_is_disabled(ledger_url: str, query: Query) -> None:
    """Here the days are tenths of a second."""

    async def behave(_: Received) -> web.StreamResponse:
        return web.Response(status=503)

    policy = replace(QUICK, failing_seconds_max=0.2, retry_seconds=(0.1,) * 20)
    async with hooks(ledger_url, policy) as world, receiver(behave) as there:
        await world.add(there.url)
        await world.happen(changed("A-1"))
        await until(
            lambda: asyncio.to_thread(query, "SELECT state, disabled_reason FROM webhook_endpoints"),
            lambda rows: rows == [("disabled", "failing")],
        )


async def test_success_ends_the_time_of_failing(world: Hooks, query: Query) -> None:
    failures = 2

    async def behave(received: Received) -> web.StreamResponse:
        return web.Response(status=500 if len(there.received) <= failures else 200)

    async with receiver(behave) as there:
        await world.add(there.url)
        await world.happen(changed("A-1"))
        await until_delivered(query, 1)
        assert there.of("A-1") == [1, 1, 1]
    assert query("SELECT failing_since FROM webhook_endpoints") == [(None,)]


async def test_retry_after_is_obeyed(world: Hooks, query: Query) -> None:
    async def behave(received: Received) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    async with receiver(behave) as there:
        await world.add(there.url)
        await world.happen(changed("A-1"))
        asked = "SELECT extract(epoch FROM next_try_at - now())::float8 FROM deliveries WHERE tries = 1"
        await until(lambda: asyncio.to_thread(query, asked), lambda rows: bool(rows) and 3_500 < rows[0][0] <= 3_600)


async def test_receivers_that_hang_or_talk_garbage_take_nothing_from_the_others(world: Hooks, query: Query) -> None:
    """Each of them has orders that wait; a good endpoint gets its own at once."""
    silent = asyncio.Event()

    async def hang(_: Received) -> web.StreamResponse:
        await silent.wait()
        return web.Response()

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x00\xffSMTP 999\r\n\r\n" * 100)
        await writer.drain()
        writer.close()

    async def drip(_: Received) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        return web.Response(text="x" * 2_000_000)

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with receiver(hang) as hanging, receiver(drip) as slow, receiver() as good:
        for url in (hanging.url, slow.url, f"http://127.0.0.1:{port}/", "http://127.0.0.1:9/"):
            await world.add(url)
        await world.add(good.url)
        began_at = asyncio.get_running_loop().time()
        await world.happen(*(changed(f"A-{n}") for n in range(40)))
        await good.until(40)
        assert asyncio.get_running_loop().time() - began_at < 20
        await slow.until(40)
        silent.set()
    server.close()
    await server.wait_closed()


async def test_a_sender_that_is_killed_sends_again_what_it_had_under_way(ledger_url: str, query: Query) -> None:
    """Its lease runs out; under the same id, and each order in its order."""
    reached = asyncio.Event()
    let_go = asyncio.Event()

    async def hang_first(received: Received) -> web.StreamResponse:
        if not let_go.is_set():
            reached.set()
            await let_go.wait()
        return web.Response()

    async with receiver(hang_first) as there:
        world = Hooks(ledger_url)
        world.calls_timeout = 30
        await world.open()
        await world.start()
        await world.add(there.url)
        await world.happen(changed("A-1"), changed("A-1", "SHIPPED"), changed("B-1"))
        await reached.wait()
        # As `kill -9` leaves it: nothing is written, no lease is given back.
        assert world._sending is not None
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("streams.delivery_rows.ledger.release_deliveries", _nothing)
            await world.stop()
        let_go.set()
        await world.start()
        await until_delivered(query, 3)
        assert there.of("A-1")[-2:] == [1, 2]
        assert set(there.of("A-1")) == {1, 2}
        ids = {(each.place, each.webhook_id) for each in there.received}
        assert len(ids) == 3
        await world.close()


async def _nothing(*_: object) -> None:
    """Write nothing."""


async def test_two_senders_share_the_work_and_each_order_stays_in_order(ledger_url: str, query: Query) -> None:
    async with receiver() as there, hooks(ledger_url) as world:
        other = Hooks(ledger_url)
        await other.start()
        await world.add(there.url)
        for _ in range(5):
            await world.happen(*(changed(f"A-{n}") for n in range(30)))
        await until_delivered(query, 150)
        assert {tuple(there.of(f"A-{n}")) for n in range(30)} == {(1, 2, 3, 4, 5)}
        await other.close()


async def test_a_secret_is_rotated_without_a_lost_delivery(world: Hooks) -> None:
    """Under load, whoever verifies with the old or with the new one takes every delivery."""
    async with receiver() as there:
        endpoint, old = await world.add(there.url)
        await world.happen(*(changed(f"A-{n}") for n in range(30)))
        new = await on(
            world,
            lambda each: webhooks.rotate(
                each, "demo", endpoint.endpoint_id, datetime.now(UTC), os.urandom, world.sealing
            ),
        )
        await world.happen(*(changed(f"B-{n}") for n in range(30)))
        received = await there.until(60)
    assert all(verifies(each, old) for each in received)
    after = [each for each in received if each.order_id.startswith("B-")]
    assert all(verifies(each, new) for each in after)
    assert {each.headers["webhook-signature"].count("v1a,") for each in after} == {2}


async def test_secrets_are_encrypted_where_they_are_stored(world: Hooks, query: Query) -> None:
    """Also those from before there was a key, once the command has run; what was signed with stays the same."""
    world.sealing = Sealing()
    async with receiver() as there:
        _, secrets = await world.add(there.url)
        stored = "SELECT hmac_secret, ed25519_seed FROM webhook_secrets"
        assert query(stored) == [(secrets.hmac_secret, secrets.ed25519_seed)]
        former, newer = Sealing([b"f" * 32]), Sealing([b"n" * 32, b"f" * 32])
        for sealing, changed_rows in ((former, 1), (former, 0), (newer, 1), (newer, 0)):
            assert await on(world, lambda each: webhooks.encrypt_secrets(each, sealing)) == (changed_rows, 1)  # noqa: B023
        [(key, seed)] = query(stored)
        assert secrets.hmac_secret not in key
        assert secrets.ed25519_seed not in seed
        with pytest.raises(UnreadableSecretError):
            await on(world, lambda each: webhooks.encrypt_secrets(each, former))
        await world.stop()
        world.sealing = Sealing([b"n" * 32])
        await world.start()
        await world.happen(changed("A-1"))
        assert verifies((await there.until(1))[0], secrets)


async def test_a_secret_that_cannot_be_read_delays_its_endpoints_deliveries_alone(world: Hooks, query: Query) -> None:
    async with receiver() as locked, receiver() as there:
        endpoint, _ = await world.add(locked.url)
        world.sealing = Sealing([b"x" * 32])
        await world.add(there.url)
        await world.stop()
        await world.start()
        await world.happen(changed("A-1"))
        await there.until(1)
        tried = "SELECT error FROM delivery_attempts JOIN deliveries USING (delivery_id) WHERE destination = %s"
        rows = await until(lambda: asyncio.to_thread(query, tried, endpoint.endpoint_id), bool)
        assert rows[0] == ("the endpoint has no secret that can be read",)
        assert not locked.received


async def test_a_secret_that_has_expired_signs_no_more() -> None:
    now = datetime.now(UTC)
    calls = WebhookCalls(LOOPBACK)
    async with receiver() as there:
        signers = [Signer(b"n" * 32, b"n" * 32), Signer(b"o" * 32, b"o" * 32, now - timedelta(seconds=1))]
        await calls.post(there.url, "msg_1", b"{}", signers, now)
        assert there.received[0].headers["webhook-signature"].count("v1,") == 1
    await calls.close()


async def test_a_paused_endpoint_gets_its_deliveries_when_it_goes_on(world: Hooks, query: Query) -> None:
    async with receiver() as there:
        endpoint, _ = await world.add(there.url)

        async def set_state(state: str) -> None:
            update = {"state": state}
            await on(world, lambda each: webhooks.update(each, "demo", endpoint.endpoint_id, update, may_be_plain=True))

        await set_state("paused")
        await world.happen(changed("A-1"), changed("A-1", "SHIPPED"))
        # As long as a look for what is due takes, and more.
        await asyncio.sleep(2 * QUICK.poll_seconds)
        assert there.received == []
        await set_state("active")
        await until_delivered(query, 2)
        assert there.of("A-1") == [1, 2]


async def test_activating_an_endpoint_tries_at_once_what_waits_for_its_next_try(ledger_url: str, query: Query) -> None:
    """Otherwise a receiver that is well again would wait for hours. What is under way is left to its sender."""
    assert SenderPolicy().lease_seconds < webhooks.LEASE_SECONDS_MAX
    status = 500

    async def behave(_: Received) -> web.StreamResponse:
        return web.Response(status=status)

    async with hooks(ledger_url, replace(QUICK, retry_seconds=(3_600.0,))) as world, receiver(behave) as there:
        endpoint, _ = await world.add(there.url)
        await world.happen(changed("A-1"), changed("A-1", "SHIPPED"))
        await until(
            lambda: asyncio.to_thread(
                query, "SELECT max(tries), max(next_try_at) > now() + '1 minute' FROM deliveries"
            ),
            lambda rows: rows == [(1, True)],
        )
        status = 204
        activate = {"state": "active"}
        await on(world, lambda each: webhooks.update(each, "demo", endpoint.endpoint_id, activate, may_be_plain=True))
        await until_delivered(query, 2)
        assert there.of("A-1") == [1, 1, 2]


async def test_finished_deliveries_are_sent_again_under_their_own_ids(world: Hooks, query: Query) -> None:
    """One, those of an order, and all that failed; a dry run only counts."""
    status = 500

    async def behave(_: Received) -> web.StreamResponse:
        return web.Response(status=status)

    async with receiver(behave) as there:
        endpoint, _ = await world.add(there.url)
        since = datetime.now(UTC)
        await world.happen(changed("A-1"), changed("A-1", "SHIPPED"), changed("B-1"))
        await until(lambda: asyncio.to_thread(states, query), lambda found: set(found.values()) == {"dead"})
        status = 204

        async def replay(wanted: LogFilter, *, dry_run: bool = False) -> Any:
            return await on(
                world, lambda each: delivery_log.replay(each, "demo", endpoint.endpoint_id, wanted, dry_run=dry_run)
            )

        failed = LogFilter(state="dead", since=since)
        assert await replay(failed, dry_run=True) == 3
        assert set(states(query).values()) == {"dead"}
        before = {each.place: each.webhook_id for each in there.received}
        there.received.clear()
        assert await replay(failed) == 3
        await until_delivered(query, 3)
        assert there.of("A-1") == [1, 2]
        assert {each.place: each.webhook_id for each in there.received} == before
        assert await replay(failed) == 0
        assert await replay(LogFilter(order_id="B-1")) == 1
        assert await replay(LogFilter(delivery_ids=(before["A-1", 2],))) == 1
        assert await replay(LogFilter(since=datetime.now(UTC) + timedelta(minutes=1))) == 0
        await there.until(5)


async def test_what_is_old_is_deleted_and_what_is_open_is_kept(world: Hooks, query: Query) -> None:
    status = 204

    async def behave(_: Received) -> web.StreamResponse:
        return web.Response(status=status, headers={"Retry-After": "3600"})

    async with receiver(behave) as there:
        await world.add(there.url)
        await world.happen(changed("A-1"))
        await until_delivered(query, 1)
        status = 503
        await world.happen(changed("A-2"))
        await there.until(2)
        await on(world, lambda each: deliveries.purge(each, datetime.now(UTC) + timedelta(seconds=1)))
        assert list(states(query)) == [("A-2", 1)]
        assert query("SELECT count(*) FROM delivery_attempts a WHERE NOT EXISTS"
                     " (SELECT FROM deliveries d WHERE d.delivery_id = a.delivery_id)") == [(0,)]  # fmt: skip


@pytest.mark.parametrize("host", [each for each in REFUSED if "." in each or ":" in each])
async def test_addresses_of_internal_networks_are_refused_when_they_are_connected_to(host: str) -> None:
    """Whatever the URL says, and whatever a name resolves to: it is the socket's address that is judged."""
    calls = WebhookCalls()
    name = f"[{host}]" if ":" in host else host
    result = await calls.post(f"http://{name}/", "msg_1", b"{}", [Signer(b"k" * 32, b"s" * 32)], datetime.now(UTC))
    await calls.close()
    assert isinstance(result.answer, Unanswered)
    assert (
        host == "1.2.3"
        or "not an address of the public Internet" in result.answer.reason
        or "Invalid" in (result.answer.reason)
    ), result


async def test_a_name_that_resolves_to_an_internal_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at the second look-up, when the first was harmless (rebinding)."""
    answers = iter(["127.0.0.1", "169.254.169.254"])

    def lookup(*_: object, **__: object) -> list[Any]:
        return [(2, 1, 6, "", (next(answers), port))]

    async with receiver() as there:
        port = int(there.url.split(":")[2].split("/")[0])
        monkeypatch.setattr("providers.webhooks.socket.getaddrinfo", lookup)
        for allowed in ((), LOOPBACK):
            calls = WebhookCalls(allowed)
            signers = [Signer(b"k" * 32, b"s" * 32)]
            result = await calls.post(f"http://shop.example:{port}/", "msg_1", b"{}", signers, datetime.now(UTC))
            assert isinstance(result.answer, Unanswered)
            assert "not an address of the public Internet" in result.answer.reason
            await calls.close()
        assert there.received == []


async def test_an_agent_that_crashes_anywhere_loses_nothing_and_writes_nothing_twice(
    ledger_url: str, query: Query
) -> None:
    """The batch is one transaction: undone, it is done again from its position."""
    async with receiver() as there, hooks(ledger_url) as world:
        await world.add(there.url)
        records = await world.published(changed("A-1"), changed("A-1", "SHIPPED"))
        for step in ("take_sequences", "insert_deliveries", "schedule"):
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(f"sinks.postgres.deliveries.{step}", _fail)
                task = asyncio.create_task(world.run(records))
                await asyncio.sleep(0.1)
                task.cancel()
                await asyncio.wait({task})
                world._offsets[catalog.ORDER_EVENTS.name] -= len(records)
            assert query("SELECT count(*) FROM deliveries") == [(0,)]
            assert query("SELECT count(*) FROM delivery_sequences") == [(0,)]
        await world.run(records)
        await until_delivered(query, 2)
        assert there.of("A-1") == [1, 2]


async def _fail(*_: object) -> None:
    raise psycopg.OperationalError("the process ended here")


async def test_what_a_seller_did_not_ask_for_costs_no_row(world: Hooks, query: Query) -> None:
    """Without an endpoint nothing is even decoded."""
    await world.happen(changed("A-1"), b"garbage")
    assert query("SELECT count(*) FROM deliveries") == [(0,)]
    assert query("SELECT next_offset FROM positions WHERE agent = 'notifications' AND topic = 'order-events'") == [(2,)]
