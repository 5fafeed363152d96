-- Every order and every filter of the list of certificates is a range of an index that ends with a unique column, and the
-- totals of growing lists are kept, not counted (docs/decisions/0004-totals.md).

CREATE INDEX IF NOT EXISTS managed_certificates_updated ON managed_certificates (updated_at, id);
CREATE INDEX IF NOT EXISTS managed_certificates_common_name ON managed_certificates (common_name, id);
CREATE INDEX IF NOT EXISTS managed_certificates_ends ON managed_certificates (expires_at, id);
CREATE INDEX IF NOT EXISTS managed_certificates_environment ON managed_certificates (environment, created_at, id);

-- A filter in the order of the list, and in the order of the cursor, which is its reverse.
DROP INDEX IF EXISTS managed_certificates_owner;
CREATE INDEX IF NOT EXISTS managed_certificates_owner ON managed_certificates (owner_id, created_at, id);
DROP INDEX IF EXISTS managed_certificates_team;
CREATE INDEX IF NOT EXISTS managed_certificates_team ON managed_certificates (team_id, created_at, id);
DROP INDEX IF EXISTS managed_certificates_issuer;
CREATE INDEX IF NOT EXISTS managed_certificates_issuer ON managed_certificates (issuer_id, created_at, id);
DROP INDEX IF EXISTS managed_certificates_profile;
CREATE INDEX IF NOT EXISTS managed_certificates_profile ON managed_certificates (certificate_profile_id, created_at, id);

CREATE TABLE IF NOT EXISTS row_totals (
    noun TEXT NOT NULL,
    shard INTEGER NOT NULL,
    held INTEGER NOT NULL,
    PRIMARY KEY (noun, shard)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS managed_certificates_count_inserted AFTER INSERT ON managed_certificates BEGIN
    UPDATE row_totals SET held = held + 1 WHERE noun = 'managed_certificates' AND shard = 0;
END;
CREATE TRIGGER IF NOT EXISTS managed_certificates_count_deleted AFTER DELETE ON managed_certificates BEGIN
    UPDATE row_totals SET held = held - 1 WHERE noun = 'managed_certificates' AND shard = 0;
END;
CREATE TRIGGER IF NOT EXISTS jobs_count_inserted AFTER INSERT ON jobs BEGIN
    UPDATE row_totals SET held = held + 1 WHERE noun = 'jobs' AND shard = 0;
END;
CREATE TRIGGER IF NOT EXISTS jobs_count_deleted AFTER DELETE ON jobs BEGIN
    UPDATE row_totals SET held = held - 1 WHERE noun = 'jobs' AND shard = 0;
END;

INSERT INTO row_totals (noun, shard, held) SELECT 'managed_certificates', 0, count(*) FROM managed_certificates WHERE true
    ON CONFLICT (noun, shard) DO UPDATE SET held = excluded.held;
INSERT INTO row_totals (noun, shard, held) SELECT 'jobs', 0, count(*) FROM jobs WHERE true
    ON CONFLICT (noun, shard) DO UPDATE SET held = excluded.held;
