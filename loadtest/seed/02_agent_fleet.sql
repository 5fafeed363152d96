-- 5,000 agents that send heartbeats. Runs after the migrations; may run again.
-- Nobody has a key whose hash is loadtest_no_auth, so nobody can call as one of them.
-- Never edit: what was measured was measured with this. Grow by a further file.
INSERT INTO agents
    (id, name, hostname, status, last_heartbeat_at, registered_at, api_key_hash, os, architecture, ip_address, version)
SELECT
    'ag-loadtest-' || lpad(g::text, 5, '0'),
    'loadtest-agent-' || lpad(g::text, 5, '0'),
    'loadtest-' || lpad(g::text, 5, '0') || '.fleet.example.test',
    'Online',
    now() - make_interval(secs => g % 60),
    now() - make_interval(days => g % 90 + 1),
    'loadtest_no_auth',
    CASE g % 10 WHEN 0 THEN 'windows' WHEN 1 THEN 'darwin' ELSE 'linux' END,
    CASE g % 5 WHEN 0 THEN 'arm64' ELSE 'amd64' END,
    '10.42.' || (g / 256) % 256 || '.' || g % 256,
    '2.1.0'
FROM generate_series(1, 5000) AS g
ON CONFLICT (id) DO NOTHING;

DO $$
BEGIN
    RAISE NOTICE 'agents of the fleet: %', (SELECT count(*) FROM agents WHERE id LIKE 'ag-loadtest-%');
END $$;
