"""What the monitor asks Postgres: reads by keys and partial indexes, cheap enough for every second."""

POSITIONS = "SELECT agent, topic, partition, next_offset FROM positions"

#: Of each output of the relay: the first seq that is not published, and the next that will be given.
PUBLISHED = """
SELECT topic, partition, coalesce(published_seq, 0) + 1, next_seq
FROM journal_heads LEFT JOIN journal_published USING (topic, partition)
"""

#: When rows of the journal were written, by topic and partition.
WRITTEN_AT = """
SELECT j.topic, j.partition, extract(epoch FROM j.occurred_at)::float8
FROM unnest(%s::text[], %s::int[], %s::bigint[]) AS wanted (topic, partition, seq)
JOIN journal j USING (topic, partition, seq)
"""

#: How many numbers and refusals the requests of spans of a partition got, and one order of each span as a sample: when
#: its number was given, and where its first record stands: its checkout's, or else its invoice request's.
NUMBERED = """
SELECT span.partition, counted.numbers, refused.requests,
       extract(epoch FROM one.issued_at)::float8, o.source_offset, one.source_offset
FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS span (partition, first, after)
CROSS JOIN LATERAL (
    SELECT count(*) AS numbers FROM invoices
    WHERE source_partition = span.partition AND source_offset >= span.first AND source_offset < span.after
) AS counted
CROSS JOIN LATERAL (
    SELECT count(*) AS requests FROM refused_requests
    WHERE topic = %s AND partition = span.partition
      AND log_offset >= span.first AND log_offset < span.after
) AS refused
LEFT JOIN LATERAL (
    SELECT seller_id, order_id, issued_at, source_offset FROM invoices
    WHERE source_partition = span.partition AND source_offset >= span.first AND source_offset < span.after
      AND kind = 'invoice'
    ORDER BY source_offset LIMIT 1
) AS one ON true
LEFT JOIN orders o ON (o.seller_id, o.order_id) = (one.seller_id, one.order_id)
"""

#: Payments under way, and orders that wait for theirs. The hold that ends first is the oldest.
PAYMENTS = """
SELECT attempts.*, holds.count,
       coalesce((SELECT extract(epoch FROM now() - placed_at)::float8 FROM orders
                 WHERE state = 'PAYMENT_PENDING' ORDER BY hold_expires_at LIMIT 1), 0)
FROM (
    SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at))::float8, 0)
    FROM payment_attempts WHERE state = 'open'
) AS attempts, (SELECT count(*) FROM orders WHERE state = 'PAYMENT_PENDING') AS holds
"""

#: The series of a seller that have given a number.
SERIES = """
SELECT s.series_id, s.policy, s.next_number - 1 AS last_number, i.invoice_number,
       extract(epoch FROM i.issued_at)::float8 AS at
FROM series s LEFT JOIN invoices i ON i.series_id = s.series_id AND i.number = s.next_number - 1
WHERE s.seller_id = %s AND s.next_number > 1 ORDER BY s.series_id LIMIT 1000
"""

#: Payments under way, by what was asked of the provider.
OPEN_PAYMENTS = """
SELECT action, count(*) AS count, count(*) FILTER (WHERE tries > 1) AS retried,
       extract(epoch FROM now() - min(created_at))::float8 AS oldest_seconds
FROM payment_attempts WHERE state = 'open' GROUP BY action ORDER BY action
"""

#: The newest rows of a topic, so many of each partition, none older than a day, and none so large that it would matter
#: to memory.
NEWEST = """
SELECT j.payload, extract(epoch FROM j.occurred_at)::float8
FROM journal_heads h
JOIN journal j ON j.topic = h.topic AND j.partition = h.partition AND j.seq >= h.next_seq - %(count)s
WHERE h.topic = %(topic)s AND j.occurred_at > now() - interval '1 day'
  AND octet_length(j.payload) <= %(bytes_max)s
"""

#: Who holds the lock of each output of the relay: its topic's number, the partition, and the session.
RELAYS = """
SELECT l.classid::int, l.objid::int, l.pid, a.application_name, host(a.client_addr)
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
