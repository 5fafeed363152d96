-- The ACME server (RFC 8555): accounts, orders, what proves them, and what keeps its limits.

ALTER TABLE certificate_profiles ADD COLUMN IF NOT EXISTS acme_issuer_id TEXT COLLATE "C" REFERENCES issuers(id) ON DELETE SET NULL;
COMMENT ON COLUMN certificate_profiles.acme_issuer_id IS 'Who signs for ACME accounts of this profile; NULL for the configured issuer, or the only enabled one.';

-- Certificates of ACME are renewed by their clients: only those have the key. The scan's index leaves them out, so that it does
-- not walk past all that were ever replaced.
DROP INDEX IF EXISTS managed_certificates_due;
CREATE INDEX IF NOT EXISTS managed_certificates_due ON managed_certificates (renew_at, id)
    WHERE status IN ('Active', 'Expiring', 'Pending', 'Failed') AND renew_at IS NOT NULL AND source <> 'ACME';
-- Of those that are in date, all of which the state follows by their time.
CREATE INDEX IF NOT EXISTS managed_certificates_expiring ON managed_certificates (renew_at)
    WHERE status IN ('Active', 'Pending') AND renew_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS acme_accounts (
    id TEXT COLLATE "C" PRIMARY KEY,
    -- RFC 7638, SHA-256, base64url.
    jwk_thumbprint TEXT COLLATE "C" NOT NULL,
    jwk_pem TEXT NOT NULL,
    contact TEXT[] NOT NULL DEFAULT '{}',
    status TEXT COLLATE "C" NOT NULL DEFAULT 'valid' CHECK (status IN ('valid', 'deactivated', 'revoked')),
    profile_id TEXT COLLATE "C" NOT NULL REFERENCES certificate_profiles(id) ON DELETE RESTRICT,
    owner_id TEXT COLLATE "C" REFERENCES owners(id) ON DELETE SET NULL,
    terms_agreed BOOLEAN NOT NULL DEFAULT false,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    UNIQUE (profile_id, jwk_thumbprint)
);
CREATE INDEX IF NOT EXISTS acme_accounts_created ON acme_accounts (created_at DESC, id);
COMMENT ON COLUMN acme_accounts.owner_id IS 'Who owns what it orders; NULL for the configured owner.';

CREATE TABLE IF NOT EXISTS acme_orders (
    id TEXT COLLATE "C" PRIMARY KEY,
    account_id TEXT COLLATE "C" NOT NULL REFERENCES acme_accounts(id) ON DELETE RESTRICT,
    profile_id TEXT COLLATE "C" NOT NULL REFERENCES certificate_profiles(id) ON DELETE RESTRICT,
    issuer_id TEXT COLLATE "C" NOT NULL REFERENCES issuers(id) ON DELETE RESTRICT,
    auth_mode TEXT COLLATE "C" NOT NULL CHECK (auth_mode IN ('trust_authenticated', 'challenge')),
    -- [{type, value}], sorted.
    identifiers JSONB NOT NULL,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('pending', 'ready', 'processing', 'valid', 'invalid')),
    expires_at TIMESTAMPTZ NOT NULL,
    not_before TIMESTAMPTZ,
    not_after TIMESTAMPTZ,
    error JSONB,
    csr_pem TEXT,
    certificate_id TEXT COLLATE "C" REFERENCES managed_certificates(id) ON DELETE SET NULL,
    job_id TEXT COLLATE "C",
    replaces TEXT COLLATE "C",
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    kept_until TIMESTAMPTZ
);
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
COMMENT ON COLUMN acme_orders.not_before IS 'NULL where the client did not ask for a start.';
COMMENT ON COLUMN acme_orders.not_after IS 'NULL where the client did not ask for an end.';
COMMENT ON COLUMN acme_orders.error IS 'Why it is invalid; NULL otherwise.';
COMMENT ON COLUMN acme_orders.csr_pem IS 'NULL until it is finalised.';
COMMENT ON COLUMN acme_orders.certificate_id IS 'NULL until it is finalised.';
COMMENT ON COLUMN acme_orders.job_id IS 'Who issues it; NULL until it is finalised.';
COMMENT ON COLUMN acme_orders.kept_until IS 'The end of its certificate; NULL until the order is old enough to be deleted and its certificate still lives.';
COMMENT ON COLUMN acme_orders.replaces IS 'The certificate identifier of RFC 9773 §4.1; NULL where it replaces none.';

CREATE TABLE IF NOT EXISTS acme_authorizations (
    id TEXT COLLATE "C" PRIMARY KEY,
    order_id TEXT COLLATE "C" NOT NULL REFERENCES acme_orders(id) ON DELETE CASCADE,
    account_id TEXT COLLATE "C" NOT NULL,
    identifier_type TEXT COLLATE "C" NOT NULL CHECK (identifier_type IN ('dns', 'ip')),
    identifier_value TEXT COLLATE "C" NOT NULL,
    wildcard BOOLEAN NOT NULL,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('pending', 'valid', 'invalid', 'deactivated', 'expired', 'revoked')),
    expires_at TIMESTAMPTZ NOT NULL,
    proved_by TEXT COLLATE "C",
    proved_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX IF NOT EXISTS acme_authorizations_order ON acme_authorizations (order_id, id);
CREATE INDEX IF NOT EXISTS acme_authorizations_proved ON acme_authorizations (account_id, identifier_value)
    WHERE status = 'valid' AND proved_by IS NOT NULL;
CREATE INDEX IF NOT EXISTS acme_authorizations_pending ON acme_authorizations (expires_at) WHERE status = 'pending';
COMMENT ON COLUMN acme_authorizations.proved_by IS 'The type of the challenge that proved it; NULL while none did, and where the account is trusted.';
COMMENT ON COLUMN acme_authorizations.proved_at IS 'When it was proved; NULL where proved_by is.';

CREATE TABLE IF NOT EXISTS acme_challenges (
    id TEXT COLLATE "C" PRIMARY KEY,
    authz_id TEXT COLLATE "C" NOT NULL REFERENCES acme_authorizations(id) ON DELETE CASCADE,
    type TEXT COLLATE "C" NOT NULL CHECK (type IN ('http-01', 'dns-01', 'tls-alpn-01')),
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('pending', 'processing', 'valid', 'invalid')),
    token TEXT COLLATE "C" NOT NULL,
    validated_at TIMESTAMPTZ,
    error JSONB,
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_expires_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX IF NOT EXISTS acme_challenges_authz ON acme_challenges (authz_id, id);
CREATE INDEX IF NOT EXISTS acme_challenges_processing ON acme_challenges (lease_expires_at) WHERE status = 'processing';
COMMENT ON COLUMN acme_challenges.validated_at IS 'NULL unless it is valid.';
COMMENT ON COLUMN acme_challenges.error IS 'Why it is invalid; NULL otherwise.';
COMMENT ON COLUMN acme_challenges.lease_token IS 'Grows whenever a replica takes it up; what a former one found is refused by comparing it.';
COMMENT ON COLUMN acme_challenges.lease_expires_at IS 'When whoever looks is taken for dead; NULL unless it is processing.';

-- Nonces that were used, until nobody would take them any more. That one was made is told by itself.
CREATE TABLE IF NOT EXISTS acme_redeemed_nonces (
    nonce TEXT COLLATE "C" PRIMARY KEY,
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX IF NOT EXISTS acme_redeemed_nonces_expires ON acme_redeemed_nonces (expires_at);

CREATE TABLE IF NOT EXISTS acme_eab_keys (
    id TEXT COLLATE "C" PRIMARY KEY,
    hmac_ciphertext BYTEA NOT NULL,
    profile_id TEXT COLLATE "C" NOT NULL REFERENCES certificate_profiles(id) ON DELETE CASCADE,
    bound_account_id TEXT COLLATE "C" REFERENCES acme_accounts(id) ON DELETE SET NULL,
    created_at TIMESTAMPTZ NOT NULL,
    revoked_at TIMESTAMPTZ
);
CREATE INDEX IF NOT EXISTS acme_eab_keys_created ON acme_eab_keys (created_at DESC, id);
COMMENT ON COLUMN acme_eab_keys.bound_account_id IS 'NULL until an account is made with it.';
COMMENT ON COLUMN acme_eab_keys.revoked_at IS 'NULL while it may be used.';

-- Names whose proof fails again and again for an account. A row goes when the name is proved or unpaused.
CREATE TABLE IF NOT EXISTS acme_failing_names (
    account_id TEXT COLLATE "C" NOT NULL REFERENCES acme_accounts(id) ON DELETE CASCADE,
    identifier_type TEXT COLLATE "C" NOT NULL,
    identifier_value TEXT COLLATE "C" NOT NULL,
    failures INTEGER NOT NULL,
    last_failed_at TIMESTAMPTZ NOT NULL,
    paused_at TIMESTAMPTZ,
    PRIMARY KEY (account_id, identifier_type, identifier_value)
);
CREATE INDEX IF NOT EXISTS acme_failing_names_paused ON acme_failing_names (paused_at, account_id, identifier_value) WHERE paused_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS acme_failing_names_forgotten ON acme_failing_names (last_failed_at) WHERE paused_at IS NULL;
COMMENT ON COLUMN acme_failing_names.paused_at IS 'Since when no order may have it; NULL while it has not failed often enough.';
