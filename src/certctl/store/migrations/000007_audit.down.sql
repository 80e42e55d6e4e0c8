DROP INDEX IF EXISTS audit_seals_last_sequence_idx;
CREATE INDEX IF NOT EXISTS audit_events_timestamp_idx ON audit_events (timestamp);
DROP INDEX IF EXISTS audit_events_time_idx;
DROP TABLE IF EXISTS audit_checkpoints;
DROP TABLE IF EXISTS audit_checkpoint_keys;
