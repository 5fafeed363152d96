-- 50,000 certificates of another team and 10,000 agents in all, for a database of the size of production. Runs after 01 and 02;
-- may run again. Nothing of it is due, and no bulk renewal of team t-platform finds it.
INSERT INTO managed_certificates
    (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, renew_at, tags,
     created_at, updated_at)
SELECT
    'cert-loadtest-large-' || lpad(g::text, 6, '0'),
    'loadtest-large-' || lpad(g::text, 6, '0') || '.example.test',
    'loadtest-large-' || lpad(g::text, 6, '0') || '.example.test',
    ARRAY['loadtest-large-' || lpad(g::text, 6, '0') || '.example.test'],
    'loadtest', 'o-eve', 't-data', 'iss-local', 'rp-standard',
    'Active',
    now() + make_interval(days => 40 + g % 50, hours => g % 24),
    now() + make_interval(days => 10 + g % 50, hours => g % 24),
    '{"source": "loadtest-large"}'::jsonb,
    now() - make_interval(secs => g), now()
FROM generate_series(1, 50000) AS g
ON CONFLICT (name) DO NOTHING;

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
    'linux', 'amd64',
    '10.42.' || (g / 256) % 256 || '.' || g % 256,
    '2.1.0'
FROM generate_series(5001, 10000) AS g
ON CONFLICT (id) DO NOTHING;

DO $$
BEGIN
    RAISE NOTICE 'certificates of the large fleet: %',
        (SELECT count(*) FROM managed_certificates WHERE id LIKE 'cert-loadtest-large-%');
END $$;
