DROP INDEX IF EXISTS policy_violations_of_rule;
DROP INDEX IF EXISTS policy_violations_open;
DROP INDEX IF EXISTS issuance_approval_requests_job;
DROP INDEX IF EXISTS issuance_approval_requests_requester;
DROP INDEX IF EXISTS issuance_approval_requests_certificate;
DROP INDEX IF EXISTS issuance_approval_requests_state;
DROP TABLE IF EXISTS csr_refusals;
DROP TABLE IF EXISTS counters;
