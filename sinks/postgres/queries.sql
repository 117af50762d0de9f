-- All statements of the agents and the relay. Arrays are sent in binary and unnested: one round trip per batch.

-- name: move_positions
-- All of them or none. Moved first: it locks the rows, in one order, so a second worker waits here, before it takes
-- anything. A row is looked at again after the wait.
WITH wanted AS (
    SELECT * FROM unnest(%(topics)b::text[], %(partitions)b::int[], %(first_offsets)b::bigint[],
                         %(next_offsets)b::bigint[]) AS wanted (topic, partition, first_offset, next_offset)
), locked AS (
    SELECT p.topic, p.partition FROM wanted JOIN positions p USING (topic, partition)
    WHERE p.agent = %(agent)s AND p.next_offset = wanted.first_offset
    ORDER BY p.topic, p.partition FOR UPDATE OF p
)
UPDATE positions p SET next_offset = wanted.next_offset
FROM wanted JOIN locked USING (topic, partition)
WHERE p.agent = %(agent)s AND p.topic = wanted.topic AND p.partition = wanted.partition
  AND (SELECT count(*) FROM locked) = (SELECT count(*) FROM wanted)
RETURNING pg_current_xact_id()::text

-- name: read_position
SELECT next_offset FROM positions WHERE agent = %(agent)s AND topic = %(topic)s AND partition = %(partition)s

-- name: believed
SELECT believed(%(now)s)

-- name: was_committed
-- After a crash the server may give an id again. For an id not given yet, Postgres would raise an error.
SELECT CASE WHEN %(transaction_id)s::xid8 < pg_snapshot_xmax(pg_current_snapshot())
    THEN pg_xact_status(%(transaction_id)s::xid8) = 'committed' END IS TRUE

-- name: read_partitions
SELECT partitions FROM deployment WHERE only_row

-- name: record_partitions
-- Releases that don't know the migration assume 4 partitions; with another number they must refuse the tables.
WITH recorded AS (
    INSERT INTO deployment (partitions) VALUES (%(partitions)s) ON CONFLICT DO NOTHING RETURNING partitions
)
UPDATE schema_migrations SET needs = name
WHERE name = %(migration)s AND EXISTS (SELECT FROM recorded WHERE partitions <> 4)

-- name: make_positions
INSERT INTO positions (agent, topic, partition)
SELECT %(agent)s, %(topic)s, partition FROM unnest(%(partitions)b::int[]) AS partition
ON CONFLICT DO NOTHING

-- name: read_positions
SELECT topic, partition, next_offset FROM positions WHERE agent = %(agent)s

-- name: read_all_positions
SELECT agent, topic, partition, next_offset, topic_id FROM positions ORDER BY agent, topic, partition

-- name: keep_topic_ids
-- Positions that have moved and have an id are not changed, nor even locked: a worker may be using them.
WITH wanted AS (
    SELECT * FROM unnest(%(topics)s::text[], %(partitions)s::int[], %(topic_ids)s::text[]) AS w (topic, partition, topic_id)
), made AS (
    INSERT INTO positions (agent, topic, partition, topic_id)
    SELECT %(agent)s, topic, partition, topic_id FROM wanted ORDER BY topic, partition
    ON CONFLICT DO NOTHING
)
UPDATE positions p SET topic_id = wanted.topic_id FROM wanted
WHERE p.agent = %(agent)s AND p.topic = wanted.topic AND p.partition = wanted.partition
  AND (p.topic_id IS NULL OR p.next_offset = 0 AND p.topic_id <> wanted.topic_id)

-- name: read_heads
SELECT topic, partition, next_seq - 1 FROM journal_heads

-- name: read_journal_rows
SELECT j.topic, j.partition, j.key, j.payload
FROM unnest(%(topics)s::text[], %(partitions)s::int[], %(seqs)s::bigint[]) AS wanted (topic, partition, seq)
JOIN journal j USING (topic, partition, seq)

-- name: read_sellers
SELECT seller_id, legal_name, vat_id, street, city, postal_code, country, time_zone, numbering_policy, number_format,
       encode(logo_sha256, 'hex') AS logo_sha256, tax_number, tax_name, colour, trading_name, legal_id, legal_id_scheme,
       electronic_address, electronic_address_scheme, contact_name, contact_phone, contact_email, language, note,
       payment_terms, payment_days, payment_means, iban, bic, account_name
FROM sellers WHERE seller_id = ANY(%(seller_ids)s)

-- name: read_issued
SELECT i.seller_id, i.order_id, i.kind, i.refund_id, i.content_sha256
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(kinds)b::text[], %(refund_ids)b::text[])
    AS wanted (seller_id, order_id, kind, refund_id)
JOIN invoices i USING (seller_id, order_id, kind, refund_id)

-- name: read_preceding
-- The invoices of orders for which credit notes are requested.
SELECT i.seller_id, i.order_id, i.content_sha256, i.invoice_number, j.payload
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
JOIN invoices i USING (seller_id, order_id)
LEFT JOIN journal j ON j.topic = 'invoice-events' AND j.partition = i.source_partition AND j.seq = i.event_seq
    AND j.occurred_at = i.issued_at
WHERE i.kind = 'invoice' AND i.refund_id = ''

-- name: take_numbers
-- k numbers of each series at once; the rows stay locked until commit, so a rollback gives them back. Series are locked in
-- the order of their ids, so two batches can't wait for each other.
-- Neither time nor date runs backwards along the numbers, whatever clocks do and whatever zone the seller has now.
INSERT INTO series AS s (series_id, seller_id, policy, next_number, last_issued_at, last_issue_date)
SELECT series_id, seller_id, policy, 1 + numbers, %(issued_at)s, issue_date
FROM unnest(%(series_ids)b::text[], %(seller_ids)b::text[], %(policies)b::text[], %(issue_dates)b::date[],
            %(numbers)b::bigint[]) AS row (series_id, seller_id, policy, issue_date, numbers)
ORDER BY series_id
ON CONFLICT (series_id) DO UPDATE
SET next_number = s.next_number + excluded.next_number - 1,
    last_issued_at = greatest(s.last_issued_at, excluded.last_issued_at),
    last_issue_date = greatest(s.last_issue_date, excluded.last_issue_date)
RETURNING s.series_id, s.next_number, s.last_issued_at, s.last_issue_date

-- name: read_series
SELECT series_id FROM series WHERE series_id = ANY(%(series_ids)s)

-- name: append_journal
-- Heads are locked in one order, by topic and partition, here as everywhere: two agents can't wait for each other. All in
-- one statement, for at a trickle it is the statements that cost. Returns the first seq of each output.
-- An event's id has its seq, so it is written here, in Avro: the last byte of the record, null, becomes 2 for a text, its
-- length twice, and the text. A text of 64 bytes would take two bytes for its length: topics' names have 32 at most.
WITH rows AS (
    SELECT topic, partition, key, payload, lacks_id, occurred_at, traceparent, count(*) OVER output AS rows,
           row_number() OVER (output ORDER BY ordinality) AS place
    FROM unnest(%(topics)b::text[], %(partitions)b::int[], %(keys)b::bytea[], %(payloads)b::bytea[],
                %(lack_ids)b::bool[], %(occurred_ats)b::timestamptz[], %(traceparents)b::text[])
        WITH ORDINALITY AS row (topic, partition, key, payload, lacks_id, occurred_at, traceparent, ordinality)
    WINDOW output AS (PARTITION BY topic, partition)
), heads AS (
    INSERT INTO journal_heads AS h (topic, partition, next_seq)
    SELECT topic, partition, 1 + count(*) FROM rows GROUP BY topic, partition ORDER BY topic, partition
    ON CONFLICT (topic, partition) DO UPDATE SET next_seq = h.next_seq + excluded.next_seq - 1
    RETURNING h.topic, h.partition, h.next_seq
), appended AS (
    INSERT INTO journal (topic, partition, seq, key, payload, occurred_at, traceparent)
    SELECT topic, partition, seq, key,
        CASE WHEN lacks_id
            THEN substring(payload FROM 1 FOR length(payload) - 1) || '\x02'::bytea
                || set_byte('\x00'::bytea, 0, 2 * length(id)) || convert_to(id, 'UTF8')
            ELSE payload
        END,
        occurred_at, traceparent
    FROM (
        SELECT *, topic || '-' || partition || '-' || seq AS id
        FROM (SELECT *, next_seq - rows.rows + place - 1 AS seq FROM rows JOIN heads USING (topic, partition)) numbered
    ) identified
)
SELECT topic, partition, heads.next_seq - rows.rows FROM rows JOIN heads USING (topic, partition) WHERE rows.place = 1

-- name: insert_invoices
-- No ON CONFLICT: a repeat at this point is a bug or a lost hint, and must roll back the numbers with it.
INSERT INTO invoices (series_id, number, seller_id, order_id, kind, refund_id, invoice_number, issued_at, currency,
                      net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset, event_seq)
SELECT row.*
FROM unnest(%(series_ids)b::text[], %(numbers)b::bigint[], %(seller_ids)b::text[], %(order_ids)b::text[],
            %(kinds)b::text[], %(refund_ids)b::text[], %(invoice_numbers)b::text[], %(issued_ats)b::timestamptz[],
            %(currencies)b::text[], %(nets)b::bigint[], %(taxes)b::bigint[], %(grosses)b::bigint[], %(digests)b::bytea[],
            %(partitions)b::int[], %(offsets)b::bigint[], %(event_seqs)b::bigint[])
    AS row (series_id, number, seller_id, order_id, kind, refund_id, invoice_number, issued_at, currency,
            net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset, event_seq)

-- name: read_credits
SELECT c.seller_id, c.order_id, c.credit_note_id, c.lines, c.asked_sha256, c.credit_note_request
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
JOIN invoice_credits c USING (seller_id, order_id)

-- name: insert_credits
INSERT INTO invoice_credits (seller_id, order_id, credit_note_id, lines, asked_sha256, credit_note_request)
SELECT row.seller_id, row.order_id, row.credit_note_id, row.lines::jsonb, row.asked_sha256, row.credit_note_request
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(credit_note_ids)b::text[], %(lines)b::text[],
            %(digests)b::bytea[], %(requests)b::bytea[])
    AS row (seller_id, order_id, credit_note_id, lines, asked_sha256, credit_note_request)

-- name: insert_refused_requests
INSERT INTO refused_requests (topic, partition, log_offset, seller_id, order_id, kind, refund_id, outcome, reason,
                              detail, content_sha256, occurred_at)
SELECT %(topic)s, row.*, %(occurred_at)s
FROM unnest(%(partitions)b::int[], %(offsets)b::bigint[], %(seller_ids)b::text[], %(order_ids)b::text[], %(kinds)b::text[],
            %(refund_ids)b::text[], %(outcomes)b::text[], %(reasons)b::text[], %(details)b::text[], %(digests)b::bytea[])
    AS row (partition, log_offset, seller_id, order_id, kind, refund_id, outcome, reason, detail, content_sha256)

-- name: read_invoice_states
SELECT i.series_id, i.number, j.payload, d.key IS NOT NULL AS has_document
FROM unnest(%(series_ids)b::text[], %(numbers)b::bigint[]) AS wanted (series_id, number)
JOIN invoices i USING (series_id, number)
JOIN journal j ON j.topic = %(topic)s AND j.partition = i.source_partition AND j.seq = i.event_seq
    AND j.occurred_at = i.issued_at
LEFT JOIN documents d USING (series_id, number)

-- name: insert_documents
-- The document's bytes are determined by the event, so an existing row has the same content.
INSERT INTO documents (series_id, number, key, sha256, size_bytes, template_version, stored_at)
SELECT * FROM unnest(%(series_ids)b::text[], %(numbers)b::bigint[], %(keys)b::text[], %(digests)b::bytea[],
                     %(sizes)b::bigint[], %(template_versions)b::int[], %(stored_ats)b::timestamptz[])
ON CONFLICT (series_id, number) DO NOTHING
RETURNING series_id, number

-- name: read_logos
SELECT encode(sha256, 'hex') AS sha256, body FROM logos WHERE sha256 = ANY(%(digests)b::bytea[])

-- name: read_unpublished
SELECT topic, partition, coalesce(published_seq, 0), next_seq
FROM journal_heads LEFT JOIN journal_published USING (topic, partition)
WHERE next_seq - 1 > coalesce(published_seq, 0)

-- name: read_journal
-- `since` spares the months before it; a caller that misses rows asks again without it. Lengths are read without the
-- payloads, so that rows behind `bytes_max` cost no more than their look-up.
SELECT wanted.topic, wanted.partition, rows.seq, rows.key, rows.payload, rows.occurred_at, rows.traceparent
FROM unnest(%(topics)b::text[], %(partitions)b::int[], %(after_seqs)b::bigint[], %(limits)b::bigint[],
            %(sinces)b::timestamptz[]) AS wanted (topic, partition, after_seq, count, since),
    LATERAL (
        SELECT seq, key, payload, occurred_at, traceparent, sum(octet_length(payload)) OVER (ORDER BY seq) AS bytes
        FROM journal j
        WHERE j.topic = wanted.topic AND j.partition = wanted.partition AND j.seq > wanted.after_seq
          AND j.seq <= wanted.after_seq + wanted.count AND j.occurred_at >= coalesce(wanted.since, '-infinity')
    ) AS rows
WHERE rows.bytes <= %(bytes_max)s OR rows.bytes = octet_length(rows.payload)
ORDER BY rows.seq

-- name: read_journal_end
-- In seconds since 1970: the end of the last month that `make_journal_months` has created.
SELECT extract(epoch FROM max(substring(pg_get_expr(relpartbound, oid) FROM 'TO \(''(.*)''\)')::timestamptz))::float8
FROM pg_class JOIN pg_inherits ON inhrelid = oid
WHERE inhparent = 'journal'::regclass

-- name: join_relays
SELECT pg_try_advisory_lock_shared(%(lock)s, 0)

-- name: read_relay_rank
-- The number of relays before this one, and of all relays, by locks that end with their sessions.
SELECT count(*) FILTER (WHERE pid < pg_backend_pid()), count(*) FROM pg_locks
WHERE locktype = 'advisory' AND classid = %(lock)s::bigint::oid AND objid = 0 AND objsubid = 2 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())

-- name: lock_output
SELECT pg_try_advisory_lock(%(topic_number)s, %(partition)s)

-- name: unlock_output
SELECT pg_advisory_unlock(%(topic_number)s, %(partition)s)

-- name: mark_published
INSERT INTO journal_published AS p (topic, partition, published_seq)
SELECT topic, partition, published.seq
FROM unnest(%(topics)b::text[], %(partitions)b::int[], %(seqs)b::bigint[]) AS published (topic, partition, seq)
JOIN journal_heads h USING (topic, partition)
WHERE published.seq < h.next_seq
ORDER BY topic, partition
ON CONFLICT (topic, partition) DO UPDATE SET published_seq = excluded.published_seq
WHERE p.published_seq < excluded.published_seq

-- name: read_seller_facts
SELECT seller_id, country, vat_id, tax_number, tax_name FROM sellers WHERE seller_id = ANY(%(seller_ids)s)

-- name: read_order_digests
SELECT o.seller_id, o.order_id, o.content_sha256
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
JOIN orders o USING (seller_id, order_id)

-- name: claim_order_ids
-- Sorted, as in every transaction, so that none deadlocks. Ids that another transaction has inserted and not yet
-- committed are waited for. Returns the ids that are not new.
-- An order or an invoice may also be owned by a release that doesn't know this table. LIMIT makes it a look-up by key.
WITH wanted AS (
    SELECT * FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(kinds)b::text[], %(buyer_keys)b::bigint[])
        AS wanted (seller_id, order_id, kind, buyer_key)
), claimed AS (
    INSERT INTO order_ids (seller_id, order_id, kind, buyer_key)
    SELECT w.seller_id, w.order_id, coalesce(o.kind, i.kind, w.kind), w.buyer_key
    FROM wanted w
    LEFT JOIN LATERAL (
        SELECT 'checkout' AS kind FROM orders o
        WHERE o.seller_id = w.seller_id AND o.order_id = w.order_id LIMIT 1
    ) o ON true
    LEFT JOIN LATERAL (
        SELECT 'invoice' AS kind FROM invoices i
        WHERE i.seller_id = w.seller_id AND i.order_id = w.order_id AND i.kind = 'invoice' LIMIT 1
    ) i ON true
    ORDER BY w.seller_id, w.order_id
    ON CONFLICT DO NOTHING
    RETURNING seller_id, order_id, kind
)
SELECT seller_id, order_id FROM (
    SELECT seller_id, order_id, kind FROM wanted
    EXCEPT SELECT seller_id, order_id, kind FROM claimed
) AS taken

-- name: read_order_owners
-- A separate statement, so that it sees what the claim has waited for.
SELECT i.seller_id, i.order_id, i.kind, coalesce(o.history @> '[{"to": "CONFIRMED"}]', false), sha256(o.invoice_request)
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(kinds)b::text[]) AS wanted (seller_id, order_id, kind)
JOIN order_ids i USING (seller_id, order_id)
LEFT JOIN orders o USING (seller_id, order_id)
WHERE i.kind <> wanted.kind

-- name: lock_stock
-- Sorted before it is locked: every transaction locks its SKUs in the same order, so that none deadlocks.
SELECT s.seller_id, s.sku, s.on_hand, s.reserved, s.version
FROM unnest(%(seller_ids)b::text[], %(skus)b::text[]) AS wanted (seller_id, sku)
JOIN stock s USING (seller_id, sku)
ORDER BY s.seller_id, s.sku FOR UPDATE OF s

-- name: write_stock
UPDATE stock s SET on_hand = row.on_hand, reserved = row.reserved, version = row.version
FROM unnest(%(seller_ids)b::text[], %(skus)b::text[], %(on_hands)b::bigint[], %(reserveds)b::bigint[],
            %(versions)b::bigint[]) AS row (seller_id, sku, on_hand, reserved, version)
WHERE s.seller_id = row.seller_id AND s.sku = row.sku

-- name: insert_orders
-- No ON CONFLICT: a repeat at this point is a bug or a lost hint, and must roll back the stock with it.
INSERT INTO orders (seller_id, order_id, partition, customer, state, version, history, currency, net_minor, tax_minor,
                    gross_minor, content_sha256, payment_token, invoice_request, short, hold_expires_at, placed_at,
                    source_offset)
SELECT row.seller_id, row.order_id, row.partition, row.customer, row.state, jsonb_array_length(row.history::jsonb),
       row.history::jsonb, row.currency, row.net_minor, row.tax_minor, row.gross_minor, row.content_sha256,
       row.payment_token, row.invoice_request, row.short::jsonb, %(hold_expires_at)s, %(placed_at)s, row.source_offset
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(partitions)b::int[], %(customers)b::text[],
            %(states)b::text[], %(histories)b::text[], %(currencies)b::text[], %(nets)b::bigint[], %(taxes)b::bigint[],
            %(grosses)b::bigint[], %(digests)b::bytea[], %(tokens)b::text[], %(requests)b::bytea[],
            %(shorts)b::text[], %(offsets)b::bigint[])
    AS row (seller_id, order_id, partition, customer, state, history, currency, net_minor, tax_minor, gross_minor,
            content_sha256, payment_token, invoice_request, short, source_offset)

-- name: insert_order_lines
INSERT INTO order_lines (seller_id, order_id, line, sku, quantity)
SELECT * FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(lines)b::int[], %(skus)b::text[],
                     %(quantities)b::bigint[])

-- name: lock_orders
SELECT o.seller_id, o.order_id, o.partition, o.state, o.version, o.history -> -1 ->> 'reason', o.currency,
       o.gross_minor, o.invoice_request, o.history @> '[{"to": "DELIVERED"}]'
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
JOIN orders o USING (seller_id, order_id)
ORDER BY o.seller_id, o.order_id FOR UPDATE OF o

-- name: read_order_lines
SELECT l.seller_id, l.order_id, l.sku, l.quantity, l.refunded
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
JOIN order_lines l USING (seller_id, order_id)
ORDER BY l.seller_id, l.order_id, l.line

-- name: write_order_states
UPDATE orders o SET state = row.state, version = row.version, history = o.history || row.history::jsonb
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(states)b::text[], %(versions)b::int[],
            %(histories)b::text[]) AS row (seller_id, order_id, state, version, history)
WHERE o.seller_id = row.seller_id AND o.order_id = row.order_id

-- name: read_expired_holds
SELECT seller_id, order_id FROM orders
WHERE state = 'PAYMENT_PENDING' AND hold_expires_at <= %(now)s ORDER BY hold_expires_at LIMIT %(limit)s

-- name: read_refunds
SELECT r.seller_id, r.order_id, r.refund_id, r.lines, r.amount_minor, r.state, r.reason, r.credit_note_request,
       r.for_all_left
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
JOIN refunds r USING (seller_id, order_id)

-- name: insert_refunds
INSERT INTO refunds (seller_id, order_id, refund_id, lines, amount_minor, state, reason, credit_note_request,
                     requested_at, for_all_left)
SELECT row.seller_id, row.order_id, row.refund_id, row.lines::jsonb, row.amount_minor, row.state, row.reason,
       row.credit_note_request, %(now)s, row.for_all_left
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(refund_ids)b::text[], %(lines)b::text[],
            %(amounts)b::bigint[], %(states)b::text[], %(reasons)b::text[], %(requests)b::bytea[],
            %(for_all_left)b::boolean[])
    AS row (seller_id, order_id, refund_id, lines, amount_minor, state, reason, credit_note_request, for_all_left)

-- name: write_refund_states
UPDATE refunds r SET state = row.state
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(refund_ids)b::text[], %(states)b::text[])
    AS row (seller_id, order_id, refund_id, state)
WHERE r.seller_id = row.seller_id AND r.order_id = row.order_id AND r.refund_id = row.refund_id

-- name: write_refunded
UPDATE order_lines l SET refunded = row.refunded
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(lines)b::int[], %(refundeds)b::bigint[])
    AS row (seller_id, order_id, line, refunded)
WHERE l.seller_id = row.seller_id AND l.order_id = row.order_id AND l.line = row.line

-- name: read_attempt_states
SELECT p.seller_id, p.order_id, p.request_id, p.state
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(request_ids)b::text[])
    AS wanted (seller_id, order_id, request_id)
JOIN payment_attempts p USING (seller_id, order_id, request_id)

-- name: insert_payment_attempts
-- Only what an order can owe gets in. Whoever takes a row up notes whom the payment is with.
INSERT INTO payment_attempts (seller_id, order_id, request_id, partition, action, amount_minor, currency, provider_key,
                              state, next_try_at, give_up_at, created_at, traceparent)
SELECT row.seller_id, row.order_id, row.request_id, row.partition, row.action, row.amount_minor, row.currency,
       row.provider_key, 'open', now(), to_timestamp(row.give_up_at), %(now)s, row.traceparent
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(request_ids)b::text[], %(partitions)b::int[],
            %(actions)b::text[], %(amounts)b::bigint[], %(currencies)b::text[], %(provider_keys)b::text[],
            %(give_up_ats)b::float8[], %(traceparents)b::text[])
    AS row (seller_id, order_id, request_id, partition, action, amount_minor, currency, provider_key, give_up_at,
            traceparent)
JOIN orders o USING (seller_id, order_id)
WHERE o.partition = row.partition AND o.currency = row.currency AND row.amount_minor <= o.gross_minor
ORDER BY row.seller_id, row.order_id, row.request_id
ON CONFLICT DO NOTHING

-- name: wake_payments
-- With the commit. A commit that notifies waits for others that do, and there are some dozens a second.
NOTIFY payment_attempts

-- name: await_payments
LISTEN payment_attempts

-- name: read_payment_attempts
SELECT p.seller_id, p.order_id, p.request_id
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(request_ids)b::text[])
    AS wanted (seller_id, order_id, request_id)
JOIN payment_attempts p USING (seller_id, order_id, request_id)

-- name: take_payment_attempts
-- Who takes a row up is alone with it for the lease. Rows that another is about to take or to finish are passed over.
WITH due AS (
    SELECT seller_id, order_id, request_id FROM payment_attempts
    WHERE state = 'open' AND next_try_at <= now()
        AND (NOT %(hopeless)s OR (tries = 0 AND give_up_at <= now()))
    ORDER BY next_try_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE payment_attempts p
    SET tries = p.tries + 1, next_try_at = now() + make_interval(secs => %(lease)s), leased_by = %(slot)s,
        provider = CASE WHEN p.action = 'authorize' THEN coalesce(p.provider, %(provider)s) ELSE p.provider END
    FROM due WHERE (p.seller_id, p.order_id, p.request_id) = (due.seller_id, due.order_id, due.request_id)
    RETURNING p.*
)
SELECT t.seller_id, t.order_id, t.request_id, t.partition, t.action, t.amount_minor, t.currency, t.provider_key,
       t.tries, coalesce(t.give_up_at <= now(), false), extract(epoch FROM now() - t.created_at)::float8,
       t.settling, o.payment_token, a.state, a.reference, c.state,
       coalesce(t.provider, a.provider, CASE WHEN a.reference LIKE 'pi\_%%' THEN 'stripe' WHEN a.reference <> '' THEN 'local' END,
                %(provider)s), t.traceparent
FROM taken t
JOIN orders o ON o.seller_id = t.seller_id AND o.order_id = t.order_id
LEFT JOIN payment_attempts a
    ON a.seller_id = t.seller_id AND a.order_id = t.order_id AND a.request_id = 'authorize' AND t.action <> 'authorize'
LEFT JOIN payment_attempts c
    ON c.seller_id = t.seller_id AND c.order_id = t.order_id AND c.request_id = 'capture' AND t.action = 'refund'

-- name: finish_payment_attempts
-- Whoever changes a row from open also writes its event, and what follows for its order; nobody else does.
-- `state || ''` keeps the planner from the index of what is open: after an outage that is long, and would be read from
-- end to end for each batch.
WITH done AS (
    SELECT p.seller_id, p.order_id, p.request_id, row.state, row.reference, row.reason
    FROM unnest(%(provider_keys)b::text[], %(states)b::text[], %(references)b::text[], %(reasons)b::text[])
        AS row (provider_key, state, reference, reason)
    JOIN payment_attempts p USING (provider_key)
    WHERE p.state || '' = 'open' AND NOT (p.settling AND row.state = 'succeeded')
    ORDER BY p.provider_key FOR UPDATE OF p
)
UPDATE payment_attempts p
SET state = done.state, reference = done.reference, reason = done.reason, finished_at = %(now)s
FROM done
WHERE (p.seller_id, p.order_id, p.request_id) = (done.seller_id, done.order_id, done.request_id)
RETURNING p.provider_key

-- name: settle_payment_attempt
UPDATE payment_attempts SET settling = true
WHERE provider_key = %(provider_key)s AND state || '' = 'open'
RETURNING provider_key

-- name: retry_payment_attempts
-- Only by who has taken the row up last.
UPDATE payment_attempts p SET next_try_at = now() + make_interval(secs => row.after), leased_by = NULL
FROM unnest(%(provider_keys)b::text[], %(tries)b::int[], %(afters)b::float8[]) AS row (provider_key, tries, after)
WHERE p.provider_key = row.provider_key AND p.tries = row.tries AND p.state || '' = 'open'

-- name: end_payment_leases
-- Those that are finished meanwhile keep the name: only what is open is looked at, by its index.
UPDATE payment_attempts SET next_try_at = now(), leased_by = NULL
WHERE state = 'open' AND next_try_at > now() AND leased_by = %(slot)s
RETURNING provider_key

-- name: hasten_payment_attempts
-- A row that is locked is being taken up or finished at this moment: there is nothing to hasten.
UPDATE payment_attempts p SET next_try_at = now()
FROM (
    SELECT a.seller_id, a.order_id, a.request_id
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
    JOIN payment_attempts a USING (seller_id, order_id)
    WHERE a.state || '' = 'open' AND a.tries > 0 AND a.next_try_at > now()
    FOR UPDATE OF a SKIP LOCKED
) AS due
WHERE (p.seller_id, p.order_id, p.request_id) = (due.seller_id, due.order_id, due.request_id)
RETURNING p.provider_key

-- name: insert_refund_checks
-- Due at once. `is_sure`: the provider told of a refund, or has refused one of ours; otherwise an order of which nothing
-- was to be captured is passed over. Each order is locked before its check, as everywhere: the foreign key would lock it
-- afterwards, while who has the order waits for the check.
INSERT INTO refund_checks (seller_id, order_id, next_try_at)
SELECT wanted.seller_id, wanted.order_id, now()
FROM (
    SELECT seller_id, order_id, bool_or(is_sure) AS is_sure
    FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(are_sure)b::boolean[])
        AS row (seller_id, order_id, is_sure)
    GROUP BY 1, 2
) AS wanted
JOIN orders o USING (seller_id, order_id)
WHERE wanted.is_sure OR EXISTS (
    SELECT FROM payment_attempts p
    WHERE p.seller_id = wanted.seller_id AND p.order_id = wanted.order_id AND p.request_id = 'capture'
)
ORDER BY wanted.seller_id, wanted.order_id FOR KEY SHARE OF o
ON CONFLICT (seller_id, order_id) DO UPDATE SET asked = excluded.asked, tries = 0, next_try_at = excluded.next_try_at
RETURNING seller_id, order_id

-- name: take_refund_checks
WITH due AS (
    SELECT seller_id, order_id FROM refund_checks
    WHERE next_try_at <= now() ORDER BY next_try_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE refund_checks c SET tries = c.tries + 1, next_try_at = now() + make_interval(secs => %(lease)s)
    FROM due WHERE (c.seller_id, c.order_id) = (due.seller_id, due.order_id)
    RETURNING c.*
)
SELECT t.seller_id, t.order_id, t.asked, t.tries, a.state, coalesce(a.reference, ''),
       coalesce(a.provider, CASE WHEN a.reference LIKE 'pi\_%%' THEN 'stripe' WHEN a.reference <> '' THEN 'local' END,
                %(provider)s)
FROM taken t
LEFT JOIN payment_attempts a
    ON a.seller_id = t.seller_id AND a.order_id = t.order_id AND a.request_id = 'authorize'

-- name: retry_refund_checks
-- Only by who has taken the row up last.
UPDATE refund_checks c SET next_try_at = now() + make_interval(secs => row.after)
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(asked)b::bigint[], %(tries)b::int[], %(afters)b::float8[])
    AS row (seller_id, order_id, asked, tries, after)
WHERE (c.seller_id, c.order_id, c.asked, c.tries) = (row.seller_id, row.order_id, row.asked, row.tries)

-- name: end_refund_checks
DELETE FROM refund_checks c
USING unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(asked)b::bigint[]) AS row (seller_id, order_id, asked)
WHERE (c.seller_id, c.order_id, c.asked) = (row.seller_id, row.order_id, row.asked)

-- name: add_refund_passes
INSERT INTO refund_passes (provider, listed_until, next_at)
SELECT provider, now() - make_interval(secs => %(first)s), now() + make_interval(secs => %(every)s)
FROM unnest(%(providers)b::text[]) AS provider
ORDER BY provider
ON CONFLICT (provider) DO UPDATE SET next_at = excluded.next_at WHERE refund_passes.next_at > excluded.next_at

-- name: take_refund_pass
UPDATE refund_passes SET turn = turn + 1, tries = tries + 1, began_at = coalesce(began_at, now()),
                         next_at = now() + make_interval(secs => %(lease)s)
WHERE provider = %(provider)s AND next_at <= now()
RETURNING provider, turn, tries, listed_until, after

-- name: move_refund_pass
-- Only by who has taken it up last, and only once.
UPDATE refund_passes SET turn = turn + 1, tries = 0, after = %(after)s,
                         next_at = now() + make_interval(secs => %(pause)s),
                         listed_until = CASE WHEN %(is_over)s THEN began_at ELSE listed_until END,
                         began_at = CASE WHEN %(is_over)s THEN NULL ELSE began_at END
WHERE provider = %(provider)s AND turn = %(turn)s
RETURNING turn

-- name: retry_refund_pass
UPDATE refund_passes SET next_at = now() + make_interval(secs => %(after)s)
WHERE provider = %(provider)s AND turn = %(turn)s

-- name: ask_for_refund_passes
-- A pass under way begins anew: what was made since it began is asked for, too.
UPDATE refund_passes SET turn = turn + 1, tries = 0, listed_until = least(listed_until, %(since)s), began_at = NULL,
                         after = '', next_at = now()
RETURNING provider

-- name: read_refund_pass_ages
SELECT provider, extract(epoch FROM now() - listed_until)::float8
FROM refund_passes WHERE provider = ANY(%(providers)b)

-- name: read_known_attempts
SELECT provider_key FROM payment_attempts WHERE provider_key = ANY(%(provider_keys)b)

-- name: read_money_moved
-- Captures, and the keys under which we have refunded.
SELECT p.seller_id, p.order_id, p.action, p.state, p.provider_key
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
JOIN payment_attempts p USING (seller_id, order_id)
WHERE p.action IN ('capture', 'refund')

-- name: insert_found_refunds
-- Born finished: nobody is ever called for them.
INSERT INTO payment_attempts (seller_id, order_id, request_id, partition, action, amount_minor, currency, provider_key,
                              state, next_try_at, reference, reason, created_at, finished_at, provider)
SELECT row.seller_id, row.order_id, row.request_id, row.partition, 'refund', row.amount_minor, row.currency,
       row.provider_key, 'succeeded', %(now)s, row.reference, row.reason, %(now)s, %(now)s, row.provider
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(request_ids)b::text[], %(partitions)b::int[],
            %(amounts)b::bigint[], %(currencies)b::text[], %(provider_keys)b::text[], %(references)b::text[],
            %(reasons)b::text[], %(providers)b::text[])
    AS row (seller_id, order_id, request_id, partition, amount_minor, currency, provider_key, reference, reason, provider)

-- name: delete_uncredited_refunds
DELETE FROM uncredited_refunds u
USING unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS row (seller_id, order_id)
WHERE (u.seller_id, u.order_id) = (row.seller_id, row.order_id)

-- name: insert_uncredited_refunds
INSERT INTO uncredited_refunds (seller_id, order_id, provider_refund, provider, amount_minor, currency, reason,
                                checked_at)
SELECT row.seller_id, row.order_id, row.provider_refund, row.provider, row.amount_minor, row.currency, row.reason,
       %(now)s
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(provider_refunds)b::text[], %(providers)b::text[],
            %(amounts)b::bigint[], %(currencies)b::text[], %(reasons)b::text[])
    AS row (seller_id, order_id, provider_refund, provider, amount_minor, currency, reason)

-- name: count_open_payment_attempts
SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8
FROM payment_attempts WHERE state = 'open'

-- name: read_events
-- The journal's own bytes of some events of a partition: a record on the topic proves nothing.
SELECT seq, payload, occurred_at FROM journal
WHERE topic = %(topic)s AND partition = %(partition)s AND seq = ANY(%(seqs)b)

-- name: read_notified_seq
SELECT seq FROM notified_events WHERE topic = %(topic)s AND partition = %(partition)s

-- name: write_notified_seq
INSERT INTO notified_events (topic, partition, seq) VALUES (%(topic)s, %(partition)s, %(seq)s)
ON CONFLICT (topic, partition) DO UPDATE SET seq = excluded.seq

-- name: read_order_amounts
SELECT o.seller_id, o.order_id, o.currency, o.gross_minor
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
JOIN orders o USING (seller_id, order_id)

-- name: read_journal_end_seq
SELECT next_seq - 1 FROM journal_heads WHERE topic = %(topic)s AND partition = %(partition)s

-- name: read_counted_seq
SELECT last_seq FROM analytics_progress WHERE topic = %(topic)s AND partition = %(partition)s

-- name: write_counted_seq
INSERT INTO analytics_progress (topic, partition, first_seq, last_seq, first_at)
VALUES (%(topic)s, %(partition)s, %(first_seq)s, %(last_seq)s, %(first_at)s)
ON CONFLICT (topic, partition) DO UPDATE SET last_seq = excluded.last_seq

-- name: add_counts
-- Each row is one partition's of one topic, whose position is locked; sorted all the same.
INSERT INTO analytics_counts AS c (seller_id, minute, partition, currency, what, events, amount_minor)
SELECT * FROM unnest(%(seller_ids)b::text[], %(minutes)b::int[], %(partitions)b::int[], %(currencies)b::text[],
                     %(whats)b::text[], %(events)b::bigint[], %(amounts)b::bigint[])
ON CONFLICT (seller_id, minute, partition, currency, what) DO UPDATE
SET events = c.events + excluded.events, amount_minor = c.amount_minor + excluded.amount_minor

-- name: add_sold
INSERT INTO analytics_skus AS s (seller_id, minute, sku, partition, currency, pieces, net_minor)
SELECT * FROM unnest(%(seller_ids)b::text[], %(minutes)b::int[], %(skus)b::text[], %(partitions)b::int[],
                     %(currencies)b::text[], %(pieces)b::bigint[], %(nets)b::bigint[])
ON CONFLICT (seller_id, minute, sku, partition, currency) DO UPDATE
SET pieces = s.pieces + excluded.pieces, net_minor = s.net_minor + excluded.net_minor

-- name: fold_counts
-- What is older than `before` comes to stand at the first minute of its quarter of an hour, some rows at a time.
WITH old AS (
    SELECT seller_id, minute, partition, currency, what FROM analytics_counts
    WHERE minute %% 15 <> 0 AND minute < %(before)s ORDER BY minute LIMIT %(limit)s
), taken AS (
    DELETE FROM analytics_counts c USING old
    WHERE c.seller_id = old.seller_id AND c.minute = old.minute AND c.partition = old.partition
      AND c.currency = old.currency AND c.what = old.what
    RETURNING c.*
), folded AS (
    INSERT INTO analytics_counts AS c (seller_id, minute, partition, currency, what, events, amount_minor)
    SELECT seller_id, minute - minute %% 15, partition, currency, what, sum(events), sum(amount_minor)
    FROM taken GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (seller_id, minute, partition, currency, what) DO UPDATE
    SET events = c.events + excluded.events, amount_minor = c.amount_minor + excluded.amount_minor
)
SELECT count(*) FROM taken

-- name: has_webhook_endpoints
SELECT EXISTS (SELECT FROM webhook_endpoints WHERE state <> 'disabled')

-- name: read_wanted_endpoints
SELECT endpoint_id, seller_id, channel, events, created_at FROM webhook_endpoints
WHERE seller_id = ANY(%(seller_ids)b) AND state <> 'disabled' ORDER BY endpoint_id

-- name: read_mailable
-- Which of these orders have a buyer with an e-mail address. Orders of releases before `0013_trails.sql` may have one.
SELECT seller_id, order_id FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
JOIN order_ids USING (seller_id, order_id) WHERE buyer_key IS DISTINCT FROM %(no_address)s

-- name: take_sequences
-- Locks the rows of `delivery_sequences`, in their order, until the transaction ends: see `schedule_deliveries`.
INSERT INTO delivery_sequences AS s (destination, order_id, last_sequence, touched_at)
SELECT destination, order_id, count, now()
FROM unnest(%(destinations)b::text[], %(order_ids)b::text[], %(counts)b::bigint[]) AS row (destination, order_id, count)
ORDER BY destination, order_id
ON CONFLICT (destination, order_id)
    DO UPDATE SET last_sequence = s.last_sequence + excluded.last_sequence, touched_at = excluded.touched_at
RETURNING destination, order_id, last_sequence

-- name: insert_deliveries
INSERT INTO deliveries (delivery_id, destination, seller_id, order_id, sequence, type, payload, created_at)
SELECT delivery_id, destination, seller_id, order_id, sequence, type, payload, %(now)s
FROM unnest(%(delivery_ids)b::text[], %(destinations)b::text[], %(seller_ids)b::text[], %(order_ids)b::text[],
            %(sequences)b::bigint[], %(types)b::text[], %(payloads)b::bytea[])
    AS row (delivery_id, destination, seller_id, order_id, sequence, type, payload)

-- name: lock_sequences
SELECT FROM delivery_sequences s
JOIN unnest(%(destinations)b::text[], %(order_ids)b::text[]) AS row (destination, order_id) USING (destination, order_id)
ORDER BY destination, order_id FOR UPDATE OF s

-- name: schedule_deliveries
-- The first open delivery of each order is due, and no other. A statement of its own, behind the one that locks the
-- orders' sequences: only so it sees what others have added or ended before.
UPDATE deliveries d SET next_try_at = now()
FROM (SELECT DISTINCT destination, order_id FROM unnest(%(destinations)b::text[], %(order_ids)b::text[])
          AS row (destination, order_id)) AS of_order
WHERE d.destination = of_order.destination AND d.order_id = of_order.order_id AND d.next_try_at IS NULL
  AND d.sequence = (
    SELECT sequence FROM deliveries first
    WHERE first.destination = of_order.destination AND first.order_id = of_order.order_id AND first.state = 'open'
    ORDER BY sequence LIMIT 1)

-- name: wake_senders
SELECT pg_notify('deliveries', '')

-- name: take_deliveries
-- Destination by destination, so that one with a long backlog takes no other's turn. Who takes a row up is alone with it
-- for the lease.
WITH RECURSIVE busy AS (
    (SELECT destination FROM deliveries WHERE next_try_at IS NOT NULL ORDER BY destination LIMIT 1)
    UNION ALL
    SELECT (SELECT d.destination FROM deliveries d WHERE d.next_try_at IS NOT NULL AND d.destination > busy.destination
            ORDER BY d.destination LIMIT 1)
    FROM busy WHERE busy.destination IS NOT NULL
), due AS (
    SELECT picked.delivery_id, e.url, e.version, e.failing_since IS NOT NULL AS is_failing
    FROM busy
    JOIN webhook_endpoints e ON e.endpoint_id = busy.destination AND e.state = 'active' AND e.channel = %(channel)s
    LEFT JOIN unnest(%(destinations)b::text[], %(rooms)b::int[]) AS known (destination, room)
        ON known.destination = busy.destination
    CROSS JOIN LATERAL (
        SELECT d.delivery_id FROM deliveries d
        WHERE d.destination = busy.destination AND d.next_try_at <= now()
        ORDER BY d.next_try_at LIMIT coalesce(known.room, %(room)s)
        FOR UPDATE SKIP LOCKED
    ) AS picked
    LIMIT %(limit)s
)
UPDATE deliveries d SET tries = d.tries + 1, next_try_at = now() + make_interval(secs => %(lease)s)
FROM due WHERE d.delivery_id = due.delivery_id
RETURNING d.delivery_id, d.destination, d.seller_id, d.order_id, d.sequence, d.type, d.payload, d.tries, d.created_at,
          due.url, due.version, due.is_failing

-- name: read_next_due
-- How long until something is due at a destination that has room, in seconds; null if nothing is.
WITH RECURSIVE busy AS (
    (SELECT destination, next_try_at FROM deliveries WHERE next_try_at IS NOT NULL ORDER BY destination, next_try_at LIMIT 1)
    UNION ALL
    SELECT next.destination, next.next_try_at FROM busy CROSS JOIN LATERAL (
        SELECT d.destination, d.next_try_at FROM deliveries d
        WHERE d.next_try_at IS NOT NULL AND d.destination > busy.destination
        ORDER BY d.destination, d.next_try_at LIMIT 1) AS next
)
SELECT extract(epoch FROM min(busy.next_try_at) - now())::float8
FROM busy JOIN webhook_endpoints e ON e.endpoint_id = busy.destination AND e.state = 'active' AND e.channel = %(channel)s
WHERE busy.destination <> ALL(%(full)b::text[])

-- name: release_deliveries
-- Taken up and not called for.
UPDATE deliveries d SET next_try_at = now(), tries = d.tries - 1
FROM unnest(%(delivery_ids)b::text[], %(tries)b::int[]) AS row (delivery_id, tries)
WHERE d.delivery_id = row.delivery_id AND d.tries = row.tries AND d.state = 'open'

-- name: write_attempts
INSERT INTO delivery_attempts (delivery_id, tried_at, url, seconds, status, error, answer)
SELECT * FROM unnest(%(delivery_ids)b::text[], %(tried_ats)b::timestamptz[], %(urls)b::text[], %(seconds)b::real[],
                     %(statuses)b::int[], %(errors)b::text[], %(answers)b::text[])
ON CONFLICT DO NOTHING

-- name: finish_deliveries
-- Whoever was late finds the row finished, or taken up again, and changes nothing.
UPDATE deliveries d
SET state = row.state, finished_at = CASE WHEN row.state <> 'open' THEN now() END,
    next_try_at = CASE WHEN row.state = 'open' THEN now() + make_interval(secs => row.after) END,
    tries = d.tries - (NOT row.is_counted)::int
FROM unnest(%(delivery_ids)b::text[], %(states)b::text[], %(afters)b::float8[], %(tries)b::int[],
            %(are_counted)b::bool[])
    AS row (delivery_id, state, after, tries, is_counted)
WHERE d.delivery_id = row.delivery_id AND d.state = 'open' AND (d.tries = row.tries OR row.state = 'delivered')

-- name: note_endpoints
-- `is_well` where anything has arrived. Returns the endpoints that are disabled by this.
UPDATE webhook_endpoints e
SET failing_since = CASE WHEN row.is_well THEN NULL ELSE coalesce(e.failing_since, now()) END,
    state = CASE WHEN row.reason <> '' THEN 'disabled' ELSE e.state END,
    disabled_reason = CASE WHEN row.reason <> '' THEN row.reason ELSE e.disabled_reason END,
    version = e.version + (row.reason <> '')::int
FROM (
    SELECT endpoint_id, is_well,
           CASE WHEN is_gone THEN 'gone'
                WHEN NOT is_well AND (SELECT failing_since FROM webhook_endpoints f WHERE f.endpoint_id = given.endpoint_id)
                    < now() - make_interval(secs => %(failing_max)s) THEN 'failing' ELSE '' END AS reason
    FROM unnest(%(endpoint_ids)b::text[], %(are_well)b::bool[], %(are_gone)b::bool[])
        AS given (endpoint_id, is_well, is_gone)
    ORDER BY endpoint_id
) AS row
WHERE e.endpoint_id = row.endpoint_id AND e.state <> 'disabled'
RETURNING e.endpoint_id, e.state, e.disabled_reason

-- name: read_signers
-- Of each endpoint what is signed with now.
SELECT endpoint_id, hmac_secret, ed25519_seed, expires_at FROM webhook_secrets
WHERE endpoint_id = ANY(%(endpoint_ids)b) AND (expires_at IS NULL OR expires_at > now())
ORDER BY endpoint_id, created_at DESC

-- name: read_mail_senders
SELECT e.endpoint_id, e.sender, e.reply_to, e.documents, s.legal_name, s.trading_name, s.street, s.city, s.postal_code,
       s.country, coalesce(s.vat_id, '') AS vat_id, s.tax_name, s.contact_phone, s.language, s.colour
FROM webhook_endpoints e JOIN sellers s USING (seller_id)
WHERE e.endpoint_id = ANY(%(endpoint_ids)b) AND e.channel = 'email'

-- name: read_mail_orders
SELECT o.seller_id, o.order_id, o.invoice_request, o.net_minor, o.tax_minor, o.gross_minor
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[]) AS wanted (seller_id, order_id)
JOIN orders o USING (seller_id, order_id)

-- name: read_mail_documents
SELECT i.seller_id, i.order_id, i.invoice_number, d.key, d.sha256, d.size_bytes, j.payload
FROM unnest(%(seller_ids)b::text[], %(order_ids)b::text[], %(kinds)b::text[], %(numbers)b::text[])
    AS wanted (seller_id, order_id, kind, invoice_number)
JOIN invoices i USING (seller_id, order_id, kind, invoice_number)
JOIN documents d USING (series_id, number)
JOIN journal j ON j.topic = %(topic)s AND j.partition = i.source_partition AND j.seq = i.event_seq
    AND j.occurred_at = i.issued_at

-- name: read_notice_endpoints
-- Of each of these webhook endpoints its URL, and where its seller's mails come from.
SELECT w.endpoint_id, w.url, m.endpoint_id, m.seller_id FROM webhook_endpoints w
JOIN webhook_endpoints m ON m.seller_id = w.seller_id AND m.channel = 'email' AND m.state <> 'disabled'
WHERE w.endpoint_id = ANY(%(endpoint_ids)b) AND w.channel = 'webhook'

-- name: count_due_deliveries
SELECT count(*), coalesce(extract(epoch FROM now() - min(d.created_at))::float8, 0)
FROM deliveries d JOIN webhook_endpoints e ON e.endpoint_id = d.destination
WHERE d.next_try_at IS NOT NULL AND e.channel = %(channel)s AND e.state = 'active'

-- name: purge_deliveries
-- Ids begin with the time.
WITH old AS (
    SELECT d.delivery_id FROM deliveries d
    WHERE d.delivery_id < %(before_id)s
      AND (d.state <> 'open' OR NOT EXISTS (
          SELECT FROM webhook_endpoints e WHERE e.endpoint_id = d.destination AND e.state = 'active'))
    ORDER BY d.delivery_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), attempts AS (
    DELETE FROM delivery_attempts a USING old WHERE a.delivery_id = old.delivery_id
)
DELETE FROM deliveries d USING old WHERE d.delivery_id = old.delivery_id

-- name: purge_sequences
DELETE FROM delivery_sequences WHERE (destination, order_id) IN (
    SELECT s.destination, s.order_id FROM delivery_sequences s
    WHERE s.touched_at < now() - make_interval(days => %(days)s)
      AND NOT EXISTS (SELECT FROM deliveries d WHERE (d.destination, d.order_id) = (s.destination, s.order_id))
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
