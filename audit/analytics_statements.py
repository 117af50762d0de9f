"""The audit's statements about analytics. They only read.

Each compares some partitions, given by `partitions`, from a minute of `firsts` to before one of `lasts`.
"""

from typing import LiteralString

_WINDOWS: LiteralString = (
    "unnest(%(partitions)s::int[], %(firsts)s::bigint[], %(lasts)s::bigint[]) AS w (partition, first, last)"
)

#: The events of a topic that are counted, by partition: the first, with its minute, and the minute of the next.
PROGRESS: LiteralString = """
SELECT p.partition, p.first_seq, floor(extract(epoch FROM p.first_at) / 60)::bigint,
       (SELECT floor(extract(epoch FROM min(j.occurred_at)) / 60)::bigint FROM journal j
        WHERE j.topic = p.topic AND j.partition = p.partition AND j.seq = p.last_seq + 1)
FROM analytics_progress p
WHERE p.topic = %(topic)s
"""

COUNTED: LiteralString = f"""
SELECT c.seller_id, c.partition, c.currency, c.what, sum(c.events)::bigint, sum(c.amount_minor)::bigint
FROM {_WINDOWS} JOIN analytics_counts c ON c.partition = w.partition AND c.minute >= w.first AND c.minute < w.last
WHERE c.what = ANY(%(whats)s::text[])
GROUP BY 1, 2, 3, 4
"""  # noqa: S608 - of literals.

#: Steps are in microseconds since 1970.
_STEPS: LiteralString = f"""
    {_WINDOWS} JOIN orders o ON o.partition = w.partition
    CROSS JOIN LATERAL jsonb_to_recordset(o.history) AS step ("from" text, "to" text, reason text, at bigint)
    WHERE step.at / 60000000 >= w.first AND step.at / 60000000 < w.last
"""

STEPS: LiteralString = f"""
SELECT o.seller_id, o.partition, o.currency, step."from", step."to", step.reason, count(*), sum(o.gross_minor)::bigint
FROM {_STEPS}
GROUP BY 1, 2, 3, 4, 5, 6
"""  # noqa: S608 - of literals.

PAID: LiteralString = f"""
SELECT a.seller_id, a.partition, a.currency, a.action, count(*), sum(a.amount_minor)::bigint
FROM {_WINDOWS} JOIN payment_attempts a ON a.partition = w.partition
    AND extract(epoch FROM a.finished_at) / 60 >= w.first AND extract(epoch FROM a.finished_at) / 60 < w.last
WHERE a.state = 'succeeded' AND a.action = ANY(%(actions)s::text[])
GROUP BY 1, 2, 3, 4
"""  # noqa: S608 - of literals.

ISSUED: LiteralString = f"""
SELECT i.seller_id, i.source_partition, i.currency, i.kind, count(*), sum(i.gross_minor)::bigint
FROM {_WINDOWS} JOIN invoices i ON i.source_partition = w.partition
    AND extract(epoch FROM i.issued_at) / 60 >= w.first AND extract(epoch FROM i.issued_at) / 60 < w.last
GROUP BY 1, 2, 3, 4
"""  # noqa: S608 - of literals.

SOLD: LiteralString = f"""
SELECT s.seller_id, s.partition, s.sku, sum(s.pieces)::bigint
FROM {_WINDOWS} JOIN analytics_skus s ON s.partition = w.partition AND s.minute >= w.first AND s.minute < w.last
WHERE s.currency = ''
GROUP BY 1, 2, 3 HAVING sum(s.pieces) <> 0
"""  # noqa: S608 - of literals.

#: An order claims its pieces when it is placed or taken up again, and gives them back when it is cancelled.
CLAIMED: LiteralString = f"""
SELECT seller_id, partition, sku, sum(sign * quantity)::bigint
FROM (
    SELECT o.seller_id, o.partition, o.order_id,
           CASE WHEN step."to" = 'PLACED' OR step."from" = 'CANCELLED' AND step."to" = 'CONFIRMED' THEN 1
                WHEN step."to" = 'CANCELLED' AND step."from" <> 'CANCELLED' THEN -1 ELSE 0 END AS sign
    FROM {_STEPS}
) steps JOIN order_lines l USING (seller_id, order_id)
WHERE l.sku <> ''
GROUP BY 1, 2, 3 HAVING sum(sign * quantity) <> 0
"""  # noqa: S608 - of literals.
