-- Every statement of the agents and the relay. Arrays travel in binary and are unnested: one round trip a batch.

-- name: move_position
-- Moved first: it locks the row, so a second worker waits here, before it takes anything.
UPDATE positions SET next_offset = %(next_offset)s
WHERE agent = %(agent)s AND topic = %(topic)s AND partition = %(partition)s AND next_offset = %(first_offset)s
RETURNING next_offset

-- name: read_position
SELECT next_offset FROM positions WHERE agent = %(agent)s AND topic = %(topic)s AND partition = %(partition)s

-- name: make_positions
INSERT INTO positions (agent, topic, partition)
SELECT %(agent)s, %(topic)s, partition FROM unnest(%(partitions)b::int[]) AS partition
ON CONFLICT DO NOTHING

-- name: read_positions
SELECT topic, partition, next_offset FROM positions WHERE agent = %(agent)s

-- name: read_sellers
SELECT seller_id, legal_name, vat_id, street, city, postal_code, country, time_zone, numbering_policy, number_format,
       encode(logo_sha256, 'hex') AS logo_sha256
FROM sellers WHERE seller_id = ANY(%(seller_ids)s)

-- name: read_issued
SELECT i.seller_id, i.order_id, i.kind, i.content_sha256
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(kinds)b::text[]) AS wanted (seller_id, order_id, kind)
JOIN invoices i USING (seller_id, order_id, kind)

-- name: take_numbers
-- k numbers at once; the row stays locked until commit, so a rollback gives them back.
INSERT INTO series AS s (series_id, seller_id, policy, next_number, last_issued_at)
VALUES (%(series_id)s, %(seller_id)s, %(policy)s, 1 + %(count)s, %(issued_at)s)
ON CONFLICT (series_id) DO UPDATE
SET next_number = s.next_number + %(count)s, last_issued_at = greatest(s.last_issued_at, excluded.last_issued_at)
RETURNING s.next_number - %(count)s AS first, s.last_issued_at AS issued_at

-- name: take_seqs
INSERT INTO journal_heads AS h (topic, partition, next_seq) VALUES (%(topic)s, %(partition)s, 1 + %(count)s)
ON CONFLICT (topic, partition) DO UPDATE SET next_seq = h.next_seq + %(count)s
RETURNING h.next_seq - %(count)s AS first

-- name: append_journal
INSERT INTO journal (topic, partition, seq, key, payload, occurred_at)
SELECT %(topic)s, %(partition)s, %(first)s + row.ordinality - 1, row.key, row.payload, row.occurred_at
FROM unnest(%(keys)b::bytea[], %(payloads)b::bytea[], %(occurred_ats)b::timestamptz[]) WITH ORDINALITY
    AS row (key, payload, occurred_at)

-- name: insert_invoices
-- No ON CONFLICT: a repeat that got this far is a bug or a lost hint, and must roll the numbers back with it.
INSERT INTO invoices (series_id, number, seller_id, order_id, kind, invoice_number, issued_at, currency,
                      net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset, event_seq)
SELECT row.series_id, row.number, row.seller_id, row.order_id, row.kind, row.invoice_number, row.issued_at,
       row.currency, row.net_minor, row.tax_minor, row.gross_minor, row.content_sha256,
       %(partition)s, row.source_offset, row.event_seq
FROM unnest(%(series_ids)b::text[], %(numbers)b::bigint[], %(seller_ids)b::text[], %(order_ids)b::text[],
            %(kinds)b::text[], %(invoice_numbers)b::text[], %(issued_ats)b::timestamptz[], %(currencies)b::text[],
            %(nets)b::bigint[], %(taxes)b::bigint[], %(grosses)b::bigint[], %(digests)b::bytea[],
            %(offsets)b::bigint[], %(event_seqs)b::bigint[])
    AS row (series_id, number, seller_id, order_id, kind, invoice_number, issued_at, currency,
            net_minor, tax_minor, gross_minor, content_sha256, source_offset, event_seq)

-- name: insert_refused_requests
INSERT INTO refused_requests (topic, partition, log_offset, seller_id, order_id, kind, outcome, reason, detail,
                              content_sha256, occurred_at)
SELECT %(topic)s, %(partition)s, row.log_offset, row.seller_id, row.order_id, row.kind, row.outcome, row.reason,
       row.detail, row.content_sha256, %(occurred_at)s
FROM unnest(%(offsets)b::bigint[], %(seller_ids)b::text[], %(order_ids)b::text[], %(kinds)b::text[],
            %(outcomes)b::text[], %(reasons)b::text[], %(details)b::text[], %(digests)b::bytea[])
    AS row (log_offset, seller_id, order_id, kind, outcome, reason, detail, content_sha256)

-- name: read_invoice_states
SELECT i.series_id, i.number, j.payload, d.key IS NOT NULL AS has_document
FROM unnest(%(series_ids)b::text[], %(numbers)b::bigint[]) AS wanted (series_id, number)
JOIN invoices i USING (series_id, number)
JOIN journal j ON j.topic = %(topic)s AND j.partition = i.source_partition AND j.seq = i.event_seq
    AND j.occurred_at = i.issued_at
LEFT JOIN documents d USING (series_id, number)

-- name: insert_documents
-- The document's bytes follow from the event, so a row that stands already says the same.
INSERT INTO documents (series_id, number, key, sha256, size_bytes, template_version, stored_at)
SELECT * FROM unnest(%(series_ids)b::text[], %(numbers)b::bigint[], %(keys)b::text[], %(digests)b::bytea[],
                     %(sizes)b::bigint[], %(template_versions)b::int[], %(stored_ats)b::timestamptz[])
ON CONFLICT (series_id, number) DO NOTHING
RETURNING series_id, number

-- name: read_logos
SELECT encode(sha256, 'hex') AS sha256, body FROM logos WHERE sha256 = ANY(%(digests)b::bytea[])

-- name: read_unpublished
SELECT topic, partition, published_seq, next_seq FROM journal_heads WHERE next_seq - 1 > published_seq

-- name: read_journal
-- `since` spares the months before it; a caller that gets less than the head promised asks again without it.
SELECT seq, key, payload, occurred_at FROM journal
WHERE topic = %(topic)s AND partition = %(partition)s AND seq > %(after_seq)s
  -- Parameters travel in the smallest type that holds them: two of them added overflow at 32,767 without the cast.
  AND seq <= %(after_seq)s::bigint + %(limit)s
  AND occurred_at >= %(since)s
ORDER BY seq

-- name: lock_output
SELECT pg_try_advisory_lock(%(topic_number)s, %(partition)s)

-- name: mark_published
UPDATE journal_heads SET published_seq = %(seq)s
WHERE topic = %(topic)s AND partition = %(partition)s AND published_seq < %(seq)s AND %(seq)s < next_seq
