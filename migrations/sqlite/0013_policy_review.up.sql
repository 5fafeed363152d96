-- How far the certificates have been asked again since a policy rule changed. At most one row.
CREATE TABLE IF NOT EXISTS policy_review (
    id TEXT PRIMARY KEY CHECK (id = 'review'),
    -- The last certificate that was asked, in order of the ids; empty before the first, NULL while nothing is to be asked.
    asked_to TEXT
) STRICT;
