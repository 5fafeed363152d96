-- 10,000 certificates that a bulk renewal by team and issuer finds. Runs after the migrations and the demo data; may run again.
-- Never edit: what was measured was measured with this. Grow by a further file.
INSERT INTO managed_certificates
    (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, status, expires_at, tags,
     created_at, updated_at)
SELECT
    'cert-loadtest-bulk-' || lpad(g::text, 5, '0'),
    'loadtest-bulk-' || lpad(g::text, 5, '0') || '.example.test',
    'loadtest-bulk-' || lpad(g::text, 5, '0') || '.example.test',
    ARRAY['loadtest-bulk-' || lpad(g::text, 5, '0') || '.example.test'],
    'loadtest', 'o-alice', 't-platform', 'iss-local', 'rp-standard',
    'active',
    now() + make_interval(days => g % 30, hours => g % 24),
    '{"source": "loadtest-phase8", "batch": "bulk-renewal"}'::jsonb,
    now(), now()
FROM generate_series(1, 10000) AS g
ON CONFLICT (name) DO NOTHING;

DO $$
BEGIN
    RAISE NOTICE 'certificates for bulk renewal: %',
        (SELECT count(*) FROM managed_certificates WHERE id LIKE 'cert-loadtest-bulk-%');
END $$;
