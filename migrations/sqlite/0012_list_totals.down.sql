DROP TRIGGER IF EXISTS agents_retired_count_updated;
DROP TRIGGER IF EXISTS agents_retired_count_deleted;
DROP TRIGGER IF EXISTS agents_retired_count_inserted;
DROP TRIGGER IF EXISTS notification_events_count_deleted;
DROP TRIGGER IF EXISTS notification_events_count_inserted;
DROP TRIGGER IF EXISTS deployment_targets_count_deleted;
DROP TRIGGER IF EXISTS deployment_targets_count_inserted;
DROP TRIGGER IF EXISTS agents_count_deleted;
DROP TRIGGER IF EXISTS agents_count_inserted;
DELETE FROM row_totals WHERE noun IN ('agents', 'agents_retired', 'deployment_targets', 'notification_events');

DROP INDEX IF EXISTS deployment_targets_created;
DROP INDEX IF EXISTS agents_retired;
DROP INDEX IF EXISTS jobs_of_type;
CREATE INDEX IF NOT EXISTS jobs_status ON jobs (status, scheduled_at);
DROP INDEX IF EXISTS jobs_in_status;
