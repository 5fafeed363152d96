-- The first schema. Keys are text in the C collation, so that order and comparison are those of bytes on both databases.

CREATE TABLE IF NOT EXISTS installation (
    key TEXT COLLATE "C" PRIMARY KEY,
    value TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE installation IS 'Facts that are true once per database, such as that the first API key was made.';

-- Access ------------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS tenants (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS roles (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant_id TEXT COLLATE "C" NOT NULL DEFAULT 't-default' REFERENCES tenants(id) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);

CREATE TABLE IF NOT EXISTS permissions (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    namespace TEXT COLLATE "C" NOT NULL
);

CREATE TABLE IF NOT EXISTS role_permissions (
    role_id TEXT COLLATE "C" NOT NULL REFERENCES roles(id) ON DELETE CASCADE,
    permission_id TEXT COLLATE "C" NOT NULL REFERENCES permissions(id) ON DELETE RESTRICT,
    scope_type TEXT COLLATE "C" NOT NULL DEFAULT 'global' CHECK (scope_type IN ('global', 'profile', 'issuer')),
    scope_id TEXT COLLATE "C",
    CHECK ((scope_type = 'global') = (scope_id IS NULL))
);
-- NULL is not equal to NULL, so the null-safe key is over the id or the empty text, which no id can be.
CREATE UNIQUE INDEX IF NOT EXISTS role_permissions_key ON role_permissions (role_id, permission_id, scope_type, COALESCE(scope_id, ''));

CREATE TABLE IF NOT EXISTS actor_roles (
    id TEXT COLLATE "C" PRIMARY KEY,
    actor_id TEXT COLLATE "C" NOT NULL,
    actor_type TEXT COLLATE "C" NOT NULL CHECK (actor_type IN ('User', 'System', 'Agent', 'APIKey', 'Anonymous')),
    role_id TEXT COLLATE "C" NOT NULL REFERENCES roles(id) ON DELETE RESTRICT,
    granted_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ,
    granted_by TEXT COLLATE "C" NOT NULL DEFAULT 'system',
    tenant_id TEXT COLLATE "C" NOT NULL DEFAULT 't-default',
    scope_type TEXT COLLATE "C" NOT NULL DEFAULT 'global' CHECK (scope_type IN ('global', 'profile', 'issuer')),
    scope_id TEXT COLLATE "C",
    CHECK ((scope_type = 'global') = (scope_id IS NULL))
);
CREATE UNIQUE INDEX IF NOT EXISTS actor_roles_key
    ON actor_roles (actor_id, actor_type, role_id, scope_type, COALESCE(scope_id, ''), tenant_id);
CREATE INDEX IF NOT EXISTS actor_roles_role ON actor_roles (role_id);
COMMENT ON COLUMN actor_roles.expires_at IS 'NULL: the grant does not end by itself.';

CREATE TABLE IF NOT EXISTS api_keys (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    key_hash TEXT COLLATE "C" NOT NULL UNIQUE,
    previous_key_hash TEXT COLLATE "C" UNIQUE,
    previous_valid_until TIMESTAMPTZ,
    tenant_id TEXT COLLATE "C" NOT NULL DEFAULT 't-default',
    admin BOOLEAN NOT NULL DEFAULT false,
    created_by TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ
);
COMMENT ON COLUMN api_keys.key_hash IS 'SHA-256 of the key, lowercase hex; the key itself is nowhere.';
COMMENT ON COLUMN api_keys.previous_key_hash IS 'What the key was before it was rotated. NULL: it was not, or without an overlap.';
COMMENT ON COLUMN api_keys.previous_valid_until IS 'Until when the previous key is accepted. NULL: there is none.';

-- Who and how -------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS teams (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    description TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS owners (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL DEFAULT '',
    team_id TEXT COLLATE "C" NOT NULL REFERENCES teams(id) ON DELETE RESTRICT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS owners_team ON owners (team_id);

CREATE TABLE IF NOT EXISTS certificate_profiles (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    description TEXT NOT NULL DEFAULT '',
    allowed_key_algorithms JSONB NOT NULL DEFAULT '[{"algorithm":"ECDSA","min_size":256},{"algorithm":"RSA","min_size":2048}]',
    max_ttl_seconds INTEGER NOT NULL DEFAULT 0 CHECK (max_ttl_seconds >= 0),
    allowed_ekus TEXT[] NOT NULL DEFAULT '{serverAuth}',
    required_san_patterns TEXT[] NOT NULL DEFAULT '{}',
    spiffe_uri_pattern TEXT NOT NULL DEFAULT '',
    allow_short_lived BOOLEAN NOT NULL DEFAULT false,
    must_staple BOOLEAN NOT NULL DEFAULT false,
    required_csr_attributes TEXT[] NOT NULL DEFAULT '{}',
    acme_auth_mode TEXT COLLATE "C" NOT NULL DEFAULT 'trust_authenticated' CHECK (acme_auth_mode IN ('trust_authenticated', 'challenge')),
    requires_approval BOOLEAN NOT NULL DEFAULT false,
    enabled BOOLEAN NOT NULL DEFAULT true,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS renewal_policies (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    renewal_window_days INTEGER NOT NULL DEFAULT 30,
    auto_renew BOOLEAN NOT NULL DEFAULT true,
    max_retries INTEGER NOT NULL DEFAULT 3,
    retry_interval_seconds INTEGER NOT NULL DEFAULT 60,
    alert_thresholds_days JSONB NOT NULL DEFAULT '[30,14,7,0]',
    alert_channels JSONB NOT NULL DEFAULT '{}',
    alert_severity_map JSONB NOT NULL DEFAULT '{}',
    certificate_profile_id TEXT COLLATE "C",
    agent_group_id TEXT COLLATE "C",
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS policy_rules (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    type TEXT COLLATE "C" NOT NULL,
    config JSONB NOT NULL DEFAULT '{}',
    enabled BOOLEAN NOT NULL DEFAULT true,
    severity TEXT COLLATE "C" NOT NULL DEFAULT 'Warning' CHECK (severity IN ('Warning', 'Error', 'Critical')),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- CAs and hosts -----------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS issuers (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    type TEXT COLLATE "C" NOT NULL,
    config JSONB NOT NULL DEFAULT '{}',
    encrypted_config BYTEA,
    enabled BOOLEAN NOT NULL DEFAULT true,
    last_tested_at TIMESTAMPTZ,
    test_status TEXT COLLATE "C" NOT NULL DEFAULT 'untested',
    source TEXT COLLATE "C" NOT NULL DEFAULT 'database',
    hierarchy_mode TEXT COLLATE "C" NOT NULL DEFAULT 'single',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON COLUMN issuers.encrypted_config IS 'The full configuration, sealed; NULL where it holds no secret and config is the whole of it.';

CREATE TABLE IF NOT EXISTS local_authorities (
    issuer_id TEXT COLLATE "C" PRIMARY KEY,
    certificate_pem TEXT NOT NULL,
    private_key BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE local_authorities IS 'Roots that replicas without a common disk share: the first one to make it wins.';

CREATE TABLE IF NOT EXISTS agents (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    hostname TEXT NOT NULL,
    status TEXT COLLATE "C" NOT NULL DEFAULT 'Offline',
    last_heartbeat_at TIMESTAMPTZ,
    registered_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    api_key_hash TEXT COLLATE "C" NOT NULL,
    os TEXT NOT NULL DEFAULT '',
    architecture TEXT NOT NULL DEFAULT '',
    ip_address TEXT NOT NULL DEFAULT '',
    version TEXT NOT NULL DEFAULT '',
    retired_at TIMESTAMPTZ,
    retired_reason TEXT
);
CREATE INDEX IF NOT EXISTS agents_key ON agents (api_key_hash);
CREATE INDEX IF NOT EXISTS agents_registered ON agents (registered_at DESC, id) WHERE retired_at IS NULL;
CREATE INDEX IF NOT EXISTS agents_online ON agents (last_heartbeat_at) WHERE status = 'Online' AND retired_at IS NULL;
COMMENT ON COLUMN agents.api_key_hash IS 'SHA-256 of the agent''s key; many agents of a fixture may share a hash that no key has.';

CREATE TABLE IF NOT EXISTS agent_groups (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    description TEXT NOT NULL DEFAULT '',
    match_os TEXT NOT NULL DEFAULT '',
    match_architecture TEXT NOT NULL DEFAULT '',
    match_ip_cidr TEXT NOT NULL DEFAULT '',
    match_version TEXT NOT NULL DEFAULT '',
    enabled BOOLEAN NOT NULL DEFAULT true,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS agent_group_members (
    agent_group_id TEXT COLLATE "C" NOT NULL REFERENCES agent_groups(id) ON DELETE CASCADE,
    agent_id TEXT COLLATE "C" NOT NULL REFERENCES agents(id) ON DELETE CASCADE,
    membership_type TEXT COLLATE "C" NOT NULL DEFAULT 'include' CHECK (membership_type IN ('include', 'exclude')),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_group_id, agent_id)
);

CREATE TABLE IF NOT EXISTS deployment_targets (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    type TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL REFERENCES agents(id) ON DELETE RESTRICT,
    config JSONB NOT NULL DEFAULT '{}',
    encrypted_config BYTEA,
    enabled BOOLEAN NOT NULL DEFAULT true,
    last_tested_at TIMESTAMPTZ,
    test_status TEXT COLLATE "C" NOT NULL DEFAULT 'untested',
    source TEXT COLLATE "C" NOT NULL DEFAULT 'database',
    retired_at TIMESTAMPTZ,
    retired_reason TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (agent_id, name)
);

-- Certificates ------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS managed_certificates (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    common_name TEXT COLLATE "C" NOT NULL,
    sans TEXT[] NOT NULL DEFAULT '{}',
    environment TEXT COLLATE "C" NOT NULL DEFAULT '',
    owner_id TEXT COLLATE "C" NOT NULL REFERENCES owners(id) ON DELETE RESTRICT,
    team_id TEXT COLLATE "C" NOT NULL REFERENCES teams(id) ON DELETE RESTRICT,
    issuer_id TEXT COLLATE "C" NOT NULL REFERENCES issuers(id) ON DELETE RESTRICT,
    renewal_policy_id TEXT COLLATE "C" NOT NULL REFERENCES renewal_policies(id) ON DELETE RESTRICT,
    certificate_profile_id TEXT COLLATE "C" REFERENCES certificate_profiles(id) ON DELETE SET NULL,
    status TEXT COLLATE "C" NOT NULL DEFAULT 'Pending',
    expires_at TIMESTAMPTZ,
    renew_at TIMESTAMPTZ,
    tags JSONB NOT NULL DEFAULT '{}',
    last_renewal_at TIMESTAMPTZ,
    last_deployment_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    revocation_reason TEXT COLLATE "C",
    source TEXT COLLATE "C" NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS managed_certificates_created ON managed_certificates (created_at, id);
CREATE INDEX IF NOT EXISTS managed_certificates_due ON managed_certificates (renew_at, id)
    WHERE status IN ('Active', 'Expiring', 'Pending', 'Failed') AND renew_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS managed_certificates_unplanned ON managed_certificates (id)
    WHERE renew_at IS NULL AND expires_at IS NOT NULL AND status IN ('Active', 'Expiring', 'Pending', 'Failed');
CREATE INDEX IF NOT EXISTS managed_certificates_expiry ON managed_certificates (expires_at)
    WHERE status IN ('Active', 'Expiring', 'Pending') AND expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS managed_certificates_status ON managed_certificates (status, created_at, id);
CREATE INDEX IF NOT EXISTS managed_certificates_counted ON managed_certificates (status, expires_at);
CREATE INDEX IF NOT EXISTS managed_certificates_owner ON managed_certificates (owner_id);
CREATE INDEX IF NOT EXISTS managed_certificates_team ON managed_certificates (team_id);
CREATE INDEX IF NOT EXISTS managed_certificates_issuer ON managed_certificates (issuer_id);
CREATE INDEX IF NOT EXISTS managed_certificates_policy ON managed_certificates (renewal_policy_id);
CREATE INDEX IF NOT EXISTS managed_certificates_profile ON managed_certificates (certificate_profile_id);
COMMENT ON COLUMN managed_certificates.renew_at IS 'When renewal is due; NULL while nothing is issued, or for rows written by others until the next scan plans them.';

-- Fixtures and older programs write states in lower case straight into the table; what is stored is canonical.
CREATE OR REPLACE FUNCTION certctl_canonical_certificate_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.status := CASE lower(NEW.status)
        WHEN 'pending' THEN 'Pending' WHEN 'active' THEN 'Active' WHEN 'expiring' THEN 'Expiring' WHEN 'expired' THEN 'Expired'
        WHEN 'renewalinprogress' THEN 'RenewalInProgress' WHEN 'failed' THEN 'Failed' WHEN 'revoked' THEN 'Revoked'
        WHEN 'archived' THEN 'Archived' ELSE NEW.status END;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS canonical_status ON managed_certificates;
CREATE TRIGGER canonical_status BEFORE INSERT ON managed_certificates
    FOR EACH ROW WHEN (NEW.status NOT IN ('Pending', 'Active', 'Expiring', 'Expired', 'RenewalInProgress', 'Failed', 'Revoked', 'Archived'))
    EXECUTE FUNCTION certctl_canonical_certificate_status();

CREATE TABLE IF NOT EXISTS certificate_target_mappings (
    certificate_id TEXT COLLATE "C" NOT NULL REFERENCES managed_certificates(id) ON DELETE CASCADE,
    target_id TEXT COLLATE "C" NOT NULL REFERENCES deployment_targets(id) ON DELETE CASCADE,
    PRIMARY KEY (certificate_id, target_id)
);
CREATE INDEX IF NOT EXISTS certificate_target_mappings_target ON certificate_target_mappings (target_id);

CREATE TABLE IF NOT EXISTS certificate_versions (
    id TEXT COLLATE "C" PRIMARY KEY,
    certificate_id TEXT COLLATE "C" NOT NULL REFERENCES managed_certificates(id) ON DELETE CASCADE,
    issuer_id TEXT COLLATE "C",
    serial_number TEXT COLLATE "C" NOT NULL,
    not_before TIMESTAMPTZ NOT NULL,
    not_after TIMESTAMPTZ NOT NULL,
    fingerprint_sha256 TEXT COLLATE "C" NOT NULL UNIQUE,
    pem_chain TEXT NOT NULL,
    csr_pem TEXT NOT NULL DEFAULT '',
    encrypted_private_key BYTEA,
    key_algorithm TEXT COLLATE "C" NOT NULL DEFAULT '',
    key_size INTEGER NOT NULL DEFAULT 0,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS certificate_versions_latest ON certificate_versions (certificate_id, created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS certificate_versions_created ON certificate_versions (created_at);
CREATE UNIQUE INDEX IF NOT EXISTS certificate_versions_serial ON certificate_versions (issuer_id, serial_number);
COMMENT ON COLUMN certificate_versions.encrypted_private_key IS 'Sealed; only where the server made the key (demo mode), NULL otherwise.';
COMMENT ON COLUMN certificate_versions.issuer_id IS 'Who signed; NULL only in rows written by older programs.';

CREATE TABLE IF NOT EXISTS certificate_revocations (
    id TEXT COLLATE "C" PRIMARY KEY,
    certificate_id TEXT COLLATE "C" NOT NULL REFERENCES managed_certificates(id),
    issuer_id TEXT COLLATE "C" NOT NULL REFERENCES issuers(id),
    serial_number TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL DEFAULT 'unspecified',
    revoked_by TEXT NOT NULL,
    revoked_at TIMESTAMPTZ NOT NULL,
    issuer_notified BOOLEAN NOT NULL DEFAULT false,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    listed_until TIMESTAMPTZ,
    short_lived BOOLEAN,
    UNIQUE (issuer_id, serial_number)
);
CREATE INDEX IF NOT EXISTS certificate_revocations_certificate ON certificate_revocations (certificate_id);
CREATE INDEX IF NOT EXISTS certificate_revocations_undescribed ON certificate_revocations (issuer_id) WHERE short_lived IS NULL;
CREATE INDEX IF NOT EXISTS certificate_revocations_listed ON certificate_revocations (issuer_id, listed_until, serial_number)
    WHERE listed_until IS NOT NULL;
COMMENT ON COLUMN certificate_revocations.listed_until IS 'When its entry may leave the CRL: the end of the certificate, or the revocation where that came later; the year 9999 where no version has the serial; NULL while short_lived is, and where that is true.';
COMMENT ON COLUMN certificate_revocations.short_lived IS 'Whether its life is too short for status services; NULL until the issuer is next marked as changed.';

CREATE TABLE IF NOT EXISTS policy_violations (
    id TEXT COLLATE "C" PRIMARY KEY,
    certificate_id TEXT COLLATE "C" NOT NULL REFERENCES managed_certificates(id) ON DELETE CASCADE,
    rule_id TEXT COLLATE "C" NOT NULL REFERENCES policy_rules(id) ON DELETE CASCADE,
    message TEXT NOT NULL,
    severity TEXT COLLATE "C" NOT NULL CHECK (severity IN ('Warning', 'Error', 'Critical')),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    resolved_at TIMESTAMPTZ
);
CREATE INDEX IF NOT EXISTS policy_violations_certificate ON policy_violations (certificate_id);
COMMENT ON COLUMN policy_violations.resolved_at IS 'When it was first not found any more; NULL while it stands.';

-- Jobs --------------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS jobs (
    id TEXT COLLATE "C" PRIMARY KEY,
    type TEXT COLLATE "C" NOT NULL,
    certificate_id TEXT COLLATE "C" REFERENCES managed_certificates(id) ON DELETE CASCADE,
    target_id TEXT COLLATE "C" REFERENCES deployment_targets(id) ON DELETE SET NULL,
    agent_id TEXT COLLATE "C" REFERENCES agents(id) ON DELETE SET NULL,
    status TEXT COLLATE "C" NOT NULL DEFAULT 'Pending',
    attempts INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL DEFAULT 3,
    last_error TEXT,
    deployment_result JSONB,
    scheduled_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    started_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    status_changed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    next_attempt_at TIMESTAMPTZ,
    lease_owner TEXT COLLATE "C",
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at TIMESTAMPTZ,
    verification_status TEXT COLLATE "C" NOT NULL DEFAULT 'pending',
    verified_at TIMESTAMPTZ,
    expected_fingerprint TEXT COLLATE "C",
    verification_fingerprint TEXT COLLATE "C",
    verification_error TEXT
);
CREATE INDEX IF NOT EXISTS jobs_status ON jobs (status, scheduled_at);
CREATE INDEX IF NOT EXISTS jobs_claimable ON jobs (scheduled_at, id) WHERE status = 'Pending' AND (type <> 'Deployment' OR target_id IS NULL);
CREATE INDEX IF NOT EXISTS jobs_for_agent ON jobs (agent_id, scheduled_at) WHERE status = 'Pending' AND type = 'Deployment';
CREATE INDEX IF NOT EXISTS jobs_running ON jobs (lease_expires_at) WHERE status = 'Running';
CREATE INDEX IF NOT EXISTS jobs_retry ON jobs (next_attempt_at) WHERE status = 'Failed' AND next_attempt_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs (status_changed_at) WHERE status IN ('AwaitingCSR', 'AwaitingApproval');
CREATE INDEX IF NOT EXISTS jobs_certificate ON jobs (certificate_id, created_at);
CREATE INDEX IF NOT EXISTS jobs_agent ON jobs (agent_id, status) WHERE agent_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_target ON jobs (target_id) WHERE target_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_created ON jobs (created_at DESC, id);
CREATE INDEX IF NOT EXISTS jobs_ended ON jobs (completed_at, status) WHERE completed_at IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_one_open_renewal ON jobs (certificate_id)
    WHERE type IN ('Renewal', 'Issuance') AND status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running');
COMMENT ON COLUMN jobs.lease_token IS 'Grows with every claim; what a former holder writes is refused by comparing it.';
COMMENT ON COLUMN jobs.lease_expires_at IS 'When the holder is taken for dead: a worker by its lease_owner, an agent where that is NULL.';
COMMENT ON COLUMN jobs.next_attempt_at IS 'When a failed job is tried again; NULL when it is not.';

CREATE TABLE IF NOT EXISTS issuance_intents (
    job_id TEXT COLLATE "C" PRIMARY KEY REFERENCES jobs(id) ON DELETE CASCADE,
    issuer_id TEXT COLLATE "C" NOT NULL,
    serial_number TEXT COLLATE "C" NOT NULL,
    not_before TIMESTAMPTZ NOT NULL,
    spki BYTEA NOT NULL,
    request JSONB NOT NULL,
    csr_pem TEXT NOT NULL DEFAULT '',
    encrypted_private_key BYTEA,
    created_at TIMESTAMPTZ NOT NULL,
    UNIQUE (issuer_id, serial_number)
);
COMMENT ON TABLE issuance_intents IS 'What is about to be signed, recorded before it is: after a crash the same certificate is asked for again, not another one.';

CREATE TABLE IF NOT EXISTS issuance_approval_requests (
    id TEXT COLLATE "C" PRIMARY KEY,
    approval_kind TEXT COLLATE "C" NOT NULL DEFAULT 'cert_issuance' CHECK (approval_kind IN ('cert_issuance', 'profile_edit')),
    certificate_id TEXT COLLATE "C" REFERENCES managed_certificates(id) ON DELETE CASCADE,
    job_id TEXT COLLATE "C" REFERENCES jobs(id) ON DELETE CASCADE,
    profile_id TEXT COLLATE "C" NOT NULL REFERENCES certificate_profiles(id) ON DELETE RESTRICT,
    requested_by TEXT NOT NULL,
    state TEXT COLLATE "C" NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'rejected', 'expired')),
    decided_by TEXT,
    decided_at TIMESTAMPTZ,
    decision_note TEXT,
    metadata JSONB,
    payload JSONB,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CHECK ((state = 'pending') = (decided_at IS NULL))
);
CREATE UNIQUE INDEX IF NOT EXISTS issuance_approval_requests_pending ON issuance_approval_requests (job_id) WHERE state = 'pending' AND job_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS issuance_approval_requests_profile ON issuance_approval_requests (profile_id);
CREATE INDEX IF NOT EXISTS issuance_approval_requests_created ON issuance_approval_requests (created_at DESC, id);

CREATE TABLE IF NOT EXISTS scheduler_leases (
    loop TEXT COLLATE "C" PRIMARY KEY,
    holder TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    acquired_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);

-- Audit -------------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS audit_events (
    id TEXT COLLATE "C" PRIMARY KEY,
    actor TEXT NOT NULL,
    actor_type TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    resource_type TEXT COLLATE "C" NOT NULL,
    resource_id TEXT NOT NULL,
    details JSONB NOT NULL DEFAULT '{}',
    timestamp TIMESTAMPTZ NOT NULL,
    event_category TEXT COLLATE "C" NOT NULL DEFAULT 'cert_lifecycle'
);
CREATE INDEX IF NOT EXISTS audit_events_time ON audit_events (timestamp DESC, id DESC);
CREATE INDEX IF NOT EXISTS audit_events_category ON audit_events (event_category, timestamp DESC, id DESC);

CREATE OR REPLACE FUNCTION certctl_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit events are never changed';
END $$;
DROP TRIGGER IF EXISTS append_only ON audit_events;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION certctl_refuse_change();
DROP TRIGGER IF EXISTS append_only_truncate ON audit_events;
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION certctl_refuse_change();
