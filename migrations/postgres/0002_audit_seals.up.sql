-- Sealing of the audit trail: rows go in with their transactions and without a lock; a sealer puts them in order afterwards and closes them
-- into signed batches.

-- Rows that wait to be sealed. Every insert into audit_events leaves its mark here in the same statement, so a row that commits
-- late is found late and never missed, and finding them costs what is new and not what there is.
CREATE TABLE IF NOT EXISTS audit_unsealed (
    timestamp TIMESTAMPTZ NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (timestamp, event_id)
);

CREATE TABLE IF NOT EXISTS audit_keys (
    key_id TEXT COLLATE "C" PRIMARY KEY,
    public_key BYTEA NOT NULL,
    private_key BYTEA,
    created_at TIMESTAMPTZ NOT NULL,
    retired_at TIMESTAMPTZ
);
COMMENT ON COLUMN audit_keys.public_key IS 'SubjectPublicKeyInfo, DER.';
COMMENT ON COLUMN audit_keys.private_key IS 'Sealed with the encryption key. NULL when there was none: the key is then in the data directory of the replica that made it.';
COMMENT ON COLUMN audit_keys.retired_at IS 'NULL while it signs.';

CREATE TABLE IF NOT EXISTS audit_batches (
    batch BIGINT PRIMARY KEY,
    first_seq BIGINT NOT NULL UNIQUE,
    row_count BIGINT NOT NULL CHECK (row_count > 0),
    root BYTEA NOT NULL,
    previous BYTEA NOT NULL,
    sealed_at TIMESTAMPTZ NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    signature BYTEA NOT NULL
);
CREATE INDEX IF NOT EXISTS audit_batches_sealed ON audit_batches (sealed_at, batch);

-- Where each sealed row stands; from 0, without gaps.
CREATE TABLE IF NOT EXISTS audit_positions (
    seq BIGINT PRIMARY KEY,
    event_id TEXT COLLATE "C" NOT NULL UNIQUE,
    batch BIGINT NOT NULL,
    leaf BYTEA NOT NULL
);

-- Signed words about the trail as a whole: the newest head, and how far it was verified.
CREATE TABLE IF NOT EXISTS audit_marks (
    name TEXT COLLATE "C" PRIMARY KEY,
    document TEXT NOT NULL,
    signature BYTEA NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE OR REPLACE FUNCTION certctl_note_unsealed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_unsealed (timestamp, event_id) SELECT timestamp, id FROM added;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS note_unsealed ON audit_events;
CREATE TRIGGER note_unsealed AFTER INSERT ON audit_events REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION certctl_note_unsealed();

DROP TRIGGER IF EXISTS append_only ON audit_positions;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_positions FOR EACH ROW EXECUTE FUNCTION certctl_refuse_change();
DROP TRIGGER IF EXISTS append_only_truncate ON audit_positions;
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON audit_positions FOR EACH STATEMENT EXECUTE FUNCTION certctl_refuse_change();
DROP TRIGGER IF EXISTS append_only ON audit_batches;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_batches FOR EACH ROW EXECUTE FUNCTION certctl_refuse_change();
DROP TRIGGER IF EXISTS append_only_truncate ON audit_batches;
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON audit_batches FOR EACH STATEMENT EXECUTE FUNCTION certctl_refuse_change();

-- Rows from before are sealed like those that come.
INSERT INTO audit_unsealed (timestamp, event_id) SELECT e.timestamp, e.id FROM audit_events e
    WHERE NOT EXISTS (SELECT 1 FROM audit_positions p WHERE p.event_id = e.id) ON CONFLICT DO NOTHING;
