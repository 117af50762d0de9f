-- Credit notes of invoices that were asked for directly, as they were asked for. Refunds of orders are in `refunds`.
CREATE TABLE invoice_credits (
    seller_id           text NOT NULL,
    order_id            text NOT NULL,
    -- The storefront's; `invoices.refund_id` of the credit note.
    credit_note_id      text NOT NULL,
    -- [{"line", "quantity"}] in 10^-6; empty if an amount was credited.
    lines               jsonb NOT NULL,
    -- SHA-256 of what a repeat must equal.
    asked_sha256        bytea NOT NULL,
    -- The CreditNoteRequest that was decided, encoded.
    credit_note_request bytea NOT NULL,
    PRIMARY KEY (seller_id, order_id, credit_note_id)
);
