-- What happened to a seller's orders, payments and invoices, by the minute of the event. A row belongs to one partition
-- of one topic, whose position is locked by whoever changes it: transactions do not wait for each other here.
CREATE TABLE analytics_counts (
    seller_id    text NOT NULL,
    -- Minutes since 1970, UTC. Old rows stand at the first minute of their quarter of an hour.
    minute       int NOT NULL,
    partition    int NOT NULL,
    -- ISO 4217; empty for what has no amount.
    currency     text NOT NULL,
    -- What is counted: domain/analytics.py.
    what         text NOT NULL,
    events       bigint NOT NULL,
    amount_minor bigint NOT NULL,
    PRIMARY KEY (seller_id, minute, partition, currency, what)
) WITH (fillfactor = 70);
-- Those that are still by the minute.
CREATE INDEX analytics_counts_unfolded ON analytics_counts (minute) WHERE minute % 15 <> 0;

-- What was sold of a SKU, by the quarter of an hour: the offset of every time zone now in use is a number of these.
CREATE TABLE analytics_skus (
    seller_id text NOT NULL,
    minute    int NOT NULL,
    sku       text NOT NULL,
    partition int NOT NULL,
    -- Empty in rows of pieces, which come from changes of stock; set in rows of amounts, which come from invoices.
    currency  text NOT NULL,
    -- Claimed by orders, less what they gave back.
    pieces    bigint NOT NULL,
    -- Invoiced, less what was credited, without tax.
    net_minor bigint NOT NULL,
    PRIMARY KEY (seller_id, minute, sku, partition, currency)
) WITH (fillfactor = 70);

-- The events that were counted, by partition: all from the first to the last.
CREATE TABLE analytics_progress (
    topic     text NOT NULL,
    partition int NOT NULL,
    first_seq bigint NOT NULL,
    last_seq  bigint NOT NULL,
    -- When the first one happened.
    first_at  timestamptz NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);
