-- Limits that replicas share. Both tables hold counts only: without them every limit begins anew.

CREATE TABLE IF NOT EXISTS rate_limit_buckets (
    -- `<site>:<key>`; keys of more than 256 bytes are hashed.
    bucket_key TEXT PRIMARY KEY,
    site TEXT NOT NULL,
    -- What counts within the window: a list of slices {n: permits, f: microseconds when they count no more, and while a replica
    -- may still spend them, h: that replica, l: microseconds until when}.
    slices TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    -- When the last slice counts no more.
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS idx_rate_limit_buckets_expires_at ON rate_limit_buckets (expires_at);
CREATE INDEX IF NOT EXISTS idx_rate_limit_buckets_site ON rate_limit_buckets (site, expires_at);

CREATE TABLE IF NOT EXISTS rate_limit_tokens (
    bucket_key TEXT PRIMARY KEY,
    -- Millionths of a token at `updated_at`; below zero when replicas spent more on credit than there was.
    tokens INTEGER NOT NULL,
    -- Millionths of a token that a full bucket holds.
    burst INTEGER NOT NULL,
    -- Thousandths of a token that come in each second.
    per_second INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS idx_rate_limit_tokens_updated_at ON rate_limit_tokens (updated_at);
