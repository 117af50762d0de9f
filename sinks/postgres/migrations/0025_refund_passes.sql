-- How far the refunds at each payment provider were listed, to find those whose notice was lost.
CREATE TABLE refund_passes (
    provider     text PRIMARY KEY,
    -- By Postgres' clock: refunds made before this were listed.
    listed_until timestamptz NOT NULL,
    -- When the pass under way began; null between two. What is made later is the next one's.
    began_at     timestamptz,
    -- The provider's id of the refund after which it goes on; empty at its beginning.
    after        text NOT NULL DEFAULT '',
    -- Another number each time the next page is taken up, or another pass is asked for: only the last may write.
    turn         bigint NOT NULL DEFAULT 0,
    -- How often the next page was taken up.
    tries        int NOT NULL DEFAULT 0,
    -- Who takes the next page up moves this ahead, and is alone with it until then.
    next_at      timestamptz NOT NULL
) WITH (fillfactor = 50);
