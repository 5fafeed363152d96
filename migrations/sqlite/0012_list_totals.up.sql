-- Lists of jobs, agents, targets and notifications; the comments are those of PostgreSQL's file.

CREATE INDEX IF NOT EXISTS jobs_in_status ON jobs (status, created_at DESC, id);
DROP INDEX IF EXISTS jobs_status;
CREATE INDEX IF NOT EXISTS jobs_of_type ON jobs (type, created_at DESC, id);
CREATE INDEX IF NOT EXISTS agents_retired ON agents (retired_at DESC, id) WHERE retired_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS deployment_targets_created ON deployment_targets (created_at DESC, id);

CREATE TRIGGER IF NOT EXISTS agents_count_inserted AFTER INSERT ON agents BEGIN
    UPDATE row_totals SET held = held + 1 WHERE noun = 'agents' AND shard = 0;
END;
CREATE TRIGGER IF NOT EXISTS agents_count_deleted AFTER DELETE ON agents BEGIN
    UPDATE row_totals SET held = held - 1 WHERE noun = 'agents' AND shard = 0;
END;
CREATE TRIGGER IF NOT EXISTS deployment_targets_count_inserted AFTER INSERT ON deployment_targets BEGIN
    UPDATE row_totals SET held = held + 1 WHERE noun = 'deployment_targets' AND shard = 0;
END;
CREATE TRIGGER IF NOT EXISTS deployment_targets_count_deleted AFTER DELETE ON deployment_targets BEGIN
    UPDATE row_totals SET held = held - 1 WHERE noun = 'deployment_targets' AND shard = 0;
END;
CREATE TRIGGER IF NOT EXISTS notification_events_count_inserted AFTER INSERT ON notification_events BEGIN
    UPDATE row_totals SET held = held + 1 WHERE noun = 'notification_events' AND shard = 0;
END;
CREATE TRIGGER IF NOT EXISTS notification_events_count_deleted AFTER DELETE ON notification_events BEGIN
    UPDATE row_totals SET held = held - 1 WHERE noun = 'notification_events' AND shard = 0;
END;
CREATE TRIGGER IF NOT EXISTS agents_retired_count_inserted AFTER INSERT ON agents WHEN NEW.retired_at IS NOT NULL BEGIN
    UPDATE row_totals SET held = held + 1 WHERE noun = 'agents_retired' AND shard = 0;
END;
CREATE TRIGGER IF NOT EXISTS agents_retired_count_deleted AFTER DELETE ON agents WHEN OLD.retired_at IS NOT NULL BEGIN
    UPDATE row_totals SET held = held - 1 WHERE noun = 'agents_retired' AND shard = 0;
END;
CREATE TRIGGER IF NOT EXISTS agents_retired_count_updated AFTER UPDATE OF retired_at ON agents WHEN (OLD.retired_at IS NULL) <> (NEW.retired_at IS NULL) BEGIN
    UPDATE row_totals SET held = held + iif(NEW.retired_at IS NULL, -1, 1) WHERE noun = 'agents_retired' AND shard = 0;
END;

INSERT INTO row_totals (noun, shard, held)
    SELECT * FROM (SELECT 'agents', 0, count(*) FROM agents
    UNION ALL SELECT 'agents_retired', 0, count(*) FROM agents WHERE retired_at IS NOT NULL
    UNION ALL SELECT 'deployment_targets', 0, count(*) FROM deployment_targets
    UNION ALL SELECT 'notification_events', 0, count(*) FROM notification_events) WHERE true
    ON CONFLICT (noun, shard) DO UPDATE SET held = excluded.held;
