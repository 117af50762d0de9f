CREATE TABLE IF NOT EXISTS invoice_events (
    ce_id text NOT NULL,
    type text NOT NULL,
    seller_id text NOT NULL,
    order_id text NOT NULL,
    invoice_number text,
    currency text,
    totals_net_minor bigint,
    totals_tax_minor bigint,
    totals_gross_minor bigint,
    -- What tells an event from another is its ce_id; the sink writes by all headers that are left to it.
    PRIMARY KEY (ce_id, type)
);
