-- The journal's dead letters by what people look for, and what was done about each. Agents write only the journal:
-- whoever reads this table first copies what the journal has beyond it (`sinks/postgres/dead_letters.py`).
CREATE TABLE dead_letters (
    -- Partition and seq of its row in the journal, which holds the record's bytes.
    partition          int NOT NULL,
    seq                bigint NOT NULL,
    occurred_at        timestamptz NOT NULL,
    agent              text NOT NULL,
    source_topic       text NOT NULL,
    source_partition   int NOT NULL,
    source_offset      bigint NOT NULL,
    -- Null where the bytes and the key name no order.
    order_id           text,
    reason             text NOT NULL,
    error              text NOT NULL,
    state              text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'redriven', 'discarded')),
    -- Who redrove or discarded it, when, and why.
    closed_by          text,
    closed_at          timestamptz,
    closed_why         text,
    -- Where its record stands since, in the source topic.
    redriven_partition int,
    redriven_offset    bigint,
    PRIMARY KEY (partition, seq),
    CHECK ((state = 'open') = (closed_by IS NULL) AND (state = 'open') = (closed_at IS NULL)
        AND (state = 'open') = (closed_why IS NULL)),
    CHECK ((state = 'redriven') = (redriven_partition IS NOT NULL)
        AND (state = 'redriven') = (redriven_offset IS NOT NULL))
);

-- Pages, newest first.
CREATE INDEX dead_letters_by_time ON dead_letters (occurred_at, partition, seq);
CREATE INDEX dead_letters_by_order ON dead_letters (order_id, occurred_at) WHERE order_id IS NOT NULL;
-- Redriven in the order in which the records stood; the audit looks a record's letters up by its place.
CREATE INDEX dead_letters_by_source ON dead_letters (source_topic, source_partition, source_offset);
-- Counted every few seconds by who watches: only what is open, without the rows.
CREATE INDEX dead_letters_open ON dead_letters (source_topic, reason, occurred_at) WHERE state = 'open';
