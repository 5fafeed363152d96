-- Totals that only grow, for the metrics: what is counted in rows falls when rows are tried again or removed.
-- Each connection adds to a row of its own on PostgreSQL; here there is one writer.
CREATE TABLE IF NOT EXISTS counters (
    name TEXT NOT NULL,
    slot INTEGER NOT NULL,
    value INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (name, slot)
) STRICT;
INSERT INTO counters (name, slot, value)
    SELECT 'job_completed', -1, count(*) FROM jobs WHERE status = 'Completed' ON CONFLICT DO NOTHING;
INSERT INTO counters (name, slot, value)
    SELECT 'job_failed', -1, count(*) FROM jobs WHERE status = 'Failed' ON CONFLICT DO NOTHING;

-- Of several agents that a renewal is offered to, those that cannot make the request; it ends when the last one gives up.
CREATE TABLE IF NOT EXISTS csr_refusals (
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    agent_id TEXT NOT NULL REFERENCES agents(id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (job_id, agent_id)
) STRICT;

CREATE INDEX IF NOT EXISTS issuance_approval_requests_state ON issuance_approval_requests (state, created_at DESC, id);
CREATE INDEX IF NOT EXISTS issuance_approval_requests_certificate ON issuance_approval_requests (certificate_id, created_at DESC, id)
    WHERE certificate_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS issuance_approval_requests_requester ON issuance_approval_requests (requested_by, created_at DESC, id);
CREATE INDEX IF NOT EXISTS issuance_approval_requests_job ON issuance_approval_requests (job_id) WHERE job_id IS NOT NULL;

-- The same violation is on record once while it stands, however often it is found.
CREATE UNIQUE INDEX IF NOT EXISTS policy_violations_open ON policy_violations (certificate_id, rule_id, message) WHERE resolved_at IS NULL;
CREATE INDEX IF NOT EXISTS policy_violations_of_rule ON policy_violations (rule_id, created_at DESC, id);
