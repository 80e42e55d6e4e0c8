-- Public keys that no certificate is issued for: those of which a compromise was reported, and
-- those that operators name. Every statement is guarded, so that the file can be run again.

CREATE TABLE IF NOT EXISTS blocked_keys (
    id          text PRIMARY KEY,
    spki_sha256 text NOT NULL CONSTRAINT blocked_keys_spki_sha256_key UNIQUE
                    CONSTRAINT blocked_keys_spki_sha256_check CHECK (spki_sha256 ~ '^[0-9a-f]{64}$'),
    reason      text NOT NULL,
    compromised boolean NOT NULL,
    blocked_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

INSERT INTO blocked_keys (id, spki_sha256, reason, compromised, blocked_by, created_at)
SELECT DISTINCT ON (v.spki_sha256) 'bk-' || left(v.spki_sha256, 32), v.spki_sha256,
       'certificate ' || r.certificate_id || ' was revoked', true, r.revoked_by, r.revoked_at
FROM certificate_revocations r
JOIN certificate_versions v ON v.certificate_id = r.certificate_id
    AND v.serial_number = r.serial_number
WHERE r.reason = 'keyCompromise' AND v.spki_sha256 ~ '^[0-9a-f]{64}$'
ORDER BY v.spki_sha256, r.revoked_at
ON CONFLICT DO NOTHING;
