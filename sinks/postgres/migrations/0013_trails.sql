-- Concurrently: nobody waits for the indexes, however large the tables are. The journal's are built one by one.
-- The events of an order, for who asks where it is. Not those of invoices, which `invoices` leads to: an invoice costs no
-- more than before. Order ids have 256 bytes at most. A longer key, of a dead letter, could not be indexed at all.
DROP INDEX IF EXISTS journal_by_key;
DROP INDEX CONCURRENTLY IF EXISTS {journal_partition}_by_key;
CREATE INDEX journal_by_key ON ONLY journal (key) WHERE topic <> 'invoice-events' AND length(key) <= 256;
CREATE INDEX CONCURRENTLY {journal_partition}_by_key ON {journal_partition} (key)
    WHERE topic <> 'invoice-events' AND length(key) <= 256;
ALTER INDEX journal_by_key ATTACH PARTITION {journal_partition}_by_key;

-- The orders of a buyer: 8 bytes of the digest of the e-mail address (`domain/buyer.py`). Null of orders that earlier
-- releases made.
ALTER TABLE order_ids ADD COLUMN IF NOT EXISTS buyer_key bigint;
DROP INDEX CONCURRENTLY IF EXISTS order_ids_by_buyer;
CREATE INDEX CONCURRENTLY order_ids_by_buyer ON order_ids (buyer_key) WHERE buyer_key IS NOT NULL;
