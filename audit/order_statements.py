"""The audit's statements about orders, stock and payments. They only read.

`…_OF` is the same statement for some orders, given by `seller_ids` and `order_ids`.
"""

from typing import LiteralString

from audit.statements import WANTED_ORDERS

ORDERS: LiteralString = """
SELECT o.seller_id, o.order_id, o.partition, o.customer, o.state, o.version, o.history, o.currency, o.net_minor,
       o.tax_minor, o.gross_minor, encode(sha256(o.invoice_request), 'hex') AS request_sha256, o.short,
       o.hold_expires_at, o.placed_at,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(l.line, l.sku, l.quantity) ORDER BY l.line), '[]')
        FROM order_lines l WHERE l.seller_id = o.seller_id AND l.order_id = o.order_id) AS lines
FROM orders o
"""
ORDERS_OF = ORDERS.replace("FROM orders o\n", f"FROM {WANTED_ORDERS} JOIN orders o USING (seller_id, order_id)\n")
LINES_WITHOUT_ORDER = """
SELECT l.seller_id, l.order_id, count(*) FROM order_lines l
WHERE NOT EXISTS (SELECT FROM orders o WHERE o.seller_id = l.seller_id AND o.order_id = l.order_id)
GROUP BY l.seller_id, l.order_id
"""
REFUSED: LiteralString = """
SELECT seller_id, order_id, partition, topic, log_offset, outcome, reason, encode(content_sha256, 'hex')
FROM refused_requests WHERE topic = %(topic)s
"""
REFUSED_OF = REFUSED.replace("WHERE", f"JOIN {WANTED_ORDERS} USING (seller_id, order_id) WHERE")
ORDERS_BY_ID = """
SELECT o.seller_id, o.order_id, o.content_sha256, o.partition, o.source_offset
FROM unnest(%(seller_ids)s::text[], %(order_ids)s::text[]) AS wanted (seller_id, order_id)
JOIN orders o USING (seller_id, order_id)
"""
#: Digests of some orders' own invoice requests.
OWN_REQUESTS = """
SELECT o.seller_id, o.order_id, sha256(o.invoice_request)
FROM unnest(%(seller_ids)s::text[], %(order_ids)s::text[]) AS wanted (seller_id, order_id)
JOIN orders o USING (seller_id, order_id)
"""
#: Order ids recorded as another kind's, or without an order, an invoice or a credit note.
IDS_AMISS: LiteralString = """
SELECT i.seller_id, i.order_id, i.kind, o.order_id IS NOT NULL, v.order_id IS NOT NULL
FROM order_ids i
LEFT JOIN orders o USING (seller_id, order_id)
LEFT JOIN invoices v ON v.seller_id = i.seller_id AND v.order_id = i.order_id AND v.kind = 'invoice'
     AND v.refund_id = ''
WHERE (i.kind = 'checkout') IS DISTINCT FROM (o.order_id IS NOT NULL) OR CASE i.kind
    WHEN 'credit_note' THEN v.order_id IS NOT NULL OR NOT EXISTS (
        SELECT FROM invoices c WHERE c.seller_id = i.seller_id AND c.order_id = i.order_id AND c.kind = 'credit_note'
    )
    ELSE o.order_id IS NULL AND v.order_id IS NULL
END
"""
IDS_AMISS_OF = IDS_AMISS.replace(
    "FROM order_ids i\n", f"FROM {WANTED_ORDERS} JOIN order_ids i USING (seller_id, order_id)\n"
)
#: The kinds that own some order ids.
ID_KINDS = """
SELECT seller_id, order_id, kind
FROM unnest(%(seller_ids)s::text[], %(order_ids)s::text[]) AS wanted (seller_id, order_id)
JOIN order_ids USING (seller_id, order_id)
"""
COUNT_ORDERS = "SELECT count(*) FROM orders WHERE partition = %(partition)s AND source_offset >= %(first)s"

#: Each SKU that has a row or is in an order, with the pieces of orders in both groups of states.
STOCK = """
SELECT seller_id, sku, s.on_hand, s.reserved, s.version, coalesce(p.claimed, 0)::bigint, coalesce(p.shipped, 0)::bigint
FROM stock s
FULL JOIN (
    SELECT l.seller_id, l.sku, sum(l.quantity) FILTER (WHERE o.state = ANY(%(claiming)s::text[])) AS claimed,
           sum(l.quantity) FILTER (WHERE o.state = ANY(%(shipped)s::text[])) AS shipped
    FROM orders o JOIN order_lines l USING (seller_id, order_id) WHERE l.sku <> '' GROUP BY l.seller_id, l.sku
) p USING (seller_id, sku)
"""
ADJUSTMENTS = "SELECT seller_id, sku, adjust, version FROM stock_adjustments"

#: The rows of some SKUs.
LEVELS_OF = """
SELECT s.seller_id, s.sku, s.on_hand, s.reserved, s.version
FROM unnest(%(seller_ids)s::text[], %(skus)s::text[]) AS wanted (seller_id, sku) JOIN stock s USING (seller_id, sku)
"""

ATTEMPTS_FINISHED: LiteralString = """
SELECT seller_id, order_id, partition, request_id, action, state, amount_minor, currency, reference, reason
FROM payment_attempts WHERE state <> 'open'
"""
ATTEMPTS_FINISHED_OF = ATTEMPTS_FINISHED.replace("WHERE", f"JOIN {WANTED_ORDERS} USING (seller_id, order_id) WHERE")
ATTEMPTS_WITHOUT_ORDER: LiteralString = """
SELECT p.seller_id, p.order_id, p.request_id FROM payment_attempts p
WHERE NOT EXISTS (
    SELECT FROM orders o WHERE o.seller_id = p.seller_id AND o.order_id = p.order_id AND o.state <> 'REFUSED'
)
"""
ATTEMPTS_WITHOUT_ORDER_OF = ATTEMPTS_WITHOUT_ORDER.replace(
    "FROM payment_attempts p\n", f"FROM {WANTED_ORDERS} JOIN payment_attempts p USING (seller_id, order_id)\n"
)
#: Ordered by id, in which a provider's ledger is looked up.
MONEY: LiteralString = """
SELECT o.seller_id, o.order_id, o.state, o.gross_minor, o.history @> '[{"to": "CONFIRMED"}]' AS confirmed,
       p.authorized, p.captured, p.voided, p.captured_minor, p.refunded_minor, p.open, p.capture_over, p.void_over,
       p.amiss, i.invoices, i.invoiced_minor, i.credited_minor, i.foreign, i.others, r.requested, r.cancellations
FROM orders o
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE action = 'authorize' AND state = 'succeeded') AS authorized,
           count(*) FILTER (WHERE action = 'capture' AND state = 'succeeded') AS captured,
           count(*) FILTER (WHERE action = 'void' AND state = 'succeeded') AS voided,
           coalesce(sum(amount_minor) FILTER (WHERE action = 'capture' AND state = 'succeeded'), 0)::bigint
               AS captured_minor,
           coalesce(sum(amount_minor) FILTER (WHERE action = 'refund' AND state = 'succeeded'), 0)::bigint
               AS refunded_minor,
           count(*) FILTER (WHERE state = 'open') AS open,
           count(*) FILTER (WHERE action = 'capture' AND state IN ('declined', 'failed')) AS capture_over,
           count(*) FILTER (WHERE action = 'void' AND state IN ('declined', 'failed')) AS void_over,
           count(*) FILTER (WHERE currency <> o.currency OR (action <> 'refund' AND amount_minor <> o.gross_minor))
               AS amiss
    FROM payment_attempts a WHERE a.seller_id = o.seller_id AND a.order_id = o.order_id
) p
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE kind = 'invoice') AS invoices,
           coalesce(sum(gross_minor) FILTER (WHERE kind = 'invoice'), 0)::bigint AS invoiced_minor,
           coalesce(sum(gross_minor) FILTER (WHERE kind <> 'invoice'), 0)::bigint AS credited_minor,
           count(*) FILTER (WHERE currency <> o.currency) AS foreign,
           count(*) FILTER (WHERE kind = 'invoice' AND o.content_sha256
               <> sha256(v.content_sha256 || convert_to(o.customer, 'UTF8'))) AS others
    FROM invoices v WHERE v.seller_id = o.seller_id AND v.order_id = o.order_id
) i
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'requested') AS requested,
           count(*) FILTER (WHERE refund_id = 'cancellation') AS cancellations
    FROM refunds f WHERE f.seller_id = o.seller_id AND f.order_id = o.order_id
) r
ORDER BY o.seller_id, o.order_id
"""
MONEY_OF = MONEY.replace("FROM orders o\n", f"FROM {WANTED_ORDERS} JOIN orders o USING (seller_id, order_id)\n")
#: Each refund with its attempt and its credit note, if they exist.
REFUNDS: LiteralString = """
SELECT r.seller_id, r.order_id, o.partition, r.refund_id, r.state, r.amount_minor, o.currency,
       encode(sha256(r.credit_note_request), 'hex') AS request_sha256, p.state AS attempt,
       p.amount_minor AS moved_minor, i.gross_minor AS credited_minor, o.gross_minor
FROM refunds r
JOIN orders o USING (seller_id, order_id)
LEFT JOIN payment_attempts p ON p.seller_id = r.seller_id AND p.order_id = r.order_id
     AND p.request_id = CASE r.refund_id WHEN 'cancellation' THEN 'void' ELSE 'refund:' || r.refund_id END
LEFT JOIN invoices i ON i.seller_id = r.seller_id AND i.order_id = r.order_id AND i.kind = 'credit_note'
     AND i.refund_id = r.refund_id
"""
REFUNDS_OF = REFUNDS.replace("FROM refunds r\n", f"FROM {WANTED_ORDERS} JOIN refunds r USING (seller_id, order_id)\n")
LINES_REFUNDED_OTHERWISE = """
SELECT l.seller_id, l.order_id, l.line, l.refunded, coalesce(r.pieces, 0)::bigint
FROM order_lines l
LEFT JOIN (
    SELECT seller_id, order_id, (each ->> 'line')::int AS line, sum((each ->> 'quantity')::bigint) AS pieces
    FROM refunds CROSS JOIN LATERAL jsonb_array_elements(lines) AS each
    WHERE state <> 'failed' GROUP BY 1, 2, 3
) r USING (seller_id, order_id, line)
WHERE l.refunded <> coalesce(r.pieces, 0)
"""
LINES_REFUNDED_OTHERWISE_OF = """
SELECT l.seller_id, l.order_id, l.line, l.refunded, r.pieces
FROM unnest(%(seller_ids)s::text[], %(order_ids)s::text[]) AS wanted (seller_id, order_id)
JOIN order_lines l USING (seller_id, order_id)
CROSS JOIN LATERAL (
    SELECT coalesce(sum((each ->> 'quantity')::bigint), 0)::bigint AS pieces
    FROM refunds f CROSS JOIN LATERAL jsonb_array_elements(f.lines) AS each
    WHERE f.seller_id = l.seller_id AND f.order_id = l.order_id AND f.state <> 'failed'
      AND (each ->> 'line')::int = l.line
) r
WHERE l.refunded <> r.pieces
"""
CREDIT_NOTES_WITHOUT_REFUND: LiteralString = """
SELECT i.seller_id, i.order_id, i.refund_id FROM invoices i
WHERE i.kind = 'credit_note' AND NOT EXISTS (
    SELECT FROM refunds r
    WHERE r.seller_id = i.seller_id AND r.order_id = i.order_id AND r.refund_id = i.refund_id AND r.state = 'done'
) AND NOT EXISTS (
    SELECT FROM invoice_credits c
    WHERE c.seller_id = i.seller_id AND c.order_id = i.order_id AND c.credit_note_id = i.refund_id
) AND NOT EXISTS (
    -- Of an invoice that was issued elsewhere.
    SELECT FROM order_ids k WHERE k.seller_id = i.seller_id AND k.order_id = i.order_id AND k.kind = 'credit_note'
)
"""
#: Credits of invoices that were asked for directly, without the credit note that was made of them, or of an order.
CREDITS_AMISS: LiteralString = """
SELECT c.seller_id, c.order_id, c.credit_note_id, i.number IS NULL FROM invoice_credits c
LEFT JOIN invoices i ON i.seller_id = c.seller_id AND i.order_id = c.order_id AND i.kind = 'credit_note'
     AND i.refund_id = c.credit_note_id
LEFT JOIN orders o ON o.seller_id = c.seller_id AND o.order_id = c.order_id
WHERE i.number IS NULL OR o.order_id IS NOT NULL
"""
CREDITS_AMISS_OF = CREDITS_AMISS.replace(
    "FROM invoice_credits c\n", f"FROM {WANTED_ORDERS} JOIN invoice_credits c USING (seller_id, order_id)\n"
)
CREDIT_NOTES_WITHOUT_REFUND_OF = CREDIT_NOTES_WITHOUT_REFUND.replace(
    "FROM invoices i\n", f"FROM {WANTED_ORDERS} JOIN invoices i USING (seller_id, order_id)\n"
)

#: Refunds made at the provider itself that can't be credited.
UNCREDITED: LiteralString = """
SELECT u.seller_id, u.order_id, u.provider_refund, u.amount_minor, u.currency, u.reason FROM uncredited_refunds u
"""
UNCREDITED_OF = UNCREDITED.replace(
    "FROM uncredited_refunds u\n", f"FROM {WANTED_ORDERS} JOIN uncredited_refunds u USING (seller_id, order_id)\n"
)
#: By the provider's key of some payments: whether their refunds are about to be compared, what was found of them, and
#: what can't be credited.
REFUNDS_FOUND = """
SELECT a.provider_key,
       EXISTS (SELECT FROM refund_checks c WHERE c.seller_id = a.seller_id AND c.order_id = a.order_id),
       ARRAY(
           SELECT substr(b.request_id, 8) FROM payment_attempts b
           WHERE b.seller_id = a.seller_id AND b.order_id = a.order_id AND b.action = 'refund'
       ),
       ARRAY(
           SELECT u.provider_refund FROM uncredited_refunds u
           WHERE u.seller_id = a.seller_id AND u.order_id = a.order_id
       )
FROM payment_attempts a WHERE a.provider_key = ANY(%(keys)s::text[]) AND a.action = 'authorize'
"""

#: Authorisations by the provider's key, with sums of what has happened and what may have happened.
PAYMENTS_BY_KEY = """
SELECT a.provider_key, a.state, a.amount_minor, a.currency,
       coalesce(sum(b.amount_minor) FILTER (WHERE b.action = 'capture' AND b.state = 'succeeded'), 0)::bigint,
       coalesce(sum(b.amount_minor) FILTER (WHERE b.action = 'capture' AND b.state = 'open'), 0)::bigint,
       coalesce(sum(b.amount_minor) FILTER (WHERE b.action = 'refund' AND b.state = 'succeeded'), 0)::bigint,
       coalesce(sum(b.amount_minor) FILTER (WHERE b.action = 'refund' AND b.state = 'open'), 0)::bigint,
       count(*) FILTER (WHERE b.action = 'void' AND b.state = 'succeeded'),
       count(*) FILTER (WHERE b.action = 'void' AND b.state = 'open')
FROM payment_attempts a JOIN payment_attempts b USING (seller_id, order_id)
WHERE a.provider_key = ANY(%(keys)s::text[]) AND a.action = 'authorize'
GROUP BY a.provider_key, a.state, a.amount_minor, a.currency
"""
AUTHORIZED = """
SELECT seller_id, order_id, provider_key FROM payment_attempts
WHERE action = 'authorize' AND state = 'succeeded' AND amount_minor > 0
"""

#: The states that orders have been in, and the command ids of their refunds.
DONE_OF: LiteralString = """
    SELECT o.seller_id, o.order_id, ARRAY(SELECT step ->> 'to' FROM jsonb_array_elements(o.history) AS step),
        ARRAY(
            SELECT 'refund:' || r.refund_id FROM refunds r
            WHERE r.seller_id = o.seller_id AND r.order_id = o.order_id
        )
    FROM unnest(%(seller_ids)s::text[], %(order_ids)s::text[]) AS wanted (seller_id, order_id)
    JOIN orders o USING (seller_id, order_id)
"""
