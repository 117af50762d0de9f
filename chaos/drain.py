"""Whether a stack has drained: every request handled, every event published, every document stored."""

import psycopg

from runtime.kafka import TopicError, end_offsets
from runtime.roles import READERS
from runtime.unread import unread

#: Each is 0 when nothing is in progress.
_OPEN = """
SELECT (SELECT count(*) FROM orders WHERE state IN ('PLACED', 'PAYMENT_PENDING')),
       (SELECT count(*) FROM payment_attempts WHERE state = 'open'),
       (SELECT count(*) FROM refunds WHERE state = 'requested'),
       (SELECT count(*) FROM refund_checks),
       (SELECT count(*) FROM invoices) - (SELECT count(*) FROM documents),
       (SELECT count(*) FROM deliveries JOIN webhook_endpoints e ON endpoint_id = destination
        WHERE deliveries.state = 'open' AND e.state = 'active'),
       (SELECT coalesce(sum(next_seq - 1 - coalesce(published_seq, 0)), 0)::bigint
        FROM journal_heads LEFT JOIN journal_published USING (topic, partition))
"""
_WORDS = (
    *("orders undecided", "payments under way", "refunds under way"),
    *("refunds not compared with the provider", "documents not made"),
    *("webhooks not delivered", "events not published"),
)


class Drain:
    """Checks whether a stack has drained. A service that can't be queried means that it has not."""

    def __init__(self, postgres_url: str, kafka_bootstrap: str, partitions: int) -> None:
        self._postgres_url = postgres_url
        self._kafka_bootstrap = kafka_bootstrap
        self._partitions = range(partitions)
        #: What was in progress at the last check.
        self.left = "not checked yet"

    def done(self) -> bool:
        """Whether nothing is in progress. Blocks."""
        try:
            self.left = self._left()
        except (psycopg.OperationalError, TopicError) as error:
            self.left = " ".join(str(error).split())
        return not self.left

    def _left(self) -> str:
        before = self._ends()
        with psycopg.connect(self._postgres_url, connect_timeout=5) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            row = connection.execute(_OPEN).fetchone() or ()
            rows = connection.execute("SELECT agent, topic, partition, next_offset FROM positions").fetchall()
        left = [f"{count} {what}" for count, what in zip(row, _WORDS, strict=True) if count]
        positions = {(agent, topic, partition): next_offset for agent, topic, partition, next_offset in rows}
        for agent, topics in READERS.items():
            its = {
                (topic.name, partition): positions.get((agent, topic.name, partition), 0)
                for topic in topics
                for partition in self._partitions
            }
            found = unread(self._kafka_bootstrap, its).values()
            if readable := sum(each.readable for each in found):
                left.append(f"{readable} records before {agent}")
            if held_back := sum(each.held_back for each in found):
                left.append(f"{held_back} records behind open transactions before {agent}")
        if not left and self._ends() != before:
            left.append("topics still grow")
        return ", ".join(left)

    def _ends(self) -> dict[tuple[str, int], int]:
        topics = {topic.name for its in READERS.values() for topic in its}
        return end_offsets(
            self._kafka_bootstrap, [(topic, partition) for topic in topics for partition in self._partitions]
        )
