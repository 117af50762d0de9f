-- Credit notes of an invoice that was issued elsewhere own their order id, too. NOT VALID: what is there is of the
-- kinds before.
ALTER TABLE order_ids DROP CONSTRAINT order_ids_kind_check;
ALTER TABLE order_ids ADD CONSTRAINT order_ids_kind_check CHECK (kind IN ('checkout', 'invoice', 'credit_note'))
    NOT VALID;
