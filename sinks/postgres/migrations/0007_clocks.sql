-- A worker's clock is believed within a minute of Postgres' own. Beyond, what is written down goes by Postgres': a wrong
-- clock would date a series for ever, and expire every order's hold at once.
CREATE FUNCTION believed(worker_clock timestamptz) RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE
    WHEN worker_clock BETWEEN now() - interval '1 minute' AND now() + interval '1 minute' THEN worker_clock ELSE now()
END;

-- The seller's time zone may change: the date that is printed must not run backwards along the numbers then either.
ALTER TABLE series ADD COLUMN last_issue_date date NOT NULL DEFAULT '-infinity';
UPDATE series s SET last_issue_date = (s.last_issued_at AT TIME ZONE coalesce(zone.name, 'UTC'))::date
FROM sellers LEFT JOIN pg_timezone_names zone ON zone.name = sellers.time_zone
WHERE sellers.seller_id = s.seller_id AND isfinite(s.last_issued_at);

-- Rows that lie in the default partition, dated by a wrong clock or before their month was made, move to their month.
CREATE OR REPLACE FUNCTION make_journal_months(from_month date, months int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month date;
    name text;
    first timestamptz;
    after timestamptz;
BEGIN
    FOR i IN 0 .. months - 1 LOOP
        month := (date_trunc('month', from_month) + make_interval(months => i))::date;
        name := 'journal_' || to_char(month, 'YYYY_MM');
        IF to_regclass(name) IS NOT NULL THEN
            CONTINUE;
        END IF;
        first := month::timestamp AT TIME ZONE 'UTC';
        after := (month + interval '1 month') AT TIME ZONE 'UTC';
        IF EXISTS (SELECT FROM journal_default WHERE occurred_at >= first AND occurred_at < after) THEN
            -- Nobody may add a row to what is being moved.
            LOCK TABLE journal_default IN SHARE ROW EXCLUSIVE MODE;
            EXECUTE format('CREATE TABLE %I (LIKE journal INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
            EXECUTE format(
                'WITH moved AS (DELETE FROM journal_default WHERE occurred_at >= %L AND occurred_at < %L RETURNING *)'
                ' INSERT INTO %I SELECT * FROM moved', first, after, name);
            EXECUTE format('ALTER TABLE journal ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, first, after);
        ELSE
            EXECUTE format('CREATE TABLE %I PARTITION OF journal FOR VALUES FROM (%L) TO (%L)', name, first, after);
        END IF;
    END LOOP;
END
$$;
