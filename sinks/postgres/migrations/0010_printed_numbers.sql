-- Concurrently: nobody waits for it, however large the table is.
-- Stands behind `check_format`, under which no two documents of a seller, credit notes among them, print alike.
DROP INDEX CONCURRENTLY IF EXISTS invoices_printed_number;
CREATE UNIQUE INDEX CONCURRENTLY invoices_printed_number ON invoices (seller_id, invoice_number);
