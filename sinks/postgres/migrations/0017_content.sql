-- What a seller says on all of its invoices, and what the rules of tax ask of it.
ALTER TABLE sellers
    ADD COLUMN tax_number text NOT NULL DEFAULT '',
    ADD COLUMN tax_name text NOT NULL DEFAULT '',
    ADD COLUMN colour text NOT NULL DEFAULT '',
    ADD COLUMN trading_name text NOT NULL DEFAULT '',
    ADD COLUMN legal_id text NOT NULL DEFAULT '',
    ADD COLUMN legal_id_scheme text NOT NULL DEFAULT '',
    ADD COLUMN electronic_address text NOT NULL DEFAULT '',
    ADD COLUMN electronic_address_scheme text NOT NULL DEFAULT '',
    ADD COLUMN contact_name text NOT NULL DEFAULT '',
    ADD COLUMN contact_phone text NOT NULL DEFAULT '',
    ADD COLUMN contact_email text NOT NULL DEFAULT '',
    ADD COLUMN language text NOT NULL DEFAULT '',
    ADD COLUMN note text NOT NULL DEFAULT '',
    ADD COLUMN payment_terms text NOT NULL DEFAULT '',
    ADD COLUMN payment_days text NOT NULL DEFAULT '',
    ADD COLUMN payment_means text NOT NULL DEFAULT '',
    ADD COLUMN iban text NOT NULL DEFAULT '',
    ADD COLUMN bic text NOT NULL DEFAULT '',
    ADD COLUMN account_name text NOT NULL DEFAULT '';

-- The monitor's seller is no company, and has no VAT identifier. Without any its test invoices would break BR-S-02.
UPDATE sellers SET tax_number = 'TEST' WHERE seller_id = 'probe';
