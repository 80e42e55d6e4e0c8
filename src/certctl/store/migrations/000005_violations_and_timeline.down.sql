DROP INDEX IF EXISTS managed_certificates_timeline_idx, policy_violations_resolved_idx, policy_violations_certificate_idx;
ALTER TABLE policy_violations DROP COLUMN IF EXISTS lifetime;
