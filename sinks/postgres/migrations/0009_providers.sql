-- Who was asked to authorise: captures, voids and refunds of that payment go to the same. Of rows that an older release
-- made it is NULL until they are taken up again; where they were answered, the reference tells (see queries.sql).
ALTER TABLE payment_attempts ADD COLUMN provider text;
