-- The words that mean the same to a seller's buyers, all of them in one row.
CREATE TABLE synonyms (
    seller_id text PRIMARY KEY REFERENCES sellers,
    -- 1, 2, 3 … for each change, and so for each event; 0 before the first.
    version   bigint NOT NULL,
    -- The SynonymsChanged of this version, encoded; empty before the first.
    event     bytea NOT NULL
);
