-- What somebody is to be told. A row is written in the transaction of what it tells of, and sent later: the outbox.

CREATE TABLE IF NOT EXISTS notification_events (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    certificate_id TEXT REFERENCES managed_certificates(id) ON DELETE CASCADE,
    channel TEXT NOT NULL DEFAULT 'Email',
    recipient TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL,
    sent_at INTEGER,
    status TEXT NOT NULL DEFAULT 'pending',
    error TEXT,
    retry_count INTEGER NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
    next_retry_at INTEGER,
    last_error TEXT,
    dedupe_key TEXT,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS notification_events_dedupe ON notification_events (dedupe_key);
-- NULL is the least value here, so that it comes last where the order descends.
CREATE INDEX IF NOT EXISTS notification_events_listed ON notification_events (sent_at DESC, created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS notification_events_status ON notification_events (status, sent_at DESC, created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS notification_events_retry ON notification_events (next_retry_at) WHERE status = 'failed';
CREATE INDEX IF NOT EXISTS notification_events_certificate ON notification_events (certificate_id);
