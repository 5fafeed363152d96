-- The twin of ../01_bulk_renewal_certs.sql for SQLite, where times are microseconds since 1970 and lists are JSON.
INSERT INTO managed_certificates
    (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, tags,
     created_at, updated_at)
WITH RECURSIVE numbers(g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM numbers WHERE g < 10000)
SELECT
    'cert-loadtest-bulk-' || printf('%05d', g),
    'loadtest-bulk-' || printf('%05d', g) || '.example.test',
    'loadtest-bulk-' || printf('%05d', g) || '.example.test',
    json_array('loadtest-bulk-' || printf('%05d', g) || '.example.test'),
    'loadtest', 'o-alice', 't-platform', 'iss-local', 'rp-standard',
    'active',
    (unixepoch() + (g % 30) * 86400 + (g % 24) * 3600) * 1000000,
    '{"source":"loadtest-phase8","batch":"bulk-renewal"}',
    unixepoch() * 1000000, unixepoch() * 1000000
FROM numbers
WHERE true
ON CONFLICT (name) DO NOTHING;
