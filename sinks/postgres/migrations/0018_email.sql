-- E-mail is one more endpoint of a seller: its deliveries have the same rows, order, log and replays.
ALTER TABLE webhook_endpoints
    -- email: mails are sent from `sender`. Its `url` is empty, so that a seller has one at most.
    ADD COLUMN channel text NOT NULL DEFAULT 'webhook' CHECK (channel IN ('webhook', 'email')),
    ADD COLUMN sender text NOT NULL DEFAULT '',
    -- Empty for the sender's own.
    ADD COLUMN reply_to text NOT NULL DEFAULT '',
    -- Whether a document comes in the mail, or by a link.
    ADD COLUMN documents text NOT NULL DEFAULT 'attached' CHECK (documents IN ('attached', 'link')),
    ADD CONSTRAINT webhook_endpoints_address CHECK ((url = '') = (channel = 'email') AND (sender = '') = (url <> ''));

-- A mail that came back after the server had taken it; `bounce` says why. For good, the delivery's state is `bounced`.
ALTER TABLE deliveries
    ADD COLUMN bounced_at timestamptz,
    ADD COLUMN bounce text NOT NULL DEFAULT '';
-- Rows from before have one of the states that were permitted then.
ALTER TABLE deliveries DROP CONSTRAINT deliveries_state_check;
ALTER TABLE deliveries ADD CONSTRAINT deliveries_state_check
    CHECK (state IN ('open', 'delivered', 'dead', 'bounced')) NOT VALID;
