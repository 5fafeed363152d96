DROP TRIGGER IF EXISTS count_truncated ON notification_events;
DROP TRIGGER IF EXISTS count_deleted ON notification_events;
DROP TRIGGER IF EXISTS count_inserted ON notification_events;
DROP TRIGGER IF EXISTS count_truncated ON deployment_targets;
DROP TRIGGER IF EXISTS count_deleted ON deployment_targets;
DROP TRIGGER IF EXISTS count_inserted ON deployment_targets;
DROP TRIGGER IF EXISTS count_retired_deleted ON agents;
DROP TRIGGER IF EXISTS count_retired_updated ON agents;
DROP TRIGGER IF EXISTS count_retired_inserted ON agents;
DROP TRIGGER IF EXISTS count_truncated ON agents;
DROP TRIGGER IF EXISTS count_deleted ON agents;
DROP TRIGGER IF EXISTS count_inserted ON agents;
DROP FUNCTION IF EXISTS certctl_count_retired();
CREATE OR REPLACE FUNCTION certctl_forget_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM row_totals WHERE noun = TG_TABLE_NAME;
    RETURN NULL;
END $$;
DELETE FROM row_totals WHERE noun IN ('agents', 'agents_retired', 'deployment_targets', 'notification_events');

DROP INDEX IF EXISTS deployment_targets_created;
DROP INDEX IF EXISTS agents_retired;
DROP INDEX IF EXISTS jobs_of_type;
CREATE INDEX IF NOT EXISTS jobs_status ON jobs (status, scheduled_at);
DROP INDEX IF EXISTS jobs_in_status;
