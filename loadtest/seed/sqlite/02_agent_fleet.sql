-- The twin of ../02_agent_fleet.sql for SQLite, where times are microseconds since 1970.
INSERT INTO agents
    (id, name, hostname, status, last_heartbeat_at, registered_at, api_key_hash, os, architecture, ip_address, version)
WITH RECURSIVE numbers(g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM numbers WHERE g < 5000)
SELECT
    'ag-loadtest-' || printf('%05d', g),
    'loadtest-agent-' || printf('%05d', g),
    'loadtest-' || printf('%05d', g) || '.fleet.example.test',
    'Online',
    (unixepoch() - g % 60) * 1000000,
    (unixepoch() - (g % 90 + 1) * 86400) * 1000000,
    'loadtest_no_auth',
    CASE g % 10 WHEN 0 THEN 'windows' WHEN 1 THEN 'darwin' ELSE 'linux' END,
    CASE g % 5 WHEN 0 THEN 'arm64' ELSE 'amd64' END,
    '10.42.' || ((g / 256) % 256) || '.' || (g % 256),
    '2.1.0'
FROM numbers
WHERE true
ON CONFLICT (id) DO NOTHING;
