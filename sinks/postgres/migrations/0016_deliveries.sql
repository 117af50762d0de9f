-- Where a seller's webhooks go.
CREATE TABLE webhook_endpoints (
    endpoint_id     text PRIMARY KEY,
    seller_id       text NOT NULL REFERENCES sellers,
    url             text NOT NULL,
    -- Types of events that are sent; none stands for all.
    events          text[] NOT NULL,
    description     text NOT NULL,
    -- paused: by the seller, deliveries wait. disabled: by what the receiver did, nothing new is written for it.
    state           text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
    disabled_reason text NOT NULL DEFAULT '',
    -- Since when no delivery has succeeded; null while they do.
    failing_since   timestamptz,
    -- Counts changes: senders keep an endpoint in memory until it has another version.
    version         bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL,
    UNIQUE (seller_id, url)
);

-- What deliveries are signed with. An endpoint has one that doesn't expire; the ones before it sign along until they do.
CREATE TABLE webhook_secrets (
    endpoint_id  text NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
    hmac_secret  bytea NOT NULL,
    ed25519_seed bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    PRIMARY KEY (endpoint_id, created_at)
);
CREATE UNIQUE INDEX webhook_secrets_current ON webhook_secrets (endpoint_id) WHERE expires_at IS NULL;

-- The last sequence number of an order's deliveries to a destination. Its row is locked by whoever adds deliveries or
-- ends one, so that exactly one of the order's is due at a time.
CREATE TABLE delivery_sequences (
    destination   text NOT NULL,
    -- Empty for what is about no order.
    order_id      text NOT NULL,
    last_sequence bigint NOT NULL,
    touched_at    timestamptz NOT NULL,
    PRIMARY KEY (destination, order_id)
) WITH (fillfactor = 70);

-- One message to one destination, until it has arrived or was given up.
CREATE TABLE deliveries (
    -- Begins with the time in milliseconds, so that new rows stand together.
    delivery_id text PRIMARY KEY,
    -- An endpoint's id.
    destination text NOT NULL,
    seller_id   text NOT NULL,
    order_id    text NOT NULL,
    sequence    bigint NOT NULL,
    type        text NOT NULL,
    payload     bytea NOT NULL,
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'delivered', 'dead')),
    -- Since it was made, or replayed.
    tries       int NOT NULL DEFAULT 0,
    -- Null while an earlier one of the order is open, and once it is finished. Whoever takes it up moves this ahead, and
    -- is alone with it until then.
    next_try_at timestamptz,
    created_at  timestamptz NOT NULL,
    finished_at timestamptz,
    UNIQUE (destination, order_id, sequence)
) WITH (fillfactor = 70);
CREATE INDEX deliveries_due ON deliveries (destination, next_try_at) WHERE next_try_at IS NOT NULL;
CREATE INDEX deliveries_by_destination ON deliveries (destination, delivery_id);

-- What was sent, and what came back.
CREATE TABLE delivery_attempts (
    delivery_id text NOT NULL,
    tried_at    timestamptz NOT NULL,
    url         text NOT NULL,
    seconds     real NOT NULL,
    -- Null without an answer; `error` says why.
    status      int,
    error       text NOT NULL,
    -- The beginning of the answer's body.
    answer      text NOT NULL,
    PRIMARY KEY (delivery_id, tried_at)
);

-- The last event of each partition that deliveries were made of: the relay may repeat events after a crash.
CREATE TABLE notified_events (
    topic     text NOT NULL,
    partition int NOT NULL,
    seq       bigint NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);
