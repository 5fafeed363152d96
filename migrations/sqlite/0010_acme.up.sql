-- The ACME server (RFC 8555): accounts, orders, what proves them, and what keeps its limits.

-- Certificates of ACME are renewed by their clients: only those have the key. The scan's index leaves them out, so that it does
-- not walk past all that were ever replaced.
DROP INDEX IF EXISTS managed_certificates_due;
CREATE INDEX IF NOT EXISTS managed_certificates_due ON managed_certificates (renew_at, id)
    WHERE status IN ('Active', 'Expiring', 'Pending', 'Failed') AND renew_at IS NOT NULL AND source <> 'ACME';
-- Of those that are in date, all of which the state follows by their time.
CREATE INDEX IF NOT EXISTS managed_certificates_expiring ON managed_certificates (renew_at)
    WHERE status IN ('Active', 'Pending') AND renew_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS acme_accounts (
    id TEXT PRIMARY KEY,
    -- RFC 7638, SHA-256, base64url.
    jwk_thumbprint TEXT NOT NULL,
    jwk_pem TEXT NOT NULL,
    contact TEXT NOT NULL DEFAULT '[]',
    status TEXT NOT NULL DEFAULT 'valid' CHECK (status IN ('valid', 'deactivated', 'revoked')),
    profile_id TEXT NOT NULL REFERENCES certificate_profiles(id) ON DELETE RESTRICT,
    owner_id TEXT REFERENCES owners(id) ON DELETE SET NULL,
    terms_agreed INTEGER NOT NULL DEFAULT 0 CHECK (terms_agreed IN (0, 1)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (profile_id, jwk_thumbprint)
) STRICT;
CREATE INDEX IF NOT EXISTS acme_accounts_created ON acme_accounts (created_at DESC, id);

CREATE TABLE IF NOT EXISTS acme_orders (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES acme_accounts(id) ON DELETE RESTRICT,
    profile_id TEXT NOT NULL REFERENCES certificate_profiles(id) ON DELETE RESTRICT,
    issuer_id TEXT NOT NULL REFERENCES issuers(id) ON DELETE RESTRICT,
    auth_mode TEXT NOT NULL CHECK (auth_mode IN ('trust_authenticated', 'challenge')),
    -- [{type, value}], sorted.
    identifiers TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'ready', 'processing', 'valid', 'invalid')),
    expires_at INTEGER NOT NULL,
    not_before INTEGER,
    not_after INTEGER,
    error TEXT,
    csr_pem TEXT,
    certificate_id TEXT REFERENCES managed_certificates(id) ON DELETE SET NULL,
    job_id TEXT,
    replaces TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    kept_until INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS acme_orders_account ON acme_orders (account_id, created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS acme_orders_open ON acme_orders (account_id, expires_at) WHERE status IN ('pending', 'ready', 'processing');
CREATE INDEX IF NOT EXISTS acme_orders_expiring ON acme_orders (expires_at) WHERE status IN ('pending', 'ready');
CREATE INDEX IF NOT EXISTS acme_orders_processing ON acme_orders (updated_at) WHERE status = 'processing';
-- What ended long ago is looked at once; what is kept then, because its certificate lives, is found by the time it is kept until.
CREATE INDEX IF NOT EXISTS acme_orders_ended ON acme_orders (updated_at) WHERE status IN ('valid', 'invalid') AND kept_until IS NULL;
CREATE INDEX IF NOT EXISTS acme_orders_kept ON acme_orders (kept_until) WHERE kept_until IS NOT NULL;
CREATE INDEX IF NOT EXISTS acme_orders_certificate ON acme_orders (certificate_id) WHERE certificate_id IS NOT NULL;
-- Of two orders that replace one certificate at the same moment, one is made (RFC 9773 §5).
CREATE UNIQUE INDEX IF NOT EXISTS acme_orders_replaces ON acme_orders (replaces) WHERE replaces IS NOT NULL AND status <> 'invalid';

CREATE TABLE IF NOT EXISTS acme_authorizations (
    id TEXT PRIMARY KEY,
    order_id TEXT NOT NULL REFERENCES acme_orders(id) ON DELETE CASCADE,
    account_id TEXT NOT NULL,
    identifier_type TEXT NOT NULL CHECK (identifier_type IN ('dns', 'ip')),
    identifier_value TEXT NOT NULL,
    wildcard INTEGER NOT NULL CHECK (wildcard IN (0, 1)),
    status TEXT NOT NULL CHECK (status IN ('pending', 'valid', 'invalid', 'deactivated', 'expired', 'revoked')),
    expires_at INTEGER NOT NULL,
    proved_by TEXT,
    proved_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS acme_authorizations_order ON acme_authorizations (order_id, id);
CREATE INDEX IF NOT EXISTS acme_authorizations_proved ON acme_authorizations (account_id, identifier_value)
    WHERE status = 'valid' AND proved_by IS NOT NULL;
CREATE INDEX IF NOT EXISTS acme_authorizations_pending ON acme_authorizations (expires_at) WHERE status = 'pending';

CREATE TABLE IF NOT EXISTS acme_challenges (
    id TEXT PRIMARY KEY,
    authz_id TEXT NOT NULL REFERENCES acme_authorizations(id) ON DELETE CASCADE,
    type TEXT NOT NULL CHECK (type IN ('http-01', 'dns-01', 'tls-alpn-01')),
    status TEXT NOT NULL CHECK (status IN ('pending', 'processing', 'valid', 'invalid')),
    token TEXT NOT NULL,
    validated_at INTEGER,
    error TEXT,
    lease_token INTEGER NOT NULL DEFAULT 0,
    lease_expires_at INTEGER,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS acme_challenges_authz ON acme_challenges (authz_id, id);
CREATE INDEX IF NOT EXISTS acme_challenges_processing ON acme_challenges (lease_expires_at) WHERE status = 'processing';

-- Nonces that were used, until nobody would take them any more. That one was made is told by itself.
CREATE TABLE IF NOT EXISTS acme_redeemed_nonces (
    nonce TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS acme_redeemed_nonces_expires ON acme_redeemed_nonces (expires_at);

CREATE TABLE IF NOT EXISTS acme_eab_keys (
    id TEXT PRIMARY KEY,
    hmac_ciphertext BLOB NOT NULL,
    profile_id TEXT NOT NULL REFERENCES certificate_profiles(id) ON DELETE CASCADE,
    bound_account_id TEXT REFERENCES acme_accounts(id) ON DELETE SET NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS acme_eab_keys_created ON acme_eab_keys (created_at DESC, id);

-- Names whose proof fails again and again for an account. A row goes when the name is proved or unpaused.
CREATE TABLE IF NOT EXISTS acme_failing_names (
    account_id TEXT NOT NULL REFERENCES acme_accounts(id) ON DELETE CASCADE,
    identifier_type TEXT NOT NULL,
    identifier_value TEXT NOT NULL,
    failures INTEGER NOT NULL,
    last_failed_at INTEGER NOT NULL,
    paused_at INTEGER,
    PRIMARY KEY (account_id, identifier_type, identifier_value)
) STRICT;
CREATE INDEX IF NOT EXISTS acme_failing_names_paused ON acme_failing_names (paused_at, account_id, identifier_value) WHERE paused_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS acme_failing_names_forgotten ON acme_failing_names (last_failed_at) WHERE paused_at IS NULL;
