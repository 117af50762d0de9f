-- Sellers, and who may speak for them.
CREATE TABLE sellers (
    seller_id        text PRIMARY KEY CHECK (seller_id ~ '^[a-z0-9][a-z0-9-]{0,39}$'),
    legal_name       text NOT NULL,
    vat_id           text,
    street           text NOT NULL,
    city             text NOT NULL,
    postal_code      text NOT NULL,
    country          text NOT NULL,
    time_zone        text NOT NULL DEFAULT 'UTC',
    numbering_policy text NOT NULL DEFAULT 'partitioned' CHECK (numbering_policy IN ('partitioned', 'continuous')),
    number_format    text NOT NULL,
    logo_sha256      bytea,
    created_at       timestamptz NOT NULL DEFAULT now()
);

-- Logos are named by their digest: an invoice issued with one shows that one for ever.
CREATE TABLE logos (
    sha256 bytea PRIMARY KEY,
    body   bytea NOT NULL
);

ALTER TABLE sellers ADD FOREIGN KEY (logo_sha256) REFERENCES logos;

-- Keys are 32 random bytes, so a plain digest can't be searched; the key itself is shown once and stored nowhere.
CREATE TABLE api_keys (
    key_sha256 bytea PRIMARY KEY,
    seller_id  text NOT NULL REFERENCES sellers,
    label      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- Where each agent stands: the first offset not yet done. Moved by compare-and-set in the transaction of the effects.
CREATE TABLE positions (
    agent       text NOT NULL,
    topic       text NOT NULL,
    partition   int NOT NULL,
    next_offset bigint NOT NULL DEFAULT 0 CHECK (next_offset >= 0),
    PRIMARY KEY (agent, topic, partition)
) WITH (fillfactor = 50);

-- The head's row is locked until commit, so the order of commits is the order of seq.
CREATE TABLE journal_heads (
    topic         text NOT NULL,
    partition     int NOT NULL,
    next_seq      bigint NOT NULL DEFAULT 1,
    published_seq bigint NOT NULL DEFAULT 0 CHECK (published_seq < next_seq),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

-- The output. Kafka's topics are copies of it.
CREATE TABLE journal (
    topic       text NOT NULL,
    partition   int NOT NULL,
    seq         bigint NOT NULL,
    key         bytea,
    payload     bytea NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, seq, occurred_at)
) PARTITION BY RANGE (occurred_at);

-- Months that were not made ahead land here: an order must not fail because a housekeeping job did not run.
CREATE TABLE journal_default PARTITION OF journal DEFAULT;

CREATE FUNCTION make_journal_months(from_month date, months int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month date;
BEGIN
    FOR i IN 0 .. months - 1 LOOP
        month := (date_trunc('month', from_month) + make_interval(months => i))::date;
        IF to_regclass('journal_' || to_char(month, 'YYYY_MM')) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF journal FOR VALUES FROM (%L) TO (%L)',
                'journal_' || to_char(month, 'YYYY_MM'),
                month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
END
$$;

CREATE TABLE series (
    series_id      text PRIMARY KEY,
    seller_id      text NOT NULL REFERENCES sellers,
    policy         text NOT NULL,
    next_number    bigint NOT NULL DEFAULT 1 CHECK (next_number >= 1),
    -- Dates must not run backwards along the numbers, whatever the clock does.
    last_issued_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

-- One row for each number ever taken. Contents (buyer, lines, totals per rate) stand in the journal, at event_seq.
CREATE TABLE invoices (
    series_id        text NOT NULL,
    number           bigint NOT NULL,
    seller_id        text NOT NULL,
    order_id         text NOT NULL,
    kind             text NOT NULL,
    invoice_number   text NOT NULL,
    issued_at        timestamptz NOT NULL,
    currency         text NOT NULL,
    net_minor        bigint NOT NULL,
    tax_minor        bigint NOT NULL,
    gross_minor      bigint NOT NULL,
    content_sha256   bytea NOT NULL,
    source_partition int NOT NULL,
    source_offset    bigint NOT NULL,
    event_seq        bigint NOT NULL,
    PRIMARY KEY (series_id, number),
    UNIQUE (seller_id, order_id, kind)
);

CREATE TABLE documents (
    series_id        text NOT NULL,
    number           bigint NOT NULL,
    key              text NOT NULL UNIQUE,
    sha256           bytea NOT NULL,
    size_bytes       bigint NOT NULL,
    template_version int NOT NULL,
    stored_at        timestamptz NOT NULL,
    PRIMARY KEY (series_id, number),
    FOREIGN KEY (series_id, number) REFERENCES invoices
);

-- Requests that got no number, by where they stand in the log. `outcome` tells why.
CREATE TABLE refused_requests (
    topic          text NOT NULL,
    partition      int NOT NULL,
    log_offset     bigint NOT NULL,
    seller_id      text NOT NULL,
    order_id       text NOT NULL,
    kind           text NOT NULL,
    outcome        text NOT NULL CHECK (outcome IN ('conflict', 'rejected')),
    reason         text NOT NULL,
    detail         text NOT NULL,
    content_sha256 bytea,
    occurred_at    timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, log_offset)
);
CREATE INDEX refused_requests_order ON refused_requests (seller_id, order_id, kind);
