-- How many partitions each topic of this deployment has: one row for ever, made with the topics (`sinks.deployment`).
CREATE TABLE deployment (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    partitions int NOT NULL CHECK (partitions BETWEEN 1 AND 1000)
);
-- Releases before this one knew of 4 only; where one has worked, its processes need not wait for `gapless topics`.
INSERT INTO deployment (partitions) SELECT 4 WHERE EXISTS (SELECT FROM positions) OR EXISTS (SELECT FROM journal_heads);
