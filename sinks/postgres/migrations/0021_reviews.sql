-- What buyers say of the lines of their delivered orders: one review a line.
CREATE TABLE reviews (
    seller_id  text NOT NULL,
    order_id   text NOT NULL,
    line       int NOT NULL,
    sku        text NOT NULL,
    -- The table is in domain/review.py.
    state      text NOT NULL CHECK (state IN ('pending', 'published', 'rejected', 'withdrawn')),
    -- Counts the changes of words and state.
    version    int NOT NULL,
    -- 0 for one that was withdrawn, whose words are empty.
    stars      smallint NOT NULL CHECK (stars BETWEEN 0 AND 5),
    title      text NOT NULL,
    body       text NOT NULL,
    author     text NOT NULL,
    -- The moderator's; empty otherwise.
    reason     text NOT NULL DEFAULT '',
    written_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (seller_id, order_id, line),
    FOREIGN KEY (seller_id, order_id, line) REFERENCES order_lines
) WITH (fillfactor = 80);
CREATE INDEX reviews_by_state ON reviews (seller_id, state, written_at DESC, order_id DESC, line DESC);
CREATE INDEX reviews_by_sku ON reviews (seller_id, sku, state, written_at DESC, order_id DESC, line DESC);

-- How many published reviews gave 1 to 5 stars. Its row is locked by whoever changes a review of the SKU.
CREATE TABLE ratings (
    seller_id text NOT NULL,
    sku       text NOT NULL,
    one       bigint NOT NULL DEFAULT 0 CHECK (one >= 0),
    two       bigint NOT NULL DEFAULT 0 CHECK (two >= 0),
    three     bigint NOT NULL DEFAULT 0 CHECK (three >= 0),
    four      bigint NOT NULL DEFAULT 0 CHECK (four >= 0),
    five      bigint NOT NULL DEFAULT 0 CHECK (five >= 0),
    version   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (seller_id, sku)
) WITH (fillfactor = 60);
