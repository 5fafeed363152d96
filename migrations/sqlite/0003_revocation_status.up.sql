-- What verifiers are told: CRLs, and who signs OCSP answers.

CREATE TABLE IF NOT EXISTS revocation_status (
    issuer_id TEXT PRIMARY KEY REFERENCES issuers(id) ON DELETE CASCADE,
    version INTEGER NOT NULL DEFAULT 0,
    listed_version INTEGER NOT NULL DEFAULT 0,
    crl_number INTEGER NOT NULL DEFAULT 0,
    generating_until INTEGER,
    shard_counts TEXT NOT NULL DEFAULT '[]',
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

-- The list comes last: SQLite gets to what stands behind it by walking through all of its pages, and the number is read often.
CREATE TABLE IF NOT EXISTS crl_cache (
    issuer_id TEXT NOT NULL REFERENCES issuers(id) ON DELETE CASCADE,
    shard TEXT NOT NULL DEFAULT '',
    crl_number INTEGER NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    generated_at INTEGER NOT NULL,
    generation_duration_ms INTEGER NOT NULL,
    revoked_count INTEGER NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    crl_der BLOB NOT NULL,
    PRIMARY KEY (issuer_id, shard)
) STRICT;

CREATE TABLE IF NOT EXISTS crl_generation_events (
    issuer_id TEXT NOT NULL REFERENCES issuers(id) ON DELETE CASCADE,
    crl_number INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    revoked_count INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    error TEXT,
    PRIMARY KEY (issuer_id, crl_number)
) STRICT;

CREATE TABLE IF NOT EXISTS ocsp_responders (
    issuer_id TEXT PRIMARY KEY REFERENCES issuers(id) ON DELETE CASCADE,
    cert_pem TEXT NOT NULL,
    cert_serial TEXT NOT NULL,
    key_path TEXT,
    encrypted_key BLOB,
    key_alg TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    rotated_from TEXT,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
