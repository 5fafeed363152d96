-- The twin of ../../large/03_large_fleet.sql for SQLite, where times are microseconds since 1970 and lists are JSON.
INSERT INTO managed_certificates
    (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, renew_at, tags,
     created_at, updated_at)
WITH RECURSIVE numbers(g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM numbers WHERE g < 50000)
SELECT
    'cert-loadtest-large-' || printf('%06d', g),
    'loadtest-large-' || printf('%06d', g) || '.example.test',
    'loadtest-large-' || printf('%06d', g) || '.example.test',
    json_array('loadtest-large-' || printf('%06d', g) || '.example.test'),
    'loadtest', 'o-eve', 't-data', 'iss-local', 'rp-standard',
    'Active',
    (unixepoch() + (40 + g % 50) * 86400 + (g % 24) * 3600) * 1000000,
    (unixepoch() + (10 + g % 50) * 86400 + (g % 24) * 3600) * 1000000,
    '{"source":"loadtest-large"}',
    (unixepoch() - g) * 1000000, unixepoch() * 1000000
FROM numbers
WHERE true
ON CONFLICT (name) DO NOTHING;

INSERT INTO agents
    (id, name, hostname, status, last_heartbeat_at, registered_at, api_key_hash, os, architecture, ip_address, version)
WITH RECURSIVE numbers(g) AS (SELECT 5001 UNION ALL SELECT g + 1 FROM numbers WHERE g < 10000)
SELECT
    'ag-loadtest-' || printf('%05d', g),
    'loadtest-agent-' || printf('%05d', g),
    'loadtest-' || printf('%05d', g) || '.fleet.example.test',
    'Online',
    (unixepoch() - g % 60) * 1000000,
    (unixepoch() - (g % 90 + 1) * 86400) * 1000000,
    'loadtest_no_auth',
    'linux',
    'amd64',
    '10.42.' || ((g / 256) % 256) || '.' || (g % 256),
    '2.1.0'
FROM numbers
WHERE true
ON CONFLICT (id) DO NOTHING;
