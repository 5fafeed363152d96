-- What somebody is to be told. A row is written in the transaction of what it tells of, and sent later: the outbox.

CREATE TABLE IF NOT EXISTS notification_events (
    id TEXT COLLATE "C" PRIMARY KEY,
    type TEXT COLLATE "C" NOT NULL,
    certificate_id TEXT COLLATE "C" REFERENCES managed_certificates(id) ON DELETE CASCADE,
    channel TEXT COLLATE "C" NOT NULL DEFAULT 'Email',
    recipient TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL,
    sent_at TIMESTAMPTZ,
    status TEXT COLLATE "C" NOT NULL DEFAULT 'pending',
    error TEXT,
    retry_count INTEGER NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
    next_retry_at TIMESTAMPTZ,
    last_error TEXT,
    dedupe_key TEXT COLLATE "C",
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX IF NOT EXISTS notification_events_dedupe ON notification_events (dedupe_key);
CREATE INDEX IF NOT EXISTS notification_events_listed ON notification_events (sent_at DESC NULLS LAST, created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS notification_events_status ON notification_events (status, sent_at DESC NULLS LAST, created_at DESC, id DESC);
CREATE INDEX IF NOT EXISTS notification_events_retry ON notification_events (next_retry_at) WHERE status = 'failed';
CREATE INDEX IF NOT EXISTS notification_events_certificate ON notification_events (certificate_id);
COMMENT ON COLUMN notification_events.certificate_id IS 'NULL where it tells of no single certificate.';
COMMENT ON COLUMN notification_events.sent_at IS 'NULL until it is sent.';
COMMENT ON COLUMN notification_events.error IS 'Why it was given up; NULL otherwise.';
COMMENT ON COLUMN notification_events.next_retry_at IS 'When a failed one is tried again; NULL in any other state.';
COMMENT ON COLUMN notification_events.last_error IS 'What the last attempt met; NULL while none failed.';
COMMENT ON COLUMN notification_events.dedupe_key IS 'What is told once only has the same key; NULL in rows of others, which are never taken for the same.';
