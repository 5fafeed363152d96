-- Never run automatically.
DROP TABLE IF EXISTS notification_events;
