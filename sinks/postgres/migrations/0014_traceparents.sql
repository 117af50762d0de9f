-- The trace that a row follows from, as W3C's `traceparent`: the relay writes it into the record's headers. Null costs no
-- space, and adding the columns rewrites nothing.
ALTER TABLE journal ADD COLUMN traceparent text;
ALTER TABLE payment_attempts ADD COLUMN traceparent text;
