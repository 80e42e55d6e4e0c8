-- What a violation was found on, and what lists and prunes violations quickly. Every statement is
-- guarded, so that the file can be run again on a half-migrated database.

-- The lifetime of what was about to be issued when it broke the rule; null where the certificate
-- as it stands does.
ALTER TABLE policy_violations ADD COLUMN IF NOT EXISTS lifetime interval;
CREATE INDEX IF NOT EXISTS policy_violations_certificate_idx
    ON policy_violations (certificate_id, created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS policy_violations_resolved_idx
    ON policy_violations (resolved_at) WHERE resolved_at IS NOT NULL;

-- The timeline of expirations counts these, and nothing else of them.
CREATE INDEX IF NOT EXISTS managed_certificates_timeline_idx ON managed_certificates (expires_at)
    WHERE status NOT IN ('Archived', 'Revoked');
