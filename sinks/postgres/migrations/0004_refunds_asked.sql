-- Whether a refund was asked for without lines, that is, of all that was left: under its id, a request that names lines is
-- another one. Unknown for refunds older than this column.
ALTER TABLE refunds ADD COLUMN for_all_left boolean;
