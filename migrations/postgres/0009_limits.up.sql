-- Limits that replicas share. Both tables hold counts only: without them every limit begins anew.

CREATE TABLE IF NOT EXISTS rate_limit_buckets (
    -- `<site>:<key>`; keys of more than 256 bytes are hashed.
    bucket_key TEXT COLLATE "C" PRIMARY KEY,
    site TEXT COLLATE "C" NOT NULL,
    -- What counts within the window: a list of slices {n: permits, f: microseconds when they count no more, and while a replica
    -- may still spend them, h: that replica, l: microseconds until when}.
    slices JSONB NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    -- When the last slice counts no more.
    expires_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX IF NOT EXISTS idx_rate_limit_buckets_expires_at ON rate_limit_buckets (expires_at);
CREATE INDEX IF NOT EXISTS idx_rate_limit_buckets_site ON rate_limit_buckets (site, expires_at);

CREATE TABLE IF NOT EXISTS rate_limit_tokens (
    bucket_key TEXT COLLATE "C" PRIMARY KEY,
    -- Millionths of a token at `updated_at`; below zero when replicas spent more on credit than there was.
    tokens BIGINT NOT NULL,
    -- Millionths of a token that a full bucket holds.
    burst BIGINT NOT NULL,
    -- Thousandths of a token that come in each second.
    per_second BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX IF NOT EXISTS idx_rate_limit_tokens_updated_at ON rate_limit_tokens (updated_at);
