DROP TABLE IF EXISTS notification_events;
