"""Faust, adapted in six places: one event per fetched batch, fetches that are apart and short while partitions move, a
start where Postgres says and without a sleep, only what is committed, and no topic left out.

Faust spends 0.17 ms of Python on each event; with a batch as its event it spends that once per batch. And it starts at
the consumer group's committed offset, which may run ahead of the effects; ours starts at the agent's position.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from faust.assignor.partition_assignor import PartitionAssignor
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as AiokafkaConsumer
from faust.transport.drivers.aiokafka import Transport as AiokafkaTransport
from faust.types import TP, ConsumerMessage
from mode import Service
from yarl import URL

from runtime.exits import fatal
from streams.engine.batch import Batch
from streams.engine.log_probe import log_end

_log = logging.getLogger(__name__)
#: Where our subclasses of Faust's services tell of their progress. By default it would be the log of their module, and
#: so ours.
FAUST_LOG = logging.getLogger("faust.gapless")

#: `(topic, partitions) -> next offset of each`, from the positions in Postgres.
ReadPositions = Callable[[str, list[int]], Awaitable[Mapping[int, int]]]


#: What `BatchApp.partitions_state` returns until the group has given this worker its share.
NOT_ASSIGNED = "not assigned yet"
#: The longest that a fetch waits for records while partitions are being taken up.
_SETTLING_FETCH_MS = 10


class BatchMessage(ConsumerMessage):
    """A Faust message that stands for a batch; its offset is that of the last record."""

    __slots__ = ("batch",)

    batch: Batch


class BatchApp(faust.App):
    """A Faust app whose events are batches."""

    logger = FAUST_LOG

    #: All set before the app starts.
    bootstrap: str
    #: Of each topic.
    partitions: int
    read_positions: ReadPositions
    #: The least time between two fetches.
    gather_s: float

    def partitions_state(self) -> str:
        """Whether the partitions that are this worker's share, be it none, are taken up: "ok", or why not."""
        if self._assignment is None:
            return NOT_ASSIGNED
        return "being taken up" if self.rebalancing or self.in_recovery else "ok"

    def _new_transport(self) -> AiokafkaTransport:
        return BatchTransport(self.conf.broker_consumer, self, loop=self.loop)


class CommittedThread(AIOKafkaConsumerThread):
    """Fetches what is committed: nothing of an aborted transaction, and nothing from the oldest open one on.

    Ends of partitions are then those of what is committed, too: the last stable offsets.
    """

    logger = FAUST_LOG

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust asks for it only together with exactly-once. It is looked at when the consumer starts.
        consumer._isolation_level = "read_committed"
        return consumer

    async def on_start(self) -> None:
        """Start the consumer, and pace its fetches."""
        await super().on_start()
        consumer: Any = self._consumer
        pace(consumer._fetcher, cast(BatchApp, self.consumer.app))


class BatchConsumer(AiokafkaConsumer):
    """Reads from the positions, and hands over whole batches."""

    logger = FAUST_LOG

    app: BatchApp

    def _new_consumer_thread(self) -> CommittedThread:
        return CommittedThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition, changelogs excepted, to its agent's position; return the offsets."""
        by_topic: dict[str, list[int]] = {}
        for tp in self.assignment():
            if tp.partition >= self.app.partitions:
                # What came of it would be written to partitions of output topics that are not there.
                fatal(
                    f"{tp.topic} has a partition {tp.partition}, and Postgres has recorded {self.app.partitions} for"
                    " each topic: follow docs/recovery.md"
                )
            if not self._is_changelog_tp(tp):
                by_topic.setdefault(tp.topic, []).append(tp.partition)
        offsets: dict[TP, int] = {}
        for topic, partitions in by_topic.items():
            positions = await self.app.read_positions(topic, partitions)
            offsets.update({TP(topic, partition): offset for partition, offset in positions.items()})
        if offsets:
            await self._refuse_positions_beyond_the_log(offsets)
            await self.seek_wait(offsets)
        begins = {f"{tp.topic}/{tp.partition}": offset for tp, offset in sorted(offsets.items())}
        _log.info("takes up %d partitions", len(begins), extra={"positions": begins})
        return offsets

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume the changelogs; `perform_seek` resumes the other partitions.

        Faust resumes all of them and seeks then, because it seeks to where the group stands anyway. Until Postgres has
        answered, a worker would fetch from the group's offset, and the records would lie beyond its position.
        """
        super().resume_partitions({tp for tp in tps if self._is_changelog_tp(tp)})

    async def perform_seek(self) -> None:
        """Seek to the positions and resume there, and have the group's offsets follow them.

        A worker that was killed has left the group's behind; where nothing new comes they would stay there.
        """
        await super().perform_seek()
        super().resume_partitions({tp for tp in self.assignment() if not self._is_changelog_tp(tp)})
        for tp, position in self._committed_offset.items():
            if position:
                self._acked[tp].append(position - 1)
        # Faust takes the positions for what the group has committed.
        self._committed_offset.clear()

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: every batch comes after a gap, its offset being that of its last record."""

    def _new_offset(self, tp: TP) -> int | None:
        """The offset to commit: after the last batch that is done, as a partition's are done one after another."""
        acked = self._acked[tp]
        if not acked:
            return None
        offset = max(acked) + 1
        acked.clear()
        self._acked_index[tp].clear()
        return offset

    async def _refuse_positions_beyond_the_log(self, offsets: Mapping[TP, int]) -> None:
        # Waiting there would drop in silence every record until the log has grown past the position again.
        ends = dict(await self.highwaters(*offsets))
        for tp, offset in offsets.items():
            if offset > ends[tp]:
                # Within an open transaction that a release without `CommittedThread` has read.
                ends[tp] = await log_end(self.app.bootstrap, tp.topic, tp.partition)
            if offset > ends[tp]:
                fatal(
                    f"the position {offset} in {tp.topic}/{tp.partition} lies beyond the log's end {ends[tp]}:"
                    " the topic was recreated or has lost data; restore it, or, once you know what is lost, set the"
                    " position by hand"
                )

    async def _wait_next_records(self, timeout: float) -> Any:
        records, active = await super()._wait_next_records(timeout)
        if records:
            records = {
                tp: fetched if self._is_changelog_tp(tp) else [Batch(tp.topic, tp.partition, fetched)]
                for tp, fetched in records.items()
                if fetched
            }
        return records, active

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, Batch):
            return super()._to_message(tp, record)
        last: Any = record.records[-1]
        message = BatchMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            None,
            None,
            b"",
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        message.batch = record
        return message


#: What aiokafka's fetcher does next: fetches, resets of positions, seconds until it looks again, whether it needs new
#: metadata, and what else it waits for.
Actions = tuple[list[Any], dict[Any, Any], float, bool, list[Any]]


def pace(fetcher: Fetcher, app: BatchApp) -> None:
    """Have the fetches `gather_s` apart, however fast their records are taken, and none long while partitions move.

    A fetch asks for all partitions, which costs some 2 ms of CPU, here and at the broker; under load one would follow
    the other after every few records. Brokers could gather records themselves, but look through all partitions of such
    a fetch with each record that is written to one of them.

    What a broker is asked on one connection it answers in that order: while partitions are taken up, each question for
    their ends would wait behind a fetch that waits for records.
    """
    actions, patient_ms = fetcher._get_actions_per_node, fetcher._fetch_max_wait_ms

    def prompt(assignment: Any) -> Actions:
        fetcher._fetch_max_wait_ms = patient_ms if app.partitions_state() == "ok" else _SETTLING_FETCH_MS
        found: Actions = actions(assignment)
        return found

    fetcher._get_actions_per_node = apart(prompt, app.gather_s, time.monotonic)


def apart(actions: Callable[[Any], Actions], seconds: float, clock: Callable[[], float]) -> Callable[[Any], Actions]:
    """The same actions, with so many seconds at least from one that fetches to the next."""
    next_at = -math.inf

    def paced(assignment: Any) -> Actions:
        nonlocal next_at
        now = clock()
        if now < next_at:
            return [], {}, next_at - now, False, []
        found = actions(assignment)
        if found[0]:
            next_at = now + seconds
        return found

    return paced


class CompleteAssignor(PartitionAssignor):
    """Shares out all topics or none.

    A broker that has just started may not know them yet. Faust leaves such topics out, and nobody would read them until
    the group meets again, minutes later.
    """

    @classmethod
    def _get_copartitioned_groups(cls, topics: set[str], cluster: Any, subscriptions: Any) -> Any:
        if missing := sorted(topic for topic in topics if not cluster.partitions_for_topic(topic)):
            fatal(f"the brokers don't know {', '.join(missing)}, or not yet: the group would leave them unread")
        return super()._get_copartitioned_groups(topics, cluster, subscriptions)


class LoudRecovery(Recovery):
    """What gets the partitions going after each rebalance, which does not end in silence.

    A step that takes longer than a request may, because the brokers or Postgres are away, ends it for good: this
    rebalance and all that follow would be waited for in vain.
    """

    logger = FAUST_LOG

    async def _build_offsets(self, consumer: Any, tps: set[TP], destination: Any, title: str) -> None:
        """As Faust's; a table that remembers more than its changelog has is made anew.

        The changelog was recreated or has lost data. Faust would end, and the next process like it; but what the table
        knows is a hint.
        """
        for tp in tps:
            ends_at, persisted = self.active_highwaters[tp], destination[tp]
            if persisted is not None and persisted > ends_at:
                _log.warning("%s ends at %d, before its table's %d: the table is made anew", tp, ends_at, persisted)
                table: Any = self.tp_to_table[tp]
                table.data.forget(tp.partition)
                destination[tp] = None
        await super()._build_offsets(consumer, tps, destination, title)

    @Service.task
    async def _restart_recovery(self) -> None:
        await Recovery._restart_recovery.fun(self)
        if not (self.should_stop or self.app.should_stop):
            fatal("partitions could not be taken up in time: the brokers or Postgres are away, or too slow")


class LoudTables(TableManager):
    """Tables with that recovery."""

    logger = FAUST_LOG

    async def on_start(self) -> None:
        """As Faust's, without its sleep of a second for tables that come later: ours are made before the app starts."""
        await self._update_channels()
        await self.recovery.start()

    @property
    def recovery(self) -> Recovery:
        """The one service that takes partitions up."""
        if self._recovery is None:
            self._recovery = LoudRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class BatchTransport(AiokafkaTransport):
    """The transport that `BatchApp` uses."""

    Consumer = BatchConsumer


def make_app(
    name: str,
    *,
    bootstrap: str,
    partitions: int,
    slot: str,
    datadir: str,
    batch_records_max: int,
    read_positions: ReadPositions,
) -> BatchApp:
    """The Faust app of one agent: its own consumer group `gapless-<name>`, a static member per slot."""
    app = BatchApp(
        f"gapless-{name}",
        broker=[URL(f"kafka://{each.strip()}") for each in bootstrap.split(",")],
        datadir=datadir,
        store="rocksdb://",
        PartitionAssignor=CompleteAssignor,
        TableManager=LoudTables,
        # On the app: set on a table's schema alone, recovery decodes keys as JSON and hangs without an error.
        key_serializer="raw",
        value_serializer="raw",
        consumer_group_instance_id=f"{name}-{slot}",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 * 1024 * 1024,
        broker_max_poll_records=batch_records_max,
        broker_commit_interval=1.0,
        # A worker that dies hard keeps its partitions this long if it doesn't come back; SIGSTOP is noticed after it.
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.0,
        broker_request_timeout=15.0,
        broker_rebalance_timeout=60.0,
        broker_max_poll_interval=120.0,
        # Counts batches, and must hold what comes while an agent paces itself: Faust sleeps a second when all
        # partitions are full.
        stream_buffer_maxsize=64,
        stream_wait_empty=True,
        stream_publish_on_commit=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        autodiscover=False,
    )
    app.bootstrap = bootstrap
    app.partitions = partitions
    app.read_positions = read_positions
    return app
