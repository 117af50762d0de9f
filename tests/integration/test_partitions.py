"""The number of partitions is a deployment's choice: made with its topics, recorded in Postgres, and fixed."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from audit.backlog import is_drained
from audit.report import AuditError
from audit.run import run_audit
from audit.snapshot import Snapshot
from gateway import agreement
from runtime.exits import StartRefusedError
from runtime.kafka import TopicError
from runtime.topics import describe_topics
from schemas.catalog import INVOICE_REQUESTS, TOPICS
from schemas.placement import partition_of
from sinks.agreement import require_agreement
from sinks.deployment import make_topics, read_partitions
from sinks.postgres.migrate import migrate, migration_files
from sinks.postgres.schema import require_schema
from tests.conftest import PARTITIONS, Services
from tests.integration import gateways
from tests.integration.test_agreement import end_of, process, serving, wait_for

Query = Callable[..., list[tuple[Any, ...]]]
_MIGRATION = "0011_partitions.sql"


@pytest.fixture
def no_topics(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """None of the catalogue's topics exist before the test, nor the test's afterwards; there is one broker."""
    monkeypatch.setenv("GAPLESS_REPLICATION_FACTOR", "1")
    _delete_topics(services)
    yield
    _delete_topics(services)


def _delete_topics(services: Services) -> None:
    there = describe_topics(services.kafka_bootstrap, TOPICS)
    if there:
        admin = AdminClient({"bootstrap.servers": services.kafka_bootstrap})
        for deleted in admin.delete_topics(list(there)).values():
            deleted.result(60)
    wait_for(lambda: not describe_topics(services.kafka_bootstrap, TOPICS), "the end of the topics")


def wait_for_topics(services: Services, partitions: int) -> None:
    """Wait until the brokers know all topics, with this number of partitions."""

    def counts() -> dict[str, int]:
        found = describe_topics(services.kafka_bootstrap, TOPICS)
        return {name: topic.partitions for name, topic in found.items()}

    wait_for(lambda: counts() == dict.fromkeys(TOPICS, partitions), f"topics of {partitions} partitions")


def recorded(query: Query) -> list[tuple[Any, ...]]:
    return query("SELECT partitions FROM deployment")


def go_back_to_the_release_before(query: Query) -> None:
    query("DROP TABLE deployment")
    query("DELETE FROM schema_migrations WHERE name = %s", _MIGRATION)


@pytest.mark.usefixtures("no_topics")
@pytest.mark.parametrize("partitions", [1, 3, 16])
async def test_the_whole_way_goes_through_as_many_partitions_as_were_chosen(
    services: Services, ledger: str, query: Query, tmp_path: Path, partitions: int
) -> None:
    """From `gapless topics` through gateway, worker and relay to the audit."""
    query("DELETE FROM deployment")
    status, said = end_of(services, ledger, tmp_path, "topics", "--partitions", str(partitions))
    assert status == 0, said
    wait_for_topics(services, partitions)
    assert recorded(query) == [(partitions,)]
    names = [f"{tmp_path.name[-40:]}-{number}" for number in range(60 * partitions)]
    places = [partition_of(each.encode(), partitions) for each in names]
    # Two of each partition.
    firsts = [[at for at, place in enumerate(places) if place == each][:2] for each in range(partitions)]
    ids = [names[at] for its in zip(*firsts, strict=True) for at in its]
    with process(services, ledger, tmp_path, "worker", "invoices"), process(services, ledger, tmp_path, "relay"):
        async with serving(services, ledger) as client:
            await gateways.until(lambda: client.get("/readyz"), lambda answer: answer.status == 200)
            answers = await asyncio.gather(*(client.post(gateways.order(each)) for each in ids))
            assert gateways.statuses(answers) == {202: len(ids)}
            waited = await asyncio.gather(
                *(client.post(gateways.order(each), Prefer="wait=20") for each in ids[-partitions:])
            )
            assert gateways.statuses(waited) == {200: partitions}
            stock = await asyncio.gather(
                *(client.call("PUT", f"/v1/stock/S-{number}", json={"on_hand": 5}) for number in range(partitions))
            )
            assert gateways.statuses(stock) == {200: partitions}
        unpublished = (
            "SELECT count(*) FROM journal_heads h LEFT JOIN journal_published p USING (topic, partition)"
            " WHERE h.next_seq - 1 > coalesce(p.published_seq, 0)"
        )
        await asyncio.to_thread(wait_for, lambda: query(unpublished) == [(0,)], "the events")
    rows: Any = query("SELECT order_id, source_partition, series_id, number FROM invoices")
    assert {order_id: partition for order_id, partition, *_ in rows} == {
        each: partition_of(each.encode(), partitions) for each in ids
    }
    assert {partition for _, partition, *_ in rows} == set(range(partitions))
    for series in {series for *_, series, _ in rows}:
        numbers = sorted(number for *_, its, number in rows if its == series)
        assert numbers == list(range(1, len(numbers) + 1))
    for (sku,) in query("SELECT sku FROM stock"):
        [(place,)] = query("SELECT partition FROM journal WHERE topic = 'inventory-events' AND key = %s", sku.encode())
        assert place == partition_of(sku.encode(), partitions)
    report = await asyncio.to_thread(run_audit, ledger, services.kafka_bootstrap, lambda _: [])
    assert report.clean, list(report.shown())
    assert report.counts["invoices"] == len(ids)
    assert not report.lag["invoices invoice-requests"]


@pytest.mark.usefixtures("no_topics")
def test_topics_are_made_with_four_partitions_unless_another_number_is_asked_for(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    query("DELETE FROM deployment")
    assert make_topics(ledger_url, services.kafka_bootstrap, 1, None) == (4, list(TOPICS))
    wait_for_topics(services, 4)
    # Repeated with the recorded number, given or not.
    for asked in (None, 4):
        assert make_topics(ledger_url, services.kafka_bootstrap, 1, asked) == (4, [])
    status, said = end_of(services, ledger_url, tmp_path, "topics", "--partitions", "16")
    assert status == 1
    assert "--partitions: this deployment's topics have 4 partitions, and 16 are asked for. The number can't" in said
    assert "Leave the option out; for another number, set up a new deployment" in said
    assert recorded(query) == [(4,)]
    assert end_of(services, ledger_url, tmp_path, "topics", "--partitions", "0")[0] == 2
    assert end_of(services, ledger_url, tmp_path, "topics", "--partitions", "1001")[0] == 2


@pytest.mark.usefixtures("no_topics")
def test_a_topic_that_is_missing_is_made_with_the_recorded_number(
    services: Services, ledger_url: str, query: Query
) -> None:
    """As after a release with a new topic, or after a loss of Kafka."""
    query("UPDATE deployment SET partitions = 3")
    assert make_topics(ledger_url, services.kafka_bootstrap, 1, None) == (3, list(TOPICS))
    wait_for_topics(services, 3)


@pytest.mark.usefixtures("no_topics")
def test_a_choice_that_could_not_be_carried_out_is_still_open(
    services: Services, ledger_url: str, query: Query
) -> None:
    query("DELETE FROM deployment")
    with pytest.raises(TopicError, match="cannot be created"):
        make_topics(ledger_url, services.kafka_bootstrap, 3, 16)
    assert recorded(query) == []
    assert make_topics(ledger_url, services.kafka_bootstrap, 1, 3) == (3, list(TOPICS))
    assert recorded(query) == [(3,)]


@pytest.mark.usefixtures("no_topics")
@pytest.mark.parametrize("partitions", [4, 3])
def test_topics_that_are_there_are_recorded_as_they_are(
    services: Services, ledger_url: str, query: Query, partitions: int
) -> None:
    """A deployment of the previous release without any records: `migrate` can't know its number, `topics` can."""
    make_topics_of(services, ledger_url, query, partitions)
    go_back_to_the_release_before(query)
    assert asyncio.run(migrate(ledger_url)) == [_MIGRATION]
    assert recorded(query) == []
    with pytest.raises(StartRefusedError, match=f"topics have {partitions} partitions, and 16 are asked for"):
        make_topics(ledger_url, services.kafka_bootstrap, 1, 16)
    assert recorded(query) == []
    # Recorded even if topics differ in something else.
    with pytest.raises(TopicError, match=r"replication.factor is 1, at least 3 required"):
        make_topics(ledger_url, services.kafka_bootstrap, 3, None)
    assert recorded(query) == [(partitions,)]
    assert make_topics(ledger_url, services.kafka_bootstrap, 1, None) == (partitions, [])


def make_topics_of(services: Services, url: str, query: Query, partitions: int) -> None:
    query("DELETE FROM deployment")
    make_topics(url, services.kafka_bootstrap, 1, partitions)
    wait_for_topics(services, partitions)


@pytest.mark.usefixtures("no_topics")
def test_what_waits_in_the_last_partition_is_still_on_its_way(
    services: Services, ledger_url: str, query: Query
) -> None:
    make_topics_of(services, ledger_url, query, 16)
    with psycopg.connect(ledger_url, autocommit=True) as connection:
        assert is_drained(connection, services.kafka_bootstrap)
        producer = Producer({"bootstrap.servers": services.kafka_bootstrap})
        producer.produce(INVOICE_REQUESTS.name, b"a request", b"key", 15)
        assert producer.flush(60) == 0
        assert not is_drained(connection, services.kafka_bootstrap)


@pytest.mark.usefixtures("no_topics")
def test_topics_that_differ_among_themselves_are_not_recorded(
    services: Services, ledger_url: str, query: Query
) -> None:
    make_topics_of(services, ledger_url, query, 2)
    query("DELETE FROM deployment")
    grow(services, INVOICE_REQUESTS.name, 5)
    with pytest.raises(StartRefusedError, match="has 2 partitions and invoice-requests 5: every topic must have"):
        make_topics(ledger_url, services.kafka_bootstrap, 1, 2)
    assert recorded(query) == []


def grow(services: Services, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": services.kafka_bootstrap})
    for grown in admin.create_partitions([NewPartitions(topic, partitions)]).values():
        grown.result(60)
    seen = lambda: describe_topics(services.kafka_bootstrap, [topic])[topic].partitions == partitions  # noqa: E731
    wait_for(seen, "the topic's partitions")


def test_a_deployment_of_the_release_before_that_has_worked_needs_only_migrate(ledger_url: str, query: Query) -> None:
    """The previous release always had four partitions, so its processes can be replaced right after `migrate`."""
    go_back_to_the_release_before(query)
    query("INSERT INTO positions (agent, topic, partition) VALUES ('invoices', 'invoice-requests', 3)")
    assert asyncio.run(migrate(ledger_url)) == [_MIGRATION]
    assert recorded(query) == [(4,)]


@pytest.mark.usefixtures("no_topics")
@pytest.mark.parametrize(("partitions", "runs"), [(4, True), (16, False)])
def test_the_release_before_runs_on_four_partitions_alone(
    services: Services, ledger_url: str, query: Query, partitions: int, runs: bool
) -> None:
    """After a rollback it would look for orders in four partitions only."""
    make_topics_of(services, ledger_url, query, partitions)
    known = [file.name for file in migration_files()]
    with psycopg.connect(ledger_url, autocommit=True) as connection:
        require_schema(connection, known)
        known.remove(_MIGRATION)
        if runs:
            require_schema(connection, known)
        else:
            with pytest.raises(StartRefusedError, match=f"{_MIGRATION} needs a release that knows {_MIGRATION}"):
                require_schema(connection, known)


@pytest.mark.usefixtures("empty_outputs")
async def test_every_process_refuses_topics_of_another_number(
    services: Services, ledger: str, query: Query, tmp_path: Path
) -> None:
    query("UPDATE deployment SET partitions = 16")
    expected = f"checkout-requests has {PARTITIONS} partitions, dead-letters has {PARTITIONS} partitions, "
    for command in (("worker", "invoices"), ("worker", "stock"), ("relay",)):
        status, log = end_of(services, ledger, tmp_path, *command)
        assert status == 1
        assert expected in log
        assert f"and {len(TOPICS) - 4} more topics another number, but Postgres has recorded 16 for each topic" in log
        assert "Nothing was changed" in log
        assert "docs/recovery.md" in log
    async with serving(services, ledger) as client:
        await gateways.until(lambda: client.get("/readyz"), lambda each: each.json["agreement"] == agreement.REFUSED)
        for answer in (
            await client.post(gateways.order("A-1")),
            await client.call("PUT", "/v1/stock/S-1", json={"on_hand": 1}),
        ):
            assert (answer.status, answer.json["type"]) == (503, "/problems/servers-disagree")
        query("UPDATE deployment SET partitions = %s", PARTITIONS)
        await gateways.until(lambda: client.get("/readyz"), lambda each: each.status == 200)
        assert (await client.post(gateways.order(f"A-{tmp_path.name[-50:]}"))).status == 202
    query("UPDATE deployment SET partitions = 16")
    told = run_audit(ledger, services.kafka_bootstrap, lambda _: []).samples["topic"]
    wrong = f"has {PARTITIONS} partitions, and Postgres has recorded 16 for each topic"
    assert {each.where for each in told if each.what.startswith(wrong)} >= {"checkout-requests", "dead-letters"}


def test_a_topic_that_was_grown_by_hand_is_refused(services: Services, ledger_url: str) -> None:
    topic = gateways.make_topics(services.kafka_bootstrap).requests
    agreed = require_agreement(ledger_url, services.kafka_bootstrap, (), (topic,))
    assert agreed.partitions == PARTITIONS
    grow(services, topic.name, PARTITIONS + 1)
    with pytest.raises(StartRefusedError, match=f"^{topic.name} has 5 partitions, but Postgres has recorded 4 "):
        require_agreement(ledger_url, services.kafka_bootstrap, (), (topic,))


@pytest.mark.usefixtures("empty_outputs")
def test_processes_ask_for_the_topics_where_nothing_is_recorded(
    services: Services, ledger_url: str, query: Query, tmp_path: Path
) -> None:
    query("DELETE FROM deployment")
    for command in (("worker", "documents"), ("relay",)):
        status, log = end_of(services, ledger_url, tmp_path, *command)
        assert status == 1
        assert "doesn't say yet how many partitions the topics have: run `gapless topics`" in log
    with pytest.raises(AuditError, match="run `gapless topics`"):
        Snapshot(ledger_url)


def test_there_is_one_record(ledger_url: str, query: Query) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        query("INSERT INTO deployment (partitions) VALUES (16)")
    with closing(psycopg.connect(ledger_url)) as connection:
        assert read_partitions(connection) == PARTITIONS
