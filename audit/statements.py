"""The audit's statements. They only read.

`…_OF` is the same statement for some orders, given by `seller_ids` and `order_ids`; `…_SINCE` reads new rows only.
"""

from typing import LiteralString

SERIES: LiteralString = "SELECT series_id, seller_id, next_number FROM series"
SERIES_OF = f"{SERIES} WHERE series_id = ANY(%(series_ids)s::text[])"

#: In the order of the primary key, and so of the numbers.
INVOICES = """
SELECT i.series_id, i.number, i.seller_id, i.order_id, i.kind, i.issued_at
FROM invoices i ORDER BY i.series_id, i.number
"""
INVOICES_SINCE = """
SELECT i.*
FROM unnest(%(series_ids)s::text[], %(numbers)s::bigint[]) AS after (series_id, number)
CROSS JOIN LATERAL (
    SELECT i.series_id, i.number, i.seller_id, i.order_id, i.kind, i.issued_at, i.invoice_number
    FROM invoices i WHERE i.series_id = after.series_id AND i.number > after.number ORDER BY i.number
) i
ORDER BY i.series_id, i.number
"""

#: Joined by statements for some orders.
WANTED_ORDERS: LiteralString = "unnest(%(seller_ids)s::text[], %(order_ids)s::text[]) AS wanted (seller_id, order_id)"
#: The unique constraints forbid the same, but the audit does not rely on them.
ORDERS_TWICE: LiteralString = """
SELECT seller_id, order_id, kind, refund_id, array_agg(series_id || ' ' || number) FROM invoices
GROUP BY seller_id, order_id, kind, refund_id HAVING count(*) > 1
"""
ORDERS_TWICE_OF = ORDERS_TWICE.replace(
    "FROM invoices", f"FROM {WANTED_ORDERS} JOIN invoices USING (seller_id, order_id)"
)
PRINTED_TWICE = """
SELECT seller_id, invoice_number, array_agg(series_id || ' ' || number) FROM invoices
GROUP BY seller_id, invoice_number HAVING count(*) > 1
"""

#: Orders whose credit notes don't agree with their invoice: another currency, or more than was invoiced.
CREDITED_TOO_MUCH: LiteralString = """
SELECT c.seller_id, c.order_id, i.gross_minor, c.gross_minor
FROM (
    SELECT seller_id, order_id, sum(net_minor) AS net_minor, sum(tax_minor) AS tax_minor,
           sum(gross_minor) AS gross_minor, min(currency) AS currency, count(DISTINCT currency) AS currencies
    FROM invoices WHERE kind = 'credit_note' GROUP BY seller_id, order_id
) c
JOIN invoices i ON i.seller_id = c.seller_id AND i.order_id = c.order_id AND i.kind = 'invoice' AND i.refund_id = ''
WHERE c.currencies > 1 OR c.currency <> i.currency OR c.net_minor > i.net_minor OR c.tax_minor > i.tax_minor
   OR c.gross_minor > i.gross_minor
"""
CREDITED_TOO_MUCH_OF = CREDITED_TOO_MUCH.replace(
    "FROM invoices WHERE", f"FROM {WANTED_ORDERS} JOIN invoices USING (seller_id, order_id) WHERE"
)

INVOICES_WITHOUT_EVENT: LiteralString = """
SELECT i.series_id, i.number, i.source_partition, i.event_seq FROM invoices i
WHERE NOT EXISTS (
    SELECT FROM journal j
    WHERE j.topic = %(topic)s AND j.partition = i.source_partition AND j.seq = i.event_seq
      AND j.occurred_at = i.issued_at
)
"""
INVOICES_WITHOUT_EVENT_OF = INVOICES_WITHOUT_EVENT.replace(
    "FROM invoices i\n",
    "FROM unnest(%(series_ids)s::text[], %(numbers)s::bigint[]) AS wanted (series_id, number)"
    " JOIN invoices i USING (series_id, number)\n",
)

TOPIC_IDS = """
SELECT DISTINCT agent, topic, topic_id FROM positions WHERE topic_id IS NOT NULL AND next_offset > 0
ORDER BY agent, topic, topic_id
"""
HEADS = """
SELECT topic, partition, next_seq, coalesce(published_seq, 0)
FROM journal_heads LEFT JOIN journal_published USING (topic, partition) ORDER BY topic, partition
"""
JOURNAL_WITHOUT_HEAD = """
SELECT topic, partition, count(*) FROM journal
WHERE (topic, partition) NOT IN (SELECT topic, partition FROM journal_heads) GROUP BY topic, partition
"""
JOURNAL = """
SELECT seq, key, payload, occurred_at FROM journal WHERE topic = %(topic)s AND partition = %(partition)s ORDER BY seq
"""
#: Partitions that have rows after a seq, including rows beyond their heads.
JOURNAL_GROWN = """
SELECT after.topic, after.partition
FROM unnest(%(topics)s::text[], %(partitions)s::int[], %(seqs)s::bigint[]) AS after (topic, partition, seq)
WHERE EXISTS (
    SELECT FROM journal j WHERE j.topic = after.topic AND j.partition = after.partition AND j.seq > after.seq
)
"""
JOURNAL_SINCE = """
SELECT seq, key, payload, occurred_at FROM journal
WHERE topic = %(topic)s AND partition = %(partition)s AND seq > %(seq)s ORDER BY seq
"""
JOURNAL_BETWEEN = """
SELECT seq, key, payload FROM journal
WHERE topic = %(topic)s AND partition = %(partition)s AND seq BETWEEN %(first)s AND %(last)s
"""
JOURNAL_ROWS = """
SELECT seq, key, payload FROM journal
WHERE topic = %(topic)s AND partition = %(partition)s AND seq = ANY(%(seqs)s::bigint[])
"""

INVOICES_BY_NUMBER = """
SELECT i.series_id, i.number, i.seller_id, i.order_id, i.kind, i.refund_id, i.invoice_number, i.issued_at, i.currency,
       i.net_minor, i.tax_minor, i.gross_minor, i.content_sha256, i.source_partition, i.source_offset, i.event_seq
FROM unnest(%(series_ids)s::text[], %(numbers)s::bigint[]) AS wanted (series_id, number)
JOIN invoices i USING (series_id, number)
"""
DOCUMENTS_BY_NUMBER = """
SELECT d.series_id, d.number, d.key, encode(d.sha256, 'hex') AS sha256, d.size_bytes, d.template_version, d.stored_at
FROM unnest(%(series_ids)s::text[], %(numbers)s::bigint[]) AS wanted (series_id, number)
JOIN documents d USING (series_id, number)
"""
REFUSED_BY_OFFSET = """
SELECT log_offset, seller_id, order_id, kind, refund_id, outcome, reason, detail, content_sha256, occurred_at
FROM refused_requests
WHERE topic = %(topic)s AND partition = %(partition)s AND log_offset = ANY(%(offsets)s::bigint[])
"""
INVOICES_BY_ORDER = """
SELECT i.seller_id, i.order_id, i.kind, i.refund_id, coalesce(c.asked_sha256, i.content_sha256), i.source_partition,
       i.source_offset, i.invoice_number
FROM unnest(%(seller_ids)s::text[], %(order_ids)s::text[], %(kinds)s::text[], %(refund_ids)s::text[])
    AS wanted (seller_id, order_id, kind, refund_id)
JOIN invoices i USING (seller_id, order_id, kind, refund_id)
LEFT JOIN invoice_credits c ON i.kind = 'credit_note' AND c.seller_id = i.seller_id AND c.order_id = i.order_id
     AND c.credit_note_id = i.refund_id
"""
#: The number of requests of a partition, from an offset on, that became invoices.
COUNT_ISSUED = """
SELECT count(*) FROM invoices WHERE source_partition = %(partition)s AND source_offset >= %(first)s
"""
#: Offsets among the given ones whose dead letter is redriven or discarded.
CLOSED_BY_OFFSET = """
SELECT source_offset FROM dead_letters
WHERE agent = %(agent)s AND source_topic = %(topic)s AND source_partition = %(partition)s
  AND source_offset = ANY(%(offsets)s::bigint[]) AND state <> 'open'
"""
#: Dead letters that were redriven after a moment.
REDRIVEN = """
SELECT d.source_topic, d.redriven_partition, d.redriven_offset, d.partition || '-' || d.seq, d.closed_at, j.payload
FROM dead_letters d LEFT JOIN journal j
    ON j.topic = %(topic)s AND j.partition = d.partition AND j.seq = d.seq AND j.occurred_at = d.occurred_at
WHERE d.state = 'redriven' AND d.closed_at > %(since)s ORDER BY 1, 2, 3
"""
COUNT_REFUSED = """
SELECT count(*) FROM refused_requests
WHERE topic = %(topic)s AND partition = %(partition)s AND log_offset >= %(first)s
"""
COUNT_REFUSED_ALL = "SELECT count(*) FROM refused_requests WHERE topic = %(topic)s"

POSITIONS = "SELECT agent, topic, partition, next_offset FROM positions ORDER BY agent, topic, partition"

#: With their events if any seller ever had a logo: the event says whether the document must show one.
DOCUMENTS: LiteralString = """
SELECT i.series_id, i.number, i.seller_id, d.key, d.sha256, d.size_bytes, j.payload
FROM invoices i JOIN documents d USING (series_id, number)
LEFT JOIN journal j ON j.topic = %(topic)s AND j.partition = i.source_partition AND j.seq = i.event_seq
     AND j.occurred_at = i.issued_at AND EXISTS (SELECT FROM logos)
"""
DOCUMENTS_OF = DOCUMENTS.replace(
    "FROM invoices i JOIN documents d USING (series_id, number)",
    "FROM unnest(%(series_ids)s::text[], %(numbers)s::bigint[]) AS wanted (series_id, number)"
    " JOIN invoices i USING (series_id, number) JOIN documents d USING (series_id, number)",
)
PENDING_DOCUMENTS = """
SELECT i.series_id, i.number FROM invoices i WHERE NOT EXISTS (
    SELECT FROM documents d WHERE d.series_id = i.series_id AND d.number = i.number
)
"""
DOCUMENTS_WITHOUT_INVOICE = """
SELECT d.series_id, d.number FROM documents d WHERE NOT EXISTS (
    SELECT FROM invoices i WHERE d.series_id = i.series_id AND d.number = i.number
)
"""

PRODUCTS_OF: LiteralString = """
SELECT p.seller_id, p.product_id, p.version, p.event
FROM unnest(%(seller_ids)s::text[], %(product_ids)s::text[]) AS wanted (seller_id, product_id)
JOIN products p USING (seller_id, product_id)
"""
SYNONYMS_OF: LiteralString = """
SELECT seller_id, version, event FROM synonyms WHERE seller_id = ANY(%(seller_ids)s::text[])
"""
PRODUCT_VERSIONS: LiteralString = """
SELECT (SELECT coalesce(sum(version), 0) FROM products) + (SELECT coalesce(sum(version), 0) FROM synonyms)
"""
REVIEWS_OF: LiteralString = """
SELECT r.seller_id, r.order_id, r.line, r.sku, r.state, r.version, r.stars, r.title, r.body, r.author
FROM unnest(%(seller_ids)s::text[], %(order_ids)s::text[], %(lines)s::int[]) AS wanted (seller_id, order_id, line)
JOIN reviews r USING (seller_id, order_id, line)
"""
REVIEW_VERSIONS: LiteralString = "SELECT coalesce(sum(version), 0) FROM reviews"
WRONG_RATINGS: LiteralString = """
SELECT seller_id, sku, coalesce(rated.stars, '{0,0,0,0,0}'), coalesce(counted.stars, '{0,0,0,0,0}')
FROM (SELECT seller_id, sku, ARRAY[one, two, three, four, five] AS stars FROM ratings) rated
FULL JOIN (
    SELECT seller_id, sku, ARRAY[
        count(*) FILTER (WHERE stars = 1), count(*) FILTER (WHERE stars = 2), count(*) FILTER (WHERE stars = 3),
        count(*) FILTER (WHERE stars = 4), count(*) FILTER (WHERE stars = 5)
    ] AS stars
    FROM reviews WHERE state = 'published' GROUP BY seller_id, sku
) counted USING (seller_id, sku)
WHERE coalesce(rated.stars, '{0,0,0,0,0}') <> coalesce(counted.stars, '{0,0,0,0,0}')
"""
