"""The processes of a history: gateway, workers with the product's own work, relays; and their faults."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import zip_longest
from typing import Any, NoReturn

from schemas import catalog
from sinks.postgres.documents import Logos
from sinks.postgres.positions import read_positions
from sinks.postgres.session import OUTAGES, SQL
from streams import checkouts, documents, invoices, orders
from streams.engine import batch as batches
from streams.engine.batch import Batch
from streams.engine.work import Worker
from streams.relay.steps import (
    RELAYS_LOCK,
    AwaitAcknowledgements,
    MarkPublished,
    Output,
    Produce,
    ReadJournal,
    RelayProgress,
    RunStatement,
    Steps,
    mark_statement,
    publish,
    read_statement,
    rows_by_output,
    share_outputs,
)
from tests.simulation.choices import Choices
from tests.simulation.judge import Judge
from tests.simulation.objects import FakeStore
from tests.simulation.payments import GIVE_UP_AFTER, Provider
from tests.simulation.payments import Rows as PaymentRows
from tests.simulation.postgres import Database, Key
from tests.simulation.scheduler import Process, Scheduler
from tests.simulation.sessions import STEP, Connection, SimulatedSession, Step
from tests.simulation.statements import by_text
from tests.simulation.violation import Exited, Violation, require
from tests.simulation.workload import EDITIONS, ON_HAND, Log, render, seller_rows

START = datetime(2026, 12, 31, 22, 59, 59, tzinfo=UTC)
#: Time per step, such that holds and leases expire within a history.
STEP_MS = 100
HOLD = timedelta(seconds=6)
#: Small, so that a few records are sometimes several transactions.
BATCH_BYTES_MAX = 1_200
Source = tuple[str, int]


@dataclass(frozen=True)
class Agent:
    """An agent: the topic that it reads, and how its work is created."""

    name: str
    topic: str
    make: Callable[["Cluster", Process], Any]


@dataclass
class Rules:
    """The rules of the product; a mutation replaces one."""

    statements: dict[str, Any] = field(default_factory=dict)
    worker: type[Worker] = Worker
    works: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    share_outputs: Callable[..., Steps[Any]] = share_outputs
    publish: Callable[..., Steps[RelayProgress]] = publish
    store: Callable[["Cluster"], Any] = FakeStore
    starts_at_group: bool = False
    #: Percentage of voids that are acted on only after the caller has given up.
    late_voids_percent: int = 30


class Table:
    """A dedupe table that may forget entries, and that knows what it has seen from the start."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.numbers: dict[bytes, int] = {}
        self.covered = (0, 0)

    def known(self, partition: int, digests: list[bytes]) -> list[bool]:
        return [(each in self.numbers) != self._cluster.faults_now(3) for each in digests]

    def covers(self, partition: int, offset: int) -> bool:
        return self.covered == (0, offset) or self._cluster.faults_now(10)

    def mark(self, partition: int, first_offset: int, next_offset: int, pairs: list[tuple[bytes, int]]) -> None:
        self.numbers.update(pairs)
        start, end = self.covered
        self.covered = (start, next_offset) if start <= first_offset <= end else (first_offset, next_offset)


class Tables:
    """The tables of a worker's partitions."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self._cluster = cluster
        self._name = name
        self._opened: dict[int, Table] = {}

    def of(self, partition: int) -> Table:
        """A partition's, as it is since the worker has it."""
        if partition not in self._opened:
            cluster, key = self._cluster, (self._name, partition)
            # The folder of a worker that has moved is another one; it may also be lost.
            if key not in cluster.tables or cluster.faults_now(30):
                cluster.tables[key] = Table(cluster)
            self._opened[partition] = cluster.tables[key]
        return self._opened[partition]

    def known(self, partition: int, digests: list[bytes]) -> list[bool]:
        return self.of(partition).known(partition, digests)

    def covers(self, partition: int, offset: int) -> bool:
        return self.of(partition).covers(partition, offset)

    def mark(self, partition: int, *rest: Any) -> None:
        self.of(partition).mark(partition, *rest)


class Cluster(Scheduler):
    """All processes and services of a history."""

    def __init__(self, choices: Choices, rules: Rules) -> None:
        super().__init__(choices)
        self.rules = rules
        _current[:] = [self]
        #: Whether faults may happen.
        self.faulty = False
        self.logs: dict[Source, Log] = {}
        self.objects: dict[str, bytes] = {}
        self.judge = Judge(self.logs, self.objects, ON_HAND)
        self.database = Database(by_text(rules.statements), self._committed, self.server_now)
        self.judge.tables = self.database.tables
        self.database.tables["sellers"] = seller_rows()
        self.database.tables["stock"] = {sku: (pieces, 0, 0) for sku, pieces in ON_HAND.items()}
        self.outputs: dict[Output, int] = {}
        self.tables: dict[tuple[str, int], Table] = {}
        #: What the consumer groups have committed, which decides nothing.
        self.groups: dict[tuple[str, str, int], int] = {}
        self.skew = timedelta(0)
        #: Whether payments are part of the history.
        self.pays = False
        self.provider = Provider(self)

    def now_utc(self) -> datetime:
        """The time of a worker's clock."""
        return START + timedelta(milliseconds=STEP_MS * self.now) + self.skew

    def server_now(self) -> float:
        """The time of Postgres' clock, in seconds since 1970."""
        return START.timestamp() + STEP_MS * self.now / 1000

    def believed_now(self) -> datetime:
        """The time by which transactions are dated now."""
        return self.now_utc() if abs(self.skew) <= timedelta(minutes=1) else self.now_utc() - self.skew

    def payments_are_due(self) -> bool:
        """Whether an attempt is due; real payers poll for it."""
        attempts, now = self.database.table("attempts"), self.server_now()
        return any(row.state == "open" and row.next_try_at <= now for row in attempts.values())

    def holds_have_expired(self) -> bool:
        """Whether an order's hold has expired without a payment."""
        orders_, now = self.database.table("orders"), self.believed_now()
        return any(row.state == "PAYMENT_PENDING" and row.hold_expires_at <= now for row in orders_.values())

    def next_wake(self) -> int | None:
        if not self.pays:
            return None
        waits = [
            row.next_try_at - self.server_now()
            for row in self.database.table("attempts").values()
            if row.state == "open"
        ]
        waits += [
            (row.hold_expires_at - self.believed_now()).total_seconds()
            for row in self.database.table("orders").values()
            if row.state == "PAYMENT_PENDING"
        ]
        return self.now + 1 + max(0, int(1000 * min(waits) / STEP_MS)) if waits else None

    def faults_now(self, percent: int) -> bool:
        """Whether a fault happens at this point."""
        return self.faulty and self.choices.chance(percent)

    def log(self, topic: str, partition: int) -> Log:
        """A partition of a topic."""
        found = self.logs.get((topic, partition))
        if found is None:
            found = self.logs[(topic, partition)] = Log()
        return found

    def start(self, name: str, body: Callable[[Process], Coroutine[Any, None, None]], after: int = 0) -> Process:
        """Start a process."""
        process = Process(name, body, self.now + after)
        self.processes.append(process)
        return process

    def on_exit(self, process: Process) -> None:
        self.end(process, received=True)
        self.start(process.name, process.body)

    def end(self, process: Process, *, received: bool) -> None:
        """Kill a process. What its sessions and the brokers have received may be carried out or not."""
        for connection in process.connections:
            if not connection.closed:
                connection.cut(received=received)
        for output, records in process.outbox.items():
            # Of the records under way some may arrive, but in order.
            arrived = self.choices.below(len(records) + 1) if self.faulty else 0
            for _ in range(arrived):
                self.deliver(process, output)
        process.outbox.clear()
        process.kill()
        self.processes.remove(process)

    def deliver(self, process: Process, output: Source) -> None:
        seq, key, payload = process.outbox[output].pop(0)
        self.note(f"{output[0]}/{output[1]} seq {seq} reaches the broker")
        self.judge.published(*output, seq, payload)
        self.log(*output).append(key, payload)

    def _committed(self, writes: Mapping[Key, Any]) -> None:
        self.judge.committed(writes)
        if self.trace is not None:
            self.note(f"commit: {', '.join(f'{table} {key}' for table, key in writes)}")

    def worker(self, agents: Sequence[tuple[Agent, int]]) -> Callable[[Process], Coroutine[Any, None, None]]:
        """A worker of an agent that has these partitions of its topics, as `streams/engine/app.py` runs it."""

        async def body(process: Process) -> None:
            session = SimulatedSession(self, process)
            at = {
                (each.topic, partition): await self._starting_offset(session, each, partition)
                for each, partition in agents
            }
            agent, _ = agents[0]
            work = agent.make(self, process)
            if agent.name in self.rules.works:
                work = self.rules.works[agent.name](work)
            worker = self.rules.worker(session, self._probe(), self._sleep)
            while True:
                if not _have_grown(self.logs, at):
                    await Step(partial(_have_grown, self.logs, at))
                # Of each partition what is in hand: the first batches of all of them together, then the next.
                in_hand = [self._fetch(process, agent, source, at) for source in list(at)]
                for batches_of_all in zip_longest(*in_hand):
                    together = [batch for batch in batches_of_all if batch is not None]
                    if self.trace is not None:
                        self.note(f"{process.name} begins {', '.join(map(str, together))}")
                    await worker.run(work, *together)

        return body

    def _fetch(self, process: Process, agent: Agent, source: Source, at: dict[Source, int]) -> list[Batch]:
        """What some fetches of a partition bring, in the batches to be done."""
        log = self.log(*source)
        # The others' may come first.
        if log.end <= at[source] or (len(at) > 1 and self.choices.chance(20)):
            return []
        fetched = []
        for _ in range(1 + self.choices.below(2)):
            at[source] = self._misread(process, log, at[source])
            records = log.read(at[source], 1 + self.choices.below(4))
            if records:
                at[source] = records[-1].offset + 1
                fetched.append(Batch(*source, records))
        if not fetched:
            at[source] = log.end
            return []
        self.groups[(agent.name, *source)] = at[source]
        return list(batches.transactions(fetched, BATCH_BYTES_MAX))

    def _misread(self, process: Process, log: Log, at: int) -> int:
        """Where the next fetch begins: after the last one, unless records are redelivered or lost in transit."""
        if not self.faulty:
            return at
        fault = self.choices.below(30)
        if fault == 29:
            return max(0, at - 1 - self.choices.below(4))
        if fault == 28 and at < log.end:
            process.lossy = True
            self.note(f"{process.name}: records from {at} on are lost on the way to it")
            return min(log.end, at + 1 + self.choices.below(2))
        return at

    async def _starting_offset(self, session: SimulatedSession, agent: Agent, partition: int) -> int:
        while True:
            try:
                async with session.connection() as connection:
                    found = await read_positions(connection, agent.name, agent.topic, [partition])
                break
            except OUTAGES:
                await STEP
        require(found[partition] <= self.log(agent.topic, partition).end, "the position lies beyond the log")
        if self.rules.starts_at_group:
            return self.groups.get((agent.name, agent.topic, partition), 0)
        return found[partition]

    def fatal(self, message: str, error: BaseException | None = None) -> NoReturn:
        """Replaces the product's: the process ends if it lost records; otherwise it has a bug."""
        if isinstance(error, (Exited, Violation)):
            raise error
        require(error is None, f"{message}: {type(error).__name__}: {error}")
        # A process that got all records has no reason to end.
        require(self.current is None or self.current.lossy, f"{message}, and none was")
        raise Exited(message)

    async def _sleep(self, _: float) -> None:
        await STEP

    def _probe(self) -> Callable[[str, int, int], Coroutine[Any, None, tuple[int, int]]]:
        async def probe(topic: str, partition: int, offset: int) -> tuple[int, int]:
            await STEP
            if self.faults_now(5):
                raise Exited("the log can't be asked")
            return self.log(topic, partition).read(offset, 1)[0].offset, 0

        return probe

    def relay(self) -> Callable[[Process], Coroutine[Any, None, None]]:
        """A relay, run as `streams/relay/relay.py` does."""

        async def body(process: Process) -> None:
            session = SimulatedSession(self, process)
            # What is under way survives the session.
            sending: dict[Output, Steps[RelayProgress]] = {}
            since: dict[Output, datetime] = {}
            while True:
                owned: set[Output] = set()
                locked: set[Output] = set()
                try:
                    async with session.connection() as connection:
                        await connection.execute(SQL["join_relays"], {"lock": RELAYS_LOCK})
                        while True:
                            share = self.rules.share_outputs(self.outputs, locked, owned, sending)
                            await self._do(process, connection, share)
                            await self._publish(process, connection, owned, sending, since)
                            await Step(partial(self._relay_has_work, process, connection, owned, locked, sending))
                except OUTAGES:
                    await STEP

        return body

    async def _publish(
        self,
        process: Process,
        connection: Connection,
        owned: set[Output],
        sending: dict[Output, Steps[RelayProgress]],
        since: dict[Output, datetime],
    ) -> None:
        """One round: mark what is acknowledged, and send what is new."""
        acknowledged = [output for output in sending if not process.outbox.get((output.topic, output.partition))]
        for output in acknowledged:
            await self._advance(process, connection, output, sending, since)
        for topic, partition, published, next_seq in await (
            await connection.execute(SQL["read_unpublished"], {})
        ).fetchall():
            output = Output(topic, partition)
            if output in owned and output not in sending:
                count = next_seq - 1 - published
                sending[output] = self.rules.publish(output, published, count, since.get(output))
                await self._advance(process, connection, output, sending, since)

    async def _advance(
        self,
        process: Process,
        connection: Connection,
        output: Output,
        sending: dict[Output, Steps[RelayProgress]],
        since: dict[Output, datetime],
    ) -> None:
        try:
            published = await self._do(process, connection, sending[output])
        except OUTAGES:
            del sending[output]
            raise
        if published is not None:
            del sending[output]
            since[output] = published.since

    def _relay_has_work(
        self,
        process: Process,
        connection: Connection,
        owned: set[Output],
        locked: set[Output],
        sending: dict[Output, Steps[RelayProgress]],
    ) -> bool:
        """Whether there is anything to publish; a real relay polls for it."""
        if connection.broken or connection.backend.ended:
            return True
        relays = list(self.database.relays)
        rank = relays.index(connection.backend)
        share = len(self.outputs) // len(relays) + (rank < len(self.outputs) % len(relays))
        free = self.outputs.keys() - locked
        if len(owned) > share or any(output not in sending for output in locked - owned):
            return True
        if len(owned) < share and any(
            (self.outputs[output], output.partition) not in self.database.advisory for output in free
        ):
            return True
        heads = self.database.tables.get("heads", {})
        for output in owned | sending.keys():
            key = (output.topic, output.partition)
            next_seq, published = heads.get(key, (1, 0))
            if not process.outbox.get(key) and (output in sending or next_seq - 1 > published):
                return True
        return False

    async def _do(self, process: Process, connection: Connection, steps: Steps[Any]) -> Any:
        """The result of the steps; None while they wait for the brokers."""
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value
            answer = None
            if isinstance(step, Produce):
                output = (step.output.topic, step.output.partition)
                process.outbox.setdefault(output, []).append((step.seq, step.key, step.payload))
                await STEP
            elif isinstance(step, ReadJournal):
                answer = rows_by_output([step], await _ask(connection, read_statement([step])))[step.output]
            elif isinstance(step, MarkPublished):
                await _ask(connection, mark_statement([step]))
            elif isinstance(step, RunStatement):
                answer = await _ask(connection, step)
            elif isinstance(step, AwaitAcknowledgements):
                return None


async def _ask(connection: Connection, step: RunStatement) -> list[tuple[Any, ...]]:
    return await (await connection.execute(SQL[step.statement], step.parameters)).fetchall()


def _have_grown(logs: Mapping[Source, Log], at: Mapping[Source, int]) -> bool:
    return any(source in logs and logs[source].end > offset for source, offset in at.items())


_current: list[Cluster] = []


def current_cluster() -> Cluster:
    """The cluster whose history is running; for mutations."""
    return _current[-1]


class FakeRenderer:
    """Renders immediately, where a process pool would take time."""

    def __init__(self, edition: bytes) -> None:
        self._edition = edition

    async def render_many(self, items: list[tuple[Any, Any]]) -> list[bytes]:
        await STEP
        return [render(event, self._edition) for event, _ in items]


def _invoices(cluster: Cluster, _: Process) -> Any:
    table: Any = Tables(cluster, "invoices")
    return invoices.InvoicesWork(table, cluster.now_utc)


def _checkouts(cluster: Cluster, _: Process) -> Any:
    table: Any = Tables(cluster, "checkouts")
    return checkouts.CheckoutsWork(table, cluster.now_utc, HOLD, GIVE_UP_AFTER)


def _orders(cluster: Cluster, _: Process) -> Any:
    return orders.OrdersWork(cluster.now_utc)


def _documents(cluster: Cluster, process: Process) -> Any:
    renderer: Any = FakeRenderer(EDITIONS[int(cluster.faults_now(20))])
    return documents.DocumentsWork(
        cluster.rules.store(cluster), renderer, Logos(), SimulatedSession(cluster, process), cluster.now_utc
    )


def _payments(cluster: Cluster, _: Process) -> Any:
    return PaymentRows(cluster)


INVOICES = Agent("invoices", catalog.INVOICE_REQUESTS.name, _invoices)
CHECKOUTS = Agent("checkouts", catalog.CHECKOUT_REQUESTS.name, _checkouts)
ORDERS = Agent("orders", catalog.ORDER_COMMANDS.name, _orders)
PAID_ORDERS = Agent("orders", catalog.PAYMENT_EVENTS.name, _orders)
PAYMENTS = Agent("payments", catalog.ORDER_EVENTS.name, _payments)
DOCUMENTS = Agent("documents", catalog.INVOICE_EVENTS.name, _documents)
