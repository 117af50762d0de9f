-- Which process wrote a row, by the name of its session, such as `invoices-1`: tells who took each step of an order. By a
-- default, so that it costs the agents no statement. Rows of before stay null, and nothing is rewritten.
ALTER TABLE journal ADD COLUMN worker text;
ALTER TABLE journal ALTER COLUMN worker SET DEFAULT nullif(current_setting('application_name'), '');
ALTER TABLE documents ADD COLUMN worker text;
ALTER TABLE documents ALTER COLUMN worker SET DEFAULT nullif(current_setting('application_name'), '');
ALTER TABLE refused_requests ADD COLUMN worker text;
ALTER TABLE refused_requests ALTER COLUMN worker SET DEFAULT nullif(current_setting('application_name'), '');

-- The auditor follows what is redriven.
CREATE INDEX dead_letters_redriven ON dead_letters (closed_at) WHERE state = 'redriven';
