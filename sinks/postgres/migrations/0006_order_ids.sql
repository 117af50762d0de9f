-- Whose an order id is: a checkout's, or an invoice's that was asked for directly. The first to commit its row has the
-- id for ever, so no order has an invoice of somebody else's.
CREATE TABLE order_ids (
    seller_id text NOT NULL,
    order_id  text NOT NULL,
    kind      text NOT NULL CHECK (kind IN ('checkout', 'invoice')),
    PRIMARY KEY (seller_id, order_id)
);
INSERT INTO order_ids SELECT seller_id, order_id, 'checkout' FROM orders;
-- Most of these belong to an order that stands there already.
INSERT INTO order_ids SELECT seller_id, order_id, 'invoice' FROM invoices WHERE kind = 'invoice' ON CONFLICT DO NOTHING;
