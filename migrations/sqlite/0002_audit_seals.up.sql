-- Sealing of the audit trail; the comments are those of PostgreSQL's file.

CREATE TABLE IF NOT EXISTS audit_unsealed (
    timestamp INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    PRIMARY KEY (timestamp, event_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS audit_keys (
    key_id TEXT PRIMARY KEY,
    public_key BLOB NOT NULL,
    private_key BLOB,
    created_at INTEGER NOT NULL,
    retired_at INTEGER
) STRICT;

CREATE TABLE IF NOT EXISTS audit_batches (
    batch INTEGER NOT NULL,
    first_seq INTEGER NOT NULL UNIQUE,
    row_count INTEGER NOT NULL CHECK (row_count > 0),
    root BLOB NOT NULL,
    previous BLOB NOT NULL,
    sealed_at INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (batch)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS audit_batches_sealed ON audit_batches (sealed_at, batch);

CREATE TABLE IF NOT EXISTS audit_positions (
    seq INTEGER NOT NULL,
    event_id TEXT NOT NULL UNIQUE,
    batch INTEGER NOT NULL,
    leaf BLOB NOT NULL,
    PRIMARY KEY (seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS audit_marks (
    name TEXT PRIMARY KEY,
    document TEXT NOT NULL,
    signature BLOB NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER IF NOT EXISTS note_unsealed AFTER INSERT ON audit_events
BEGIN
    INSERT INTO audit_unsealed (timestamp, event_id) VALUES (NEW.timestamp, NEW.id);
END;

CREATE TRIGGER IF NOT EXISTS positions_append_only_update BEFORE UPDATE ON audit_positions
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed');
END;
CREATE TRIGGER IF NOT EXISTS positions_append_only_delete BEFORE DELETE ON audit_positions
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed');
END;
CREATE TRIGGER IF NOT EXISTS positions_append_only_replace BEFORE INSERT ON audit_positions
    WHEN EXISTS (SELECT 1 FROM audit_positions WHERE seq = NEW.seq)
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed');
END;
CREATE TRIGGER IF NOT EXISTS batches_append_only_update BEFORE UPDATE ON audit_batches
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed');
END;
CREATE TRIGGER IF NOT EXISTS batches_append_only_delete BEFORE DELETE ON audit_batches
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed');
END;
CREATE TRIGGER IF NOT EXISTS batches_append_only_replace BEFORE INSERT ON audit_batches
    WHEN EXISTS (SELECT 1 FROM audit_batches WHERE batch = NEW.batch)
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed');
END;

INSERT OR IGNORE INTO audit_unsealed (timestamp, event_id) SELECT e.timestamp, e.id FROM audit_events e
    WHERE NOT EXISTS (SELECT 1 FROM audit_positions p WHERE p.event_id = e.id);
