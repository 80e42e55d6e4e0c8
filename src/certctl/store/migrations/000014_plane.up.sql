-- What changed since a reader last looked: the transaction that revoked, so that none can be missed.
-- Every statement is guarded, so that the file can be run again on a half-migrated database.
ALTER TABLE certificate_revocations ADD COLUMN IF NOT EXISTS changed_in xid8 NOT NULL
    DEFAULT pg_current_xact_id();
CREATE INDEX IF NOT EXISTS certificate_revocations_changed_in_idx
    ON certificate_revocations (changed_in);

-- What a process says of itself while it is alive.
ALTER TABLE replicas ADD COLUMN IF NOT EXISTS told jsonb NOT NULL DEFAULT '{}';
