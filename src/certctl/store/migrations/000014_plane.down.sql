ALTER TABLE replicas DROP COLUMN IF EXISTS told;
DROP INDEX IF EXISTS certificate_revocations_changed_in_idx;
ALTER TABLE certificate_revocations DROP COLUMN IF EXISTS changed_in;
