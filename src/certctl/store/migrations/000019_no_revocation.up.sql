-- Versions that offer no revocation information (RFC 9608): nobody would hear of a revocation.
-- Guarded, so that the file can be run again on a half-migrated database.
ALTER TABLE certificate_versions ADD COLUMN IF NOT EXISTS no_revocation boolean NOT NULL
    DEFAULT false;
