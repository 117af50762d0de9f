-- Pieces in the warehouse, and how many of them open orders have claimed. `version` counts the changes of a row, one for
-- each order or adjustment that touches it: the events of a SKU are 1, 2, 3 … whatever partition they stand in.
CREATE TABLE stock (
    seller_id text NOT NULL REFERENCES sellers,
    sku       text NOT NULL,
    on_hand   bigint NOT NULL CHECK (on_hand >= 0),
    reserved  bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    version   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (seller_id, sku),
    -- Stands behind the agents' decisions; it is never what decides.
    CONSTRAINT stock_not_oversold CHECK (reserved <= on_hand)
) WITH (fillfactor = 50);

-- Changes by the seller under a key of the seller's: the same key twice is the same change.
CREATE TABLE stock_adjustments (
    seller_id   text NOT NULL,
    sku         text NOT NULL,
    key         text NOT NULL,
    adjust      bigint NOT NULL,
    version     bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (seller_id, sku, key),
    FOREIGN KEY (seller_id, sku) REFERENCES stock
);

-- One row for each checkout that was decided: placed, or refused for want of stock.
CREATE TABLE orders (
    seller_id        text NOT NULL,
    order_id         text NOT NULL,
    partition        int NOT NULL,
    customer         text NOT NULL,
    state            text NOT NULL CHECK (state IN ('PLACED', 'PAYMENT_PENDING', 'CONFIRMED', 'SHIPPED', 'DELIVERED',
                                                    'REFUNDED', 'CANCELLED', 'REFUSED')),
    -- Steps taken: the length of `history`.
    version          int NOT NULL,
    -- [{"version", "from", "to", "reason", "detail", "at"}], oldest first; `at` in microseconds since 1970, UTC.
    history          jsonb NOT NULL,
    currency         text NOT NULL,
    net_minor        bigint NOT NULL,
    tax_minor        bigint NOT NULL,
    gross_minor      bigint NOT NULL,
    content_sha256   bytea NOT NULL,
    payment_token    text NOT NULL,
    -- The InvoiceRequest record that goes onto its topic when the order is confirmed, encoded.
    invoice_request  bytea NOT NULL,
    -- What was short, of a refused order: [{"sku", "wanted", "free"}].
    short            jsonb,
    hold_expires_at  timestamptz NOT NULL,
    placed_at        timestamptz NOT NULL,
    source_offset    bigint NOT NULL,
    PRIMARY KEY (seller_id, order_id)
) WITH (fillfactor = 70);
CREATE INDEX orders_by_customer ON orders (seller_id, customer, placed_at DESC, order_id DESC);
CREATE INDEX orders_awaiting_payment ON orders (hold_expires_at) WHERE state = 'PAYMENT_PENDING';

CREATE TABLE order_lines (
    seller_id text NOT NULL,
    order_id  text NOT NULL,
    -- Position in the order, from 0.
    line      int NOT NULL,
    sku       text NOT NULL,
    quantity  bigint NOT NULL CHECK (quantity > 0),
    refunded  bigint NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND quantity),
    PRIMARY KEY (seller_id, order_id, line)
) WITH (fillfactor = 90);

-- What was asked of the payment provider. The row is there before the call, so an open one may have had its effect.
CREATE TABLE payment_attempts (
    seller_id    text NOT NULL,
    order_id     text NOT NULL,
    -- authorize, capture, void, or refund:<refund id>.
    request_id   text NOT NULL,
    partition    int NOT NULL,
    action       text NOT NULL CHECK (action IN ('authorize', 'capture', 'void', 'refund')),
    amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
    currency     text NOT NULL,
    -- Follows from the three ids: asking again under it has no second effect.
    provider_key text NOT NULL UNIQUE,
    state        text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'succeeded', 'declined', 'failed')),
    tries        int NOT NULL DEFAULT 0,
    -- Who takes it up moves this ahead, and is alone with it until then.
    next_try_at  timestamptz NOT NULL,
    -- After this an authorisation that the provider doesn't know is given up.
    give_up_at   timestamptz,
    -- Its void may be on its way to the provider: it can't succeed any more, whatever the provider says meanwhile.
    settling     boolean NOT NULL DEFAULT false,
    reference    text NOT NULL DEFAULT '',
    reason       text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL,
    finished_at  timestamptz,
    PRIMARY KEY (seller_id, order_id, request_id)
) WITH (fillfactor = 60);
CREATE INDEX payment_attempts_open ON payment_attempts (next_try_at) WHERE state = 'open';

-- What goes back to the buyer, with the credit note that is asked for once the money has moved.
CREATE TABLE refunds (
    seller_id           text NOT NULL,
    order_id            text NOT NULL,
    -- The storefront's; `cancellation` for a confirmed order that was cancelled.
    refund_id           text NOT NULL,
    -- [{"line", "quantity"}]
    lines               jsonb NOT NULL,
    amount_minor        bigint NOT NULL,
    state               text NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'done', 'failed')),
    reason              text NOT NULL,
    -- The CreditNoteRequest record that goes onto its topic when the money has moved, encoded.
    credit_note_request bytea NOT NULL,
    requested_at        timestamptz NOT NULL,
    PRIMARY KEY (seller_id, order_id, refund_id),
    FOREIGN KEY (seller_id, order_id) REFERENCES orders
);

-- An order has one invoice and a credit note for each refund; '' is no refund.
ALTER TABLE invoices ADD COLUMN refund_id text NOT NULL DEFAULT '';
ALTER TABLE invoices DROP CONSTRAINT invoices_seller_id_order_id_kind_key;
ALTER TABLE invoices ADD CONSTRAINT invoices_order_key UNIQUE (seller_id, order_id, kind, refund_id);
ALTER TABLE refused_requests ADD COLUMN refund_id text NOT NULL DEFAULT '';

-- The relay's mark lies apart from the head: that row is locked until its transaction commits, and a relay that waits for
-- each of them in turn publishes nothing meanwhile.
CREATE TABLE journal_published (
    topic         text NOT NULL,
    partition     int NOT NULL,
    published_seq bigint NOT NULL CHECK (published_seq >= 0),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);
INSERT INTO journal_published SELECT topic, partition, published_seq FROM journal_heads;
ALTER TABLE journal_heads DROP COLUMN published_seq;
