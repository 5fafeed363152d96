-- The first schema. Times are microseconds since the Unix epoch, JSON and lists are JSON text.

CREATE TABLE IF NOT EXISTS installation (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

-- Access ------------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS tenants (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

CREATE TABLE IF NOT EXISTS roles (
    id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL DEFAULT 't-default' REFERENCES tenants(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE IF NOT EXISTS permissions (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS role_permissions (
    role_id TEXT NOT NULL REFERENCES roles(id) ON DELETE CASCADE,
    permission_id TEXT NOT NULL REFERENCES permissions(id) ON DELETE RESTRICT,
    scope_type TEXT NOT NULL DEFAULT 'global' CHECK (scope_type IN ('global', 'profile', 'issuer')),
    scope_id TEXT,
    CHECK ((scope_type = 'global') = (scope_id IS NULL))
) STRICT;
-- NULL is not equal to NULL, so the null-safe key is over the id or the empty text, which no id can be.
CREATE UNIQUE INDEX IF NOT EXISTS role_permissions_key ON role_permissions (role_id, permission_id, scope_type, COALESCE(scope_id, ''));

CREATE TABLE IF NOT EXISTS actor_roles (
    id TEXT PRIMARY KEY,
    actor_id TEXT NOT NULL,
    actor_type TEXT NOT NULL CHECK (actor_type IN ('User', 'System', 'Agent', 'APIKey', 'Anonymous')),
    role_id TEXT NOT NULL REFERENCES roles(id) ON DELETE RESTRICT,
    granted_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    expires_at INTEGER,
    granted_by TEXT NOT NULL DEFAULT 'system',
    tenant_id TEXT NOT NULL DEFAULT 't-default',
    scope_type TEXT NOT NULL DEFAULT 'global' CHECK (scope_type IN ('global', 'profile', 'issuer')),
    scope_id TEXT,
    CHECK ((scope_type = 'global') = (scope_id IS NULL))
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS actor_roles_key
    ON actor_roles (actor_id, actor_type, role_id, scope_type, COALESCE(scope_id, ''), tenant_id);
CREATE INDEX IF NOT EXISTS actor_roles_role ON actor_roles (role_id);

CREATE TABLE IF NOT EXISTS api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    key_hash TEXT NOT NULL UNIQUE,
    previous_key_hash TEXT UNIQUE,
    previous_valid_until INTEGER,
    tenant_id TEXT NOT NULL DEFAULT 't-default',
    admin INTEGER NOT NULL DEFAULT 0,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    expires_at INTEGER,
    last_used_at INTEGER
) STRICT;

-- Who and how -------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS teams (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

CREATE TABLE IF NOT EXISTS owners (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL DEFAULT '',
    team_id TEXT NOT NULL REFERENCES teams(id) ON DELETE RESTRICT,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
CREATE INDEX IF NOT EXISTS owners_team ON owners (team_id);

CREATE TABLE IF NOT EXISTS certificate_profiles (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL DEFAULT '',
    allowed_key_algorithms TEXT NOT NULL DEFAULT '[{"algorithm":"ECDSA","min_size":256},{"algorithm":"RSA","min_size":2048}]',
    max_ttl_seconds INTEGER NOT NULL DEFAULT 0 CHECK (max_ttl_seconds >= 0),
    allowed_ekus TEXT NOT NULL DEFAULT '["serverAuth"]',
    required_san_patterns TEXT NOT NULL DEFAULT '[]',
    spiffe_uri_pattern TEXT NOT NULL DEFAULT '',
    allow_short_lived INTEGER NOT NULL DEFAULT 0,
    must_staple INTEGER NOT NULL DEFAULT 0,
    required_csr_attributes TEXT NOT NULL DEFAULT '[]',
    acme_auth_mode TEXT NOT NULL DEFAULT 'trust_authenticated' CHECK (acme_auth_mode IN ('trust_authenticated', 'challenge')),
    -- SQLite cannot add a column where there is none only; PostgreSQL has it from 0010.
    acme_issuer_id TEXT REFERENCES issuers(id) ON DELETE SET NULL,
    requires_approval INTEGER NOT NULL DEFAULT 0,
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

CREATE TABLE IF NOT EXISTS renewal_policies (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    renewal_window_days INTEGER NOT NULL DEFAULT 30,
    auto_renew INTEGER NOT NULL DEFAULT 1,
    max_retries INTEGER NOT NULL DEFAULT 3,
    retry_interval_seconds INTEGER NOT NULL DEFAULT 60,
    alert_thresholds_days TEXT NOT NULL DEFAULT '[30,14,7,0]',
    alert_channels TEXT NOT NULL DEFAULT '{}',
    alert_severity_map TEXT NOT NULL DEFAULT '{}',
    certificate_profile_id TEXT,
    agent_group_id TEXT,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

CREATE TABLE IF NOT EXISTS policy_rules (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    config TEXT NOT NULL DEFAULT '{}',
    enabled INTEGER NOT NULL DEFAULT 1,
    severity TEXT NOT NULL DEFAULT 'Warning' CHECK (severity IN ('Warning', 'Error', 'Critical')),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

-- CAs and hosts -----------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS issuers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    config TEXT NOT NULL DEFAULT '{}',
    encrypted_config BLOB,
    enabled INTEGER NOT NULL DEFAULT 1,
    last_tested_at INTEGER,
    test_status TEXT NOT NULL DEFAULT 'untested',
    source TEXT NOT NULL DEFAULT 'database',
    hierarchy_mode TEXT NOT NULL DEFAULT 'single',
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

CREATE TABLE IF NOT EXISTS local_authorities (
    issuer_id TEXT PRIMARY KEY,
    certificate_pem TEXT NOT NULL,
    private_key BLOB NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

CREATE TABLE IF NOT EXISTS agents (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    hostname TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'Offline',
    last_heartbeat_at INTEGER,
    registered_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    api_key_hash TEXT NOT NULL,
    os TEXT NOT NULL DEFAULT '',
    architecture TEXT NOT NULL DEFAULT '',
    ip_address TEXT NOT NULL DEFAULT '',
    version TEXT NOT NULL DEFAULT '',
    retired_at INTEGER,
    retired_reason TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS agents_key ON agents (api_key_hash);
CREATE INDEX IF NOT EXISTS agents_registered ON agents (registered_at DESC, id) WHERE retired_at IS NULL;
CREATE INDEX IF NOT EXISTS agents_online ON agents (last_heartbeat_at) WHERE status = 'Online' AND retired_at IS NULL;

CREATE TABLE IF NOT EXISTS agent_groups (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL DEFAULT '',
    match_os TEXT NOT NULL DEFAULT '',
    match_architecture TEXT NOT NULL DEFAULT '',
    match_ip_cidr TEXT NOT NULL DEFAULT '',
    match_version TEXT NOT NULL DEFAULT '',
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

CREATE TABLE IF NOT EXISTS agent_group_members (
    agent_group_id TEXT NOT NULL REFERENCES agent_groups(id) ON DELETE CASCADE,
    agent_id TEXT NOT NULL REFERENCES agents(id) ON DELETE CASCADE,
    membership_type TEXT NOT NULL DEFAULT 'include' CHECK (membership_type IN ('include', 'exclude')),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    PRIMARY KEY (agent_group_id, agent_id)
) STRICT;

CREATE TABLE IF NOT EXISTS deployment_targets (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    agent_id TEXT NOT NULL REFERENCES agents(id) ON DELETE RESTRICT,
    config TEXT NOT NULL DEFAULT '{}',
    encrypted_config BLOB,
    enabled INTEGER NOT NULL DEFAULT 1,
    last_tested_at INTEGER,
    test_status TEXT NOT NULL DEFAULT 'untested',
    source TEXT NOT NULL DEFAULT 'database',
    retired_at INTEGER,
    retired_reason TEXT,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    UNIQUE (agent_id, name)
) STRICT;

-- Certificates ------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS managed_certificates (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    common_name TEXT NOT NULL,
    sans TEXT NOT NULL DEFAULT '[]',
    environment TEXT NOT NULL DEFAULT '',
    owner_id TEXT NOT NULL REFERENCES owners(id) ON DELETE RESTRICT,
    team_id TEXT NOT NULL REFERENCES teams(id) ON DELETE RESTRICT,
    issuer_id TEXT NOT NULL REFERENCES issuers(id) ON DELETE RESTRICT,
    renewal_policy_id TEXT NOT NULL REFERENCES renewal_policies(id) ON DELETE RESTRICT,
    certificate_profile_id TEXT REFERENCES certificate_profiles(id) ON DELETE SET NULL,
    status TEXT NOT NULL DEFAULT 'Pending',
    expires_at INTEGER,
    renew_at INTEGER,
    tags TEXT NOT NULL DEFAULT '{}',
    last_renewal_at INTEGER,
    last_deployment_at INTEGER,
    revoked_at INTEGER,
    revocation_reason TEXT,
    source TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
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

-- Fixtures and older programs write states in lower case straight into the table; what is stored is canonical.
CREATE TRIGGER IF NOT EXISTS canonical_status AFTER INSERT ON managed_certificates
    WHEN NEW.status NOT IN ('Pending', 'Active', 'Expiring', 'Expired', 'RenewalInProgress', 'Failed', 'Revoked', 'Archived')
BEGIN
    UPDATE managed_certificates SET status = CASE lower(NEW.status)
        WHEN 'pending' THEN 'Pending' WHEN 'active' THEN 'Active' WHEN 'expiring' THEN 'Expiring' WHEN 'expired' THEN 'Expired'
        WHEN 'renewalinprogress' THEN 'RenewalInProgress' WHEN 'failed' THEN 'Failed' WHEN 'revoked' THEN 'Revoked'
        WHEN 'archived' THEN 'Archived' ELSE NEW.status END WHERE id = NEW.id;
END;

CREATE TABLE IF NOT EXISTS certificate_target_mappings (
    certificate_id TEXT NOT NULL REFERENCES managed_certificates(id) ON DELETE CASCADE,
    target_id TEXT NOT NULL REFERENCES deployment_targets(id) ON DELETE CASCADE,
    PRIMARY KEY (certificate_id, target_id)
) STRICT;
CREATE INDEX IF NOT EXISTS certificate_target_mappings_target ON certificate_target_mappings (target_id);

CREATE TABLE IF NOT EXISTS certificate_versions (
    id TEXT PRIMARY KEY,
    certificate_id TEXT NOT NULL REFERENCES managed_certificates(id) ON DELETE CASCADE,
    issuer_id TEXT,
    serial_number TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    fingerprint_sha256 TEXT NOT NULL UNIQUE,
    pem_chain TEXT NOT NULL,
    csr_pem TEXT NOT NULL DEFAULT '',
    encrypted_private_key BLOB,
    key_algorithm TEXT NOT NULL DEFAULT '',
    key_size INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
CREATE INDEX IF NOT EXISTS certificate_versions_latest ON certificate_versions (certificate_id, created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS certificate_versions_created ON certificate_versions (created_at);
CREATE UNIQUE INDEX IF NOT EXISTS certificate_versions_serial ON certificate_versions (issuer_id, serial_number);

CREATE TABLE IF NOT EXISTS certificate_revocations (
    id TEXT PRIMARY KEY,
    certificate_id TEXT NOT NULL REFERENCES managed_certificates(id),
    issuer_id TEXT NOT NULL REFERENCES issuers(id),
    serial_number TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT 'unspecified',
    revoked_by TEXT NOT NULL,
    revoked_at INTEGER NOT NULL,
    issuer_notified INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    listed_until INTEGER,
    short_lived INTEGER,
    UNIQUE (issuer_id, serial_number)
) STRICT;
CREATE INDEX IF NOT EXISTS certificate_revocations_certificate ON certificate_revocations (certificate_id);
CREATE INDEX IF NOT EXISTS certificate_revocations_undescribed ON certificate_revocations (issuer_id) WHERE short_lived IS NULL;
CREATE INDEX IF NOT EXISTS certificate_revocations_listed ON certificate_revocations (issuer_id, listed_until, serial_number)
    WHERE listed_until IS NOT NULL;

CREATE TABLE IF NOT EXISTS policy_violations (
    id TEXT PRIMARY KEY,
    certificate_id TEXT NOT NULL REFERENCES managed_certificates(id) ON DELETE CASCADE,
    rule_id TEXT NOT NULL REFERENCES policy_rules(id) ON DELETE CASCADE,
    message TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('Warning', 'Error', 'Critical')),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    resolved_at INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS policy_violations_certificate ON policy_violations (certificate_id);

-- Jobs --------------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    certificate_id TEXT REFERENCES managed_certificates(id) ON DELETE CASCADE,
    target_id TEXT REFERENCES deployment_targets(id) ON DELETE SET NULL,
    agent_id TEXT REFERENCES agents(id) ON DELETE SET NULL,
    status TEXT NOT NULL DEFAULT 'Pending',
    attempts INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL DEFAULT 3,
    last_error TEXT,
    deployment_result TEXT,
    scheduled_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    started_at INTEGER,
    completed_at INTEGER,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    status_changed_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    next_attempt_at INTEGER,
    lease_owner TEXT,
    lease_token INTEGER NOT NULL DEFAULT 0,
    lease_expires_at INTEGER,
    verification_status TEXT NOT NULL DEFAULT 'pending',
    verified_at INTEGER,
    expected_fingerprint TEXT,
    verification_fingerprint TEXT,
    verification_error TEXT
) STRICT;
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

CREATE TABLE IF NOT EXISTS issuance_intents (
    job_id TEXT PRIMARY KEY REFERENCES jobs(id) ON DELETE CASCADE,
    issuer_id TEXT NOT NULL,
    serial_number TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    spki BLOB NOT NULL,
    request TEXT NOT NULL,
    csr_pem TEXT NOT NULL DEFAULT '',
    encrypted_private_key BLOB,
    created_at INTEGER NOT NULL,
    UNIQUE (issuer_id, serial_number)
) STRICT;

CREATE TABLE IF NOT EXISTS issuance_approval_requests (
    id TEXT PRIMARY KEY,
    approval_kind TEXT NOT NULL DEFAULT 'cert_issuance' CHECK (approval_kind IN ('cert_issuance', 'profile_edit')),
    certificate_id TEXT REFERENCES managed_certificates(id) ON DELETE CASCADE,
    job_id TEXT REFERENCES jobs(id) ON DELETE CASCADE,
    profile_id TEXT NOT NULL REFERENCES certificate_profiles(id) ON DELETE RESTRICT,
    requested_by TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'rejected', 'expired')),
    decided_by TEXT,
    decided_at INTEGER,
    decision_note TEXT,
    metadata TEXT,
    payload TEXT,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    CHECK ((state = 'pending') = (decided_at IS NULL))
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS issuance_approval_requests_pending ON issuance_approval_requests (job_id) WHERE state = 'pending' AND job_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS issuance_approval_requests_profile ON issuance_approval_requests (profile_id);
CREATE INDEX IF NOT EXISTS issuance_approval_requests_created ON issuance_approval_requests (created_at DESC, id);

CREATE TABLE IF NOT EXISTS scheduler_leases (
    loop TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    acquired_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- Audit -------------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS audit_events (
    id TEXT PRIMARY KEY,
    actor TEXT NOT NULL,
    actor_type TEXT NOT NULL,
    action TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    details TEXT NOT NULL DEFAULT '{}',
    timestamp INTEGER NOT NULL,
    event_category TEXT NOT NULL DEFAULT 'cert_lifecycle'
) STRICT;
CREATE INDEX IF NOT EXISTS audit_events_time ON audit_events (timestamp DESC, id DESC);
CREATE INDEX IF NOT EXISTS audit_events_category ON audit_events (event_category, timestamp DESC, id DESC);

CREATE TRIGGER IF NOT EXISTS append_only_update BEFORE UPDATE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed');
END;
CREATE TRIGGER IF NOT EXISTS append_only_delete BEFORE DELETE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed');
END;
-- INSERT OR REPLACE deletes the row in its way without the trigger above.
CREATE TRIGGER IF NOT EXISTS append_only_replace BEFORE INSERT ON audit_events
    WHEN EXISTS (SELECT 1 FROM audit_events WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed');
END;
