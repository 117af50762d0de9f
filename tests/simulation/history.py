"""One history: processes, requests and faults, all drawn; then the drain, and the verdict."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from schemas import catalog
from streams.relay.steps import Output
from tests.simulation import workload
from tests.simulation.choices import Choices
from tests.simulation.cluster import (
    CHECKOUTS,
    DOCUMENTS,
    INVOICES,
    ORDERS,
    PAID_ORDERS,
    PAYMENTS,
    Agent,
    Cluster,
    Rules,
)
from tests.simulation.payments import expirer, payer
from tests.simulation.scheduler import Process
from tests.simulation.sessions import STEP
from tests.simulation.violation import Violation

#: The processes of a history: few, so that histories are short and many interleavings are tried.
CASTS: tuple[tuple[tuple[Agent, ...], bool], ...] = (
    ((INVOICES,), False),
    ((INVOICES,), True),
    ((INVOICES, DOCUMENTS), True),
    ((INVOICES, DOCUMENTS), True),
    ((CHECKOUTS,), False),
    ((CHECKOUTS, ORDERS), False),
    ((CHECKOUTS, ORDERS, PAID_ORDERS, PAYMENTS), True),
    ((INVOICES, CHECKOUTS), False),
)
#: Faults of one process, or of all.
FAULTS = (
    "killed",
    "killed, what it sent is still done",
    "stopped for a while",
    "its partition is taken away",
    "a connection is lost",
    "a connection is lost, what it sent is still done",
    "a control record",
    "the clocks jump",
)
STEPS_MAX = 400
REQUESTS_MAX = 8


@dataclass(frozen=True)
class Outcome:
    """The result of a history."""

    choices: tuple[int, ...]
    violation: str | None
    trace: tuple[str, ...]
    steps: int


def run(choices: Choices, rules: Rules | None = None, *, traced: bool = False) -> Outcome:
    """Run a history to its end, or to the first violated invariant."""
    cluster = Cluster(choices, rules or Rules())
    if traced:
        cluster.trace = []
    violation = None
    with (
        patch("streams.engine.work.fatal", cluster.fatal),
        patch("streams.relay.steps.fatal", cluster.fatal),
        patch("sinks.postgres.session.monotonic", cluster.server_now),
    ):
        try:
            _History(cluster).run()
        except Violation as found:
            violation = str(found)
        finally:
            for process in cluster.processes:
                process.kill()
    return Outcome(tuple(choices.made), violation, tuple(cluster.trace or ()), cluster.now)


def replay(made: Sequence[int], rules: Rules | None = None, *, traced: bool = False) -> Outcome:
    """Run the history with these choices."""
    return run(Choices(replay=made), rules, traced=traced)


class _History:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._choices = cluster.choices
        self._next_fault_at = 0
        self._fault_gap = 0

    def run(self) -> None:
        """Faults and turns by choice, then the drain."""
        cluster, choices = self._cluster, self._choices
        self._agents, self._relayed = CASTS[choices.below(len(CASTS))]
        # Histories with payments are long, so they have one partition.
        partitions = 1 if PAYMENTS in self._agents else 1 + choices.below(2)
        cluster.faulty = choices.chance(90)
        self._fault_gap = (0, 150, 60, 25)[choices.below(4)]
        self._cast(partitions)
        self._set_fault()
        for _ in range(40 + 40 * choices.below(STEPS_MAX // 40)):
            if cluster.now >= self._next_fault_at > 0:
                self._fault()
                self._set_fault()
            cluster.step()
        self._drain()

    def _cast(self, partitions: int) -> None:
        cluster, choices = self._cluster, self._choices
        for name in dict.fromkeys(agent.name for agent in self._agents):
            sources = [(agent, each) for agent in self._agents if agent.name == name for each in range(partitions)]
            # One worker has them all, or each its own.
            shares = [sources] if choices.chance(70) else [[source] for source in sources]
            if choices.chance(40 if name == DOCUMENTS.name else 20):
                # Started twice: they don't know of each other.
                shares += [sources] if choices.chance(50) else [[source] for source in sources]
            for number, share in enumerate(shares):
                cluster.start(f"{name} {number}", cluster.worker(share))
        for partition in range(partitions):
            requests = [self._request(partition) for _ in range(1 + choices.below(REQUESTS_MAX))]
            cluster.start(f"gateway-{partition}", self._gateway(partition, requests))
        if self._relayed:
            topics = (catalog.INVOICE_EVENTS.name, catalog.DEAD_LETTERS.name)
            if PAYMENTS in self._agents:
                topics = (catalog.ORDER_EVENTS.name, catalog.PAYMENT_EVENTS.name)
                self._pay()
            cluster.outputs.update(
                {Output(topic, each): number for number, topic in enumerate(topics) for each in range(partitions)}
            )
            cluster.start("relay", cluster.relay())
            if choices.chance(30):
                cluster.start("relay too", cluster.relay())

    def _pay(self) -> None:
        cluster = self._cluster
        cluster.pays = True
        cluster.start("payer", payer(cluster))
        if self._choices.chance(40):
            cluster.start("payer too", payer(cluster))
        cluster.start("expirer", expirer(cluster))

    def _request(self, partition: int) -> tuple[str, bytes]:
        """A request of this partition; the small number of orders makes repeats and conflicts likely."""
        choices = self._choices
        # An order's key determines its partition.
        order = choices.below(workload.ORDERS_MAX) * 2 + partition
        kind = choices.below(10)
        if self._agents == (INVOICES, CHECKOUTS) and choices.chance(50):
            # With the same ids as directly requested invoices.
            return CHECKOUTS.topic, workload.checkout_request(order, choices.below(4), "A")
        if self._agents[0] is CHECKOUTS:
            if kind == 9:
                return CHECKOUTS.topic, workload.bad_request(0)
            if kind > 6 and ORDERS in self._agents:
                return ORDERS.topic, workload.cancel_command(order)
            return CHECKOUTS.topic, workload.checkout_request(order, choices.below(4))
        if kind == 9:
            return INVOICES.topic, workload.bad_request(choices.below(2))
        seller = (0, 0, 0, 0, 1, 1, 1, 2, 0)[kind]
        if kind == 8:
            return INVOICES.topic, workload.credit_request(seller, order, choices.below(2))
        return INVOICES.topic, workload.invoice_request(seller, order, int(choices.chance(20)))

    def _gateway(
        self, partition: int, requests: list[tuple[str, bytes]]
    ) -> Callable[[Process], Coroutine[Any, None, None]]:
        """Send each request until it is acknowledged, as a storefront does; an acknowledgement may be lost."""
        cluster = self._cluster

        async def body(_: Process) -> None:
            for topic, value in requests:
                await STEP
                log = cluster.log(topic, partition)
                if cluster.faults_now(8):
                    log.end += 1
                log.append(b"key", value)
                if cluster.faults_now(10):
                    # The acknowledgement was lost, so the request is sent again.
                    await STEP
                    log.append(b"key", value)

        return body

    def _set_fault(self) -> None:
        gap = self._choices.below(self._fault_gap + 1) if self._fault_gap and self._cluster.faulty else 0
        self._next_fault_at = self._cluster.now + gap if gap else 0

    def _fault(self) -> None:
        cluster, choices = self._cluster, self._choices
        fault = FAULTS[choices.below(len(FAULTS))]
        if fault == "the clocks jump":
            # A difference within a minute is accepted.
            cluster.skew += timedelta(seconds=(3_600, -3_600, 90_000, 40, -40)[choices.below(5)])
            cluster.note(fault)
            return
        if fault == "a control record":
            # A control record of a transaction, which takes an offset and is not returned to consumers.
            if cluster.logs:
                list(cluster.logs.values())[choices.below(len(cluster.logs))].end += 1
            return
        victims = [
            each for each in cluster.processes if each.alive and not each.name.startswith(("gateway", "provider"))
        ]
        if choices.chance(30):
            # These come last in the pipeline and are few, but as much can go wrong with them.
            victims = [each for each in victims if each.name.startswith(("relay", "documents", "payer"))] or victims
        if victims:
            victim = victims[choices.below(len(victims))]
            cluster.note(f"{victim.name}: {fault}")
            self._befall(victim, fault)

    def _befall(self, victim: Process, fault: str) -> None:
        cluster, choices = self._cluster, self._choices
        if fault.startswith("killed"):
            cluster.end(victim, received=fault == "killed, what it sent is still done")
            cluster.start(victim.name, victim.body, choices.below(20))
        elif fault == "stopped for a while":
            victim.resumes_at = cluster.now + 10 + choices.below(200)
            if choices.chance(50):
                cluster.start(victim.name, victim.body)
            if choices.chance(50):
                _time_out(victim)
        elif fault == "its partition is taken away":
            self._rebalance(victim)
        elif victim.connections:
            cut = victim.connections[choices.below(len(victim.connections))]
            cut.cut(received=fault == "a connection is lost, what it sent is still done")

    def _rebalance(self, victim: Process) -> None:
        cluster = self._cluster
        if victim.name.startswith(("relay", "payer", "expirer")):
            return
        victim.cancel(asyncio.CancelledError())
        cluster.processes.remove(victim)
        cluster.start(victim.name, victim.body)

    def _drain(self) -> None:
        cluster = self._cluster
        cluster.faulty = False
        cluster.note("drain")
        for process in list(cluster.processes):
            process.resumes_at = 0
            if process.lossy:
                # Records lost in transit are noticed with the next record or at the next start.
                cluster.end(process, received=True)
                cluster.start(process.name, process.body)
        cluster.drain()
        for process in cluster.processes:
            process.connections[:] = [each for each in process.connections if not each.closed]
        cluster.judge.at_rest({(each.topic, each.partition) for each in cluster.outputs}, DOCUMENTS in self._agents)
        if cluster.pays:
            cluster.judge.paid(cluster.provider.payments, cluster.provider.charged)


def _time_out(process: Process) -> None:
    """Have the server end the sessions of a silent client, idle or within a transaction."""
    for connection in process.connections:
        if not connection.closed and not connection.backend.ended:
            connection.cut(received=False)
