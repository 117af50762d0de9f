"""Every record of a topic up to the agent's position has exactly one outcome, and there are no other outcomes."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple

from confluent_kafka import Message

from audit import statements
from audit.dead_letters import DeadLetters
from audit.log import Log
from audit.report import AuditReport
from audit.snapshot import Snapshot

UNDECODABLE = "can't be decoded"


class RefusedRequestRow(NamedTuple):
    """A row of `refused_requests`, without topic and partition."""

    log_offset: int
    seller_id: str
    order_id: str
    kind: str
    refund_id: str
    outcome: str
    reason: str
    detail: str
    #: Only of a conflict.
    content_sha256: bytes | None
    occurred_at: datetime


class OutcomeCheck(ABC):
    """Reads a topic's records again, and looks up the outcome of each."""

    topic: ClassVar[str]
    #: What the report calls the topic's records.
    noun: ClassVar[str]
    #: The agent whose dead letters they become.
    agent: ClassVar[str]
    #: What the report calls an accepted record, as in "3 issued".
    made: ClassVar[str]
    #: The statement that counts what was made of a partition's records from an offset on.
    count_made: ClassVar[str]

    def __init__(self, snapshot: Snapshot, log: Log, report: AuditReport, dead_letters: DeadLetters) -> None:
        self._snapshot = snapshot
        self._log = log
        self._report = report
        self._dead_letters = dead_letters

    def check(self, partition: int, position: int) -> None:
        """Check the records of a partition before `position`."""
        first, _ = self._log.bounds(self.topic, partition)
        if first:
            self._report.counts["requests deleted from the log"] += first
        made = self._snapshot.count(self.count_made, partition=partition, first=first)
        self.check_from(partition, first, self._log.read(self.topic, partition, position), made)

    def check_from(self, partition: int, first: int, log: Iterable[list[Message]], made: int) -> None:
        """Check the records from `first` up to the position, of which the ledger has accepted `made`."""
        found: Counter[str] = Counter()
        for messages in log:
            self._check_batch(partition, messages, found)
        held = {
            self.made: made,
            "refused": self._snapshot.count(
                statements.COUNT_REFUSED, topic=self.topic, partition=partition, first=first
            ),
            "dead": self._dead_letters.count(partition, first),
        }
        for outcome, count in held.items():
            if count != found[outcome]:
                what = f"the ledger holds {count} {outcome}, the log {found[outcome]} {self.noun} that led to it"
                self._report.add("outcome", f"{self.topic}/{partition}", what)

    @abstractmethod
    def _check_batch(self, partition: int, messages: Sequence[Message], found: Counter[str]) -> None:
        """Report what is wrong with each record, and count the outcomes in `found`."""

    def _stopped(
        self, partition: int, records: Iterable[tuple[int, bytes | None, bytes | None]]
    ) -> tuple[dict[int, list[bool]], set[int]]:
        """By offset, whether each dead letter of the record has its bytes; and the offsets whose letters are closed.

        `records` has offset, key and value of each.
        """
        letters = {offset: self._dead_letters.matches(partition, offset, key, value) for offset, key, value in records}
        stopped = [offset for offset, dead in letters.items() if dead]
        if not stopped:
            return letters, set()
        rows = self._snapshot.rows(
            statements.CLOSED_BY_OFFSET, agent=self.agent, topic=self.topic, partition=partition, offsets=stopped
        )
        return letters, {offset for (offset,) in rows}

    def _refused(self, partition: int, offsets: list[int]) -> dict[int, RefusedRequestRow]:
        rows = self._snapshot.rows(statements.REFUSED_BY_OFFSET, topic=self.topic, partition=partition, offsets=offsets)
        return {refused.log_offset: refused for refused in map(RefusedRequestRow._make, rows)}


def judge_stopped_in_error(dead: list[bool], is_closed: bool) -> tuple[str, str]:
    """The outcome of a record that can be decoded but has a dead letter, and what is wrong with it.

    An older release may not have been able to decode it. Then the dead letter must be closed: redriven, so that another
    record replaces this one, or discarded.
    """
    if not is_closed:
        return "wrong", "can be decoded, yet has a dead letter that is open"
    return judge_stopped(dead, "can be decoded")


def judge_surplus(dead: list[bool], refusal: RefusedRequestRow | None, made: str | None) -> tuple[str, str] | None:
    """What is wrong with a record that has more than one outcome, or None. `made` names what was made of it."""
    outcomes = [f"{len(dead)} dead letters"] if dead else []
    outcomes += [f"a refusal ({refusal.outcome})"] if refusal is not None else []
    outcomes += [made] if made is not None else []
    if len(outcomes) > 1 or len(dead) > 1:
        return "wrong", f"has more than one outcome: {', '.join(outcomes)}"
    return None


def judge_stopped(dead: list[bool], why: str) -> tuple[str, str]:
    """The outcome of a record that must become a dead letter, and what is wrong with it; empty if nothing."""
    if not dead:
        return "lost", f"{why}, and has no dead letter"
    return ("dead letter", "") if all(dead) else ("wrong", "its dead letter holds other bytes")
