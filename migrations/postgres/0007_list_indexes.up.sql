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
    noun TEXT COLLATE "C" NOT NULL,
    shard INTEGER NOT NULL,
    held BIGINT NOT NULL,
    PRIMARY KEY (noun, shard)
) WITH (fillfactor = 50);
COMMENT ON TABLE row_totals IS 'How many rows a table has: the sum of its shards, each kept by the sessions whose process id falls to it. One shard may be negative.';

-- One statement counts once, however many rows it changes.
CREATE OR REPLACE FUNCTION certctl_count_rows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    change BIGINT;
BEGIN
    SELECT CASE TG_OP WHEN 'INSERT' THEN count(*) ELSE -count(*) END INTO change FROM changed;
    IF change <> 0 THEN
        INSERT INTO row_totals AS t (noun, shard, held) VALUES (TG_TABLE_NAME, pg_backend_pid() % 64, change)
            ON CONFLICT (noun, shard) DO UPDATE SET held = t.held + excluded.held;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION certctl_forget_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM row_totals WHERE noun = TG_TABLE_NAME;
    RETURN NULL;
END $$;

-- The triggers are made first: that keeps others from writing until the rows that are there are counted and all is committed.
DROP TRIGGER IF EXISTS count_inserted ON managed_certificates;
CREATE TRIGGER count_inserted AFTER INSERT ON managed_certificates REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION certctl_count_rows();
DROP TRIGGER IF EXISTS count_deleted ON managed_certificates;
CREATE TRIGGER count_deleted AFTER DELETE ON managed_certificates REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION certctl_count_rows();
DROP TRIGGER IF EXISTS count_truncated ON managed_certificates;
CREATE TRIGGER count_truncated AFTER TRUNCATE ON managed_certificates FOR EACH STATEMENT EXECUTE FUNCTION certctl_forget_rows();

DROP TRIGGER IF EXISTS count_inserted ON jobs;
CREATE TRIGGER count_inserted AFTER INSERT ON jobs REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION certctl_count_rows();
DROP TRIGGER IF EXISTS count_deleted ON jobs;
CREATE TRIGGER count_deleted AFTER DELETE ON jobs REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION certctl_count_rows();
DROP TRIGGER IF EXISTS count_truncated ON jobs;
CREATE TRIGGER count_truncated AFTER TRUNCATE ON jobs FOR EACH STATEMENT EXECUTE FUNCTION certctl_forget_rows();

DELETE FROM row_totals WHERE noun IN ('managed_certificates', 'jobs');
INSERT INTO row_totals (noun, shard, held) SELECT 'managed_certificates', 0, count(*) FROM managed_certificates
    ON CONFLICT (noun, shard) DO UPDATE SET held = excluded.held;
INSERT INTO row_totals (noun, shard, held) SELECT 'jobs', 0, count(*) FROM jobs
    ON CONFLICT (noun, shard) DO UPDATE SET held = excluded.held;
