-- A page of a seller's series; otherwise each reads all sellers'.
CREATE INDEX series_by_seller ON series (seller_id, series_id);

-- Gateways ask every few seconds what has changed; otherwise each reads all keys.
CREATE INDEX api_keys_by_change ON api_keys (greatest(created_at, revoked_at));

-- The auditor counts what came of a partition's requests from an offset on.
CREATE INDEX invoices_by_source ON invoices (source_partition, source_offset);
CREATE INDEX orders_by_source ON orders (partition, source_offset);
