"""Mutations of the journal, the relay and the documents: plausible mistakes."""

from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

from domain import documents as naming
from sinks.postgres import journal
from streams.engine.batch import Batch
from streams.relay.steps import (
    AwaitAcknowledgements,
    MarkPublished,
    Produce,
    RelayProgress,
    RunStatement,
    Steps,
    publish,
)
from tests.simulation.cluster import Cluster, Rules, current_cluster
from tests.simulation.mutation import mutation
from tests.simulation.objects import FakeStore
from tests.simulation.postgres import Backend, Rows, columns
from tests.simulation.sessions import STEP


@mutation
def seqs_from_a_counter_outside(rules: Rules) -> Iterator[None]:
    """The journal's seq comes from a sequence: a rollback leaves a gap, and commits overtake each other."""

    def take(tx: Backend, p: Mapping[str, Any]) -> Rows:
        found = []
        for topic, partition, *row in columns(p, "topics partitions keys payloads occurred_ats"):
            key = (topic, partition)
            next_seq, published = tx.database.table("heads").get(key) or (1, 0)
            tx.write_outside("heads", key, (next_seq + 1, published))
            tx.insert("journal", {(*key, next_seq): (*row, None)})
            found.append((*key, next_seq))
        # The first of each.
        return found[::-1]

    rules.statements["append_journal"] = take
    yield


@mutation
def publish_before_the_commit(_: Rules) -> Iterator[None]:
    """Events are sent when they are made, whatever becomes of the transaction."""
    append = journal.append_numbered

    async def eager(connection: Any, output: Any) -> Any:
        firsts = await append(connection, output)
        for key, first in firsts.items():
            for seq, row in enumerate(output[key], first):
                await STEP
                current_cluster().judge.published(*key, seq, row.payload)
        return firsts

    with patch("sinks.postgres.journal.append_numbered", eager):
        yield


@mutation
def mark_before_the_acknowledgement(rules: Rules) -> Iterator[None]:
    """The relay marks what it has sent without waiting for the brokers' acknowledgement."""

    def eager(*arguments: Any) -> Steps[RelayProgress]:
        steps, answer = publish(*arguments), None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                ended: RelayProgress = end.value
                return ended
            answer = None
            if not isinstance(step, AwaitAcknowledgements):
                answer = yield step

    rules.publish = eager
    yield


@mutation
def publish_out_of_order(rules: Rules) -> Iterator[None]:
    """The relay sends the newest rows first."""

    def backwards(*arguments: Any) -> Steps[RelayProgress]:
        steps, answer, held = publish(*arguments), None, []
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                ended: RelayProgress = end.value
                return ended
            answer = None
            if isinstance(step, Produce):
                held.append(step)
                continue
            while held:
                yield held.pop()
            answer = yield step

    rules.publish = backwards
    yield


@mutation
def publish_from_what_was_sent_last(rules: Rules) -> Iterator[None]:
    """The relay marks everything up to the head, including what it has not read and sent."""

    def hasty(*arguments: Any) -> Steps[RelayProgress]:
        steps, answer = publish(*arguments), None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                ended: RelayProgress = end.value
                return ended
            if isinstance(step, MarkPublished):
                heads = yield RunStatement("read_unpublished")
                mine = (step.output.topic, step.output.partition)
                seq = max([head[3] - 1 for head in heads if head[:2] == mine], default=step.seq)
                step = step._replace(seq=seq)
            answer = yield step

    rules.publish = hasty
    yield


@mutation
def put_without_if_absent(rules: Rules) -> Iterator[None]:
    """An existing document is overwritten: a power failure damages one that was recorded before."""

    class Overwriting(FakeStore):
        async def put(self, key: str, body: bytes) -> None:
            await self.write(key, body)

    def unconditional(cluster: Cluster) -> FakeStore:
        return Overwriting(cluster)

    rules.store = unconditional
    yield


@mutation
def document_key_without_the_hash(_: Rules) -> Iterator[None]:
    """A document is named by its number: a damaged one can't be told from another's."""

    def by_number(seller_id: str, year: str, invoice_number: str, sha256: str) -> str:
        return naming.document_key(seller_id, year, invoice_number, "0" * 64)

    with patch("streams.documents.document_key", by_number):
        yield


@mutation
def recorded_before_it_is_stored(rules: Rules) -> Iterator[None]:
    """A document's row is committed first, its object put afterwards."""

    def put_later(work: Any) -> Any:
        store, held = work._store, []

        class Later:
            async def put_all_if_absent(self, objects: Any) -> None:
                held.extend(objects)

        async def committed(batch: Batch, prepared: Any) -> None:
            await STEP
            await store.put_all_if_absent(held)
            held.clear()

        work._store, work.committed = Later(), committed
        return work

    rules.works["documents"] = put_later
    yield
