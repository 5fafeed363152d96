-- Lists of jobs, agents, targets and notifications: an index for each filter in the order of the list, and totals that are kept
-- (docs/decisions/0004-totals.md).

CREATE INDEX IF NOT EXISTS jobs_in_status ON jobs (status, created_at DESC, id);
DROP INDEX IF EXISTS jobs_status;
CREATE INDEX IF NOT EXISTS jobs_of_type ON jobs (type, created_at DESC, id);
CREATE INDEX IF NOT EXISTS agents_retired ON agents (retired_at DESC, id) WHERE retired_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS deployment_targets_created ON deployment_targets (created_at DESC, id);

CREATE OR REPLACE FUNCTION certctl_forget_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM row_totals WHERE noun IN (TG_TABLE_NAME, TG_TABLE_NAME || '_retired');
    RETURN NULL;
END $$;

-- Agents that come, go, retire or come back by themselves: heartbeats change no `retired_at`, and so cost nothing here.
CREATE OR REPLACE FUNCTION certctl_count_retired() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    change BIGINT := 1;
BEGIN
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.retired_at IS NOT NULL) THEN
        change := -1;
    END IF;
    INSERT INTO row_totals AS t (noun, shard, held) VALUES (TG_TABLE_NAME || '_retired', pg_backend_pid() % 64, change)
        ON CONFLICT (noun, shard) DO UPDATE SET held = t.held + excluded.held;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS count_inserted ON agents;
CREATE TRIGGER count_inserted AFTER INSERT ON agents REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION certctl_count_rows();
DROP TRIGGER IF EXISTS count_deleted ON agents;
CREATE TRIGGER count_deleted AFTER DELETE ON agents REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION certctl_count_rows();
DROP TRIGGER IF EXISTS count_truncated ON agents;
CREATE TRIGGER count_truncated AFTER TRUNCATE ON agents FOR EACH STATEMENT EXECUTE FUNCTION certctl_forget_rows();
DROP TRIGGER IF EXISTS count_retired_inserted ON agents;
CREATE TRIGGER count_retired_inserted AFTER INSERT ON agents
    FOR EACH ROW WHEN (NEW.retired_at IS NOT NULL) EXECUTE FUNCTION certctl_count_retired();
DROP TRIGGER IF EXISTS count_retired_updated ON agents;
CREATE TRIGGER count_retired_updated AFTER UPDATE OF retired_at ON agents
    FOR EACH ROW WHEN ((OLD.retired_at IS NULL) <> (NEW.retired_at IS NULL)) EXECUTE FUNCTION certctl_count_retired();
DROP TRIGGER IF EXISTS count_retired_deleted ON agents;
CREATE TRIGGER count_retired_deleted AFTER DELETE ON agents
    FOR EACH ROW WHEN (OLD.retired_at IS NOT NULL) EXECUTE FUNCTION certctl_count_retired();

DROP TRIGGER IF EXISTS count_inserted ON deployment_targets;
CREATE TRIGGER count_inserted AFTER INSERT ON deployment_targets REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION certctl_count_rows();
DROP TRIGGER IF EXISTS count_deleted ON deployment_targets;
CREATE TRIGGER count_deleted AFTER DELETE ON deployment_targets REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION certctl_count_rows();
DROP TRIGGER IF EXISTS count_truncated ON deployment_targets;
CREATE TRIGGER count_truncated AFTER TRUNCATE ON deployment_targets FOR EACH STATEMENT EXECUTE FUNCTION certctl_forget_rows();

DROP TRIGGER IF EXISTS count_inserted ON notification_events;
CREATE TRIGGER count_inserted AFTER INSERT ON notification_events REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION certctl_count_rows();
DROP TRIGGER IF EXISTS count_deleted ON notification_events;
CREATE TRIGGER count_deleted AFTER DELETE ON notification_events REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION certctl_count_rows();
DROP TRIGGER IF EXISTS count_truncated ON notification_events;
CREATE TRIGGER count_truncated AFTER TRUNCATE ON notification_events FOR EACH STATEMENT EXECUTE FUNCTION certctl_forget_rows();

-- The triggers are made first: that keeps others from writing until the rows that are there are counted and all is committed.
DELETE FROM row_totals WHERE noun IN ('agents', 'agents_retired', 'deployment_targets', 'notification_events');
INSERT INTO row_totals (noun, shard, held)
    SELECT 'agents', 0, count(*) FROM agents
    UNION ALL SELECT 'agents_retired', 0, count(*) FROM agents WHERE retired_at IS NOT NULL
    UNION ALL SELECT 'deployment_targets', 0, count(*) FROM deployment_targets
    UNION ALL SELECT 'notification_events', 0, count(*) FROM notification_events
    ON CONFLICT (noun, shard) DO UPDATE SET held = excluded.held;
