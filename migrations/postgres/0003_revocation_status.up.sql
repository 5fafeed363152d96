-- What verifiers are told: CRLs, and who signs OCSP answers.

CREATE TABLE IF NOT EXISTS revocation_status (
    issuer_id TEXT COLLATE "C" PRIMARY KEY REFERENCES issuers(id) ON DELETE CASCADE,
    version BIGINT NOT NULL DEFAULT 0,
    listed_version BIGINT NOT NULL DEFAULT 0,
    crl_number BIGINT NOT NULL DEFAULT 0,
    generating_until TIMESTAMPTZ,
    shard_counts JSONB NOT NULL DEFAULT '[]',
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON COLUMN revocation_status.version IS 'Grows with every transaction that revokes something of the issuer.';
COMMENT ON COLUMN revocation_status.listed_version IS 'The version the latest CRL covers; behind version means that a CRL is due.';
COMMENT ON COLUMN revocation_status.crl_number IS 'The last number given to a CRL, whether it came into being or not; it never goes back.';
COMMENT ON COLUMN revocation_status.generating_until IS 'Until when a replica holds the making of CRLs; NULL when none does.';
COMMENT ON COLUMN revocation_status.shard_counts IS 'Every number of shards that certificates may point at.';

CREATE TABLE IF NOT EXISTS crl_cache (
    issuer_id TEXT COLLATE "C" NOT NULL REFERENCES issuers(id) ON DELETE CASCADE,
    shard TEXT COLLATE "C" NOT NULL DEFAULT '',
    crl_number BIGINT NOT NULL,
    this_update TIMESTAMPTZ NOT NULL,
    next_update TIMESTAMPTZ NOT NULL,
    generated_at TIMESTAMPTZ NOT NULL,
    generation_duration_ms BIGINT NOT NULL,
    revoked_count BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    crl_der BYTEA NOT NULL,
    PRIMARY KEY (issuer_id, shard)
);
-- A CRL is signed bytes without redundancy, so that compressing it only costs time.
ALTER TABLE crl_cache ALTER COLUMN crl_der SET STORAGE EXTERNAL;

CREATE TABLE IF NOT EXISTS crl_generation_events (
    issuer_id TEXT COLLATE "C" NOT NULL REFERENCES issuers(id) ON DELETE CASCADE,
    crl_number BIGINT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    duration_ms BIGINT NOT NULL,
    revoked_count BIGINT NOT NULL,
    succeeded BOOLEAN NOT NULL,
    error TEXT,
    PRIMARY KEY (issuer_id, crl_number)
);
COMMENT ON COLUMN crl_generation_events.error IS 'What went wrong; NULL when it succeeded.';

CREATE TABLE IF NOT EXISTS ocsp_responders (
    issuer_id TEXT COLLATE "C" PRIMARY KEY REFERENCES issuers(id) ON DELETE CASCADE,
    cert_pem TEXT NOT NULL,
    cert_serial TEXT COLLATE "C" NOT NULL,
    key_path TEXT,
    encrypted_key BYTEA,
    key_alg TEXT COLLATE "C" NOT NULL,
    not_before TIMESTAMPTZ NOT NULL,
    not_after TIMESTAMPTZ NOT NULL,
    rotated_from TEXT COLLATE "C",
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON COLUMN ocsp_responders.key_path IS 'The file of the key; NULL where the key is sealed in this row.';
COMMENT ON COLUMN ocsp_responders.encrypted_key IS 'The sealed key; NULL where it is in a file.';
COMMENT ON COLUMN ocsp_responders.rotated_from IS 'The serial of the responder before; NULL for the first.';
