-- The slot of the worker that has taken the row up and has not said yet what came of it. Whoever starts in that slot
-- again knows that nobody is at it any more. Set or not, the row may be taken up from next_try_at on.
ALTER TABLE payment_attempts ADD COLUMN leased_by text;
