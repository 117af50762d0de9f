"""Dead letters as people and programs find them."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import click
import psycopg
import pytest

from schemas import catalog
from sinks.postgres.dead_letters import Connection, OpenDeadLetters, note_new, read_open_dead_letters
from tests.integration.letters import DEAD, NOON, REQUESTS, add_letter, asked, run
from tests.integration.shop import checkout_body
from tests.records import written

Query = Callable[..., list[tuple[Any, ...]]]
MISPLACED = "wrong-partition: the key belongs to partition 1"


@pytest.fixture(autouse=True)
def configured(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the test's ledger."""
    monkeypatch.setenv("GAPLESS_POSTGRES_URL", ledger_url)


def listed(*arguments: str) -> Any:
    return json.loads(run("list", "--json", *arguments).stdout)


def ids(*arguments: str) -> list[str]:
    return [each["id"] for each in listed(*arguments)["dead_letters"]]


def in_ledger(url: str, work: Callable[[Connection], Any]) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        return work(connection)


def test_each_condition_selects_and_the_newest_comes_first(ledger_url: str) -> None:
    misplaced = add_letter(ledger_url, MISPLACED, 0, b"A-1", asked("A-1"))
    broken = add_letter(ledger_url, "undecodable: truncated", 1, b"A-2", b"\0", at=NOON + timedelta(hours=1))
    other = add_letter(
        ledger_url, "wrong-key: the record has no key", 0, None, asked("A-2"), source_partition=3, at=NOON
    )
    command = add_letter(
        ledger_url, MISPLACED, 7, b"A-1", b"", source_topic="order-commands", agent="orders", source_partition=1
    )
    assert [misplaced, broken, other, command] == ["0-1", "0-2", "3-1", "1-1"]
    assert ids() == [broken, other, command, misplaced]
    assert ids("--topic", "order-commands") == [command]
    assert ids("--reason", "undecodable") == [broken]
    # The order id of the value or, if that can't be decoded, of the key.
    assert ids("--order", "A-2") == [broken, other]
    assert ids("--since", "2026-11-29T12:30") == [broken]
    assert ids("--until", "2026-11-29T14:00+02:00") == []
    assert ids("--until", "2026-11-29T12:00:01Z", "--topic", REQUESTS) == [other, misplaced]
    assert ids("--state", "redriven") == []


def test_pages_follow_each_other_without_a_gap_or_a_repeat(ledger_url: str) -> None:
    for offset in range(5):
        add_letter(ledger_url, MISPLACED, offset, b"A-1", asked("A-1"), at=NOON + timedelta(seconds=offset // 2))
    pages: list[list[str]] = []
    after: list[str] = []
    while True:
        page = listed("--limit", "2", *after)
        assert page["count"] == 5
        pages.append([each["id"] for each in page["dead_letters"]])
        if page["next"] is None:
            break
        after = ["--after", page["next"]]
    assert pages == [["0-5", "0-4"], ["0-3", "0-2"], ["0-1"]]
    assert "5 open; continue with --after 0-4" in run("list", "--limit", "2").stdout
    assert run("list").stdout.splitlines()[-1] == "5 open"


def test_new_ones_are_found_whoever_copied_the_others_before(ledger_url: str, query: Query) -> None:
    """Concurrent copies don't conflict, and an error that quotes a NUL is stored."""

    def copy_twice(connection: Connection) -> list[int]:
        with psycopg.connect(ledger_url, autocommit=True) as other, ThreadPoolExecutor() as threads:
            return list(threads.map(note_new, [connection, other]))

    add_letter(ledger_url, "undecodable: 'a\0b'", 0, b"\0", b"\0")
    in_ledger(ledger_url, copy_twice)
    add_letter(ledger_url, MISPLACED, 1, b"A-1", asked("A-1"))
    assert ids() == ["0-2", "0-1"]
    assert query("SELECT count(*) FROM dead_letters") == [(2,)]
    assert in_ledger(ledger_url, note_new) == 0


def test_more_than_are_copied_at_once_are_all_copied(ledger_url: str, query: Query) -> None:
    add_letter(ledger_url, MISPLACED, 0, b"A-1", asked("A-1"))
    query(
        "INSERT INTO journal SELECT topic, partition, n, key, payload, occurred_at FROM journal,"
        " generate_series(2, 1203) AS n WHERE topic = %s",
        DEAD,
    )
    query("UPDATE journal_heads SET next_seq = 1204 WHERE topic = %s", DEAD)
    assert in_ledger(ledger_url, lambda connection: note_new(connection, 600)) == 1_000
    assert listed("--limit", "1")["count"] == 1203


def test_a_dead_letter_is_shown_with_its_record_and_without_secrets(ledger_url: str) -> None:
    checkout = {**checkout_body("C-1", ("S-1", 1)), "payment_token": "tok_secret"}
    value = written(catalog.CHECKOUT_REQUEST, checkout)
    add_letter(ledger_url, MISPLACED, 4, b"C-1", value, source_topic="checkout-requests", agent="checkouts")
    add_letter(ledger_url, "undecodable: magic byte 104, not 0", 5, b"\xff", b"hello")
    text = run("show", "0-1").stdout
    assert "checkout-requests/0 offset 4" in text
    assert MISPLACED in text
    assert '"order_id": "C-1"' in text
    assert "tok_secret" not in text + run("show", "0-1", "--json").stdout
    told = json.loads(run("show", "0-1", "--json").stdout)
    assert (told["record"]["schema"], told["record"]["body"]["order_id"]) == ("gapless.CheckoutRequest", "C-1")
    told = json.loads(run("show", "0-2", "--json").stdout)
    assert told["order_id"] is None
    assert told["record"] == {
        "key": "0xff",
        "schema": None,
        "body": None,
        "decode_error": "magic byte 104, not 0: not in the Confluent wire format",
        "value_base64": "aGVsbG8=",
    }
    assert "aGVsbG8=" in run("show", "0-2").stdout


def test_what_is_not_there_is_one_line(ledger_url: str, query: Query) -> None:
    assert str(run("show", "0-1").exception) == "there is no dead letter 0-1"
    assert isinstance(run("show", "0_1").exception, click.UsageError)
    assert isinstance(run("list", "--since", "yesterday").exception, click.UsageError)
    add_letter(ledger_url, MISPLACED, 0, b"A-1", asked("A-1"))
    assert ids() == ["0-1"]
    query("DELETE FROM journal WHERE topic = %s", DEAD)
    assert "its month was archived" in str(run("show", "0-1").exception)


def test_open_ones_are_counted_by_topic_and_reason_with_the_oldest(ledger_url: str, query: Query) -> None:
    """From the index only, because the monitor asks every few seconds."""
    for offset in range(3):
        add_letter(ledger_url, MISPLACED, offset, b"A-1", asked("A-1"), at=NOON + timedelta(seconds=offset))
    add_letter(ledger_url, "undecodable: truncated", 3, b"A-2", b"\0")
    in_ledger(ledger_url, note_new)
    query(
        "UPDATE dead_letters SET state = 'discarded', closed_by = 'x', closed_at = now(), closed_why = 'y'"
        " WHERE source_offset = 0"
    )
    assert in_ledger(ledger_url, read_open_dead_letters) == [
        OpenDeadLetters(REQUESTS, "undecodable", 1, NOON),
        OpenDeadLetters(REQUESTS, "wrong-partition", 2, NOON + timedelta(seconds=1)),
    ]
    query("SET enable_seqscan = off")
    plan = query(
        "EXPLAIN SELECT source_topic, reason, count(*), min(occurred_at) FROM dead_letters WHERE state = 'open'"
        " GROUP BY 1, 2"
    )
    assert "dead_letters_open" in str(plan)
