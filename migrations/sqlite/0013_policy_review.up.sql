-- How far the certificates have been asked again since a policy rule changed. One row.
CREATE TABLE IF NOT EXISTS policy_review (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- The last certificate that was asked, in order of the ids; empty before the first, NULL while nothing is to be asked.
    asked_to TEXT
) STRICT;
INSERT INTO policy_review (id) VALUES (1) ON CONFLICT DO NOTHING;
