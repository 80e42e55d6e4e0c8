-- Signed checkpoints of the audit trail, and the indexes that its export needs. Every statement is
-- guarded, so that the file can be run again on a half-migrated database.

CREATE TABLE IF NOT EXISTS audit_checkpoint_keys (
    id           text PRIMARY KEY,
    installation text NOT NULL,
    public_key   text NOT NULL,
    sealed_key   bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
-- What was signed stands in payload, byte for byte; the signature is base64.
CREATE TABLE IF NOT EXISTS audit_checkpoints (
    id          text PRIMARY KEY,
    number      bigint NOT NULL CONSTRAINT audit_checkpoints_number_key UNIQUE,
    seal_number bigint NOT NULL CONSTRAINT audit_checkpoints_seal_number_key UNIQUE,
    key_id      text NOT NULL CONSTRAINT audit_checkpoints_key_id_fkey REFERENCES audit_checkpoint_keys ON DELETE RESTRICT,
    payload     text NOT NULL,
    signature   text NOT NULL,
    created_at  timestamptz NOT NULL
);
-- The private key is sealed anew when the data key is replaced; nothing else of it changes.
DROP TRIGGER IF EXISTS audit_checkpoint_keys_append_only ON audit_checkpoint_keys;
CREATE TRIGGER audit_checkpoint_keys_append_only
    BEFORE UPDATE OF id, installation, public_key, created_at OR DELETE ON audit_checkpoint_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
DROP TRIGGER IF EXISTS audit_checkpoint_keys_no_truncate ON audit_checkpoint_keys;
CREATE TRIGGER audit_checkpoint_keys_no_truncate BEFORE TRUNCATE ON audit_checkpoint_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER IF EXISTS audit_checkpoints_append_only ON audit_checkpoints;
CREATE TRIGGER audit_checkpoints_append_only BEFORE UPDATE OR DELETE ON audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
DROP TRIGGER IF EXISTS audit_checkpoints_no_truncate ON audit_checkpoints;
CREATE TRIGGER audit_checkpoints_no_truncate BEFORE TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A range of time is found as a range of numbers from the index alone.
CREATE INDEX IF NOT EXISTS audit_events_time_idx ON audit_events (timestamp, sequence);
DROP INDEX IF EXISTS audit_events_timestamp_idx;
CREATE INDEX IF NOT EXISTS audit_seals_last_sequence_idx ON audit_seals (last_sequence);
